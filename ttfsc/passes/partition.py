"""Cut the layers into cores.

    a net of layers   =>   the same net with a map: every neuron on exactly one core, no routes yet

`feature`: equal groups along the feature dimension, as the DTA-TTFS paper does; a channel whose plane is larger than a
core is then cut spatially too. `tile`: spatial patches with all channels, so that a spike finds its whole neighbourhood
on few cores, at the price of replicated kernels; a layer with more channels than a core has neurons is cut into groups
of channels first. `hybrid`: tiles, with as many groups of channels as the chip's limits ask for, so that kernels fit.
`auto`: for every layer whatever of these, over all numbers of groups, has the least traffic and meets every limit;
where the mesh is too small for that, layers give up the least traffic per core they save.

Limits are those that the chip's description has: neurons, synapse memory and axons of a core, bits of sums and
membranes, places on the mesh. Cores are numbered layer by layer, channel groups outermost, then patches in raster
order, and stand row by row on the mesh until `place` moves them.
"""

import logging
from collections.abc import Callable, Iterator
from itertools import pairwise, product

from ttfsc.hardware import Chip
from ttfsc.ir import (
    Box,
    Core,
    Dense,
    Fault,
    Grid,
    Layer,
    Loc,
    Mapped,
    Net,
    Slice,
    TtfsError,
    codes,
    layers_of,
    show_shape,
    stage_faults,
)
from ttfsc.passes.destinations import destinations
from ttfsc.passes.limits import demand_of, traffic_of, width_faults

log = logging.getLogger(__name__)
Span = tuple[int, int]
Cuts = dict[str, list[Box]]
_GROUPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # of channels, tried

_MANY = 4  # times the cores of the first cut that fits: more of them never had less traffic


def partition(net: Net, *, scheme: str = "tile", chip: Chip) -> Net:
    """The net with its neurons on cores of at most `chip.neurons_per_core`.

    Raises TtfsError: unknown scheme (OPTION); not a canonical net (STAGE); branches that cannot share a membrane's
    cores (UNSUPPORTED); any limit of the chip exceeded (CAPACITY), every excess at once, with what would fit.
    """
    if scheme not in (*SCHEMES, "hybrid", "auto"):
        fact = f"scheme={scheme} must be tile, feature, hybrid or auto"
        raise TtfsError.one(codes.OPTION, fact, subject="partition")
    faults = stage_faults(net, "canonical")
    if faults:
        raise TtfsError(faults)
    layers = layers_of(net)
    faults = list(_grid_faults(layers))
    if faults:
        raise TtfsError(faults)
    cuts = _cuts(layers, chip, scheme)
    faults = [*_mesh_faults(net, layers, cuts, chip, scheme), *_core_faults(layers, cuts, chip, scheme)]
    faults += width_faults(net, layers, chip)
    if faults:
        raise TtfsError(faults)
    pieces = [Slice(layer.name, box) for layer in layers for box in cuts[layer.name]]
    width, height = chip.mesh_for(len(pieces))
    free = [(x, y) for y in range(height) for x in range(width) if (x, y) not in chip.dead]
    cores = tuple(Core(i, free[i], (piece,)) for i, piece in enumerate(pieces))
    faults = list(_axon_faults(layers, cores, chip))
    if faults:
        raise TtfsError(faults)
    return net.with_map(Mapped(chip.name, (width, height), scheme, "row-major", chip.delivery, cores, ()))


def _cuts(layers: tuple[Layer, ...], chip: Chip, scheme: str) -> Cuts:
    limit = int(chip.neurons_per_core)
    if scheme in SCHEMES:
        return {layer.name: boxes_of(layer.grid, limit, scheme) for layer in layers}
    if scheme == "hybrid":
        return {layer.name: _fewest_groups(layer, chip) for layer in layers}
    return _least_traffic(layers, chip)


def _fewest_groups(layer: Layer, chip: Chip) -> list[Box]:
    """Tiles in as few groups of channels as meet the limits; where none does, in as many as there are channels."""
    boxes = list[Box]()
    for boxes in _candidates(layer, chip):
        if not demand_of(layer, boxes).over(chip):
            break
    return boxes


def _candidates(layer: Layer, chip: Chip) -> Iterator[list[Box]]:
    """Tiles in ever more groups of channels."""
    channels, height, width = layer.grid
    limit = int(chip.neurons_per_core)
    least = -(-channels // limit)
    for groups in sorted({least, *(g for g in _GROUPS if least < g < channels), channels}):
        spans = _split(channels, groups)
        yield _boxes(spans, height, width, limit // max(b - a for a, b in spans))


def _least_traffic(layers: tuple[Layer, ...], chip: Chip) -> Cuts:
    """By layer the cut with the least traffic; on a small mesh those that together fit and cost the least more."""
    limit, hosts = int(chip.neurons_per_core), frozenset(x.source for y in layers for x in y.links)
    hosts -= {layer.name for layer in layers}
    found = dict[
        str, list[tuple[int, int, list[Box]]]
    ]()  # traffic, cores, boxes; least traffic first, then fewer cores
    for layer in layers:
        fit, first = list[list[Box]](), _fewest_groups(layer, chip)
        for boxes in (*_candidates(layer, chip), boxes_of(layer.grid, limit, "feature")):
            if len(boxes) <= _MANY * len(first) and not demand_of(layer, boxes).over(chip):
                fit.append(boxes)
        fit = fit or [first]
        ways = sorted(((traffic_of(layer, b, hosts), len(b), b) for b in fit), key=lambda way: way[:2])
        found[layer.name] = [w for i, w in enumerate(ways) if all(w[1] < v[1] for v in ways[:i])]  # less for more only
    places = chip.mesh_for(1)[0] * chip.mesh_for(1)[1] - len(chip.dead) if chip.mesh is not None else None
    while places is not None and sum(ways[0][1] for ways in found.values()) > places:
        steps = [
            ((ways[1][0] - ways[0][0]) / (ways[0][1] - ways[1][1]), name) for name, ways in found.items() if ways[1:]
        ]
        if not steps:
            break
        found[min(steps)[1]].pop(0)
    for name, ways in found.items():
        log.info("partition: %%%s: %d cores, %d destinations of all its inputs' neurons", name, ways[0][1], ways[0][0])
    return {name: ways[0][2] for name, ways in found.items()}


def boxes_of(grid: Grid, limit: int, scheme: str) -> list[Box]:
    """The boxes that one layer is cut into, each of at most `limit` neurons, in the order of their cores."""
    return SCHEMES[scheme](grid, limit)


def by_feature(grid: Grid, limit: int) -> list[Box]:
    """Equal groups of whole channels, or patches of single channels where a plane exceeds the limit."""
    channels, height, width = grid
    plane = height * width
    if plane <= limit:
        groups = _split(channels, -(-channels // (limit // plane)))
        return [(group, (0, height), (0, width)) for group in groups]
    return _boxes(_split(channels, channels), height, width, limit)


def by_tile(grid: Grid, limit: int) -> list[Box]:
    """Patches with all channels, or with as few groups of channels as hold at least one pixel."""
    channels, height, width = grid
    groups = _split(channels, -(-channels // limit))
    return _boxes(groups, height, width, limit // max(b - a for a, b in groups))


SCHEMES: dict[str, Callable[[Grid, int], list[Box]]] = {"feature": by_feature, "tile": by_tile}


def _boxes(groups: list[Span], height: int, width: int, area: int) -> list[Box]:
    down, across = _patches(height, width, area)
    return list(product(groups, _split(height, down), _split(width, across)))


def _patches(height: int, width: int, area: int) -> tuple[int, int]:
    """Into how many patches of at most `area` pixels a plane is cut, down and across.

    As few patches as possible; among those the least halo (smallest circumference), then the flatter patch.
    """
    found = list[tuple[int, ...]]()
    for down in range(1, height + 1):
        tall = -(-height // down)
        if tall <= area:
            across = -(-width // (area // tall))
            found.append((down * across, tall + -(-width // across), tall, down, across))
    return min(found)[3], min(found)[4]


def _split(size: int, parts: int) -> list[Span]:
    """0..size in `parts` consecutive spans, equal or one apart."""
    ends = [i * size // parts for i in range(parts + 1)]
    return list(pairwise(ends))


def _grid_faults(layers: tuple[Layer, ...]) -> Iterator[Fault]:
    for layer in layers:
        for link in layer.links:
            if link.out_grid != layer.grid and not isinstance(link.synapse, Dense):
                fact = (
                    f"adds a flattened membrane of {show_shape(link.out_grid)} to one of {show_shape(layer.grid)}:"
                    " their neurons cannot be cut alike; give both branches one shape before the flatten"
                )
                yield Fault(codes.UNSUPPORTED, link.synapse.loc, link.synapse.subject, fact)


def _mesh_faults(net: Net, layers: tuple[Layer, ...], cuts: Cuts, chip: Chip, scheme: str) -> Iterator[Fault]:
    if chip.mesh is None:
        return
    has = chip.mesh[0] * chip.mesh[1] - len(chip.dead)
    dead = f" less {len(chip.dead)} dead cores" if chip.dead else ""
    mesh = f"the {show_shape(chip.mesh)} mesh of {chip.name}{dead} has {has:,}"
    for layer in layers:
        if len(cuts[layer.name]) > has:
            need = f"{layer.size:,} neurons need {len(cuts[layer.name]):,} cores of {chip.neurons_per_core}"
            yield Fault(codes.CAPACITY, layer.op.loc, layer.op.subject, f"{need}, {mesh}: make the layer smaller")
    total = sum(map(len, cuts.values()))
    if total > has:
        others = [
            f"partition{{scheme={other}}}, which needs {count:,}"
            for other in SCHEMES
            if other != scheme
            and (count := sum(len(boxes_of(x.grid, int(chip.neurons_per_core), other)) for x in layers)) <= has
        ]
        out = " or ".join(["a larger chip (--arch)", *others])
        fact = f"needs {total:,} cores with scheme={scheme}, {mesh}: {total - has:,} too few; choose {out}"
        yield Fault(codes.CAPACITY, Loc(net.name), f"net @{net.name}", fact)


def _core_faults(layers: tuple[Layer, ...], cuts: Cuts, chip: Chip, scheme: str) -> Iterator[Fault]:
    """Limits of a core: which layer, which limit, by how much, and what would fit."""
    for layer in layers:
        for what, need, limit in demand_of(layer, cuts[layer.name]).over(chip):
            outs = ["fewer bits per weight"] if what.startswith("bits") else ["fewer channels in its inputs"]
            outs.append("a chip with more (--arch)")
            for other in ("hybrid", *SCHEMES):
                boxes = _cuts((layer,), chip, other)[layer.name]
                again = {name: more for name, more, _ in demand_of(layer, boxes).over(chip)}
                if other != scheme and not again:
                    fits = demand_of(layer, boxes)
                    most = fits.axons_in if what.startswith("axons") else fits.bits
                    outs.insert(0, f"partition{{scheme={other}}}, which needs {most:,}")
                    break
            fact = (
                f"needs {need:,} {what} with scheme={scheme}, {chip.name} has {int(limit):,}:"
                f" {need - int(limit):,} too few; choose {', or '.join(outs)}"
            )
            yield Fault(codes.CAPACITY, layer.op.loc, layer.op.subject, fact)


def _axon_faults(layers: tuple[Layer, ...], cores: tuple[Core, ...], chip: Chip) -> Iterator[Fault]:
    """Destinations of a spike against the axons out of a neuron; multicast leaves a core once, whoever hears it."""
    if chip.axons_out is None or chip.delivery == "multicast":
        return
    most, by_name = dict[str, int](), {layer.name: layer for layer in layers}
    for _, source, to in destinations(layers, cores):
        most[source.layer] = max(most.get(source.layer, 0), len(to))
    for name, need in most.items():
        if need > int(chip.axons_out):
            op = by_name[name].op
            fact = (
                f"each spike goes to {need:,} cores, {chip.name} sends {int(chip.axons_out):,} packets:"
                f" {need - int(chip.axons_out):,} too few; choose partition{{scheme=tile}}, or smaller layers behind it"
            )
            yield Fault(codes.CAPACITY, op.loc, op.subject, fact)
