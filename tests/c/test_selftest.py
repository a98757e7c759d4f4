"""The emitted folder as a user meets it: `make check` with warnings as errors and sanitizers; a test that can fail."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_build import make, need, written
from c_nets import NETS, tiny

from tests.strategies import inputs_for
from ttfsc.backends.c import emit
from ttfsc.ir import run

SANITIZED = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_check_passes_sanitized(name: str, cc: str, tmp_path: Path) -> None:
    if cc == "clang" and name in ("tiny", "one_bit", "flat_sum", "long_window"):
        return  # the same kernels as in the others; gcc sees them all
    written(emit(NETS[name]()), tmp_path)
    done = make(tmp_path, "check", f"CC={need(cc)}", f"CFLAGS={SANITIZED}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^PASS 4 samples, [1-9]\d* spike times$", done.stdout, re.M), done.stdout


@pytest.mark.parametrize("flags", ["-O0", "-O3"])
def test_check_passes_with_linked_weights(flags: str, tmp_path: Path) -> None:
    files = emit(tiny(), blob_from=0)
    assert "tiny_weights.bin" in files
    done = make(written(files, tmp_path), "check", "all", f"CFLAGS={flags}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("blob_from", [0, 1 << 20])
def test_cmake(blob_from: int, tmp_path: Path) -> None:
    written(emit(tiny(), blob_from=blob_from), tmp_path / "tiny")
    build = tmp_path / "build"  # elsewhere: the weights' file must still be found
    for command in (
        [need("cmake"), "-S", str(tmp_path / "tiny"), "-B", str(build)],
        ["cmake", "--build", str(build)],
        [str(build / "tiny_selftest")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def failing(files: dict[str, bytes], folder: Path) -> str:
    done = make(written(files, folder), "check", "CFLAGS=-O0")
    assert done.returncode != 0
    return next(line for line in done.stdout.splitlines() if line.startswith("FAIL"))


def test_one_wrong_tick_is_found(tmp_path: Path) -> None:
    net = tiny()
    x = inputs_for(net, 5, 4)
    want = run(net, x).spikes["c1"].reshape(4, -1)
    assert want[0, 0] != 2
    files = emit(net, samples=x)
    text = files["tiny_selftest.c"].decode()
    head, body = text.split("tiny_test_spikes[TINY_SAMPLES][TINY_TRACE_LEN] = {")
    body = re.sub(r"\{\s*\d+,", "{ 2,", body, count=1)
    tick = "-1 (-1: never)" if want[0, 0] == 0 else str(4 - int(want[0, 0]))
    broken = f"{head}tiny_test_spikes[TINY_SAMPLES][TINY_TRACE_LEN] = {{{body}"
    said = failing({**files, "tiny_selftest.c": broken.encode()}, tmp_path)
    assert said == f"FAIL sample 0: layer %c1 neuron [0, 0, 0]: expected tick 2 but got {tick}"


def test_one_wrong_weight_is_found(tmp_path: Path) -> None:
    files = emit(tiny(), blob_from=0, cpu="cortex-m")
    weights = bytearray(files["tiny_weights.bin"])
    weights[8] ^= 0x08  # the centre tap of the first convolution: its row, of nine of two bytes
    said = failing({**files, "tiny_weights.bin": bytes(weights)}, tmp_path)
    assert said.startswith("FAIL sample 0: layer %c1 neuron [")


def test_wrong_score_and_wrong_label_are_found(tmp_path: Path) -> None:
    net = tiny()
    files = emit(net)
    text = files["tiny_selftest.c"].decode()
    head, tail = text.split("tiny_test_labels[TINY_SAMPLES] = {\n")
    label = tail.split(",")[0].strip()
    wrong = head + "tiny_test_labels[TINY_SAMPLES] = {\n" + tail.replace(label, str(int(label) + 1), 1)
    said = failing({**files, "tiny_selftest.c": wrong.encode()}, tmp_path / "label")
    assert said == f"FAIL sample 0: label: expected {int(label) + 1} but got {label}"
    head, tail = text.split("tiny_test_scores[TINY_SAMPLES][TINY_CLASSES] = {")
    tail = re.sub(r"\{\s*(-?\d+),", "{ 12345,", tail, count=1)
    said = failing(
        {**files, "tiny_selftest.c": f"{head}tiny_test_scores[TINY_SAMPLES][TINY_CLASSES] = {{{tail}".encode()},
        tmp_path / "score",
    )
    assert said.startswith("FAIL sample 0: score 0: expected 12345 but got ")


@pytest.mark.parametrize("name", ["tiny", "wide", "pooled_pixels", "long_window"])
def test_host_program(name: str, tmp_path: Path) -> None:
    net = NETS[name]()
    x = inputs_for(net, 3, 3)
    files = emit(net)
    prefix = next(f for f in files if f.endswith("_main.c")).removesuffix("_main.c")
    ctype = re.search(rb"typedef (\w+)_t \w+_in_t;", files[f"{prefix}.h"])
    assert ctype is not None
    dtype = np.dtype(ctype[1].decode()).newbyteorder("<")
    folder = written(files, tmp_path)
    assert make(folder, "all", "CFLAGS=-O0").returncode == 0
    program = str(folder / f"{prefix}_main")
    (folder / "x.bin").write_bytes(x.astype(dtype).tobytes())
    done = subprocess.run([program, "x.bin"], cwd=folder, capture_output=True, text=True, check=False)
    want = run(net, x)
    lines = [f"{label} : {' '.join(map(str, row))}" for label, row in zip(want.labels, want.scores, strict=True)]
    assert (done.returncode, done.stdout.splitlines()) == (0, lines)

    (folder / "short.bin").write_bytes(b"\0")
    for arguments, code, said in (
        ([], 2, "usage: "),
        (["absent.bin"], 1, "absent.bin: cannot be opened"),
        (["short.bin"], 1, "short.bin: ends inside a sample of "),
    ):
        done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert done.stderr.startswith(said)


def test_host_program_refuses_values_outside_the_range(tmp_path: Path) -> None:
    folder = written(emit(NETS["one_bit"]()), tmp_path)
    assert make(folder, "all", "CFLAGS=-O0").returncode == 0
    (folder / "x.bin").write_bytes(bytes([5] * 48 + [6] * 48))
    done = subprocess.run(["./one_bit_main", "x.bin"], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert done.stderr == "x.bin: sample 1 holds a value outside 0..5\n"
