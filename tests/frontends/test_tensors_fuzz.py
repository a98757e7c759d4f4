"""Damaged .safetensors files: whatever the bytes, an answer or one clean error; the header's sizes are not believed."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttfsc.frontends.tensors import load_tensors
from ttfsc.ir import TtfsError, codes

HEADER = json.dumps(
    {
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "I64", "shape": [], "data_offsets": [24, 32]},
    }
).encode()
WHOLE = struct.pack("<Q", len(HEADER)) + HEADER + np.arange(6, dtype="<f4").tobytes() + struct.pack("<q", 7)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "w.safetensors"


def test_the_undamaged_file(path: Path) -> None:
    path.write_bytes(WHOLE)
    read = load_tensors(path)
    assert read["a.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read["b"].tolist() == 7


@settings(max_examples=150)
@given(cut=st.integers(0, len(WHOLE) - 1))
def test_truncation(path: Path, cut: int) -> None:
    path.write_bytes(WHOLE[:cut])
    with pytest.raises(TtfsError) as e:
        load_tensors(path)
    assert {f.code for f in e.value.faults} == {codes.DAMAGED}


@settings(max_examples=300)
@given(flips=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), min_size=1, max_size=6))
def test_flipped_bits(path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, bits in flips:
        data[place] ^= bits
    path.write_bytes(data)
    try:
        read = load_tensors(path)
    except TtfsError as e:
        assert all(f.code == codes.DAMAGED and "\n" not in f.fact for f in e.faults)
    else:
        assert sum(a.nbytes for a in read.values()) <= 2 * len(WHOLE)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TtfsError, match="no such file"):
        load_tensors(tmp_path / "none.safetensors")
