"""The parts alone: packing, memory, kernels, C literals."""

import doctest
import itertools
import subprocess
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from c_build import STRICT, UNDEFINED, need
from hypothesis import given
from hypothesis import strategies as st

from ttfsc.backends.c import cgen, kernels
from ttfsc.backends.c.memory import Buffer, arenas, placed, state_bytes
from ttfsc.backends.c.pack import code_for, pack, unpack

TEMPLATES = kernels.RUNTIME.parent / "templates"


@given(bits=st.integers(1, 8), rows=st.integers(1, 5), n=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_packing_loses_nothing(bits: int, rows: int, n: int, seed: int) -> None:
    most = 2 ** (bits - 1)
    w = np.random.default_rng(seed).integers(-most, most, (rows, n)).astype(np.int8)
    packed = pack(w, bits)
    np.testing.assert_array_equal(unpack(packed, n), w)
    assert packed.code.bits == (2 if bits == 1 and (w == 0).any() else bits)
    planes = [b for b in (8, 4, 2, 1) if packed.code.bits & b]
    assert packed.data.size == rows * sum(-(-n * b // 8) for b in planes)


def test_one_bit_is_a_sign() -> None:
    w = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (3, 17))
    packed = pack(w, 1)
    assert (packed.code.bits, packed.row_bytes) == (1, 3)
    np.testing.assert_array_equal(unpack(packed, 17), w)
    assert code_for(np.array([0, 1, -1]), 1).bits == 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["uint8_t", "int16_t", "int32_t"]), st.integers(1, 50), st.integers(0, 9), st.integers(0, 4)
        ),
        max_size=12,
    )
)
def test_buffers_alive_together_never_overlap(given_buffers: list[tuple[str, int, int, int]]) -> None:
    buffers = placed([Buffer(t, n, first, first + more) for t, n, first, more in given_buffers])
    for a, b in itertools.combinations(buffers, 2):
        if a.ctype == b.ctype and a.meets(b):
            assert a.offset + a.length <= b.offset or b.offset + b.length <= a.offset
    for ctype, size in arenas(buffers):
        assert max(b.offset + b.length for b in buffers if b.ctype == ctype) == size


def test_a_chain_takes_two_buffers() -> None:
    sizes = [100, 80, 60, 40]
    buffers = placed([Buffer("uint8_t", n, i, i + 1) for i, n in enumerate(sizes)])
    assert arenas(buffers) == (("uint8_t", 180),)
    assert state_bytes((("int32_t", 1), ("uint8_t", 5))) == 12


def test_every_kernel_file_is_listed_and_every_name_is_a_file() -> None:
    files = {k.file or name for name, k in kernels.KERNELS.items()}
    vectors = {f"{k.file or name}_vector" for name, k in kernels.KERNELS.items() if k.vector}
    picks = {f"{k.file or name}_compress" for name, k in kernels.KERNELS.items() if k.compress}
    assert {p.stem for p in kernels.RUNTIME.glob("*.c")} == files | vectors | picks


@pytest.mark.parametrize("name", sorted(p.stem for p in kernels.RUNTIME.glob("*.c")))
def test_every_kernel_is_c_by_itself(name: str, tmp_path: Path) -> None:
    flags = ["-std=c99", *STRICT, "-Wno-unused-function", "-fsyntax-only"]
    subprocess.run([need("gcc"), *flags, str(kernels.RUNTIME / f"{name}.c")], cwd=tmp_path, check=True)


def test_small_files() -> None:
    for path in TEMPLATES.iterdir():
        assert len(path.read_text().splitlines()) < 120, path.name
    for path in kernels.RUNTIME.iterdir():
        assert len(path.read_text().splitlines()) < 80, path.name


def test_doctests() -> None:
    assert doctest.testmod(cgen) == (0, 5)


def test_table_lines_stay_short() -> None:
    lines = cgen.table(np.arange(-3000, 3000)).splitlines()
    assert max(map(len, lines)) <= 120
    assert [int(v) for v in "".join(lines).split(",")] == list(range(-3000, 3000))


def rounded(value: Fraction, rounding: str) -> int:
    match rounding:
        case "floor":
            return floor(value)
        case "nearest":
            return floor(value + Fraction(1, 2))
        case _:
            return int(value)


def test_leak_is_exact_to_the_ends_of_32_bits(tmp_path: Path) -> None:
    """Every rounding, every shift, factors at both ends, membranes at both ends: as rational numbers say."""
    values = [sign * size for size in (0, 1, 2, 3, 7, 32767, 32768, 65537, 2**30 + 1, 2**31 - 1) for sign in (1, -1)]
    keeps = [(2**s - 1, s) for s in range(1, 16)] + [(1, 15), (16384, 15), (32767, 15), (12345, 15)]
    calls = "\n".join(
        f"    for (int i = 0; i < {len(values)}; i++) {{ v[i] = x[i]; }}\n"
        f"    t_leak_i32(v, {len(values)}, {num}u, {shift}u, {mode});\n"
        f'    for (int i = 0; i < {len(values)}; i++) {{ printf("%ld\\n", (long)v[i]); }}'
        for num, shift in keeps
        for mode in range(3)
    )
    text = kernels.instance("leak", acc="int32_t").text("t")
    (tmp_path / "leak.c").write_text(
        f"#include <stdint.h>\n#include <stdio.h>\n{text}\nint main(void)\n{{\n"
        f"    static const int32_t x[] = {{ {', '.join(map(str, values))} }};\n"
        f"    int32_t v[{len(values)}];\n{calls}\n    return 0;\n}}\n"
    )
    subprocess.run([need("gcc"), "-std=c99", *STRICT, *UNDEFINED, "leak.c", "-o", "leak"], cwd=tmp_path, check=True)
    said = subprocess.run(["./leak"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    want = [
        rounded(Fraction(v * num, 2**shift), mode)
        for num, shift in keeps
        for mode in ("floor", "nearest", "zero")
        for v in values
    ]
    assert [int(line) for line in said.split()] == want
