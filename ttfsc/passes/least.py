"""The cut of every layer that has the least traffic, of all even cuts into channel groups, rows and columns.

What a neuron's spike costs depends on how the layer that *reads* it is cut and on nothing else, so layers are cut one
by one. Of an even cut the traffic is a product: channels, rows and columns that its spans hear, each summed over its
own axis. So all cuts are ranked without making any of them, and limits are looked at in that order.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

from ttfsc.hardware import Chip
from ttfsc.ir import Box, Layer, Link, heard
from ttfsc.passes.limits import demand_of, traffic_of
from ttfsc.passes.tiles import GROUPS, Cuts, split

log = logging.getLogger(__name__)
_EVERY = 64  # up to so many groups every number is tried, beyond the usual ones
Parts = tuple[int, int, int]  # groups of channels, rows, columns


@dataclass(frozen=True)
class Way:
    """One way to cut a layer. traffic: unicast packets if every neuron of its sources fired once."""

    traffic: int
    cores: int
    boxes: list[Box]


def least_traffic(layers: tuple[Layer, ...], chip: Chip, places: int | None, otherwise: Cuts) -> Cuts:
    """By layer the cut with the least traffic that meets every limit of a core, then with the fewest cores.

    places: how many cores there are, None where the mesh grows; where they are too few, layers give up the least
    traffic for every core they save. otherwise: the cut of layers that no cut makes fit, to be complained of.
    """
    hosts = frozenset(link.source for layer in layers for link in layer.links) - {layer.name for layer in layers}
    found = dict[str, list[Way]]()  # least traffic first, then ever fewer cores
    for layer in layers:
        found[layer.name] = list(_ways(layer, chip, hosts, all_of_them=places is not None))
        if not found[layer.name]:
            boxes = otherwise[layer.name]
            found[layer.name] = [Way(traffic_of(layer, boxes, hosts), len(boxes), boxes)]
    while places is not None and sum(ways[0].cores for ways in found.values()) > places:
        steps = [
            ((ways[1].traffic - ways[0].traffic) / (ways[0].cores - ways[1].cores), name)
            for name, ways in found.items()
            if ways[1:]
        ]
        if not steps:
            break
        found[min(steps)[1]].pop(0)
    for name, ways in found.items():
        told = name, ways[0].cores, ways[0].traffic
        log.info("partition: %%%s: %d cores, %d destinations of all its inputs' neurons", *told)
    return {name: ways[0].boxes for name, ways in found.items()}


def _ways(layer: Layer, chip: Chip, hosts: frozenset[str], *, all_of_them: bool) -> Iterator[Way]:
    """Cuts that fit a core, by rising traffic; each needs fewer cores than those before it."""
    links = [link for link in layer.links if link.source not in hosts]
    limit, fewest = int(chip.neurons_per_core), float("inf")
    sums = [[_Heard(link, axis, layer) for axis in range(3)] for link in links]
    ranked = [
        (sum(prod(part[n] for part, n in zip(axes, parts, strict=True)) for axes in sums), prod(parts), parts)
        for parts in _even(layer, limit)
    ]
    for traffic, cores, parts in sorted(ranked, key=lambda way: (*way[:2], *_shape(layer, way[2]))):
        if cores >= fewest:
            continue
        spans = [split(size, n) for size, n in zip(layer.grid, parts, strict=True)]
        largest = tuple(max(axis, key=lambda span: span[1] - span[0]) for axis in spans)
        if demand_of(layer, [largest]).over(chip):  # a first look, which spares most of the others
            continue
        boxes = list(product(*spans))
        if not demand_of(layer, boxes).over(chip):
            fewest = cores
            yield Way(traffic, cores, boxes)
            if not all_of_them:
                return


def _shape(layer: Layer, parts: Parts) -> tuple[int, int]:
    """Of cuts that cost the same, the patch with the least circumference, then the flatter one."""
    tall, wide = (-(-size // n) for size, n in zip(layer.grid[1:], parts[1:], strict=True))
    return tall + wide, tall


def _even(layer: Layer, limit: int) -> Iterator[Parts]:
    """Every number of groups and of rows, with as few columns as leave at most `limit` neurons in a box.

    Where kernels or axons ask for smaller boxes there are cuts with more columns, up to single ones, in powers of two.
    """
    channels, height, width = layer.grid
    tried = {*range(1, _EVERY + 1), *GROUPS, *(-(-channels // n) for n in GROUPS), channels}
    for groups in sorted(n for n in tried if n <= channels):
        for rows in range(1, height + 1):
            most = limit // (-(-channels // groups) * -(-height // rows))
            columns = -(-width // most) if most else width + 1
            while columns <= width:
                yield groups, rows, columns
                columns = min(2 * columns, width) if columns < width else width + 1


class _Heard(dict[int, int]):
    """By number of even parts of one axis: what the parts hear along it, summed over them."""

    def __init__(self, link: Link, axis: int, layer: Layer) -> None:
        super().__init__()
        self.link, self.axis, self.whole = link, axis, [(0, size) for size in layer.grid]

    def __missing__(self, parts: int) -> int:
        size, box = self.whole[self.axis][1], list(self.whole)
        total = 0
        for span in split(size, parts):
            box[self.axis] = span
            total += int(heard(self.link, tuple(box))[self.axis].sum())
        self[parts] = total
        return total
