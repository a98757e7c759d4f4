"""What a core is asked to hold, against what the chip gives it; and what a way to cut a layer costs in traffic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ttfsc.hardware import Chip, Figure
from ttfsc.ir import Box, Fault, Fire, Layer, Link, Net, bounds_of, codes, delay_bits, heard, is_integer, weights_held


@dataclass(frozen=True)
class Demand:
    """The most that any core needs for its slice of one layer."""

    neurons: int
    bits: int  # of synapse memory: weights as quantised, spikes that wait; biases and thresholds are the neurons' own
    axons_in: int  # different neurons and pixels that it hears

    def over(self, chip: Chip) -> list[tuple[str, int, Figure]]:
        """(what, how much, limit) of every limit that is exceeded."""
        pairs = [
            ("neurons on one core", self.neurons, chip.neurons_per_core),
            ("bits of synapse memory on one core", self.bits, chip.synapse_bits_per_core),
            ("axons into one core", self.axons_in, chip.axons_in),
        ]
        return [(what, need, limit) for what, need, limit in pairs if limit is not None and need > int(limit)]


def demand_of(layer: Layer, boxes: Sequence[Box]) -> Demand:
    """What the fullest core needs when a layer is cut into these boxes."""
    neurons = max(prod(b - a for a, b in box) for box in boxes)
    weights = [sum(weights_held(link, box) * (link.synapse.bits or 32) for link in layer.links) for box in boxes]
    bits = max(held + delay_bits(layer, box) for held, box in zip(weights, boxes, strict=True))
    return Demand(neurons, bits, max(_axons(layer, box) for box in boxes))


def shared_demand(layers: Sequence[Layer], cuts: Sequence[Sequence[Box]]) -> Demand:
    """What the fullest core needs when core i holds box i of every one of these layers."""
    parts = [[demand_of(layer, [box]) for box in boxes] for layer, boxes in zip(layers, cuts, strict=True)]
    cores = list(zip(*parts, strict=True))
    return Demand(
        max(sum(part.neurons for part in core) for core in cores),
        max(sum(part.bits for part in core) for core in cores),
        max(sum(part.axons_in for part in core) for core in cores),
    )


def _axons(layer: Layer, box: Box) -> int:
    """Neurons heard over all links; two links from one source are counted apart, as two sets of axons."""
    return sum(prod(int(mask.sum()) for mask in heard(link, box)) for link in layer.links)


def traffic_of(layer: Layer, boxes: Sequence[Box], hosts: frozenset[str]) -> int:
    """Cores that hear each neuron, over all neurons of all sources: unicast packets if every neuron fired once.

    It depends on how the *reading* layer is cut and on nothing else, so every layer can be cut for itself.
    """
    return sum(_deliveries(link, boxes) for link in layer.links if link.source not in hosts)


def kept_of(layers: Sequence[Layer], cuts: Sequence[Sequence[Box]]) -> int:
    """Of the traffic of layers that share cores as above, what stays on the core that sends it."""
    own = {layer.name: boxes for layer, boxes in zip(layers, cuts, strict=True)}
    return sum(
        prod(int(mask[a:b].sum()) for mask, (a, b) in zip(heard(link, box), home, strict=True))
        for layer in layers
        for link in layer.links
        if link.source in own
        for box, home in zip(own[layer.name], own[link.source], strict=True)
    )


def _deliveries(link: Link, boxes: Sequence[Box]) -> int:
    return sum(prod(int(mask.sum()) for mask in heard(link, box)) for box in boxes)


def width_faults(net: Net, layers: tuple[Layer, ...], chip: Chip) -> Iterator[Fault]:
    """Layers whose membranes need more bits than the chip's."""
    if not is_integer(net) or (chip.potential_bits is None and chip.accumulator_bits is None):
        return
    bounds = bounds_of(net)
    for layer in layers:
        potential = layer.op.v if isinstance(layer.op, Fire) else layer.op.xs[0]
        most, v = bounds[potential].largest, bounds[potential].v
        largest = max(int(np.abs(part).max(initial=0)) for part in v)
        for what, value, limit in (("potential", largest, chip.potential_bits), ("sum", most, chip.accumulator_bits)):
            need = value.bit_length() + 1
            if limit is not None and need > int(limit):
                fact = (
                    f"its {what} can reach {value:,}, which takes {need} bits, {chip.name} has {limit}:"
                    f" {need - int(limit)} too few; choose fewer bits per weight or fewer ticks (quantize)"
                )
                yield Fault(codes.CAPACITY, layer.op.loc, layer.op.subject, fact)
