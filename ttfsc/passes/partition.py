"""Cut the layers into cores.

    a net of layers   =>   the same net with a map: every neuron on exactly one core, no routes yet

`feature`: equal groups along the feature dimension, as the DTA-TTFS paper does; a channel whose plane is larger than a
core is then cut spatially too. `tile`: spatial patches with all channels, so that a spike finds its whole neighbourhood
on few cores, at the price of replicated kernels; a layer with more channels than a core has neurons is cut into groups
of channels first. `hybrid`: tiles, with as many groups of channels as the chip's limits ask for, so that kernels fit.
`auto`: for every layer the even cut into groups, rows and columns that has the least traffic of those that meet every
limit; where the mesh is too small for that, layers give up the least traffic per core they save. `share` puts
neighbouring layers on the same cores (`ttfsc.passes.share`).

Limits are those that the chip's description has: neurons, synapse memory and axons of a core, bits of sums and
membranes, places on the mesh. Cores are numbered layer by layer, channel groups outermost, then patches in raster
order, and stand row by row on the mesh until `place` moves them.
"""

import logging
from collections.abc import Iterator

from ttfsc.hardware import Chip
from ttfsc.ir import (
    Box,
    Core,
    Dense,
    Fault,
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
from ttfsc.passes.least import least_traffic
from ttfsc.passes.limits import demand_of, shared_demand, width_faults
from ttfsc.passes.share import Group, shared
from ttfsc.passes.tiles import GROUPS, SCHEMES, Cuts, boxes_of, split, tiles_of

log = logging.getLogger(__name__)
Span = tuple[int, int]


def partition(net: Net, *, scheme: str = "tile", share: str = "", chip: Chip) -> Net:
    """The net with its neurons on cores of at most `chip.neurons_per_core`.

    share: layers on common cores in tiles, `c1+c2 c3+c4`, or auto: where that saves traffic.
    Raises TtfsError: unknown scheme, layers that cannot share (OPTION); not a canonical net (STAGE); branches that
    cannot share a membrane's cores (UNSUPPORTED); any limit of the chip exceeded (CAPACITY), every excess at once, with
    what would fit.
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
    groups, cuts = shared(layers, _cuts(layers, chip, scheme), chip, share)
    faults = [*_mesh_faults(net, groups, cuts, chip, scheme), *_core_faults(groups, cuts, chip, scheme)]
    faults += width_faults(net, layers, chip)
    if faults:
        raise TtfsError(faults)
    pieces = [
        tuple(Slice(layer.name, box) for layer, box in zip(group, boxes, strict=True))
        for group in groups
        for boxes in zip(*(cuts[layer.name] for layer in group), strict=True)
    ]
    width, height = chip.mesh_for(len(pieces))
    walk = ((x, y) for y in range(height) for x in range(width) if (x, y) not in chip.dead)
    free = [place for place in walk for _ in range(chip.ports)]
    cores = tuple(Core(i, free[i], piece) for i, piece in enumerate(pieces))
    faults = list(_axon_faults(layers, cores, chip))
    if faults:
        raise TtfsError(faults)
    how = scheme, "row-major", chip.delivery
    return net.with_map(Mapped(chip.name, (width, height), *how, cores, (), cores_per_router=chip.ports))


def _cuts(layers: tuple[Layer, ...], chip: Chip, scheme: str) -> Cuts:
    limit = int(chip.neurons_per_core)
    if scheme in SCHEMES:
        return {layer.name: boxes_of(layer.grid, limit, scheme) for layer in layers}
    if scheme == "hybrid":
        return {layer.name: _fewest_groups(layer, chip) for layer in layers}
    places = None if chip.mesh is None else _room(chip, chip.mesh)
    return least_traffic(layers, chip, places, {layer.name: _fewest_groups(layer, chip) for layer in layers})


def _fewest_groups(layer: Layer, chip: Chip) -> list[Box]:
    """Tiles in as few groups of channels as meet the limits; where none does, what exceeds them the least."""
    best, excess = list[Box](), float("inf")
    for boxes in _candidates(layer, chip):
        over = [need / int(limit) for _, need, limit in demand_of(layer, boxes).over(chip)]
        if max(over, default=0.0) < excess:
            best, excess = boxes, max(over, default=0.0)
        if not over:
            break
    return best


def _candidates(layer: Layer, chip: Chip) -> Iterator[list[Box]]:
    """Tiles in ever more groups of channels, as large as a core; where axons are limited, then ever smaller ones."""
    channels, height, width = layer.grid
    limit = int(chip.neurons_per_core)
    least = -(-channels // limit)
    for shrink in (0, *range(1, (height * width).bit_length())) if chip.axons_in is not None else (0,):
        for groups in sorted({least, *(g for g in GROUPS if least < g < channels), channels}):
            spans = split(channels, groups)
            area = min(limit // max(b - a for a, b in spans), height * width)
            if area >> shrink:
                yield tiles_of(spans, height, width, area >> shrink)


def _grid_faults(layers: tuple[Layer, ...]) -> Iterator[Fault]:
    for layer in layers:
        for link in layer.links:
            if link.out_grid != layer.grid and not isinstance(link.synapse, Dense):
                fact = (
                    f"adds a flattened membrane of {show_shape(link.out_grid)} to one of {show_shape(layer.grid)}:"
                    " their neurons cannot be cut alike; give both branches one shape before the flatten"
                )
                yield Fault(codes.UNSUPPORTED, link.synapse.loc, link.synapse.subject, fact)


def _room(chip: Chip, mesh: tuple[int, int]) -> int:
    """How many cores work on the chip's mesh."""
    return (mesh[0] * mesh[1] - len(chip.dead)) * chip.ports


def _mesh_faults(net: Net, groups: list[Group], cuts: Cuts, chip: Chip, scheme: str) -> Iterator[Fault]:
    if chip.mesh is None:
        return
    has = _room(chip, chip.mesh)
    dead = f" less {len(chip.dead)} dead places" if chip.dead else ""
    mesh = f"the {show_shape(chip.mesh)} mesh of {chip.name}{dead} has {has:,}"
    layers = [layer for group in groups for layer in group]
    for layer in layers:
        if len(cuts[layer.name]) > has:
            need = f"{layer.size:,} neurons need {len(cuts[layer.name]):,} cores of {chip.neurons_per_core}"
            yield Fault(codes.CAPACITY, layer.op.loc, layer.op.subject, f"{need}, {mesh}: make the layer smaller")
    total = sum(len(cuts[group[0].name]) for group in groups)
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


def _core_faults(groups: list[Group], cuts: Cuts, chip: Chip, scheme: str) -> Iterator[Fault]:
    """Limits of a core: which layer, which limit, by how much, and what would fit."""
    for group in groups:
        if len(group) > 1:
            yield from _shared_faults(group, cuts, chip)
            continue
        layer = next(iter(group))
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


def _shared_faults(group: Group, cuts: Cuts, chip: Chip) -> Iterator[Fault]:
    for what, need, limit in shared_demand(group, [cuts[layer.name] for layer in group]).over(chip):
        names = " and ".join(f"%{layer.name}" for layer in group)
        fact = (
            f"{names} on the same cores need {need:,} {what}, {chip.name} has {int(limit):,}:"
            f" {need - int(limit):,} too few; leave them out of share, or choose a chip with more (--arch)"
        )
        yield Fault(codes.CAPACITY, group[0].op.loc, group[0].op.subject, fact)


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
