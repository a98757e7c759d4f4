"""The command line on real files: what it makes, what it says, what it refuses."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.driver.conftest import Cli
from ttfsc import __version__
from ttfsc.backends.c import Engine as CEngine
from ttfsc.ir import load
from ttfsc.ir.codes import CODES


def test_compile_says_bit_exact(ttfsc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = ttfsc("compile", model, "-o", out, "--inputs", inputs)
    assert done.code == 0, done.err
    assert "bit-exact: interpreter = C on 20 inputs" in done.out
    assert "bit-exact: interpreter = mapped cores on 16 inputs" in done.out
    assert {p.name for p in out.iterdir()} == {"net.ttfs", "net.npz", "manifest.json", "c", "noc", "report"}
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_pipeline_in_pieces_gives_the_same_net(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    done = ttfsc("compile", model, "-o", tmp_path / "out", "--target", "noc", "--bits", "4", "--ticks", "8")
    text = re.search(r"^pipeline: (.*)$", done.out, re.MULTILINE)
    assert text is not None
    middle, end = tmp_path / "middle.ttfs", tmp_path / "end.ttfs"
    passes = re.split(r",(?![^{]*\})", text[1])
    assert ttfsc("opt", model, "-p", ",".join(passes[:4]), "-o", middle).code == 0
    assert ttfsc("opt", middle, "-p", ",".join(passes[4:]), "-o", end).code == 0
    assert load(end) == load(tmp_path / "out" / "net.ttfs")
    assert end.read_bytes() == (tmp_path / "out" / "net.ttfs").read_bytes()


def test_same_input_same_bytes(model: Path, inputs: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        command = [sys.executable, "-m", "ttfsc", "compile", str(model), "-o", str(folder), "--inputs", str(inputs)]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": str(seed)})
    left, right = (sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file()) for f in folders)
    assert left == right
    assert [p for p in left if (folders[0] / p).read_bytes() != (folders[1] / p).read_bytes()] == []


def test_run_engines_agree(ttfsc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ttfsc("compile", model, "-o", out, "--target", "c,noc")
    answers = list[dict[str, np.ndarray]]()  # pyright: ignore[reportMissingTypeArgument]
    for engine in ("ir", "c", "noc"):
        y = tmp_path / f"{engine}.npz"
        done = ttfsc("run", out, "--inputs", inputs, "-o", y, "--engine", engine, "--spikes")
        assert done.code == 0, done.err
        assert "accuracy" in done.out
        with np.load(y) as stored:
            answers.append({name: stored[name] for name in stored.files})
    for other in answers[1:]:
        assert other.keys() == answers[0].keys() == {"label", "scores", "ticks.c"}
        assert all(np.array_equal(other[name], answers[0][name]) for name in other)


def test_run_takes_fast_kernels_and_verify_the_emitted_ones(
    ttfsc: Cli, model: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's compact C is what `verify` proves; `run` makes fast C of the same net, or has it already."""
    built = list[str]()

    def engine(files: dict[str, bytes]) -> CEngine:
        built.append(json.loads(files["model.json"])["plan"][0]["kernel"].split(",")[0])
        return CEngine(files, flags=("-O1",))

    monkeypatch.setattr("ttfsc.backends.c.Engine", engine)
    monkeypatch.setattr("ttfsc.backends.c.engine.Engine", engine)
    kinds = dict[str, list[str]]()
    for cpu in ("cortex-m", "generic"):
        out = tmp_path / cpu
        assert ttfsc("compile", model, "-o", out, "--target", "c", "--cpu", cpu, "--no-verify").code == 0
        built.clear()
        assert ttfsc("run", out, "--inputs", inputs, "--engine", "c").code == 0
        assert ttfsc("verify", out, "--inputs", inputs).code == 0
        kinds[cpu] = list(built)
    fast = kinds["generic"][0]
    assert kinds == {"cortex-m": [fast, "packed rows"], "generic": [fast, fast]}


def test_threads(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert ttfsc("compile", model, "-o", out, "--target", "c", "--threads", "3").code == 0
    assert "#define TINY_THREADS 3" in (out / "c" / "tiny.h").read_text()
    wrong = ttfsc("compile", model, "-o", out, "--target", "c", "--threads", "65")
    assert wrong.code == 1
    assert "--threads 65: must be 1..64" in wrong.err


def test_verify_names_the_first_spike_that_differs(ttfsc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ttfsc("compile", model, "-o", out, "--target", "c,noc")
    fine = ttfsc("verify", out, "--inputs", inputs, "--model", model)
    assert fine.code == 0, fine.err
    assert "source model (real-valued), accuracy" in fine.out
    source = out / "c" / "tiny.c"
    changed, times = re.subn(r"(tiny_theta_c\[\d+\] = \{\s*)-?\d+", r"\g<1>-9999", source.read_text())
    assert times == 1
    source.write_text(changed)
    _reseal(out)
    broken = ttfsc("verify", out, "--inputs", inputs)
    assert broken.code == 1
    assert re.search(r"error\[TTFS017\]: C differs from the interpreter at input \d+, layer %c, neuron \[", broken.err)


def test_changed_file_is_found(ttfsc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ttfsc("compile", model, "-o", out, "--target", "c")
    (out / "c" / "tiny.h").write_text("nothing")
    (out / "net.npz").unlink()
    done = ttfsc("verify", out, "--inputs", inputs)
    assert done.code == 1
    assert "tiny.h: error[TTFS014]: has been changed since it was compiled" in done.err
    assert "net.npz: error[TTFS014]: is listed in the manifest but cannot be read" in done.err


def test_no_verify_says_so(ttfsc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    done = ttfsc("compile", model, "-o", tmp_path / "out", "--inputs", inputs, "--no-verify")
    assert done.code == 0
    assert "not verified: C: switched off by --no-verify" in done.out
    assert "bit-exact" not in done.out


def test_report_views(ttfsc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ttfsc("compile", model, "-o", out, "--inputs", inputs)
    html, figures = tmp_path / "r.html", tmp_path / "r.json"
    assert "modelled" in ttfsc("report", out).out
    assert ttfsc("report", out, "--html", html, "--json", figures).code == 0
    assert figures.read_bytes() == (out / "report" / "report.json").read_bytes()
    assert html.read_bytes() == (out / "report" / "report.html").read_bytes()


@pytest.mark.parametrize("what", ["tiny.ttfs", "tiny.npz", "out"])
def test_inspect(ttfsc: Cli, model: Path, tmp_path: Path, what: str) -> None:
    ttfsc("compile", model, "-o", tmp_path / "out", "--target", "noc")
    done = ttfsc("inspect", tmp_path / what)
    assert done.code == 0, done.err
    assert "c.w" in done.out


def test_inspect_plan(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    """Kernel, reason and cost of every layer, for the processor that was compiled for."""
    out = tmp_path / "out"
    for cpu, compact in (("cortex-m", True), ("generic", False)):
        ttfsc("compile", model, "-o", out, "--target", "c", "--cpu", cpu, "--overwrite")
        done = ttfsc("inspect", out, "--plan")
        assert done.code == 0, done.err
        lines = done.out.splitlines()
        assert lines[0] == f"{out / 'c'}: kernels for --cpu {cpu}"
        assert [line.split()[0] for line in lines[1:]] == ["layer", "c", "out", "all"]
        assert ("packed rows" in lines[2]) == compact
        assert re.search(r" \d+\.\d +\d+ %  .", lines[2])


def test_inspect_plan_needs_c(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ttfsc("compile", model, "-o", out, "--target", "noc")
    done = ttfsc("inspect", out, "--plan")
    assert done.code == 1
    assert "--plan: has no C to show the kernel plan of: compile with --target c" in done.err
    assert "is this a folder made by `ttfsc compile`?" in ttfsc("inspect", model, "--plan").err


def test_overwrite(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert ttfsc("compile", model, "-o", out, "--target", "c").code == 0
    again = ttfsc("compile", model, "-o", out, "--target", "noc")
    assert again.code == 1
    assert "exists already; give --overwrite" in again.err
    assert (out / "c").is_dir()
    assert ttfsc("compile", model, "-o", out, "--target", "noc", "--overwrite").code == 0
    assert not (out / "c").exists()
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("dear")
    refused = ttfsc("compile", model, "-o", foreign, "--overwrite")
    assert refused.code == 1
    assert "is not a folder that ttfsc made" in refused.err
    assert (foreign / "thesis.txt").read_text() == "dear"


def test_check_counts_neurons(ttfsc: Cli, model: Path) -> None:
    done = ttfsc("check", model)
    assert done.code == 0, done.err
    assert "147 neurons on 2 cores of canmore-22nm; no limit of it is exceeded" in done.out


def test_check_lists_every_limit_of_the_chip_at_once(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    """Those that a core breaks, and those that only a placed and routed net can break."""
    figures = {"neurons_per_core": (40, "neurons"), "synapse_bits_per_core": (60, "bit"), "axons_in": (9, "axons"),
               "routing_entries": (1, "entries"), "potential_bits": (4, "bit"), "mesh_width": (1, "cores"),
               "mesh_height": (1, "cores")}  # fmt: skip
    text = "name = 'tiny'\ntitle = 'tiny'\ndelivery = 'multicast'\n" + "".join(
        f"[{key}]\nvalue = {value}\nunit = '{unit}'\nsource = 'test'\n" for key, (value, unit) in figures.items()
    )
    (tmp_path / "tiny.toml").write_text(text)
    done = ttfsc("check", model, "--arch", tmp_path / "tiny.toml", "--bits", 4)
    assert done.code == 1 and "every op is understood" in done.out
    for what in ("bits of synapse memory", "axons into one core", "which takes", "1x1 mesh", "routing entries"):
        assert what in done.err, f"{what} is not among\n{done.err}"


def test_explain_knows_every_code(ttfsc: Cli) -> None:
    for code in CODES:
        assert ttfsc("explain", f"TTFS{code:03d}").code == 0
    assert ttfsc("explain", "nonsense").code == 2


def test_version_targets_and_lists(ttfsc: Cli) -> None:
    assert ttfsc("--version").out == f"ttfsc {__version__}\n"
    assert "ttfsc " in ttfsc("version").out
    assert "canmore-22nm" in ttfsc("targets").out
    assert "quantize" in ttfsc("opt", "--list-passes").out
    assert "relu" in ttfsc("supported-ops").out.lower()


def test_opt_prints_and_times(ttfsc: Cli, model: Path) -> None:
    done = ttfsc("opt", model, "-p", "drop-identity,quantize", "--print-ir-after-all", "--time-passes")
    assert done.code == 0, done.err
    assert "// after drop-identity" in done.out
    assert "// after quantize" in done.out
    assert re.search(r"\d\.\d{3} s  quantize", done.err)


def test_wrong_usage(ttfsc: Cli, model: Path) -> None:
    assert ttfsc("compile", model).code == 2
    assert ttfsc("nonsense").code == 2
    assert ttfsc("opt").code == 2


def test_starts_fast_without_torch(model: Path, tmp_path: Path) -> None:
    """torch, onnx and onnxruntime are not needed for .ttfs, and not imported by it."""
    program = (
        "import sys\n"
        "for heavy in ('torch', 'onnx', 'onnxruntime', 'safetensors'): sys.modules[heavy] = None\n"
        f"sys.argv = ['ttfsc', 'compile', {str(model)!r}, '-o', {str(tmp_path / 'out')!r}]\n"
        "from ttfsc.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bit-exact" in done.stdout
    quick = "import sys, ttfsc, ttfsc.cli; print([m for m in ('torch', 'onnx', 'rich') if m in sys.modules])"
    listed = subprocess.run([sys.executable, "-c", quick], capture_output=True, text=True, check=True)
    assert listed.stdout == "[]\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_generated_makefile_checks(ttfsc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ttfsc("compile", model, "-o", out, "--inputs", inputs, "--target", "c")
    done = subprocess.run(["make", "-C", str(out / "c"), "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"PASS 4 samples, \d+ spike times", done.stdout)


def _reseal(folder: Path) -> None:
    """Make the manifest agree with the files again, as somebody would who wants to fool it."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    for name in content["files"]:
        content["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(content))
