"""A chip's description, read from TOML: limits and energies, each figure with its unit and its source.

A figure that is not in the file is `None` and means "not modelled": nothing here has a default value, because a
number that nobody measured would end up in somebody's energy table. `ttfsc/hardware/template.toml` documents the form.
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from ttfsc.ir import codes
from ttfsc.ir.faults import Fault, Loc, TtfsError

DELIVERIES = ("multicast", "unicast")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, its unit, and where it was taken from."""

    value: float
    unit: str
    source: str

    def __int__(self) -> int:
        return int(self.value)

    def __str__(self) -> str:
        number = f"{int(self.value):,}" if self.value == int(self.value) else f"{self.value:g}"
        return f"{number} {self.unit}"


def _in(unit: str, *, whole: bool = False) -> Mapping[str, str | bool]:
    """How a figure's field is read: in this unit; `whole` counts are integers of at least 1."""
    return {"unit": unit, "whole": whole}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A mesh of equal cores. The figures are declared here once: reader, checks and reports follow from this list."""

    name: str
    title: str
    delivery: str  # what the routers can do when nobody says otherwise: multicast or unicast
    neurons_per_core: Figure = field(metadata=_in("neurons", whole=True))
    synapse_bits_per_core: Figure | None = field(default=None, metadata=_in("bit", whole=True))
    axons_in: Figure | None = field(default=None, metadata=_in("axons", whole=True))  # neurons that a core can hear
    axons_out: Figure | None = field(default=None, metadata=_in("packets", whole=True))  # that one spike can become
    routing_entries: Figure | None = field(default=None, metadata=_in("entries", whole=True))  # of a router's table
    accumulator_bits: Figure | None = field(default=None, metadata=_in("bit", whole=True))
    potential_bits: Figure | None = field(default=None, metadata=_in("bit", whole=True))
    cores_per_router: Figure | None = field(default=None, metadata=_in("cores", whole=True))  # no hop between them
    # of routers, which are cores where each has its own; without a mesh: the smallest square that fits
    mesh_width: Figure | None = field(default=None, metadata=_in("cores", whole=True))
    mesh_height: Figure | None = field(default=None, metadata=_in("cores", whole=True))
    e_sop: Figure | None = field(default=None, metadata=_in("pJ"))
    e_hop: Figure | None = field(default=None, metadata=_in("pJ"))
    e_update: Figure | None = field(default=None, metadata=_in("pJ"))  # of one neuron in one tick
    e_memory: Figure | None = field(default=None, metadata=_in("pJ"))  # of one access to synapse memory
    e_static: Figure | None = field(default=None, metadata=_in("uJ/frame"))
    p_static: Figure | None = field(default=None, metadata=_in("mW"))  # of the whole chip
    tick: Figure | None = field(default=None, metadata=_in("us"))  # how long a tick lasts
    cycle: Figure | None = field(default=None, metadata=_in("ns"))  # of the routers' clock
    route_cycles: Figure | None = field(default=None, metadata=_in("cycles", whole=True))  # route computation
    switch_cycles: Figure | None = field(default=None, metadata=_in("cycles", whole=True))  # switch allocation
    crossbar_cycles: Figure | None = field(default=None, metadata=_in("cycles", whole=True))
    link_cycles: Figure | None = field(default=None, metadata=_in("cycles", whole=True))
    buffer_packets: Figure | None = field(default=None, metadata=_in("packets", whole=True))  # per input of a router

    dead: tuple[tuple[int, int], ...] = ()  # places x, y whose cores do not work; their routers do

    @property
    def figures(self) -> dict[str, Figure | None]:
        """Every figure by its key, in order of declaration; None = not modelled."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata}

    @property
    def ports(self) -> int:
        """Cores at one router."""
        return 1 if self.cores_per_router is None else int(self.cores_per_router)

    @property
    def mesh(self) -> tuple[int, int] | None:
        """Width and height, or None where the chip grows with the network."""
        if self.mesh_width is None or self.mesh_height is None:
            return None
        return int(self.mesh_width), int(self.mesh_height)

    def mesh_for(self, cores: int) -> tuple[int, int]:
        """The chip's mesh, or the smallest square of routers that holds this many cores beside the dead places."""
        routers = -(-max(cores, 1) // self.ports)
        side = math.isqrt(routers - 1) + 1
        while side * side - sum(x < side and y < side for x, y in self.dead) < routers:
            side += 1
        return self.mesh or (side, side)


UNITS: dict[str, str] = {f.name: f.metadata["unit"] for f in fields(Chip) if f.metadata}
"""Every figure that a chip can have, and its unit."""


def chip_names() -> tuple[str, ...]:
    """The chips that come with ttfsc."""
    found = (item.name for item in files("ttfsc.hardware").iterdir())
    return tuple(sorted(n.removesuffix(".toml") for n in found if n.endswith(".toml") and n != "template.toml"))


def load_chip(name: str | Path) -> Chip:
    """A chip by the name of a shipped description, or from a .toml file of one's own.

    Raises TtfsError with everything that is wrong with the description.
    """
    if str(name) in chip_names():
        return read_chip(files("ttfsc.hardware").joinpath(f"{name}.toml").read_text("utf-8"), f"{name}.toml")
    path = Path(name)
    if path.suffix != ".toml":
        fact = f"no such chip; there are {', '.join(chip_names())}, or give the path of a .toml file"
        raise TtfsError.one(codes.CHIP, fact, subject=f"chip {name}")
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise TtfsError.one(codes.CHIP, f"larger than {_MAX_BYTES} bytes: no chip description", loc=Loc(str(path)))
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as e:
        fact = "no such file" if isinstance(e, FileNotFoundError) else f"cannot be read as text: {e}"
        raise TtfsError.one(codes.FILE, fact, loc=Loc(str(path))) from e
    return read_chip(text, str(path))


def read_chip(text: str, source: str) -> Chip:
    """A chip from the text of its description; raises TtfsError with every fault at once."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as e:
        raise TtfsError.one(codes.CHIP, f"not TOML: {e}", loc=Loc(source)) from e
    values = dict[str, Any]()
    faults = [Fault(codes.CHIP, Loc(source), subject, fact) for subject, fact in _facts(table, values)]
    if faults:
        raise TtfsError(faults)
    return Chip(**values)


def _facts(table: dict[str, Any], values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Fills `values` with what can be used and yields (key, what is wrong)."""
    known = {f.name for f in fields(Chip)}
    for key in table:
        if key not in known:
            yield key, f"unknown key; a chip has {', '.join(sorted(known))}"
    for key in ("name", "title", "delivery"):
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            yield key, f'missing: write {key} = "..."' if value is None else f"{value!r} must be text"
            continue
        values[key] = value
        if key == "name" and not all(c.isascii() and (c.isalnum() or c in "-_.") for c in value):
            yield key, f"{value!r}: letters, digits, '-', '_' and '.' only, it appears in the text form"
        if key == "delivery" and value not in DELIVERIES:
            yield key, f"{value!r} must be {' or '.join(DELIVERIES)}"
    if "dead" in table:
        yield from _dead_facts(table["dead"], values)
    for f in fields(Chip):
        if not f.metadata:
            continue
        if f.name in table:
            yield from _figure_facts(f.name, table[f.name], f.metadata["unit"], f.metadata["whole"], values)
        elif f.name == "neurons_per_core":
            yield f.name, 'missing: write [neurons_per_core] with value, unit = "neurons" and source'
    if ("mesh_width" in table) != ("mesh_height" in table):
        yield "mesh_width", "mesh_width and mesh_height go together: give both, or neither for a mesh that grows"


def _dead_facts(given: Any, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    pairs: list[Any] = cast(list[Any], given) if isinstance(given, list) else [None]
    for pair in pairs:
        place = cast(list[Any], pair) if isinstance(pair, list) else []
        if len(place) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < 2**20 for n in place):
            yield "dead", f"{given!r} must be places of cores: dead = [[x, y], ...]"
            return
    values["dead"] = tuple((int(pair[0]), int(pair[1])) for pair in pairs)


def _figure_facts(key: str, given: Any, unit: str, whole: bool, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not isinstance(given, dict):
        yield key, f'must be a table: [{key}] with value, unit = "{unit}" and source'
        return
    table = cast(dict[str, Any], given)
    for part in table:
        if part not in ("value", "unit", "source"):
            yield f"{key}.{part}", "unknown key; a figure has value, unit and source"
    value, source = table.get("value"), table.get("source")
    good = True
    if "value" not in table:
        yield f"{key}.value", "missing; leave the whole figure out if it is not known"
        good = False
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        yield f"{key}.value", f"{value!r} must be a finite number"
        good = False
    elif value < 0:
        yield f"{key}.value", f"{value} is negative"
        good = False
    elif whole and (not isinstance(value, int) or not 1 <= value <= 2**40):
        yield f"{key}.value", f"{value} must be a whole number, at least 1"
        good = False
    if table.get("unit") != unit:
        got = "missing" if "unit" not in table else f"{table['unit']!r}"
        yield f"{key}.unit", f'{got}; must be "{unit}": convert the value'
        good = False
    if not isinstance(source, str) or not source.strip():
        yield f"{key}.source", "missing: say where the figure was published or measured"
        good = False
    if good:
        values[key] = Figure(float(table["value"]), unit, str(source))
