"""Put the cores on the mesh.

    core 17 at 17,0 ...   =>   core 17 at 0,1 ...

`row-major`: in the order of their numbers, x fastest. `hilbert`: along a space-filling curve, ordered by where in the
image their neurons look. `anneal`: from there (start=hilbert), from where they stand (start=current, the warm start of
a net that was placed before) or from where an earlier map had them (start=earlier), swapping cores for what `objective`
counts:

    multicast   packets x links of their tree                    unicast   packets x links to every destination
    busiest     packets on the most loaded link                  latency   packets x links to their farthest destination

Packets come from a rate for all neurons (`rate`), from rates of layers (`layers`) or from spikes measured on sample
inputs (rates=measured, --calib).
Routes name cores, not places, so they stay valid.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ttfsc.hardware import Chip
from ttfsc.ir import (
    Array,
    Core,
    Fault,
    Grid,
    Layer,
    Loc,
    Mapped,
    Net,
    Place,
    TtfsError,
    codes,
    is_integer,
    layers_of,
    show_shape,
)
from ttfsc.passes.curve import curve
from ttfsc.passes.flow import Floats, Flow, flow_of, measured_rates
from ttfsc.passes.search import Board, Search, annealed, need_numba
from ttfsc.passes.warm import earlier_places

log = logging.getLogger(__name__)
HOT, WARM = 3.0, 0.5  # first temperatures, in units of a core's mean traffic
_GRAIN = 64  # the image is ordered along a curve over this many rows and columns


def place(
    net: Net,
    *,
    scheme: str = "hilbert",
    objective: Literal["multicast", "unicast", "busiest", "latency"] = "multicast",
    seed: int = 0,
    restarts: int = 4,
    moves: int = 0,
    seconds: float = 0.0,
    start: Literal["hilbert", "current", "earlier"] = "hilbert",
    rates: Literal["uniform", "measured"] = "uniform",
    rate: float = 0.256,
    layers: str = "",
    pool: Literal["target", "source"] = "target",
    pinned: str = "",
    closed: str = "",
    threads: int = 0,
    calibration: Array | None = None,
    chip: Chip | None = None,
    earlier: Mapped | None = None,
) -> Net:
    """The partitioned net with a place for every core.

    moves: proposals of one restart, 0 = in proportion to the cores. seconds: for all restarts together instead; what
    comes out then depends on the machine. layers: spikes per neuron and frame of some, `c1:0.2 c2:0.05`; the others
    have `rate`. pool: as `route` will be told. pinned: cores that stay, `17@3:4 18@4:4`;
    closed: places for no core, `0:0 5:6`, beside the dead ones of the chip. threads: 0 = all processors, the result
    does not depend on it.
    Raises TtfsError: options out of range (OPTION), no map (STAGE), mesh too small (CAPACITY), rates=measured without
    sample inputs (CALIBRATION), scheme=anneal without numba (TOOL).
    """
    mapped, every = map_of(net), layers_of(net)
    words = {"scheme": scheme, "objective": objective, "start": start, "rates": rates, "pool": pool}
    faults = [*_word_faults(words), *_option_faults(seed, restarts, moves, seconds, rate, threads)]
    fixed = dict(_pins(pinned, mapped, faults))
    spikes: dict[str, float | Floats] = {layer.name: rate for layer in every if layer.fires}
    spikes |= _rates(layers, set(spikes), faults)
    if layers and rates == "measured":
        fact = "layers=... are given rates, and rates=measured takes those of the sample inputs: leave one of them out"
        faults.append(Fault(codes.OPTION, Loc(net.name), "place", fact))
    if start == "earlier" and earlier is None:
        fact = "start=earlier needs an earlier map (--start-from DIR), or use start=hilbert"
        faults.append(Fault(codes.OPTION, Loc(net.name), "place", fact))
    shut = frozenset((*_places("closed", closed, faults), *(chip.dead if chip is not None else ())))
    if rates == "measured" and calibration is None:
        fact = "rates=measured needs sample inputs (--calib X.npz), or use rates=uniform"
        faults.append(Fault(codes.CALIBRATION, Loc(net.name), "place", fact))
    elif rates == "measured" and not is_integer(net):
        fact = "rates=measured needs spikes: run quantize and prove-widths first, or use rates=uniform"
        faults.append(Fault(codes.STAGE, Loc(net.name), "place", fact))
    if faults:
        raise TtfsError(faults)
    mesh = _mesh(net, mapped, chip, shut, fixed)
    if scheme == "anneal":
        need_numba()
    search = scheme == "anneal"
    ports = mapped.cores_per_router
    begin = _Begin("hilbert" if search else scheme, start if search else "", mesh, ports, shut, fixed, earlier)
    standing, warm = _standing(mapped, every, begin)
    places = tuple(standing[core.id] for core in mapped.cores)
    if search:
        if rates == "measured" and calibration is not None:
            spikes |= measured_rates(net, every, calibration)
        flow = flow_of(every, mapped.cores, spikes, pooled=pool == "source")
        _tell(flow)
        stay = frozenset(i for i, core in enumerate(mapped.cores) if core.id in fixed)
        how = Search(objective, seed, restarts, moves, seconds, WARM if warm else HOT, threads)
        places = annealed(flow, Board(mesh, places, shut, stay, ports), how)
    cores = tuple(replace(core, place=p) for core, p in zip(mapped.cores, places, strict=True))
    return net.with_map(replace(mapped, mesh=mesh, placement=scheme, cores=cores))


@dataclass(frozen=True)
class _Begin:
    """Where cores stand before anything is searched: the scheme's order, and what `start` says instead."""

    scheme: str
    start: str
    mesh: tuple[int, int]
    ports: int
    shut: frozenset[Place]
    fixed: dict[int, Place]
    earlier: Mapped | None


def _standing(mapped: Mapped, layers: tuple[Layer, ...], b: _Begin) -> tuple[dict[int, Place], bool]:
    """A place for every core by its number, and whether most of them are from an earlier search."""
    rows = b.scheme == "row-major"
    order = mapped.cores if rows else tuple(_by_image(layers, mapped.cores))
    free = (p for p in (_rows(b.mesh) if rows else curve(*b.mesh)) if p not in b.shut)
    if b.start == "earlier" and b.earlier is not None:
        found, kept = earlier_places(order, b.earlier, b.fixed, free, frozenset(_rows(b.mesh)) - b.shut, b.ports)
        log.info("place: %d of %d cores start where the earlier map had them", kept, len(order))
        return found, 2 * kept > len(order)
    if b.start == "current":
        if not _clash(mapped, b):
            return {core.id: core.place for core in mapped.cores} | b.fixed, True
        log.warning("place: pinned or closed places clash with where the cores stand: starting from hilbert")
    held = Counter(b.fixed.values())
    free = (p for p in free for _ in range(b.ports - held[p]))
    return {core.id: b.fixed[core.id] if core.id in b.fixed else next(free) for core in order}, False


def map_of(net: Net) -> Mapped:
    """The net's map; TtfsError where there is none."""
    if net.mapped is None:
        fact = "has no map section: run partition first"
        raise TtfsError([Fault(codes.STAGE, Loc(net.name), f"net @{net.name}", fact)])
    return net.mapped


def _tell(flow: Flow) -> None:
    packets, farther = float(flow.weight.sum()), flow.deliveries
    log.info("place: %.0f packets per frame leave their core, to %.2f others each", packets, farther / max(packets, 1))


_WORDS = {
    "scheme": ("row-major", "hilbert", "anneal"),
    "objective": ("multicast", "unicast", "busiest", "latency"),
    "start": ("hilbert", "current", "earlier"),
    "rates": ("uniform", "measured"),
    "pool": ("target", "source"),
}


def _word_faults(given: dict[str, str]) -> Iterator[Fault]:
    for key, word in given.items():
        if word not in _WORDS[key]:
            yield Fault(codes.OPTION, Loc("pipeline"), "place", f"{key}={word} must be {' or '.join(_WORDS[key])}")


def _option_faults(seed: int, restarts: int, moves: int, seconds: float, rate: float, threads: int) -> Iterator[Fault]:
    facts = [
        (seed < 0, f"seed={seed} must not be negative"),
        (not 1 <= restarts <= 1000, f"restarts={restarts} must lie in 1..1000"),
        (not 0 <= moves <= 10**12, f"moves={moves} must lie in 0..{10**12}; 0 = in proportion to the cores"),
        (not 0 <= seconds <= 10**6, f"seconds={seconds:g} must lie in 0..{10**6}; 0 = no budget"),
        (not 0 < rate <= 1, f"rate={rate:g} must be more than 0 and at most 1 spike per neuron and frame"),
        (not 0 <= threads <= 1024, f"threads={threads} must lie in 0..1024; 0 = all processors"),
    ]
    return (Fault(codes.OPTION, Loc("pipeline"), "place", fact) for wrong, fact in facts if wrong)


def _rates(text: str, names: set[str], faults: list[Fault]) -> Iterator[tuple[str, float]]:
    """`c1:0.2 c2:0.05` as spikes per neuron and frame, by layer."""
    for word in text.split():
        name, _, number = word.rpartition(":")
        if re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", number) is None or not 0 <= float(number) <= 1:
            fact = f"layers={word} must be layer:rate with a rate of 0..1 spikes per neuron and frame"
            faults.append(Fault(codes.OPTION, Loc("pipeline"), "place", fact))
        elif name not in names:
            fact = f"layers={word}: no layer {name!r} fires; there are {', '.join(sorted(names))}"
            faults.append(Fault(codes.OPTION, Loc("pipeline"), "place", fact))
        else:
            yield name, float(number)


def _places(option: str, text: str, faults: list[Fault]) -> list[Place]:
    """`0:0 5:6` as places."""
    found = list[Place]()
    for word in text.split():
        match = re.fullmatch(r"(\d{1,6}):(\d{1,6})", word)
        if match is None:
            fact = f"{option}={word} must be places x:y, separated by spaces"
            faults.append(Fault(codes.OPTION, Loc("pipeline"), "place", fact))
        else:
            found.append((int(match[1]), int(match[2])))
    return found


def _pins(text: str, mapped: Mapped, faults: list[Fault]) -> Iterator[tuple[int, Place]]:
    """`17@3:4` as core and place."""
    ids, taken = {core.id for core in mapped.cores}, Counter[Place]()
    for word in text.split():
        match = re.fullmatch(r"(\d{1,9})@(\d{1,6}):(\d{1,6})", word)
        place = (int(match[2]), int(match[3])) if match else (0, 0)
        if match is None or int(match[1]) not in ids or taken[place] == mapped.cores_per_router:
            fact = f"pinned={word} must be core@x:y with a core of the map and a place of its own"
            faults.append(Fault(codes.OPTION, Loc("pipeline"), "place", fact))
            continue
        taken[place] += 1
        yield int(match[1]), place


def _mesh(
    net: Net, mapped: Mapped, chip: Chip | None, shut: frozenset[Place], fixed: dict[int, Place]
) -> tuple[int, int]:
    """The map's mesh, or a larger square where the chip's may grow and closed places leave too few."""
    (width, height), ports = mapped.mesh, mapped.cores_per_router
    grows = chip is not None and chip.mesh is None
    while grows and ports * _room((width, height), shut) < len(mapped.cores):
        width = height = max(width, height) + 1
    faults = list[Fault]()
    subject = f"net @{net.name}"
    if ports * _room((width, height), shut) < len(mapped.cores):
        closed = f" less {len(shut)} closed places" if shut else ""
        fact = (
            f"{len(mapped.cores)} cores do not fit the {width}x{height} mesh{closed}: run partition for a larger chip"
        )
        faults.append(Fault(codes.CAPACITY, Loc(net.name), subject, fact))
    for core, at in fixed.items():
        if at in shut or at[0] >= width or at[1] >= height:
            fact = f"pinned={core}@{at[0]}:{at[1]} is closed or outside of the {show_shape((width, height))} mesh"
            faults.append(Fault(codes.OPTION, Loc("pipeline"), "place", fact))
    if faults:
        raise TtfsError(faults)
    return width, height


def _room(mesh: tuple[int, int], shut: frozenset[Place]) -> int:
    """How many places are open."""
    return mesh[0] * mesh[1] - sum(x < mesh[0] and y < mesh[1] for x, y in shut)


def _clash(mapped: Mapped, b: _Begin) -> bool:
    """Whether the cores cannot start from where they stand."""
    places = Counter(({core.id: core.place for core in mapped.cores} | b.fixed).values())
    outside = any(x >= b.mesh[0] or y >= b.mesh[1] for x, y in places)
    return outside or max(places.values(), default=0) > b.ports or bool(places.keys() & b.shut)


def _rows(mesh: tuple[int, int]) -> Iterator[Place]:
    return ((i % mesh[0], i // mesh[0]) for i in range(mesh[0] * mesh[1]))


def _by_image(layers: tuple[Layer, ...], cores: tuple[Core, ...]) -> list[Core]:
    """In order of where in the image they look, then of their numbers; dense layers look at all of it."""
    grids: dict[str, Grid] = {layer.name: layer.grid for layer in layers}
    rank = {p: i for i, p in enumerate(curve(_GRAIN, _GRAIN))}

    def where(core: Core) -> tuple[int, int]:
        (_, (y0, y1), (x0, x1)), (_, height, width) = core.slices[0].box, grids[core.slices[0].layer]
        return rank[(x0 + x1) * _GRAIN // (2 * width), (y0 + y1) * _GRAIN // (2 * height)], core.id

    return sorted(cores, key=where)
