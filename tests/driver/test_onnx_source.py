"""Compiling an ordinary .onnx file with one command: the input's range comes from the sample inputs."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.driver.conftest import Cli
from tests.onnx.onnx_nets import save_beside
from ttfsc.frontends.onnx_load import load_onnx
from ttfsc.inputs import Samples, range_of_samples
from ttfsc.ir import Fire, Net, run
from ttfsc.judge import Ranges, judged


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Conv, ReLU, dense: no word about the input's range anywhere."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "w"], ["y"], transB=1),
    ]
    shapes = {"k": (4, 1, 3, 3), "w": (3, 64)}
    weights = [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), n) for n, s in shapes.items()]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 1, 6, 6]), ("y", ["N", 3]))
    ]
    graph = helper.make_graph(nodes, "plain", ends[:1], ends[1:], weights)
    path = tmp_path / "plain.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("x", "want"),
    [
        (np.arange(36, dtype=np.uint8), (0, 255, 1.0)),
        (np.arange(36, dtype=np.int8) - 18, (-128, 127, 1.0)),
        (np.arange(-3, 33, dtype=np.int64), (-3, 32, 1.0)),
        (np.linspace(0, 0.51, 36), (0, 255, 0.002)),
        (np.linspace(-1.27, 0.5, 36), (-127, 127, 0.01)),
        (np.zeros(36), None),
        (np.full(36, np.nan), None),
    ],
)
def test_range_of_samples(tmp_path: Path, x: np.ndarray, want: tuple[int, int, float] | None) -> None:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
    np.savez(tmp_path / "x.npz", x=x.reshape(1, 1, 6, 6))  # pyright: ignore[reportUnknownMemberType]
    found = range_of_samples(tmp_path / "x.npz")
    assert found == (want if want is None else pytest.approx(want))


def test_one_command(ttfsc: Cli, plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 256, (40, 1, 6, 6), dtype=np.uint8), y=np.zeros(40, np.int64))
    done = ttfsc("compile", plain, "-o", tmp_path / "out", "--calib", tmp_path / "x.npz", "--bits", 8, "--ticks", 64)
    assert done.code == 0, done.err
    assert "the input is taken as integers 0..255 times 1, as the sample inputs are" in caplog.text
    assert "bit-exact: interpreter = C on 40 inputs" in done.out
    judged = re.search(r"same answer as onnxruntime on the source: ([\d.]+) % of 40 inputs; accuracy", done.out)
    assert judged is not None and float(judged[1]) >= 90
    assert "compensate=true,correct=true" in done.out
    assert re.search(r"activation ranges of 1 layers: onnxruntime on the source; .* differ by \S+ % \(rms", done.out)
    ranges = json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]["ranges"]
    assert list(ranges) == ["Relu_1"] and ranges["Relu_1"] > 0


def test_methods_are_compared_by_accuracy(
    ttfsc: Cli, plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x = np.random.default_rng(3).integers(0, 256, (200, 1, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=run(load_onnx(plain, input_range=(0, 255)), x).labels)
    given = ("--calib", tmp_path / "x.npz", "--calib-method", "auto", "--target", "c", "--bits", 3, "--ticks", 4)
    done = ttfsc("compile", plain, "-o", tmp_path / "out", *given)
    assert done.code == 0, done.err
    assert "quantize{bits=3,ticks=4,method=auto}" in done.out
    table = re.search(
        r"compared on 200 samples, each half fitted on the other; answered right:\n(( .*\n?)+)", caplog.text
    )
    assert table is not None
    rows = table[1].splitlines()
    assert len(rows) == 5 and sum("<- chosen" in row for row in rows) == 1
    shares = [float(row.split()[0]) for row in rows]
    assert shares[["<- chosen" in row for row in rows].index(True)] == max(shares)


def judge(path: Path) -> tuple[str, float]:
    """The sentence for a right and for a wrong set of answers: what it says, and how far apart the two are."""
    net = load_onnx(path, input_range=(0, 255))
    x = np.random.default_rng(2).integers(0, 256, (70, *net.input.type.shape), dtype=np.uint8)
    right = run(net, x).labels
    sentence = judged(path, net, Samples(x, right, "x"), right)
    share = re.search(r"([\d.]+) % of 70", judged(path, net, Samples(x, None, "x"), (right + 1) % 3))
    return sentence, float(share[1]) if share else -1


@pytest.mark.parametrize("batch", ["N", 1])
def test_the_source_judges(plain: Path, batch: str | int) -> None:
    model = onnx.load_model_from_string(plain.read_bytes())
    for value in (*model.graph.input, *model.graph.output):
        dim = value.type.tensor_type.shape.dim[0]
        dim.Clear()
        if isinstance(batch, int):
            dim.dim_value = batch
        else:
            dim.dim_param = batch
    plain.write_bytes(model.SerializeToString())
    sentence, wrong = judge(plain)
    assert sentence == (
        "same answer as onnxruntime on the source: 100.00 % of 70 inputs; accuracy 100.00 %, source 100.00 %"
    )
    assert wrong == 0


def observed(path: Path, count: int = 70) -> tuple[Ranges, dict[str, np.ndarray], Net]:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
    net = load_onnx(path, input_range=(0, 255))
    x = np.random.default_rng(4).integers(0, 256, (count, *net.input.type.shape), dtype=np.uint8)
    ranges, names = Ranges(path), [op.name for op in net.ops if isinstance(op, Fire)]
    parts = list(ranges.observe(net, names, x))
    found = {name: np.concatenate([part[name] for part in parts]) for name in names}
    own = run(net, x, keep=names).spikes
    for name in names:
        np.testing.assert_allclose(np.sort(found[name], axis=None), np.sort(own[name], axis=None), rtol=1e-4, atol=1e-3)
    return ranges, found, net


def test_activations_come_from_onnxruntime(tmp_path: Path) -> None:
    """Of plain layers, parts of a concatenation, sums that are passed on, a batch of two, an activation of a pool."""
    rng = np.random.default_rng(5)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.2, shape).astype(np.float32), name)

    tensors = [weight("a", 3, 1, 3, 3), weight("b", 2, 1, 3, 3), weight("c", 4, 5, 2, 2), weight("d", 4, 4, 1, 1),
               weight("e", 5, 4, 1, 1), weight("w", 3, 45)]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["a1"]), helper.make_node("Conv", ["x", "b"], ["b1"]),
        helper.make_node("Concat", ["a1", "b1"], ["ab"], axis=1), helper.make_node("Relu", ["ab"], ["r1"], name="both"),
        helper.make_node("Conv", ["r1", "c"], ["c1"]), helper.make_node("Relu", ["c1"], ["r2"], name="plain"),
        helper.make_node("Conv", ["r2", "d"], ["d1"]), helper.make_node("Relu", ["d1"], ["r3"], name="other"),
        helper.make_node("Add", ["r2", "r3"], ["s"]), helper.make_node("Conv", ["s", "e"], ["e1"], name="reads"),
        helper.make_node("MaxPool", ["e1"], ["p"], kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["p"], ["r4"], name="behind"),
        helper.make_node("Flatten", ["r4"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [2, 1, 6, 6]), ("y", [2, 3]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    path = tmp_path / "g.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    ranges, found, _ = observed(path, 71)
    assert set(ranges.apart) == {"both", "both_1", "plain", "other", "reads.sum", "behind"} and not ranges.own
    assert max(ranges.apart.values()) < 1e-5
    assert found["both"].shape == (71, 3, 4, 4) and found["both_1"].shape == (71, 2, 4, 4)


def test_activations_without_onnxruntime(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttfsc.judge.find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    ranges, _, _ = observed(plain)
    assert ranges.sentences() == [
        "activation ranges of 1 layers: the imported net (not onnxruntime: it is not installed: "
        "pip install 'ttfsc[onnx]')"
    ]


def test_a_disagreement_is_said(plain: Path) -> None:
    ranges, _, net = observed(plain)
    changed = net.with_ops(net.ops, {name: array * 1.01 for name, array in net.arrays.items()})
    list(ranges.observe(changed, ["Relu_1"], np.full((3, 1, 6, 6), 200)))
    assert "warning: Relu_1: onnxruntime and the imported net differ by more than rounding" in ranges.sentences()


def test_external_data_is_found_for_activations(plain: Path) -> None:
    model = onnx.load_model_from_string(plain.read_bytes())
    save_beside(model, plain)
    ranges, _, _ = observed(plain)
    assert not ranges.own and ranges.apart["Relu_1"] < 1e-5


def test_no_judge_says_why(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttfsc.judge.find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    sentence, _ = judge(plain)
    assert sentence == "not judged by onnxruntime: it is not installed: pip install 'ttfsc[onnx]'"


def test_without_samples_the_range_is_asked_for(ttfsc: Cli, plain: Path, tmp_path: Path) -> None:
    done = ttfsc("compile", plain, "-o", tmp_path / "out")
    assert done.code == 1
    assert "TTFS015" in done.err and "--input-range 0..255" in done.err and "--calib X.npz" in done.err
    assert not (tmp_path / "out").exists()
