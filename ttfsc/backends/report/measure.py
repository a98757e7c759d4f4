"""Counting what a net did on given inputs: spikes, synaptic operations, when the spikes came. Integers throughout.

The counts come from spike values alone, whoever computed them (`ttfsc.ir.run_batches`, the generated C), so that a
report never depends on the engine.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttfsc.ir import (
    EVERY,
    Analog,
    Array,
    Decode,
    Encode,
    Fire,
    Layer,
    Link,
    MaxPool,
    Net,
    Potential,
    Result,
    Spikes,
    TtfsError,
    check_input,
    codes,
    grid_of,
    is_integer,
    layers_of,
    run_batches,
    sent_spikes,
    show_shape,
)  # fmt: skip
from ttfsc.ir.linear import pool_max

Ints = npt.NDArray[np.int64]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class LayerCounts:
    """What one layer did over all inputs.

    spikes [C, H, W]: how often each neuron fired (read-out membranes: all 0).
    times [T]: spikes at tick n of the layer's window; empty for membranes that never fire.
    sops: synaptic additions into this layer, one per spike and synapse inside real borders, behind max pools.
    macs: multiply-accumulates into this layer from analog inputs that are not 0 (direct coding).
    sent [C, H, W]: how many of the spikes left the neuron's core; None = all of them, no route pools at the source.
    """

    spikes: Ints
    times: Ints
    sops: int
    macs: int
    sent: Ints | None = None

    @property
    def travelled(self) -> Ints:
        """[C, H, W]: spikes that packets were made of."""
        return self.spikes if self.sent is None else self.sent

    @property
    def total(self) -> int:
        """Spikes over all inputs."""
        return int(self.spikes.sum())

    @property
    def silent(self) -> int:
        """Neurons that fired on none of the inputs."""
        return int((self.spikes == 0).sum())


@dataclass(frozen=True)
class Measurement:
    """Counts over `inputs` frames, by layer name. `correct` is None where no labels were given.

    input_spikes: spikes that came from outside (an `encode`, or an input of spikes); no neuron of the net fired them.
    first_spike [T+1]: frames whose earliest output spike came at tick n of the output window; last entry: no output
    spike at all. None unless the answer is read from spikes.
    """

    inputs: int
    layers: dict[str, LayerCounts]
    input_spikes: int
    correct: int | None
    first_spike: Ints | None

    @property
    def spikes(self) -> int:
        """Spikes of all neurons over all inputs."""
        return sum(layer.total for layer in self.layers.values())

    @property
    def sops(self) -> int:
        """Synaptic additions over all inputs."""
        return sum(layer.sops for layer in self.layers.values())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of analog inputs, over all inputs."""
        return sum(layer.macs for layer in self.layers.values())


def measure(
    net: Net,
    x: Array,
    y: Array | None = None,
    *,
    results: Iterable[Result] | None = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> Measurement:
    """Count spikes and operations of a quantised or mapped net on x [N, *input shape].

    y [N]: labels, for the accuracy. results: what an engine answered for x, in batches in the order of x, with the
    spikes of every layer; without it the reference meaning is run. progress: called with the number of inputs done.
    Raises TtfsError for a net that is not quantised and for inputs that do not fit it.
    """
    if not is_integer(net):
        fact = "holds real numbers, and only integers have spike times to count: run quantize"
        raise TtfsError.one(codes.STAGE, fact, subject=f"net @{net.name}")
    check_input(net, x)
    if y is not None:
        _check_labels(net, x, y)
    meter = Meter(net)
    for result in run_batches(net, x, batch=batch) if results is None else results:
        done = meter.inputs
        count = len(result.labels)
        meter.add(x[done : done + count], result, None if y is None else y[done : done + count])
        if progress is not None:
            progress(count)
    assert meter.inputs == len(x), f"{meter.inputs} results for {len(x)} inputs"
    return meter.finish()


def _check_labels(net: Net, x: Array, y: Array) -> None:
    subject, classes = "y", net.answer.type.shape[0]
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        fact = f"is {y.dtype} {show_shape(y.shape)}, must be {len(x)} integers: one label per input"
        raise TtfsError.one(codes.INPUT, fact, subject=subject)
    if y.min() < 0 or y.max() >= classes:
        fact = f"reaches from {y.min()} to {y.max()}, but the net knows classes 0..{classes - 1}"
        raise TtfsError.one(codes.INPUT, fact, subject=subject)


class Meter:
    """Adds up batch after batch; `finish` hands the counts out. Holds one count per neuron, never the spikes."""

    def __init__(self, net: Net) -> None:
        self.net, self.inputs, self.input_spikes = net, 0, 0
        self.layers = layers_of(net)
        self.correct: int | None = None
        self.spikes = {layer.name: np.zeros(layer.grid, np.int64) for layer in self.layers}
        self.times = {layer.name: np.zeros(_ticks(layer), np.int64) for layer in self.layers}
        routes = net.mapped.routes if net.mapped is not None else ()
        pooled = {route.source.layer for route in routes if route.pool != EVERY}
        self.sent = {layer.name: np.zeros(layer.grid, np.int64) for layer in self.layers if layer.name in pooled}
        self.sops = {layer.name: 0 for layer in self.layers}
        self.macs = {layer.name: 0 for layer in self.layers}
        answer = net.answer
        self.output = answer.xs[0] if isinstance(answer, Decode) and answer.rule != "membrane" else None
        output = None if self.output is None else net.type_of(self.output)
        self.first = np.zeros(output.ticks + 1, np.int64) if isinstance(output, Spikes) else None

    def add(self, x: Array, result: Result, y: Array | None = None) -> None:
        """Count one batch: its inputs [N, *shape], what an engine answered, and the labels [N] if there are any."""
        assert len(x) == len(result.labels), f"{len(result.labels)} results for {len(x)} inputs"
        self.inputs += len(x)
        if y is not None:
            self.correct = (self.correct or 0) + int((result.labels == y).sum())
        for op in self.net.ops:
            if isinstance(op, Encode) or (op is self.net.input and isinstance(op.type, Spikes)):
                self.input_spikes += int(np.count_nonzero(self._value(op.name, x, result)))
        active = dict[tuple[str, tuple[MaxPool, ...]], Ints]()
        for layer in self.layers:
            if layer.fires:
                self._count_spikes(layer, self._value(layer.name, x, result))
            for link in layer.links:
                key = (link.source, link.pools)
                if key not in active:
                    active[key] = self._count_operands(link, x, result)
                self._count_operations(layer, link, active[key])
        if self.first is not None and self.output is not None:
            latest = self._value(self.output, x, result).reshape(len(x), -1).max(1).astype(np.int64)
            self.first += np.bincount(len(self.first) - 1 - latest, minlength=len(self.first))

    def _value(self, name: str, x: Array, result: Result) -> Array:
        """Values of a source of spikes or pixels, [N, *shape]; 0 = no spike."""
        if name == self.net.input.name:
            return x
        assert name in result.spikes, f"the engine did not keep the spikes of %{name}"
        return result.spikes[name]

    def _count_spikes(self, layer: Layer, values: Array) -> None:
        values = values.reshape(len(values), *layer.grid)
        self.spikes[layer.name] += np.count_nonzero(values, axis=0)
        if layer.name in self.sent:
            self.sent[layer.name] += np.count_nonzero(sent_spikes(self.net, layer, values), axis=0)
        ticks = len(self.times[layer.name])
        by_value = np.bincount(values.ravel().astype(np.int64), minlength=ticks + 1)
        assert len(by_value) == ticks + 1, f"%{layer.name} has a spike outside its window"
        self.times[layer.name] += by_value[:0:-1]  # value T is tick 0

    def _count_operands(self, link: Link, x: Array, result: Result) -> Ints:
        """[C, H, W] of a synapse's operand: in how many frames of the batch each place was active."""
        values = self._value(link.source, x, result)
        values = values.reshape(len(values), *grid_of(values.shape[1:]))
        for pool in link.pools:
            values = pool_max(pool, values)
        return np.count_nonzero(values, axis=0).astype(np.int64).reshape(link.fan_grid)

    def _count_operations(self, layer: Layer, link: Link, active: Ints) -> None:
        operations = int((active * link.fan_out).sum())
        if not isinstance(self.net.type_of(link.source), Analog):
            self.sops[layer.name] += operations
            return
        t, repeats = link.synapse.type, 1
        if link.synapse.every:  # the current arrives at every tick of the window
            assert isinstance(t, Potential) and t.closes is not None
            repeats = t.closes - t.opens
        self.macs[layer.name] += operations * repeats

    def finish(self) -> Measurement:
        """The counts so far."""
        assert self.inputs, "nothing was measured"
        counts = {
            name: LayerCounts(
                spikes.copy(),
                self.times[name].copy(),
                self.sops[name],
                self.macs[name],
                self.sent[name].copy() if name in self.sent else None,
            )
            for name, spikes in self.spikes.items()
        }
        first = None if self.first is None else self.first.copy()
        return Measurement(self.inputs, counts, self.input_spikes, self.correct, first)


def _ticks(layer: Layer) -> int:
    return layer.op.type.ticks if isinstance(layer.op, Fire) and isinstance(layer.op.type, Spikes) else 0
