"""Damage by somebody who recomputes the hashes: contradictions are found by what they say, not by their sums."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapping.files import Table, document, faults_of, good, resealed
from tests.mapping.nets import chip_of, mapped, mnist
from ttfsc.backends import noc
from ttfsc.backends.noc.schema import form_faults, schema_bytes
from ttfsc.ir import Loc, TtfsError, codes


def _swap_places(t: Table) -> None:
    t["cores"][0]["place"], t["cores"][19]["place"] = t["cores"][19]["place"], t["cores"][0]["place"]


def _drop_route(t: Table) -> None:
    del t["cores"][4]["routes"][0]


def _redirect(t: Table) -> None:
    route = t["cores"][18]["routes"][0]
    route["to"], route["tree"] = [0], t["cores"][18]["routes"][0]["tree"]


def _path(*keys: str | int, value: object) -> Callable[[Table], None]:
    def edit(t: Any) -> None:
        for key in keys[:-1]:
            t = t[key]
        t[keys[-1]] = value

    return edit


LAYER, LINK = ("layers", 1), ("layers", 1, "links", 0)
HOSTILE: dict[str, tuple[Callable[[Table], None], str]] = {
    "swapped places": (_swap_places, "core 0: route 0: its tree does not lead from (4, 3)"),
    "place outside": (_path("cores", 3, "place", value=[5, 0]), "core 3: place 5,0 is outside the 5x5 mesh"),
    "place taken": (_path("cores", 3, "place", value=[4, 0]), "core 4: stands at 4,0, where core 3 is"),
    "number taken": (_path("cores", 19, "id", value=18), "core 18: the number is used twice"),
    "missing route": (_drop_route, "has synapses from, but is not sent,"),
    "wrong route": (_redirect, "core 18: route 0: its tree does not lead"),
    "unknown destination": (_path("cores", 18, "routes", 0, "to", value=[77]), "to core 77, which does not exist"),
    "no order": (_path("cores", 18, "routes", 0, "to", value=[19, 19]), "the destinations of %f3[0:128, 0:1, 0:1] do"),
    "route of others": (_path("cores", 18, "routes", 0, "layer", value="c1"), "which is not on it"),
    "slice outside": (_path("cores", 0, "slices", 0, "box", value=[[0, 16], [0, 9], [20, 27]]), "is not a box inside"),
    "empty slice": (_path("cores", 0, "slices", 0, "box", value=[[3, 3], [0, 9], [0, 6]]), "is not a box inside"),
    "neuron lost": (
        _path("cores", 0, "slices", 0, "box", value=[[0, 16], [0, 6], [0, 7]]),
        "neuron [0, 0, 7] is on no core",
    ),
    "neuron doubled": (
        _path("cores", 0, "slices", 0, "box", value=[[0, 16], [0, 6], [0, 9]]),
        "neuron [0, 0, 8] is on more than one",
    ),
    "too many neurons": (
        _path("chip", "figures", "neurons_per_core", "value", value=900),
        "core 4: holds 1008 neurons, small has 900",
    ),
    "memory": (
        _path("chip", "figures", "synapse_bits_per_core", value={"value": 9, "unit": "bit", "source": "?"}),
        "core 0: holds 1,600 bits of weights, small has 9 bit",
    ),
    "block elsewhere": (_path("cores", 2, "offset", value=24), "core 2: its block begins at 24, must begin at"),
    "block shorter": (_path("cores", 2, "bytes", value=24), "core 2: its block has 24 bytes, must have"),
    "section elsewhere": (
        _path("cores", 2, "slices", 0, "sections", 0, "offset", value=16),
        "core 2: the sections of %c1",
    ),
    "section gone": (_path("cores", 2, "slices", 0, "sections", value=[]), "core 2: the sections of %c1"),
    "unknown layer": (_path("cores", 0, "slices", 0, "layer", value="c9"), "%c9 is no layer"),
    "unknown source": (_path(*LINK, "source", value="c9"), "link 0 reads %c9, which gives no spikes before this layer"),
    "own source": (_path(*LINK, "source", value="c2"), "link 0 reads %c2, which gives no spikes before this layer"),
    "late window": (_path(*LAYER, "opens", value=11), "opens at 11, but its inputs close at 10"),
    "empty window": (_path(*LAYER, "closes", value=10), "window 10..10 must hold 1..4096 ticks"),
    "endless window": (_path("layers", 3, "closes", value=2**30), "must hold 1..4096 ticks"),
    "wrong grid": (_path(*LAYER, "grid", value=[32, 11, 12]), "layer %c2: shape [32, 11, 11] is not the grid"),
    "huge grid": (_path(*LAYER, "grid", value=[32, 2**30, 2**30]), "is larger than the 67108864 values"),
    "wrong source grid": (_path(*LINK, "source_grid", value=[16, 26, 27]), "source_grid is [16, 26, 27], %c1 has"),
    "wrong fan-in": (_path(*LINK, "fan_in", value=[16, 26, 27]), "fan_in is [16, 26, 27], must be [16, 26, 26]"),
    "wrong kernel size": (_path(*LINK, "weights", "shape", value=[32, 16, 3, 5]), "gives [32, 13, 11], its layer has"),
    "wrong rank": (_path(*LINK, "weights", "shape", value=[32, 16]), "conv2d takes [C, H, W] and weights"),
    "groups": (_path(*LINK, "conv", "groups", value=3), "in 3 groups"),
    "stride": (_path(*LINK, "conv", "stride", value=[2, 2]), "its layer has [32, 11, 11]"),
    "dense now": (_path(*LINK, "conv", value=None), "weights [32, 16, 5, 5] do not join"),
    "a pool": (
        _path(*LINK, "pools", value=[{"kernel": [2, 2], "stride": [2, 2], "pad": [0, 0, 0, 0], "out": [16, 9, 9]}]),
        "a max pool makes [16, 9, 9] of [16, 26, 26], which its window does not give",
    ),
    "sign of many bits": (_path(*LINK, "weights", "code", value="sign"), "code=sign belongs to weights of 1 bit"),
    "bias per layer": (_path(*LINK, "bias", value={"per": "layer", "bytes": 2}), "bias and drift are per channel or"),
    "ramp on pixels": (_path("layers", 0, "links", 0, "kernel", value="ramp"), "kernel=ramp needs spikes"),
    "every": (_path(*LINK, "every", value=True), "every belongs to streaming kernels on analog input"),
    "delay": (_path(*LINK, "delay", value=1), "delay belongs to streaming kernels on spikes"),
    "leak": (_path(*LINK, "shift", value=3), "kernel=leak needs either shift or keep, other kernels neither"),
    "streaming": (_path(*LINK, "kernel", value="step"), "a streaming layer shares its input's window 0..10"),
    "input range": (_path("input", "low", value=255), "input %in: range 255..255 does not rise"),
    "input shape": (_path("input", "shape", value=[1, 28, 27]), "source_grid is [1, 28, 28], %in has [1, 28, 27]"),
    "read-out rule": (
        _path("readout", "rule", value="weighted"),
        "rule=weighted, but the layers without thresholds are",
    ),
    "read-out source": (_path("readout", "source", value="f3"), "reads the layer of its own name"),
    "read-out shape": (_path("readout", "shape", value=[9]), "shape and window are not those of its layer"),
    "thresholds gone": (_path(*LAYER, "thresholds", value=None), "rule=membrane, but the layers without thresholds"),
    "an encoder": (
        _path("encoders", value=[{"name": "in", "source": "x", "pools": [], "shape": [3], "opens": 0, "closes": 0}]),
        "encoder %in: reads %x, must read the analog input",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_contradictions_behind_good_hashes(name: str) -> None:
    edit, fact = HOSTILE[name]
    table = document()
    edit(table)
    faults = faults_of(resealed(table, good()[noc.BINARY]))
    assert any(fact in fault for fault in faults), faults
    assert not any("changed after" in fault for fault in faults)
    assert len(faults) <= 102


def test_a_resealed_copy_is_good() -> None:
    noc.load(resealed(document(), good()[noc.BINARY]))


def test_a_superfluous_route_is_named() -> None:
    chip = chip_of(1024)
    net = mapped(mnist(), chip, delivery="unicast")
    table = json.loads(noc.emit(net, chip)[noc.MAPPING])
    table["cores"][12]["routes"][0]["to"].append(19)
    faults = faults_of(resealed(table, good()[noc.BINARY]))
    assert any("core 19: is sent %c2[" in f and "of which it has no synapses" in f for f in faults)


def test_other_header() -> None:
    binary = bytearray(good()[noc.BINARY])
    binary[8] = 9
    (fault,) = faults_of(resealed(document(), bytes(binary)))
    assert "begins with 54544653" in fault
    (fault,) = faults_of(resealed(document(), good()[noc.BINARY] + b"12345678"))
    assert "bytes, must have" in fault


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 1, 2, 3, 7, 2**31 - 1, 2**40, 1.5, "", "c1", "in", [], [1], [0, 0], {}, [[0, 1]] * 3]
)


def _spots(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below = list[tuple[str | int, ...]]()
    if isinstance(value, dict):
        below = [spot for key, item in value.items() for spot in _spots(item, (*path, key))]  # pyright: ignore
    elif isinstance(value, list):
        below = [spot for i, item in enumerate(value[:3]) for spot in _spots(item, (*path, i))]  # pyright: ignore
    return [path, *below] if path else below


VALIDATOR: Any = jsonschema.Draft202012Validator(json.loads(schema_bytes()))


def valid(table: Table) -> bool:
    """What a full implementation of JSON Schema says."""
    return not any(True for _ in VALIDATOR.iter_errors(table))


@settings(max_examples=150)
@given(st.data())
def test_no_document_crashes_the_reader_and_both_validators_agree(data: st.DataObject) -> None:
    table = deepcopy(document())
    for _ in range(data.draw(st.integers(1, 2))):
        spot = data.draw(st.sampled_from([s for s in _spots(table) if "sha256" not in s]))
        at: Any = table
        for key in spot[:-1]:
            at = at[key]
        if data.draw(st.booleans()) and isinstance(at, dict):
            del at[spot[-1]]
        else:
            at[spot[-1]] = deepcopy(data.draw(JUNK))  # the next change may be inside it
    accepted = not form_faults(table, Loc("x"))
    assert accepted == valid(table)
    try:
        files = resealed(table, good()[noc.BINARY])
    except (KeyError, TypeError, IndexError):
        return  # too far off to be hashed
    try:
        image = noc.load(files)
    except TtfsError as e:
        assert all(f.code in (codes.DAMAGED, codes.MAPPING) for f in e.faults)
        return
    assert accepted
    noc.run(image, np.full((1, *image.input.type.shape), table["input"]["low"], np.int64))
