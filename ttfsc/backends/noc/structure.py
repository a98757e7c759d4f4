"""Do the layers of an image make sense: shapes, windows, sources, read-out? Nothing read from a file is believed."""

from collections.abc import Iterator
from math import prod

import numpy as np

from ttfsc.backends.noc.image import Image, LayerImage, LinkImage
from ttfsc.ir import Analog, Conv2d, Grid, MaxPool, Shape, ShapeError, Spikes, grid_of
from ttfsc.ir.geometry import pool_out

MAX_NEURONS = 1 << 26  # per layer
MAX_SIDE = 4096  # height and width
MAX_TICKS = 4096

Facts = Iterator[tuple[str, str]]  # subject, fact
Signals = dict[str, tuple[Grid, Analog | Spikes]]


def structure_facts(image: Image) -> Facts:
    """What contradicts itself in the head of an image."""
    signals: Signals = {}
    yield from _input_facts(image, signals)
    for layer in image.layers:
        subject = f"layer %{layer.layer.name}"
        facts = list(_layer_facts(layer, signals))
        for fact in facts:
            yield subject, fact
        if layer.layer.name in signals:
            yield subject, "the name is used twice"
        if layer.thresholds is not None:
            signals[layer.layer.name] = layer.layer.grid, Spikes(layer.shape, layer.opens, layer.closes)
    yield from _readout_facts(image, signals)


def _input_facts(image: Image, signals: Signals) -> Facts:
    op = image.input
    t, subject = op.type, f"input %{op.name}"
    assert isinstance(t, Analog | Spikes)
    if isinstance(t, Analog) and not t.low < t.high:
        yield subject, f"range {t.low}..{t.high} does not rise"
    if isinstance(t, Spikes) and not 0 < t.ticks <= MAX_TICKS:
        yield subject, f"window {t.opens}..{t.closes} must hold 1..{MAX_TICKS} ticks"
    yield from ((subject, fact) for fact in _grid_facts(grid_of(t.shape)))
    signals[op.name] = grid_of(t.shape), t
    for encoder in image.encoders:
        e, subject = encoder.op.type, f"encoder %{encoder.op.name}"
        assert isinstance(e, Spikes)
        if encoder.op.x != op.name or not isinstance(t, Analog):
            yield subject, f"reads %{encoder.op.x}, must read the analog input"
        elif encoder.op.name in signals:
            yield subject, "the name is used twice"
        if not 0 < e.ticks <= MAX_TICKS:
            yield subject, f"window {e.opens}..{e.closes} must hold 1..{MAX_TICKS} ticks"
        pooled, facts = _pooled(grid_of(t.shape), encoder.pools)
        yield from ((subject, fact) for fact in facts)
        if not _same(e.shape, pooled):
            yield subject, f"shape {list(e.shape)} does not follow from {list(pooled)}"
        signals[encoder.op.name] = grid_of(e.shape), e


def _grid_facts(grid: Grid) -> Iterator[str]:
    if prod(grid) > MAX_NEURONS or max(grid[1:]) > MAX_SIDE:
        yield f"{list(grid)} is larger than the {MAX_NEURONS} values and sides of {MAX_SIDE} that are read"


def _same(shape: Shape, grid: Grid) -> bool:
    """Whether a shape is the grid, or the grid in one row."""
    return shape == grid or shape == (prod(grid),)


def _pooled(grid: Grid, pools: tuple[MaxPool, ...]) -> tuple[Grid, list[str]]:
    facts = list[str]()
    for pool in pools:
        out = grid_of(pool.type.shape)
        plain, ceil = (pool_out(grid[1:], pool.kernel, pool.stride, pool.pad, up) for up in (False, True))
        if out[0] != grid[0] or out[1:] not in (plain, ceil) or min(out) < 1:
            facts.append(f"a max pool makes {list(out)} of {list(grid)}, which its window does not give")
        grid = out
    return grid, facts


def _layer_facts(layer: LayerImage, signals: Signals) -> Iterator[str]:
    grid = layer.layer.grid
    yield from _grid_facts(grid)
    if not 0 < layer.ticks <= MAX_TICKS:
        yield f"window {layer.opens}..{layer.closes} must hold 1..{MAX_TICKS} ticks"
    if not _same(layer.shape, grid):
        yield f"shape {list(layer.shape)} is not the grid {list(grid)}"
    streaming = {stored.link.synapse.kernel in ("step", "leak") for stored in layer.links}
    if len(streaming) > 1:
        yield "mixes windowed and streaming synapses"
    ends = [0]
    for i, stored in enumerate(layer.links):
        source = signals.get(stored.link.source)
        if source is None:
            yield f"link {i} reads %{stored.link.source}, which gives no spikes before this layer"
            continue
        held = next((wait.ticks for j, wait in layer.layer.held if i == j), 0)
        facts = _link_facts(layer, stored, held, *source)
        yield from (f"link {i}: {fact}" for fact in facts)
        if isinstance(source[1], Spikes):
            ends.append(source[1].closes)
            if True in streaming and (source[1].opens, source[1].closes) != (layer.opens, layer.closes):
                yield f"link {i}: a streaming layer shares its input's window {source[1].opens}..{source[1].closes}"
    if streaming == {False} and len(ends) > 1 and layer.opens != max(ends[1:]):
        yield f"opens at {layer.opens}, but its inputs close at {max(ends[1:])}"


def _link_facts(layer: LayerImage, stored: LinkImage, held: int, grid: Grid, t: Analog | Spikes) -> Iterator[str]:
    link, synapse = stored.link, stored.link.synapse
    if link.source_grid != grid:
        yield f"source_grid is {list(link.source_grid)}, %{link.source} has {list(grid)}"
        return
    pooled, facts = _pooled(grid, link.pools)
    yield from facts
    if grid_of(link.fan_in) != pooled:
        yield f"fan_in is {list(link.fan_in)}, must be {list(pooled)}"
        return
    yield from _grid_facts(link.out_grid)
    if isinstance(synapse, Conv2d):
        yield from _conv_facts(layer, stored)
    elif prod(link.out_grid) != layer.layer.size or link.kernel != (layer.layer.size, prod(link.fan_in)):
        yield f"weights {list(link.kernel)} do not join {prod(link.fan_in)} inputs to {layer.layer.size} neurons"
    if stored.sign and stored.bits != 1:
        yield "code=sign belongs to weights of 1 bit"
    if any(s is not None and s.per == "layer" for s in (stored.bias, stored.drift)):
        yield "bias and drift are per channel or per neuron"
    streaming = synapse.kernel in ("step", "leak")
    if stored.held != held:
        yield f"holds its spikes for {stored.held} ticks, but its window opens {held} ticks after theirs has closed"
    if isinstance(t, Analog) and synapse.kernel == "ramp":
        yield "kernel=ramp needs spikes, its source is analog"
    if synapse.every and not (streaming and isinstance(t, Analog)):
        yield "every belongs to streaming kernels on analog input"
    if synapse.delay and not (streaming and isinstance(t, Spikes)):
        yield "delay belongs to streaming kernels on spikes"
    if (synapse.kernel == "leak") != ((synapse.shift > 0) + (synapse.keep > 0) == 1):
        yield "kernel=leak needs either shift or keep, other kernels neither"


def _conv_facts(layer: LayerImage, stored: LinkImage) -> Iterator[str]:
    link, synapse = stored.link, stored.link.synapse
    if len(link.fan_in) != 3 or len(link.kernel) != 4 or link.kernel[2] > MAX_SIDE or link.kernel[3] > MAX_SIDE:
        yield f"conv2d takes [C, H, W] and weights [out, in, kh, kw], not {list(link.fan_in)} and {list(link.kernel)}"
        return
    try:  # a broadcast zero has the weights' shape and takes no memory
        shape = synapse.outer_shape(link.fan_in, np.broadcast_to(np.int8(0), link.kernel))
    except ShapeError as e:
        yield str(e)
        return
    if not shape == link.out_grid == layer.layer.grid:
        yield f"gives {list(shape)}, its layer has {list(layer.layer.grid)}"


def _readout_facts(image: Image, signals: Signals) -> Facts:
    readout, subject = image.readout, f"readout %{image.readout.name}"
    silent = [layer.layer.name for layer in image.layers if layer.thresholds is None]
    if silent != ([readout.name] if readout.rule == "membrane" else []):
        yield subject, f"rule={readout.rule}, but the layers without thresholds are {silent}"
        return
    if readout.rule == "membrane":
        layer = next(layer for layer in image.layers if layer.layer.name == readout.name)
        if readout.source != readout.name or readout.pools or readout.table:
            yield subject, "rule=membrane reads the layer of its own name, without pools or table"
        if (readout.shape, readout.opens, readout.closes) != (layer.shape, layer.opens, layer.closes):
            yield subject, "shape and window are not those of its layer"
        return
    if readout.source not in signals or not isinstance(signals[readout.source][1], Spikes):
        yield subject, f"%{readout.source} gives no spikes"
        return
    grid, t = signals[readout.source]
    assert isinstance(t, Spikes)
    pooled, facts = _pooled(grid, readout.pools)
    yield from ((subject, fact) for fact in facts)
    if readout.shape != (prod(pooled),) or (readout.opens, readout.closes) != (t.opens, t.closes):
        yield subject, f"shape or window is not that of %{readout.source}"
    if len(readout.table) != (t.ticks if readout.rule == "weighted" else 0):
        yield subject, f"has a table of {len(readout.table)}, rule={readout.rule} with {t.ticks} ticks does not"
    if readout.rule == "first_spike" and (readout.pools or readout.source not in {x.layer.name for x in image.layers}):
        yield subject, "rule=first_spike reads a firing layer, without pools"
