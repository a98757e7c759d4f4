"""Files that are damaged or made to hurt: a clear message, exit 1, bounded memory, under ten seconds."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.onnx.onnx_nets import Model, floats, save_beside
from ttfsc.frontends.onnx_load import check_onnx
from ttfsc.ir import TtfsError, codes

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 2 << 30  # of address space that the command may take, numpy's and its threads' included
SECONDS = 10


def good() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    m = Model(["N", 1, 6, 6])
    m.node("Conv", floats(rng, 3, 1, 3, 3), floats(rng, 3))
    m.node("Relu")
    m.node("Flatten")
    m.node("Gemm", floats(rng, 48, 4))
    return m.proto()


def claims(dims: list[int]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def external(location: str, **entries: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in ({"location": location} | entries).items():
            tensor.external_data.add(key=key, value=value)

    return change


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[1].output[0]


def no_weight(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0]


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def same_output(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


def opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def poisoned(value: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        array = numpy_helper.to_array(tensor).copy()
        array.flat[3] = value
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return change


def endless_shape(model: onnx.ModelProto) -> None:
    shape = numpy_helper.from_array(np.array([1 << 20, 1 << 20], np.int64), "huge")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["huge"], ["much"], name="fill"))


def endless_broadcast(model: onnx.ModelProto) -> None:
    for name, dims in (("tall", (1 << 16, 1)), ("wide", (1, 1 << 16))):
        model.graph.initializer.append(numpy_helper.from_array(np.ones(dims, np.float32), name))
    model.graph.node.append(helper.make_node("Add", ["tall", "wide"], ["much"], name="spread"))


def endless_pad(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("pads", [1 << 40] * 4))


def wide_pad(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("pads", [1 << 19] * 4))


def negative_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -6


def endless_input(model: onnx.ModelProto) -> None:
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 1 << 31


def endless_skip(model: onnx.ModelProto) -> None:
    """x + relu(x) on a row: the skip would be an identity matrix of 2^48 numbers."""
    del model.graph.node[:]
    del model.graph.initializer[:]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    del dims[2:]
    dims[1].dim_value = 1 << 24
    model.graph.node.append(helper.make_node("Relu", ["x"], ["a"], name="relu"))
    model.graph.node.append(helper.make_node("Add", ["x", "a"], ["b"], name="add"))
    model.graph.output[0].name = "b"


def bad_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("strides", "far"))


def nothing(model: onnx.ModelProto) -> None:
    del model.graph.node[:]
    model.graph.output[0].name = "x"


CASES: dict[str, tuple[Callable[[onnx.ModelProto], None], int, str]] = {
    "2^31 elements": (claims([1 << 31]), codes.DAMAGED, "claims 2147483648 elements"),
    "2^62 elements": (claims([1 << 31, 1 << 31]), codes.DAMAGED, "at most"),
    "more than it holds": (claims([3, 1, 3, 4]), codes.DAMAGED, "claims 36 numbers"),
    "negative dims": (claims([3, -1, 3, 3]), codes.DAMAGED, "one is negative"),
    "negative input": (negative_input, codes.DAMAGED, "negative dimension -6"),
    "endless input": (endless_input, codes.INPUT, "numbers per sample"),
    "outside": (external("../../../etc/passwd"), codes.FILE, "outside the model's folder"),
    "outside, absolute": (external("/etc/passwd"), codes.FILE, "outside the model's folder"),
    "outside by a link": (external("link"), codes.FILE, "outside the model's folder"),
    "a missing file": (external("weights.bin"), codes.FILE, "is missing"),
    "a folder": (external("."), codes.FILE, "is missing"),
    "behind the end": (external("net.onnx", offset="1000000000000"), codes.DAMAGED, "the file has"),
    "negative offset": (external("net.onnx", offset="-8"), codes.DAMAGED, "the file has"),
    "no number": (external("net.onnx", offset="x"), codes.DAMAGED, "no number"),
    "cycle": (cycle, codes.DAMAGED, "in a circle: conv1, relu2"),
    "missing initialiser": (no_weight, codes.NAME, "reads 'w0', which is no input"),
    "initialiser twice": (twice, codes.NAME, "'w0' is defined by"),
    "output twice": (same_output, codes.NAME, "'t1' is defined by"),
    "opset 5": (opset(5), codes.UNSUPPORTED, "uses opset 5"),
    "opset 999": (opset(999), codes.UNSUPPORTED, "uses opset 999"),
    "no opset": (no_opset, codes.DAMAGED, "which opset"),
    "NaN": (poisoned(np.nan), codes.NONFINITE, "w0 holds 1 values that are NaN"),
    "infinity": (poisoned(np.inf), codes.NONFINITE, "w0 holds 1 values that are NaN or infinite"),
    "endless shape": (endless_shape, codes.DAMAGED, "at most"),
    "endless broadcast": (endless_broadcast, codes.UNSUPPORTED, "at most"),
    "endless pad": (endless_pad, codes.UNSUPPORTED, "pads"),
    "wide pad": (wide_pad, codes.UNSUPPORTED, "more than the"),
    "endless skip": (endless_skip, codes.UNSUPPORTED, "synapses"),
    "attribute of another type": (bad_attribute, codes.UNSUPPORTED, "strides"),
    "no nodes": (nothing, codes.UNSUPPORTED, "no layers"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_clear_message(case: str, tmp_path: Path) -> None:
    change, code, words = CASES[case]
    model = good()
    change(model)
    (tmp_path / "link").symlink_to("/etc/passwd")
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    began = time.perf_counter()
    faults = check_onnx(path, input_range=(0, 255))
    assert time.perf_counter() - began < SECONDS
    assert any(f.code == code and words in f.fact for f in faults), "\n".join(map(str, faults))
    assert all(str(path) in str(f.loc) or f.loc.origin for f in faults)


COMMANDS = (
    "truncated", "2^31 elements", "outside", "cycle", "negative dims", "missing initialiser", "initialiser twice",
    "opset 999", "NaN", "endless shape", "endless skip",
)  # fmt: skip


@pytest.mark.parametrize("case", COMMANDS)
def test_the_command_ends_with_1_in_bounded_memory(case: str, tmp_path: Path) -> None:
    model = good()
    change, _, words = CASES.get(case, (lambda _: None, 0, "is damaged or no ONNX file"))
    change(model)
    path, whole = tmp_path / "net.onnx", model.SerializeToString()
    path.write_bytes(whole[: len(whole) // 2] if case == "truncated" else whole)
    limited = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}));"
        f"sys.argv = ['ttfsc', 'check', {str(path)!r}, '--input-range', '0..255'];"
        "from ttfsc.cli import main; main()"
    )
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", limited], capture_output=True, text=True, cwd=ROOT, timeout=SECONDS * 3, env=environment
    )
    assert done.returncode == 1, done.stderr
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@settings(max_examples=60)
@given(st.data())
def test_truncated_and_damaged_bytes(data: st.DataObject) -> None:
    """Whatever happens to the bytes: an error of ours, or a net."""
    whole = good().SerializeToString()
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        damaged = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(bytes(damaged))
        check_onnx(path, input_range=(0, 255))


@pytest.mark.parametrize("content", [b"", b"not protobuf at all", b"\x08\x07", b"PK\x03\x04" + bytes(100)])
def test_no_onnx_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    (fault,) = check_onnx(path)
    assert fault.code == codes.DAMAGED and str(path) in str(fault)
    (fault,) = check_onnx(tmp_path / "none.onnx")
    assert fault.code == codes.FILE


def test_truncated_protobuf(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    whole = good().SerializeToString()
    path.write_bytes(whole[: len(whole) // 2])
    (fault,) = check_onnx(path)
    assert fault.code == codes.DAMAGED and "protobuf cannot read" in fault.fact


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    from ttfsc.frontends.onnx_load import load_onnx

    model = good()
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    want = load_onnx(path, input_range=(0, 255))
    save_beside(model, path)
    assert load_onnx(path, input_range=(0, 255)).arrays == want.arrays
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(TtfsError, match="the file has 5"):
        load_onnx(path, input_range=(0, 255))
