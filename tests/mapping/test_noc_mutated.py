"""Every field of mapping.json, changed: found and named, or without effect on anything that is computed.

With the hashes as they were, every change is found. With hashes recomputed, a change that is believed must not matter,
or must be one of the few that make another network of the same form, which `verify` tells from the interpreter's.
"""

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import numpy as np
import pytest

from tests.mapping.files import Files, Table, resealed
from tests.mapping.nets import chip_of, skipping
from ttfsc.backends import noc
from ttfsc.backends.noc.simulate import Simulator
from ttfsc.ir import Net, TtfsError, run
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route
from ttfsc.verification import first_difference

Path = tuple[str | int, ...]
CHIP = chip_of(16)
X = np.random.default_rng(0).integers(0, 10, (3, 1, 4, 4)).astype(np.uint8)
WORDS = ("xy", "yx", "unicast", "twos", "ramp", "zero", "first_spike", "spikes")
HARMLESS = {  # nothing that is computed depends on them
    "net", "chip.name", "mesh.partition", "mesh.placement", "layers.#.origin",
    "chip.figures.neurons_per_core.source",
    "chip.figures.neurons_per_core.value",  # a limit that is still met
    "mesh.width", "mesh.height",  # a larger mesh: no route leads there
    "input.low", "input.high", "input.scale",  # other inputs would be taken
    "layers.#.links.#.rounding",  # of kernels that leak
}  # fmt: skip
OTHER_NET = {"layers.#.force_last", "layers.#.links.#.kernel"}  # as good a network, but not this one


@cache
def made() -> tuple[Net, Files]:
    net = route(place(partition(skipping(), chip=CHIP)))
    return net, noc.emit(net, CHIP)


def document() -> Table:
    return json.loads(made()[1][noc.MAPPING])


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict | list) and value:
        table = cast("dict[str, Any] | list[Any]", value)
        for key, item in table.items() if isinstance(table, dict) else enumerate(table):
            yield from leaves(item, (*path, key))
    else:
        yield path


def named(path: Path) -> str:
    return ".".join("#" if isinstance(step, int) else step for step in path)


def chosen() -> list[Path]:
    """The first and the last of every kind of field."""
    kinds = dict[str, list[Path]]()
    for path in leaves(document()):
        kinds.setdefault(named(path), []).append(path)
    return [path for paths in kinds.values() for path in dict.fromkeys((paths[0], paths[-1]))]


def others(value: Any) -> list[Any]:
    match value:
        case None:
            return [0, {}, "x"]
        case bool():
            return [not value]
        case int():
            return [value + 1, value - 1, 0 if value else 2, 1 << 33]
        case float():
            return [value * 2, -value - 1]
        case str():
            return [f"{value}x", *(word for word in WORDS if word != value)]
        case _:
            return [[1], [[0, 1]], {"row": [0, 1]}]


def changed(path: Path, value: Any) -> Table:
    table = copy.deepcopy(document())
    at: Any = table
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return table


def original(path: Path) -> Any:
    at: Any = document()
    for step in path:
        at = at[step]
    return at


@pytest.mark.parametrize("path", chosen(), ids=lambda path: ".".join(map(str, path)))
def test_every_field(path: Path) -> None:
    net, files = made()
    want, before = run(net, X), Simulator(noc.load(files)).run(X)
    for value in others(original(path)):
        table = changed(path, value)
        with pytest.raises(TtfsError):
            noc.load({noc.MAPPING: json.dumps(table).encode(), noc.BINARY: files[noc.BINARY]})
        if "sha256" in path:
            continue
        try:
            sealed = resealed(table, files[noc.BINARY])
        except (KeyError, TypeError):  # no hash can be taken of such a record
            continue
        try:
            found = Simulator(noc.load(sealed)).run(X, keep=True)
        except TtfsError:
            continue
        difference = first_difference(net, "mapped cores", want, found.result, len(X))
        if named(path) in OTHER_NET and difference is not None:
            continue
        assert named(path) in HARMLESS | OTHER_NET, f"{value!r} is believed"
        assert difference is None
        assert {name: vars(c) | {"hops": list(c.hops)} for name, c in found.layers.items()} == {
            name: vars(c) | {"hops": list(c.hops)} for name, c in before.layers.items()
        }
