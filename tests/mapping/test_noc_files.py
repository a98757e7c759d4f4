"""Mapping files as files: same bytes every time, the schema holds, and every kind of damage is named."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapping.files import document, faults_of, good
from tests.mapping.nets import chip_of, mapped, mnist, proven
from tests.strategies import integer_nets
from ttfsc.backends import noc
from ttfsc.backends.noc.pack import bytes_for, integers, pack, unpack
from ttfsc.backends.noc.schema import schema_bytes
from ttfsc.ir import Net, TtfsError, codes
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place

# -- what is written ---------------------------------------------------------------------------------------------------

EMIT = """
import hashlib
from tests.mapping.files import Files, document, faults_of, good
from tests.mapping.nets import *
from ttfsc.backends import noc
files = noc.emit(mapped(mnist(), chip_of(300)), chip_of(300))
print({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
"""


def test_same_net_same_bytes_in_any_process() -> None:
    root = Path(__file__).resolve().parents[2]
    told = {
        subprocess.run(
            [sys.executable, "-c", EMIT], cwd=root, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(told) == 1
    assert "mapping.json" in told.pop()


@settings(max_examples=40)
@given(integer_nets(), st.integers(1, 20), st.sampled_from(("multicast", "unicast")))
def test_files_hold_the_schema_and_say_what_the_map_says(net: Net, limit: int, delivery: str) -> None:
    chip = chip_of(limit, bits=1 << 30)
    net = mapped(proven(net), chip, "tile", delivery)
    files = noc.emit(net, chip)
    jsonschema.validate(json.loads(files[noc.MAPPING]), json.loads(files[noc.SCHEMA]))
    image = noc.load(files)
    assert image.mapped == net.mapped
    assert image.figures == chip.figures
    assert noc.emit(net, chip) == files


def test_the_schema_is_one() -> None:
    schema = json.loads(schema_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert good()[noc.SCHEMA] == schema_bytes()


def test_no_path_date_or_user_in_the_files() -> None:
    text = good()[noc.MAPPING].decode()
    for word in (str(Path.home()), str(Path(__file__).parents[2]), os.environ.get("USER") or "/home"):
        assert len(word) < 4 or word not in text


@given(st.integers(1, 8), st.lists(st.integers(-128, 127), max_size=50))
def test_packed_weights_come_back(bits: int, values: list[int]) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    w = np.clip(np.array(values, np.int8), low, high).astype(np.int8)
    packed = pack(w, bits)
    assert len(packed) == -(-len(w) * bits // 8)
    stream = [(packed[i // 8] >> (i % 8)) & 1 for i in range(len(w) * bits)]  # as the format is written down
    told = [sum(bit << j for j, bit in enumerate(stream[i * bits : (i + 1) * bits])) for i in range(len(w))]
    assert [code - (1 << bits) * (code > high) for code in told] == w.tolist()
    np.testing.assert_array_equal(unpack(packed, len(w), bits), w)


def test_packed_signs() -> None:
    w = np.array([1, -1, -1, 1, 1, 1, -1, -1, 1], np.int8)
    assert pack(w, 1, sign=True) == bytes([0b00111001, 1])
    np.testing.assert_array_equal(unpack(pack(w, 1, sign=True), 9, 1, sign=True), w)


@pytest.mark.parametrize(
    ("values", "size"), [([], 2), ([-32768, 32767], 2), ([32768], 4), ([-(2**31)], 4), ([2**31], 8), ([-(2**62)], 8)]
)
def test_integers_take_the_bytes_they_need(values: list[int], size: int) -> None:
    a = np.array(values, np.int64)
    assert bytes_for(a) == size
    assert np.frombuffer(integers(a, size), f"<i{size}").tolist() == values


# -- what cannot be written --------------------------------------------------------------------------------------------


def test_nets_that_cannot_be_emitted() -> None:
    chip, other = chip_of(1024), replace(chip_of(1024), name="other")
    net = mapped(mnist(), chip)
    unproven = net.with_ops([replace(op, width=0) if op.name == "c2" else op for op in net.ops])  # pyright: ignore
    placed = place(partition(mnist(), chip=chip))
    assert net.mapped is not None
    moved = net.with_map(replace(net.mapped, routes=net.mapped.routes[1:]))
    for bad, on, code, message in (
        (mnist(), chip, codes.STAGE, "has no map section"),
        (unproven, chip, codes.STAGE, "its accumulator width is not proven: run prove-widths"),
        (placed, chip, codes.STAGE, "its map has no routes: run route"),
        (net, other, codes.OPTION, "was mapped for small, not for other: run partition, place and route again"),
        (moved, chip, codes.MAPPING, "has synapses from, but is not sent,"),
    ):
        with pytest.raises(TtfsError) as e:
            noc.emit(bad, on)
        assert {f.code for f in e.value.faults} == {code}
        assert message in str(e.value)


# -- damage that hashes find -------------------------------------------------------------------------------------------


def test_a_flipped_weight_bit_names_its_core() -> None:
    for core in document()["cores"]:
        binary = bytearray(good()[noc.BINARY])
        weights = core["slices"][0]["sections"][0]
        binary[weights["offset"] + weights["bytes"] // 2] ^= 4
        faults = faults_of({**good(), noc.BINARY: bytes(binary)})
        assert len(faults) == 2
        assert f"noc/cores.bin: error[TTFS014]: core {core['id']}: its record or its weights" in faults[0]
        assert faults[1] == "noc/cores.bin: error[TTFS014]: was changed after it was written"


@settings(max_examples=60)
@given(st.data())
def test_any_flipped_bit_of_the_binary_is_found(data: st.DataObject) -> None:
    binary = bytearray(good()[noc.BINARY])
    at = data.draw(st.integers(0, len(binary) - 1))
    binary[at] ^= 1 << data.draw(st.integers(0, 7))
    assert any("noc/cores.bin" in fault for fault in faults_of({**good(), noc.BINARY: bytes(binary)}))


@settings(max_examples=60)
@given(st.data())
def test_any_changed_byte_of_the_document_is_found(data: st.DataObject) -> None:
    text = bytearray(good()[noc.MAPPING])
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255).filter(lambda b: b != text[at]))
    files = {**good(), noc.MAPPING: bytes(text)}
    try:
        same = json.loads(text) == document()
    except ValueError:
        same = False
    if same:  # white space
        noc.load(files)
    else:
        assert faults_of(files)


def test_swapped_places_name_both_cores() -> None:
    """Also of cores that every route reaches together, where no tree tells them apart."""
    for a, b in ((0, 1), (3, 14), (18, 19)):
        table = document()
        table["cores"][a]["place"], table["cores"][b]["place"] = table["cores"][b]["place"], table["cores"][a]["place"]
        faults = faults_of({**good(), noc.MAPPING: json.dumps(table).encode()})
        for core in (a, b):
            assert any(f"core {core}: its record was changed" in fault for fault in faults)


def test_truncated_files() -> None:
    binary, text = good()[noc.BINARY], good()[noc.MAPPING]
    for end in (0, 7, 16, 1000, len(binary) // 2, len(binary) - 1):
        faults = faults_of({**good(), noc.BINARY: binary[:end]})
        assert any("noc/cores.bin" in fault for fault in faults)
        assert end > 1000 or "truncated" in faults[0]
    for end in (0, 1, 100, len(text) // 2, len(text) - 3):
        (fault,) = faults_of({**good(), noc.MAPPING: text[:end]})
        assert fault.startswith("noc/mapping.json: error[TTFS014]: not JSON: ")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert faults_of({noc.MAPPING: good()[noc.MAPPING]}) == ["noc/cores.bin: error[TTFS013]: is missing"]
    with pytest.raises(TtfsError) as e:
        noc.read(tmp_path)
    assert [str(f) for f in e.value.faults] == [
        f"{tmp_path / name}: error[TTFS013]: no such file" for name in (noc.MAPPING, noc.BINARY)
    ]
    for name, data in good().items():
        (tmp_path / name).write_bytes(data)
    assert noc.read(tmp_path).name == "mnist"


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (b"[" * 100_000, "not JSON"),
        (b'{"net": 1, "net": 2}', "key 'net' occurs twice in one object"),
        (b'{"net": NaN}', "NaN is not a number"),
        (b"\xff\xfe", "not JSON"),
        (b"1" * 10_000, "not JSON"),
        (b"[]", "the document: is a list, must be object"),
        (b'{"format": "ttfsc-noc"}', "schema_version: is missing"),
    ],
)
def test_documents_that_are_none(text: bytes, fact: str) -> None:
    assert fact in faults_of({**good(), noc.MAPPING: text})[0]
