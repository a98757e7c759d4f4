"""Cut the layers into cores.

    a net of layers   =>   the same net with a map: every neuron on exactly one core, no routes yet

`feature`: equal groups along the feature dimension, as the DTA-TTFS paper does; a channel whose plane is larger than a
core is then cut spatially too. `tile`: spatial patches with all channels, so that a spike finds its whole neighbourhood
on few cores, at the price of replicated kernels; a layer with more channels than a core has neurons is cut into groups
of channels first. Cores are numbered layer by layer, channel groups outermost, then patches in raster order, and stand
row by row on the mesh until `place` moves them.
"""

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
    weights_held,
)

Span = tuple[int, int]


def partition(net: Net, *, scheme: str = "tile", chip: Chip) -> Net:
    """The net with its neurons on cores of at most `chip.neurons_per_core`.

    Raises TtfsError: unknown scheme (OPTION); not a canonical net (STAGE); branches that cannot share a membrane's
    cores (UNSUPPORTED); more cores than the mesh has or more synapse memory than a core has (CAPACITY), every excess
    at once.
    """
    if scheme not in SCHEMES:
        raise TtfsError.one(codes.OPTION, f"scheme={scheme} must be {' or '.join(SCHEMES)}", subject="partition")
    faults = stage_faults(net, "canonical")
    if faults:
        raise TtfsError(faults)
    layers = layers_of(net)
    faults = list(_grid_faults(layers))
    if faults:
        raise TtfsError(faults)
    cuts = {layer.name: boxes_of(layer.grid, int(chip.neurons_per_core), scheme) for layer in layers}
    faults = [*_mesh_faults(net, layers, cuts, chip, scheme), *_memory_faults(layers, cuts, chip, scheme)]
    if faults:
        raise TtfsError(faults)
    pieces = [Slice(layer.name, box) for layer in layers for box in cuts[layer.name]]
    width, height = chip.mesh_for(len(pieces))
    cores = tuple(Core(i, (i % width, i // width), (piece,)) for i, piece in enumerate(pieces))
    return net.with_map(Mapped(chip.name, (width, height), scheme, "row-major", chip.delivery, cores, ()))


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


def _mesh_faults(
    net: Net, layers: tuple[Layer, ...], cuts: dict[str, list[Box]], chip: Chip, scheme: str
) -> Iterator[Fault]:
    if chip.mesh is None:
        return
    has = chip.mesh[0] * chip.mesh[1]
    mesh = f"the {show_shape(chip.mesh)} mesh of {chip.name} has {has:,}"
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


def _memory_faults(layers: tuple[Layer, ...], cuts: dict[str, list[Box]], chip: Chip, scheme: str) -> Iterator[Fault]:
    """Weights at their quantised width; biases and thresholds lie in the neurons' own memory."""
    if chip.synapse_bits_per_core is None:
        return
    limit = int(chip.synapse_bits_per_core)
    for layer in layers:
        need = max(_bits(layer, box) for box in cuts[layer.name])
        if need > limit:
            outs = ["fewer bits per weight", "a chip with more (--arch)"]
            for other in SCHEMES:
                boxes = boxes_of(layer.grid, int(chip.neurons_per_core), other)
                if other != scheme and (most := max(_bits(layer, box) for box in boxes)) <= limit:
                    outs.insert(0, f"partition{{scheme={other}}}, which needs {most:,}")
            fact = (
                f"needs {need:,} bits of synapse memory on one core with scheme={scheme}, {chip.name} has {limit:,}:"
                f" {need - limit:,} too few; choose {', or '.join(outs)}"
            )
            yield Fault(codes.CAPACITY, layer.op.loc, layer.op.subject, fact)


def _bits(layer: Layer, box: Box) -> int:
    return sum(weights_held(link, box) * (link.synapse.bits or 32) for link in layer.links)
