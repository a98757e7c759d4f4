"""The host engine: what it returns, what it refuses, what it keeps."""

from pathlib import Path

import numpy as np
import pytest
from c_build import assert_same, written
from c_nets import tiny

from tests.strategies import inputs_for
from ttfsc.backends.c import Engine, emit
from ttfsc.ir import TtfsError, codes, run

FAST = ("-O0",)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("libraries")


def test_from_a_folder(tmp_path: Path, cache: Path) -> None:
    net = tiny()
    x = inputs_for(net, 1, 9)
    assert_same(Engine(written(emit(net), tmp_path), flags=FAST, cache=cache).run(x), run(net, x), net)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [None, 1, 4, 100])
def test_batches_and_threads_change_nothing(threads: int, batch: int | None, cache: Path) -> None:
    net, done = tiny(), list[int]()
    x = inputs_for(net, 2, 11)
    engine = Engine(emit(net), flags=FAST, cache=cache, threads=threads)
    assert_same(engine.run(x, batch=batch, progress=done.append), run(net, x), net)
    assert sum(done) == 11
    assert len(done) == -(-11 // (batch or 100))


def test_keep(cache: Path) -> None:
    net = tiny()
    x = inputs_for(net, 3, 4)
    engine, want = Engine(emit(net), flags=FAST, cache=cache), run(net, x)
    assert list(engine.run(x).spikes) == list(want.spikes) == ["c1", "c2"]
    some, none = engine.run(x, keep=["c2"]), engine.run(x, keep=())
    assert list(some.spikes) == ["c2"]
    assert none.spikes == {}
    np.testing.assert_array_equal(some.spikes["c2"], want.spikes["c2"])
    np.testing.assert_array_equal(none.scores, want.scores)


def test_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = emit(tiny())
    first = Engine(files, flags=FAST, cache=tmp_path).library

    def again(*_: object) -> str:
        pytest.fail("compiled again")

    monkeypatch.setattr("ttfsc.backends.c.build._compile", again)
    assert Engine(files, flags=FAST, cache=tmp_path).library == first
    changed = {**files, "tiny.c": files["tiny.c"] + b"\n"}
    with pytest.raises(pytest.fail.Exception):
        Engine(changed, flags=FAST, cache=tmp_path)
    with pytest.raises(pytest.fail.Exception):
        Engine(files, flags=("-O1",), cache=tmp_path)


def test_default_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Engine(emit(tiny()), flags=FAST).library.parent == tmp_path / "ttfsc" / "c"


@pytest.mark.parametrize(
    ("x", "fact"),
    [
        (np.zeros((2, 1, 6, 5), np.uint8), "x is 2x1x6x5, must be N x 1x6x6"),
        (np.zeros((0, 1, 6, 6), np.uint8), "x holds no samples"),
        (np.zeros((1, 1, 6, 6)), "x is float64; a quantised net takes integers"),
        (np.full((1, 1, 6, 6), 300), "x reaches from 300 to 300, declared are 0..255"),
        (np.full((1, 1, 6, 6), -1), "x reaches from -1 to -1, declared are 0..255"),
    ],
)
def test_bad_inputs(x: np.ndarray[tuple[int, ...], np.dtype[np.generic]], fact: str, cache: Path) -> None:
    engine = Engine(emit(tiny()), flags=FAST, cache=cache)
    with pytest.raises(TtfsError) as caught:
        engine.run(x)
    assert caught.value.faults[0].code == codes.INPUT
    assert fact in str(caught.value)


def code_of(files: dict[str, bytes] | Path, cache: Path) -> tuple[int, str]:
    with pytest.raises(TtfsError) as caught:
        Engine(files, flags=FAST, cache=cache)
    return caught.value.faults[0].code, str(caught.value)


def test_damaged_folders(tmp_path: Path, cache: Path) -> None:
    files = emit(tiny())
    missing = {n: c for n, c in files.items() if n != "tiny.c"}
    assert code_of(missing, cache)[0] == codes.DAMAGED
    assert "misses tiny.c" in code_of(missing, cache)[1]
    assert code_of({**files, "model.json": b"{"}, cache)[0] == codes.DAMAGED
    assert code_of({**files, "model.json": b"{}"}, cache)[0] == codes.DAMAGED
    escaped = files["model.json"].replace(b'"name": "tiny"', b'"name": "../tiny"', 1)
    renamed = {n.replace("tiny", "../tiny"): c for n, c in files.items()}
    assert code_of({**renamed, "model.json": escaped}, cache)[0] == codes.DAMAGED
    assert code_of(tmp_path / "absent", cache)[0] == codes.FILE


def test_what_the_compiler_says_is_shown(cache: Path) -> None:
    files = emit(tiny())
    code, said = code_of({**files, "tiny.c": files["tiny.c"] + b"#error no\n"}, cache)
    assert code == codes.TOOL
    assert "#error no" in said


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    code, said = code_of(emit(tiny()), tmp_path)
    assert code == codes.TOOL
    assert "no C compiler: cc, gcc, clang not found; install gcc or clang" in said
