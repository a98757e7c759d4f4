"""What the emitted files look like: names, symbols, bytes, the golden model."""

import doctest
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_build import STRICT, make, need, written
from c_nets import NETS, Hand, ints, tiny, wide

from ttfsc.backends.c import cost, emit, plan_text
from ttfsc.backends.c.cpu import CPUS
from ttfsc.ir import OPEN, Add, Analog, Flatten, Loc, Ref, Spikes, TtfsError, codes, run

PROGRAMS = Path(__file__).parent / "programs"
GOLDEN = Path(__file__).parent / "golden" / "tiny"
TWICE = """
import hashlib, sys
sys.path[:0] = [{here!r}]
from c_nets import NETS
from ttfsc.backends.c import emit
for name in sorted(NETS):
    for file, content in sorted(emit(NETS[name](), blob_from=100).items()):
        print(name, file, hashlib.sha256(content).hexdigest())
"""


def test_golden(update_golden: bool) -> None:
    """A whole emitted model, for reviewing by eye: `pytest tests/c --update-golden` rewrites it."""
    files = emit(tiny(), cpu="cortex-m")
    if update_golden:
        for old in GOLDEN.glob("*"):
            old.unlink()
        written(files, GOLDEN)
    assert {p.name: p.read_text() for p in GOLDEN.iterdir()} == {n: c.decode() for n, c in files.items()}


def test_same_bytes_under_two_hash_seeds() -> None:
    def once(seed: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        program = TWICE.format(here=str(Path(__file__).parent))
        return subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
        ).stdout

    first = once("1")
    assert first.count("\n") > 8 * len(NETS)
    assert first == once("2")


@pytest.mark.parametrize("blob", [False, True])
def test_only_public_symbols(blob: bool, tmp_path: Path) -> None:
    folder = written(emit(tiny(), blob_from=0 if blob else 1 << 20), tmp_path)
    assert make(folder, "all", "CFLAGS=-O0").returncode == 0
    objects = ["tiny.o", *(["tiny_weights.o"] if blob else [])]
    listed = subprocess.run([need("nm"), *objects], cwd=folder, capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines() if re.match(r"[0-9a-f]+ ", line)]
    public = {name for _, kind, name in rows if kind.isupper()}
    assert public == {"tiny_run", "tiny_run_traced"} | ({"tiny_weights"} if blob else set())
    assert not [name for _, kind, name in rows if kind in "bBdDcC"], "a mutable global"
    assert all(name.startswith("tiny_") for _, _, name in rows)


def test_every_macro_is_prefixed() -> None:
    for name, content in emit(tiny()).items():
        if name.endswith((".c", ".h")):
            assert all(m.startswith("TINY_") for m in re.findall(r"^#define (\w+)", content.decode(), re.M)), name


def test_no_heap_no_float() -> None:
    for make_net, cpu in itertools.product(NETS.values(), ("generic", "cortex-m")):
        source = b"".join(
            c for n, c in emit(make_net(), cpu=cpu).items() if n.endswith(".c") and "_main" not in n
        ).decode()
        words = set(re.findall(r"[a-z_]+", re.sub(r"/\*.*?\*/", "", source, flags=re.S)))
        assert not words & {"malloc", "calloc", "free", "float", "double", "alloca", "memcpy"}


def test_c99_holds_no_vectors() -> None:
    """For compilers without GNU vectors: half the source, and nothing that only some processors have."""
    for make_net in NETS.values():
        sources = [emit(make_net(), cpu=cpu, name="m")["m.c"].decode() for cpu in ("c99", "generic")]
        assert not re.findall(r"vector_size|M_VECTORS|M_DOTS|M_PLAIN|immintrin", sources[0])
        assert len(sources[0]) <= len(sources[1])


def test_two_models_in_one_program(tmp_path: Path) -> None:
    """Prefixes keep models apart, in one file even; the header is C++ as well."""
    written({**emit(tiny("first")), **emit(tiny("second")), **emit(wide(), name="Third one!")}, tmp_path)
    sources = "".join(f'#include "{n}.c"\n' for n in ("first", "second", "third_one"))
    (tmp_path / "both.c").write_text(f"{sources}int main(void) {{ return 0; }}\n")
    subprocess.run([need("gcc"), "-std=c99", *STRICT, "-O0", "both.c"], cwd=tmp_path, check=True)
    headers = "".join(f'#include "{n}.h"\n' for n in ("first", "third_one"))
    (tmp_path / "use.cc").write_text(f"{headers}int main() {{ return FIRST_OK + THIRD_ONE_OK; }}\n")
    subprocess.run([need("g++"), "-Wall", "-Wextra", "-Werror", "use.cc"], cwd=tmp_path, check=True)


def test_weights_from_a_loaded_file(tmp_path: Path) -> None:
    """The blob need not be linked: any copy of it in memory serves."""
    folder = written(emit(tiny(), blob_from=0), tmp_path)
    shutil.copy(PROGRAMS / "loaded.c", folder)
    subprocess.run([need("gcc"), "-std=c99", *STRICT, "loaded.c", "tiny.c", "-o", "loaded"], cwd=folder, check=True)
    said = subprocess.run(["./loaded"], cwd=folder, capture_output=True, text=True, check=True).stdout
    want = run(tiny(), np.zeros((1, 1, 6, 6), np.uint8))
    assert said.split() == [str(want.labels[0]), *map(str, want.scores[0])]


def test_null_pointers_are_refused(tmp_path: Path) -> None:
    folder = written(emit(tiny()), tmp_path)
    shutil.copy(PROGRAMS / "null.c", folder)
    subprocess.run([need("gcc"), "-std=c99", *STRICT, "-O2", "null.c", "tiny.c", "-o", "null"], cwd=folder, check=True)
    assert subprocess.run(["./null"], cwd=folder, check=False).returncode == 0


def test_comments_and_strings_survive_any_origin(tmp_path: Path) -> None:
    """Names from the source model end up in comments: they must not end them."""
    net = tiny()
    evil = [replace(op, loc=Loc(origin='*/ int x; /* "\\ \n ??/ é')) for op in net.ops]
    folder = written(emit(net.with_ops(evil)), tmp_path)
    assert make(folder, "check", "CFLAGS=-O0").returncode == 0


def test_cost_is_what_is_emitted() -> None:
    """4 bits: 9 rows of 2 bytes, 4 * 9 of 3, 6 of 2; tables of 4 thresholds, 3 biases."""
    c = cost(tiny(), cpu="cortex-m")
    assert c.weights == 9 * 2 + 4 * 9 * 3 + 6 * 2
    assert c.rom == c.weights + c.tables
    header = emit(tiny(), cpu="cortex-m")["tiny.h"].decode()
    assert f"ROM {c.rom} bytes" in header
    assert f"RAM {c.ram} bytes" in header


def test_four_bit_weights_take_half_a_byte() -> None:
    h = Hand("big", Spikes((256,), 0, 4))
    h.dense("v", "in", (512, 256)).fire("a", "v", 100)
    files = emit(h.dense("o", "a", (10, 512)).membrane("o"), blob_from=1 << 14, cpu="cortex-m")
    assert len(files["big_weights.bin"]) == (512 * 256 + 512 * 10) // 2


def error(net: object) -> str:
    with pytest.raises(TtfsError) as caught:
        emit(net)  # pyright: ignore[reportArgumentType]
    return str(caught.value)


def test_unproven_width_is_refused() -> None:
    net = tiny()
    bare = net.with_ops(replace(op, width=0) if op.name == "c1" else op for op in net.ops)  # pyright: ignore[reportCallIssue]
    assert "'fire' %c1: its accumulator width is not proven: run prove-widths" in error(bare)
    net = wide()
    narrow = net.with_ops(replace(op, width=16) if op.name == "a" else op for op in net.ops)  # pyright: ignore[reportCallIssue]
    assert re.search(r"'fire' %a: its membrane can reach \d+, which width=16 does not hold", error(narrow))


def test_too_many_ticks_are_refused() -> None:
    h = Hand("slow", Spikes((2,), 0, 20000))
    said = error(h.dense("o", "in", (2, 2)).membrane("o"))
    assert said.endswith("'input' %in: its window of 20000 ticks is longer than the 16384 that C code is made for")


def test_sum_of_differently_flattened_convolutions_is_refused() -> None:
    h = Hand("mixed", Analog((2, 4, 4), 0, 3))
    h.conv("a", "in", (4, 2, 3, 3)).conv("b", "in", (1, 2, 1, 1))
    h.op(Flatten(name="fa", type=OPEN, x=Ref("a"))).op(Flatten(name="fb", type=OPEN, x=Ref("b")))
    h.op(Add(name="v", type=OPEN, xs=(Ref("fa"), Ref("fb"))))
    net = h.membrane("v")
    with pytest.raises(TtfsError) as caught:
        emit(net)
    assert caught.value.faults[0].code == codes.UNSUPPORTED
    assert "different grids (4x2x2 and 1x4x4)" in str(caught.value)


def test_samples_must_fit_the_input() -> None:
    with pytest.raises(TtfsError) as caught:
        emit(tiny(), samples=np.full((1, 1, 6, 6), 256))
    assert caught.value.faults[0].code == codes.INPUT


def test_ints_reach_both_ends() -> None:
    """The helper behind all these nets: a range that stopped short would test less than it says."""
    w = ints(0, (40, 40), 4)
    assert (w.min(), w.max()) == (-8, 7)


def test_the_plan_says_what_and_why() -> None:
    plans = {cpu: json.loads(emit(NETS["residual"](), cpu=cpu)["model.json"])["plan"] for cpu in CPUS}
    for plan in plans.values():
        assert [choice["layer"] for choice in plan] == ["a", "b", "c", "out"]
        assert all(choice["reason"] and choice["kilocycles"] >= 0 for choice in plan)
    assert {choice["kernel"] for choice in plans["cortex-m"]} == {"packed rows"}
    fast = {"walked lists", "gathered rows", "dot products"}
    assert {choice["kernel"].split(",")[0] for choice in plans["generic"]} <= fast
    assert {choice["kernel"].split(",")[0] for choice in plans["c99"]} <= fast - {"dot products"}


def test_the_printed_plan() -> None:
    assert doctest.testmod(plan_text) == (0, 2)


def test_unknown_cpu_is_refused() -> None:
    with pytest.raises(TtfsError, match="no cpu 'z80'; there are c99, cortex-m, generic"):
        emit(tiny(), cpu="z80")
