"""What a net consists of, before anything runs: synapses, fan-in, parameters. Exact counts, real borders."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ttfsc.ir import Array, Const, Conv2d, Dense, Layer, Link, Net
from ttfsc.ir.geometry import Counts, reads


@dataclass(frozen=True)
class Synapses:
    """Of one layer. A folded average pool's synapses are counted as the additions it costs, window places included.

    total: synapses inside real borders; nonzero: those whose weight is not 0; fan_in: the most that one neuron has.
    parameters: stored weights, biases and drifts, each array once; bits: width of the weights, widest link.
    """

    total: int
    nonzero: int
    fan_in: int
    parameters: int
    bits: int
    weight_bits: int  # weights times their width


def synapses_of(net: Net, layer: Layer) -> Synapses:
    """Count a layer's synapses, all links together."""
    parameters = {const: net.arrays[const].size for link in layer.links for const in _stored(link)}
    weights = {link.synapse.w: link.synapse.bits * net.arrays[link.synapse.w].size for link in layer.links}
    return Synapses(
        total=sum(dense_synapses(link) for link in layer.links),
        nonzero=sum(nonzero_synapses(link, net.arrays[link.synapse.w]) for link in layer.links),
        fan_in=int(np.sum([_fan_in(link).reshape(layer.grid) for link in layer.links], axis=0).max()),
        parameters=sum(parameters.values()),
        bits=max(link.synapse.bits for link in layer.links),
        weight_bits=sum(weights.values()),
    )


def dense_synapses(link: Link) -> int:
    """Synapses of a link, zero weights included."""
    return link.fan_grid[0] * int(link.fan_out.sum())


def nonzero_synapses(link: Link, w: Array) -> int:
    """Synapses of a link whose weight is not 0; w as the op declares it."""
    if isinstance(link.synapse, Dense):
        return int(np.count_nonzero(w))
    uses = [_tap_uses(link, link.synapse, axis) for axis in (0, 1)]
    return int(((w != 0).sum((0, 1)) * np.outer(uses[0], uses[1])).sum())


def _tap_uses(link: Link, op: Conv2d, axis: int) -> Counts:
    """[kernel size]: how many (output, operand) pairs tap k joins along one axis, inside real borders."""
    size, out = link.fan_grid[axis + 1], link.out_grid[axis + 1]
    inner = (size + op.pool_pad[axis] + op.pool_pad[axis + 2] - op.pool[axis]) // op.pool_stride[axis] + 1
    summed = reads(size, inner, op.pool[axis], op.pool_stride[axis], op.pool_pad[axis]).sum(1)  # operands per place
    taps = np.arange(link.kernel[axis + 2])[:, None] * op.dilation[axis]
    places = taps + np.arange(out) * op.stride[axis] - op.pad[axis]  # [kernel, out]
    inside = (places >= 0) & (places < inner)
    return np.where(inside, summed[places.clip(0, inner - 1)], 0).sum(1)


def _fan_in(link: Link) -> Counts:
    """[C, H, W] of the outputs: synapses of each."""
    height, width = link.axes
    plane = np.outer(height.sum(1), width.sum(1)) * (link.fan_grid[0] // link.groups)
    return np.broadcast_to(plane, link.out_grid)


def _stored(link: Link) -> Iterator[Const]:
    for const in (link.synapse.w, link.synapse.bias, link.synapse.drift):
        if const is not None:
            yield const
