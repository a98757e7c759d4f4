"""Layers cut into pieces: the same answers by any number of threads, and no two of them at one place."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_build import STRICT, assert_same, need, written
from c_nets import NETS, tiny
from sweep_nets import sweep_net, wide_net

from tests.strategies import inputs_for
from ttfsc.backends.c import Engine, cost, emit, fast, split
from ttfsc.ir import Array, Net, TtfsError, run

PROGRAM = Path(__file__).parent / "programs" / "threads.c"
RACES = ("-O1", "-g", "-fsanitize=thread", "-pthread")
CASES = [(name, cpu) for name in ("residual", "stream", "pooled_pixels") for cpu in ("cortex-m", "generic")]


@pytest.fixture(autouse=True)
def every_layer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones too, which threads would not be woken for."""
    monkeypatch.setattr(split, "WORTH", 0.0)


def built(net: Net, folder: Path, *flags: str, cpu: str, threads: int = 3) -> dict[str, bytes]:
    files = emit(net, name="m", cpu=cpu, threads=threads, blob_from=1 << 40)
    written(files, folder)
    shutil.copy(PROGRAM, folder)
    sources = ["threads.c", "m.c", *(["m_openmp.c"] if "-fopenmp" in flags else [])]
    command = [need("gcc"), "-std=c99", *STRICT, *flags, *sources, "-o", "threads"]
    subprocess.run(command, cwd=folder, check=True)
    return files


def answers(folder: Path, files: dict[str, bytes], x: Array, threads: int, **env: str) -> bytes:
    given = np.ascontiguousarray(x, json.loads(files["model.json"])["input"]["type"].removesuffix("_t")).tobytes()
    done = subprocess.run(
        ["./threads", str(threads)], cwd=folder, input=given, capture_output=True, check=False, env=os.environ | env
    )
    assert done.returncode == 0, done.stderr.decode()[:2000]
    return done.stdout


def expected(net: Net, x: Array) -> bytes:
    want = run(net, x)
    rows = zip(want.scores.astype(np.int32), want.labels.astype(np.uint16), strict=True)
    return b"".join(scores.tobytes() + label.tobytes() for scores, label in rows)


@pytest.mark.parametrize(("name", "cpu"), CASES)
def test_no_races(name: str, cpu: str, tmp_path: Path) -> None:
    """ThreadSanitizer on POSIX threads; answers at 0 (no hook), 1, 2 and 3 threads."""
    net = NETS[name]()
    x = inputs_for(net, 4, 6)
    files = built(net, tmp_path, *RACES, cpu=cpu)
    want = expected(net, x)
    assert [answers(tmp_path, files, x, n) == want for n in range(4)] == [True] * 4


@pytest.mark.parametrize(("seed", "cpu"), [(0, "generic"), (2, "generic"), (3, "cortex-m")])
def test_many_layers(seed: int, cpu: str, tmp_path: Path) -> None:
    """Forty random layers in five pieces, by one to three threads."""
    net = sweep_net(seed, 40)
    x = inputs_for(net, seed, 4)
    files = built(net, tmp_path, *RACES, "-DM_INLINE=static", cpu=cpu, threads=5)
    assert all(answers(tmp_path, files, x, n) == expected(net, x) for n in (1, 2, 3))


@pytest.mark.parametrize("half", [False, True])
def test_outputs_of_dense_layers(half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of one position are cut between blocks of outputs, two weights in a byte or one."""
    monkeypatch.setattr(fast, "HALF_FROM", 0 if half else 1 << 30)
    net = wide_net(10)
    x = inputs_for(net, 3, 4)
    files = built(net, tmp_path, *RACES, "-DM_INLINE=static", cpu="generic", threads=4)
    assert b"_begun(" in files["m.c"]
    assert all(answers(tmp_path, files, x, n) == expected(net, x) for n in (0, 1, 2, 3))


def test_small_layers_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waking a thread takes longer than they do."""
    monkeypatch.undo()
    assert b"_split(threads" not in emit(tiny(), threads=2)["tiny.c"]


@pytest.mark.parametrize("cpu", ["cortex-m", "generic"])
def test_openmp(cpu: str, tmp_path: Path) -> None:
    net = NETS["residual"]()
    x = inputs_for(net, 5, 6)
    files = built(net, tmp_path, "-O2", "-fopenmp", cpu=cpu)
    want = expected(net, x)
    assert all(answers(tmp_path, files, x, n, OMP_WAIT_POLICY="passive") == want for n in range(4))
    spinning = subprocess.run(["./threads", "2"], cwd=tmp_path, input=b"", env={"PATH": ""}, check=False)
    assert spinning.returncode == 4, "threads that spin are not used"


@pytest.mark.parametrize("cpu", ["cortex-m", "generic"])
def test_the_usual_call_is_as_ever(cpu: str, tmp_path: Path) -> None:
    net = NETS["residual"]()
    x = inputs_for(net, 6, 8)
    assert_same(Engine(emit(net, cpu=cpu, threads=4), flags=("-O1",), cache=tmp_path).run(x), run(net, x), net)


def test_no_trace_of_threads_without_them() -> None:
    one, two = emit(tiny()), emit(tiny(), threads=2)
    assert b"thread" not in one["tiny.c"]
    assert set(two) - set(one) == {"tiny_openmp.h", "tiny_openmp.c"}
    assert b"#define TINY_THREADS 2" in two["tiny.h"]
    assert cost(tiny()).ram < json.loads(two["model.json"])["cost"]["state"]


@pytest.mark.parametrize("threads", [0, 65])
def test_number_of_threads(threads: int) -> None:
    with pytest.raises(TtfsError, match=f"{threads} threads: must be 1..64"):
        emit(tiny(), threads=threads)
