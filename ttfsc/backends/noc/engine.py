"""Run a network from its mapping files alone: cores hear what routes deliver, integrate, fire and send.

A functional executor: it says when every neuron fires and what the answer is, not how many cycles the mesh takes.
"""

from collections.abc import Collection, Iterator

import numpy as np

from ttfsc.backends.noc.blas import one_thread
from ttfsc.backends.noc.cells import Memory, SliceCell, pooled
from ttfsc.backends.noc.image import EncoderImage, Image
from ttfsc.ir import (
    Analog,
    Array,
    Box,
    Decode,
    Fire,
    Pool,
    Result,
    Spikes,
    TtfsError,
    codes,
    first_of_groups,
    grid_of,
    show_shape,
)

_BYTES = 256 << 20  # that one slice may take while it integrates; sets the batch


def run(image: Image, x: Array, *, batch: int = 0, keep: Collection[str] | None = None) -> Result:
    """`Mesh(image).run(x)`: evaluate inputs once. To run more of them, keep the mesh."""
    return Mesh(image).run(x, batch=batch, keep=keep)


class Mesh:
    """An image with its memory unpacked, ready to run any number of inputs."""

    def __init__(self, image: Image) -> None:
        self.image = image
        t = image.input.type
        assert isinstance(t, Analog | Spikes)
        peaks = {image.input.name: max(abs(t.low), abs(t.high)) if isinstance(t, Analog) else t.ticks}
        peaks |= {e.op.name: e.op.type.ticks for e in image.encoders if isinstance(e.op.type, Spikes)}
        peaks |= {layer.layer.name: layer.ticks for layer in image.layers}
        self.hosts = frozenset([image.input.name, *(e.op.name for e in image.encoders)])
        self.analog = frozenset([image.input.name] if isinstance(t, Analog) else [])
        memory, layers = Memory(image.binary), {layer.layer.name: layer for layer in image.layers}
        self.cells = {layer: list[tuple[int, SliceCell]]() for layer in layers}
        largest = 1
        for core in image.cores:
            for piece in core.slices:
                layer = layers[piece.slice.layer]
                cell = SliceCell(layer, piece, memory, peaks)
                self.cells[piece.slice.layer].append((core.id, cell))
                largest = max(largest, cell.bytes)
        self.inbox = dict[tuple[int, str], list[tuple[Box, Pool]]]()
        for core in image.cores:
            for route in core.routes:
                for to in route.to:
                    self.inbox.setdefault((to, route.source.layer), []).append((route.source.box, route.pool))
        self.batch = max(1, min(256, _BYTES // largest))

    def run(self, x: Array, *, batch: int = 0, keep: Collection[str] | None = None) -> Result:
        """Evaluate x [N, *input shape], integers in the input's range; the result is that of `ttfsc.ir.run`.

        batch: inputs at a time, 0 = as many as fit comfortably. keep: layers whose spikes to return (default: all).
        Raises TtfsError for inputs of a wrong shape, type or range.
        """
        check_input(self.image, x)
        batch = batch or self.batch
        with one_thread():
            parts = [self.step(x[i : i + batch], keep) for i in range(0, len(x), batch)]
        return Result(
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.scores for p in parts]),
            {name: np.concatenate([p.spikes[name] for p in parts]) for name in parts[0].spikes},
        )

    def step(self, x: Array, keep: Collection[str] | None) -> Result:
        """One batch, its input already checked."""
        image, readout = self.image, self.image.readout
        out = {image.input.name: x.reshape(len(x), *grid_of(image.input.type.shape))}
        spikes = dict[str, Array]()
        for encoder in image.encoders:
            out[encoder.op.name] = encoded = self.encode(encoder, out[encoder.op.x])
            spikes[encoder.op.name] = encoded.reshape(len(x), *encoder.op.type.shape)
        labels, scores = np.zeros(len(x), np.int64), np.zeros((len(x), 0), np.int64)
        for layer in image.layers:
            name, op = layer.layer.name, layer.layer.op
            fired = np.zeros((len(x), *layer.layer.grid), np.uint8 if layer.ticks < 256 else np.int32)
            answer = np.zeros((len(x), *layer.layer.grid), np.int64)  # membranes that the host reads
            for core, cell in self.cells[name]:
                v = cell.integrate(dict(self.arrived(core, cell, out)), self.analog)
                at = (slice(None), *(slice(a, b) for a, b in cell.box))
                if isinstance(op, Fire):
                    fired[at] = own = cell.fire(v, op.force_last)
                    if readout.source == name and readout.rule == "first_spike":
                        answer[at] = v.before(own, layer.ticks)
                else:
                    answer[at] = v.at(layer.ticks)
            if isinstance(op, Decode):
                scores = answer.reshape(len(x), -1)
                labels = scores.argmax(1)
                continue
            out[name] = fired
            spikes[name] = fired.reshape(len(x), *layer.shape)
            if readout.source == name and readout.rule == "first_spike":
                scores = fired.reshape(len(x), -1)
                first = scores == scores.max(1, keepdims=True)
                labels = np.where(first, answer.reshape(len(x), -1), np.iinfo(np.int64).min).argmax(1)
        if readout.rule == "weighted":
            values = pooled(out[readout.source], readout.pools).reshape(len(x), -1).astype(np.int64)
            scores = np.array([0, *reversed(readout.table)], np.int64)[values]
            labels = scores.argmax(1)
        return Result(labels, scores, {n: s for n, s in spikes.items() if keep is None or n in keep})

    def arrived(self, core: int, cell: SliceCell, out: dict[str, Array]) -> Iterator[tuple[str, Array]]:
        """What a core has of each source: all of the host's signals, and those spikes that routes bring."""
        for source in dict.fromkeys(link.link.source for link in cell.links):
            if source in self.hosts:
                yield source, out[source]
                continue
            sent = out[source]
            view = np.zeros(sent.shape, sent.dtype)
            for box, pool in self.inbox.get((core, source), ()):
                at = (slice(None), *(slice(a, b) for a, b in box))
                view[at] = first_of_groups(sent[at], box, pool)
            yield source, view

    def encode(self, encoder: EncoderImage, x: Array) -> Array:
        """Pixels to values: tick round((1 - u) T), half up; tick T is never."""
        source, t = self.image.input.type, encoder.op.type
        assert isinstance(source, Analog) and isinstance(t, Spikes)
        span = source.high - source.low
        pixels = pooled(x.astype(np.int64), encoder.pools)
        tick = (2 * (source.high - pixels) * t.ticks + span) // (2 * span)
        values = (t.ticks - tick).astype(np.uint8 if t.ticks < 256 else np.int32)
        return values.reshape(len(x), *grid_of(t.shape))


def check_input(image: Image, x: Array) -> None:
    """Raise TtfsError unless x [N, *shape] holds integers as the image's input declares them."""
    t, subject = image.input.type, f"input %{image.input.name}"
    assert isinstance(t, Analog | Spikes)
    low, high = (t.low, t.high) if isinstance(t, Analog) else (0, t.ticks)
    fact = ""
    if x.ndim != len(t.shape) + 1 or x.shape[1:] != t.shape:
        fact = f"x is {show_shape(x.shape)}, must be N x {show_shape(t.shape)}"
    elif len(x) == 0:
        fact = "x holds no samples"
    elif x.dtype.kind not in "iub":
        fact = f"x is {x.dtype}; a mapped net takes integers, the source value divided by scale={image.input.scale}"
    elif x.min() < low or x.max() > high:
        fact = f"x reaches from {x.min()} to {x.max()}, declared are {low}..{high}"
    if fact:
        raise TtfsError.one(codes.INPUT, fact, subject=subject)
