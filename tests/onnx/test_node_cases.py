"""The node cases that the onnx package generates for its own backends, as far as they mean something for spikes.

Every case of an op type with a rule is imported, all inputs but the first as initialisers, with an identity matrix
behind it that reads the result out. It must give onnx's expected output, or be refused with a reason.
"""

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ttfsc.frontends.onnx_load import load_onnx
from ttfsc.frontends.onnx_rules import RULES
from ttfsc.ir import Array, Net, TtfsError, codes, run

ENDS = {"ArgMax", "Softmax", "LogSoftmax", "Hardmax", "Sigmoid"}  # change the scores themselves
MOVED = {"Transpose"}  # of the input: the net takes it in another order, which tests of shapes look at
OPS = sorted(set(RULES) - ENDS - MOVED - {"Shape", "Size", "Quant", "BipolarQuant"})
EXPECTED = {  # cases that must work, among all that do
    "test_basic_conv_with_padding", "test_basic_conv_without_padding", "test_conv_with_strides_padding",
    "test_conv_with_strides_no_padding", "test_conv_with_strides_and_asymmetric_padding",
    "test_conv_with_autopad_same", "test_gemm_default_no_bias", "test_gemm_default_vector_bias",
    "test_gemm_transposeB", "test_gemm_alpha", "test_matmul_2d", "test_averagepool_2d_default",
    "test_averagepool_2d_precomputed_strides", "test_averagepool_2d_precomputed_pads_count_include_pad",
    "test_averagepool_1d_default", "test_globalaveragepool", "test_globalmaxpool", "test_relu",
    "test_flatten_axis1", "test_dropout_default", "test_reshape_zero_dim", "test_unsqueeze_axis_1",
}  # fmt: skip


@cache
def cases() -> dict[str, Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[Any] = [case for case in collect_testcases(None) if case.model is not None]
    single = [case for case in found if len(case.model.graph.node) == 1]
    return {case.name: case for case in single if case.model.graph.node[0].op_type in OPS}


def as_file(case: Any, inputs: list[Array], output: Array, *, read: bool) -> onnx.ModelProto:
    """The case with its first input left open and, where `read`, an identity matrix that reads its result."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    names = [i.name for i in graph.input]
    del graph.input[1:]
    for name, value in zip(names[1:], inputs[1:], strict=True):
        graph.initializer.append(numpy_helper.from_array(value, name))
    result = graph.node[0].output[0]
    size = output.size // max(output.shape[0], 1)
    graph.node.append(helper.make_node("Flatten", [result], ["flat"], name="flat", axis=1))
    if read:
        graph.initializer.append(numpy_helper.from_array(np.eye(size, dtype=np.float32), "eye"))
        graph.node.append(helper.make_node("MatMul", ["flat", "eye"], ["end"], name="read"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("end" if read else "flat", TensorProto.FLOAT, None))
    return model


def imported(case: Any, inputs: list[Array], output: Array, folder: Path) -> Net:
    """The case's net; a membrane is the answer itself, anything else is read out."""
    path = folder / "net.onnx"
    failures = list[TtfsError]()
    for read in (True, False):
        path.write_bytes(as_file(case, inputs, output, read=read).SerializeToString())
        try:
            return load_onnx(path, input_range=(-1000, 1000))
        except TtfsError as e:
            failures.append(e)
            if all("reads a membrane" not in f.fact for f in e.faults):
                break
    raise failures[0]


def usable(case: Any) -> tuple[list[Array], Array] | None:
    """Inputs and output, where the case is one of real numbers with a batch axis."""
    inputs, outputs = case.data_sets[0]
    if not inputs or not all(isinstance(a, np.ndarray) for a in (*inputs, *outputs)):
        return None
    if inputs[0].dtype not in (np.float32, np.float64) or inputs[0].ndim < 2 or not outputs[0].ndim:
        return None
    if inputs[0].size == 0 or outputs[0].size == 0 or outputs[0].size > 20000:
        return None
    return list(inputs), outputs[0]


def outcome(name: str, folder: Path) -> str | None:
    """None where the net gives what onnx expects; else why the case was refused."""
    case = cases()[name]
    data = usable(case)
    assert data is not None
    inputs, output = data
    try:
        net = imported(case, inputs, output, folder)
    except TtfsError as e:
        assert all(f.code in (codes.UNSUPPORTED, codes.INPUT, codes.SHAPE, codes.DAMAGED) for f in e.faults), str(e)
        return "; ".join(f.fact for f in e.faults)
    x = inputs[0].astype(np.float32)
    got = run(net, x.reshape(len(x), *net.input.type.shape)).scores
    np.testing.assert_allclose(got.reshape(-1), output.astype(np.float32).reshape(-1), rtol=1e-4, atol=1e-4)
    return None


def usable_names() -> Iterator[str]:
    return (name for name in sorted(cases()) if usable(cases()[name]) is not None)


def test_every_case_gives_what_onnx_expects_or_is_refused(tmp_path: Path) -> None:
    found = {name: outcome(name, tmp_path) for name in usable_names()}
    for name, why in found.items():
        print(f"{name:60} {'ok' if why is None else why}")
    right = {name for name, why in found.items() if why is None}
    assert len(right) >= 65, sorted(right)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_cases_that_matter(name: str, tmp_path: Path) -> None:
    assert name in cases(), "onnx has no such case any more"
    assert outcome(name, tmp_path) is None
