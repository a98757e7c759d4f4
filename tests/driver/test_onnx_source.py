"""Compiling an ordinary .onnx file with one command: the input's range comes from the sample inputs."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.driver.conftest import Cli
from ttfsc.frontends.onnx_load import load_onnx
from ttfsc.inputs import Samples, range_of_samples
from ttfsc.ir import run
from ttfsc.judge import judged


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


def test_no_judge_says_why(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttfsc.judge.find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    sentence, _ = judge(plain)
    assert sentence == "not judged by onnxruntime: it is not installed: pip install 'ttfsc[onnx]'"


def test_without_samples_the_range_is_asked_for(ttfsc: Cli, plain: Path, tmp_path: Path) -> None:
    done = ttfsc("compile", plain, "-o", tmp_path / "out")
    assert done.code == 1
    assert "TTFS015" in done.err and "--input-range 0..255" in done.err and "--calib X.npz" in done.err
    assert not (tmp_path / "out").exists()
