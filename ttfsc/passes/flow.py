"""What flows between cores: the traffic that placement minimises, as flat arrays.

A *group* is the packets of one core to one set of other cores. Packets to the sending core itself travel no link.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttfsc.ir import EVERY, Array, Core, Layer, Net, pool_of, pooled_rate, run_batches
from ttfsc.passes.destinations import destinations

Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.int32]
SAMPLES = 64  # inputs that rates are measured on, at most


@dataclass(frozen=True)
class Flow:
    """Groups of packets between cores; cores by their number in the map's order."""

    weight: Floats  # [G] packets per frame, expected
    source: Index  # [G]
    start: Index  # [G + 1] where a group's destinations begin in `to`
    to: Index

    @property
    def deliveries(self) -> float:
        """Packets times destinations: unicast packets that leave their core."""
        return float((self.weight * np.diff(self.start)).sum())


def flow_of(
    layers: tuple[Layer, ...], cores: tuple[Core, ...], rates: Mapping[str, float | Floats], *, pooled: bool
) -> Flow:
    """The groups of these cores. rates: spikes per frame of every firing layer, a number or a map [C, H, W]."""
    found = dict[tuple[int, tuple[int, ...]], float]()
    number = {core.id: i for i, core in enumerate(cores)}
    pools = {layer.name: pool_of(layer.name, layers) if pooled else EVERY for layer in layers}
    for core, source, to in destinations(layers, cores):
        others = tuple(number[t] for t in to if t != core.id)
        if not others:
            continue
        rate, pool = rates[source.layer], pools[source.layer]
        part: Floats
        if isinstance(rate, np.ndarray):
            part = rate[tuple(slice(a, b) for a, b in source.box)]
        else:
            part = np.full([b - a for a, b in source.box], rate, np.float64)
        packets = float(pooled_rate(part, source.box, pool).sum())
        key = number[core.id], others
        found[key] = found.get(key, 0.0) + packets
    sizes = [len(to) for _, to in found]
    return Flow(
        np.fromiter(found.values(), np.float64, len(found)),
        np.fromiter((core for core, _ in found), np.int32, len(found)),
        np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int32),
        np.fromiter((t for _, to in found for t in to), np.int32, sum(sizes)),
    )


def measured_rates(net: Net, layers: tuple[Layer, ...], x: Array) -> dict[str, Floats]:
    """Spikes per frame of every neuron, [C, H, W] by layer, on the first inputs of x."""
    x = x[:SAMPLES]
    names = [layer.name for layer in layers if layer.fires]
    counts = {layer.name: np.zeros(layer.grid, np.float64) for layer in layers if layer.fires}
    for result in run_batches(net, x, keep=names, batch=16):
        for name in names:
            values = result.spikes[name]
            counts[name] += np.count_nonzero(values.reshape(len(values), *counts[name].shape), axis=0)
    return {name: count / len(x) for name, count in counts.items()}
