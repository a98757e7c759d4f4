"""Pooling at the source: which spikes a core sends when it forwards the earliest of every pooling group only.

A max pool whose windows do not overlap keeps the earliest spike of each; whoever sends the others sends them for
nothing. Where *every* reader of a layer stands behind such a pool, a route may carry it (`Route.pool`), and the core
sends one packet for a group instead of up to four of a 2x2 pool. A group that lies on several cores is pooled in
parts: each core sends the earliest spike of its own part, and the reader's pool keeps the earliest of those. So it is
exact for any partition.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ttfsc.ir.arrays import Array
from ttfsc.ir.layers import Layer, layers_of
from ttfsc.ir.mapping import Box, Pool, Route
from ttfsc.ir.net import Net

EVERY: Pool = (1, 1)  # every spike is sent
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def pool_of(layer: str, layers: Iterable[Layer]) -> Pool:
    """The max pool that every reader of `layer` reads it through, windows of kernel = stride from the grid's corner.

    (1, 1) where there is none: somebody reads the layer itself, pools overlap, are padded in front, or differ.
    """
    found = set[Pool]()
    for link in (link for reader in layers for link in reader.links if link.source == layer):
        first = link.pools[0] if link.pools else None
        plain = first is not None and first.kernel == first.stride and first.pad[:2] == (0, 0)
        found.add(first.kernel if first is not None and plain else EVERY)
    return found.pop() if len(found) == 1 else EVERY


def first_of_groups(x: Array, box: Box, pool: Pool) -> Array:
    """x [N, *sides of the box] (values, 0 = no spike) with only the earliest spike of every group left.

    Ties go to the first in raster order. Groups lie at multiples of `pool` on the layer's grid, not of the box.
    """
    if pool == EVERY:
        return x
    n, c, height, width = x.shape
    (top, left), (kh, kw) = (box[1][0] % pool[0], box[2][0] % pool[1]), pool
    bottom, right = -(top + height) % kh, -(left + width) % kw
    wide = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows, columns = wide.shape[2] // kh, wide.shape[3] // kw
    groups = wide.reshape(n, c, rows, kh, columns, kw).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, rows, columns, kh * kw)
    first = np.arange(kh * kw) == groups.argmax(-1)[..., None]
    kept = np.where(first, groups, 0).astype(x.dtype)
    kept = kept.reshape(n, c, rows, columns, kh, kw).transpose(0, 1, 2, 4, 3, 5).reshape(wide.shape)
    return kept[:, :, top : top + height, left : left + width]


def sent_spikes(net: Net, layer: Layer, x: Array) -> Array:
    """Of the spikes x [N, *grid] of a layer those that its cores send: all, but for routes that pool. Same shape."""
    pooled = _pooled_routes(net, layer.name)
    if not pooled:
        return x
    x = x.copy()
    for route in pooled:
        at = (slice(None), *(slice(a, b) for a, b in route.source.box))
        x[at] = first_of_groups(x[at], route.source.box, route.pool)
    return x


def sent_rates(net: Net, rates: Mapping[str, float | npt.NDArray[np.floating]]) -> dict[str, Floats]:
    """By layer the packets that each neuron sends, expected, [C, H, W], from spikes per frame (a number or a map).

    A pooled group of independent neurons sends 1 - prod(1 - r), shared among its neurons in proportion to r. Real
    spikes are correlated: where spikes were measured, count those (`sent_spikes`).
    """
    found = dict[str, Floats]()
    for layer in layers_of(net):
        if layer.name not in rates:
            continue
        rate = np.broadcast_to(np.asarray(rates[layer.name], np.float64), layer.grid).copy()
        for route in _pooled_routes(net, layer.name):
            at = tuple(slice(a, b) for a, b in route.source.box)
            rate[at] = pooled_rate(rate[at], route.source.box, route.pool)
        found[layer.name] = rate
    return found


def pooled_rate(rate: Floats, box: Box, pool: Pool) -> Floats:
    """Packets per neuron [C, h, w] of a box that pools: see `sent_rates`."""
    if pool == EVERY:
        return rate
    out = np.zeros_like(rate)
    for y0, y1 in _groups(box[1], pool[0]):
        for x0, x1 in _groups(box[2], pool[1]):
            part = rate[:, y0:y1, x0:x1]
            total = part.sum((1, 2), keepdims=True)
            some = 1 - np.prod(1 - part, axis=(1, 2), keepdims=True)
            out[:, y0:y1, x0:x1] = part * np.divide(some, total, out=np.zeros_like(total), where=total > 0)
    return out


def _groups(span: tuple[int, int], size: int) -> Iterator[tuple[int, int]]:
    """Groups of one axis, clipped to the span and counted from its start."""
    start, end = span
    for group in range(start // size, -(-end // size)):
        yield max(group * size, start) - start, min((group + 1) * size, end) - start


def _pooled_routes(net: Net, layer: str) -> list[Route]:
    routes = net.mapped.routes if net.mapped is not None else ()
    return [route for route in routes if route.source.layer == layer and route.pool != EVERY]
