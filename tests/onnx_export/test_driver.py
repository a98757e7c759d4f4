"""The `onnx` target and engine on the command line."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.driver.conftest import real_net
from ttfsc import cli
from ttfsc.ir import save


def ttfsc(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ttfsc", *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capfd.readouterr()
    return int(str(stop.value.code)), out, err


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A model and inputs for it."""
    save(real_net(), tmp_path / "tiny.ttfs")
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 16, (20, 1, 6, 6), dtype=np.uint8), y=rng.integers(0, 3, 20))
    return tmp_path / "tiny.ttfs", tmp_path / "x.npz"


def test_compile_run_verify(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, x = files
    code, out, err = ttfsc(
        monkeypatch, capfd, "compile", model, "-o", tmp_path / "d", "--target", "onnx", "--inputs", x
    )
    assert code == 0, err
    assert "bit-exact: interpreter = ONNX on 20 inputs" in out and f"{tmp_path / 'd' / 'onnx'}: model.onnx" in out
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["manifest.json", "net.npz", "net.ttfs", "onnx"]
    answers = list[dict[str, object]]()
    for engine in ("ir", "onnx"):
        y = tmp_path / f"{engine}.npz"
        code, out, err = ttfsc(
            monkeypatch, capfd, "run", tmp_path / "d", "--inputs", x, "-o", y, "--engine", engine, "--spikes"
        )
        assert code == 0 and f"engine {engine}" in out, err
        answers.append({name: array.tolist() for name, array in np.load(y).items()})
    assert answers[0] == answers[1] and sorted(answers[0]) == ["label", "scores", "ticks.c"]
    code, out, _ = ttfsc(monkeypatch, capfd, "run", tmp_path / "d" / "net.ttfs", "--inputs", x, "--engine", "onnx")
    assert code == 0 and "20 inputs, engine onnx" in out, "a bare net is exported on the way"


def test_verify_uses_it_even_where_it_was_no_target(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, x = files
    code, out, err = ttfsc(monkeypatch, capfd, "compile", model, "-o", tmp_path / "d", "--target", "noc", "--inputs", x)
    assert code == 0 and "ONNX" not in out, err
    code, out, err = ttfsc(monkeypatch, capfd, "verify", tmp_path / "d", "--inputs", x)
    assert code == 0 and "bit-exact: interpreter = ONNX on 20 inputs" in out, err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, err = ttfsc(monkeypatch, capfd, "verify", tmp_path / "d", "--inputs", x)
    assert code == 0 and "not verified: ONNX: onnxruntime is not installed" in out, err


def test_a_changed_model_is_found(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], files: tuple[Path, Path]
) -> None:
    """An exported net that is not this one differs in a spike, and verification says where."""
    from ttfsc.compiler import Options, compile_net, onnx_engine, verify_files
    from ttfsc.inputs import load_samples

    _, x = files
    one, other = (compile_net(real_net(seed), Options(targets=("onnx",), bits=4, ticks=8)) for seed in (0, 1))
    samples = load_samples(x, one.net)
    found = verify_files(one.net, other.files, samples)
    assert len(found.differences) == 1 and "ONNX differs from the interpreter at input 0, layer %c, neuron [" in str(
        found.differences[0]
    )
    assert onnx_engine({"model.onnx": one.files["onnx/model.onnx"]}, spikes=False)(samples.x).spikes == {}
