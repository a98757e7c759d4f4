"""Which cores must hear a spike: the cores that hold a neuron it has a synapse to, and no other.

Over all readers of its layer, behind max pools (a pooled neuron's spike goes where its pooled position is read), exact
in groups, strides and dilation. Destinations are separable (`ttfsc.ir.heard`): a core hears (c, y, x) where three
masks hold. So a source box is cut along each axis where any mask changes, and every block of that grid has one set
of destinations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ttfsc.ir import Box, Core, Layer, Slice, heard
from ttfsc.ir.reach import Mask

Targets = tuple[int, ...]


def destinations(layers: tuple[Layer, ...], cores: tuple[Core, ...]) -> Iterator[tuple[Core, Slice, Targets]]:
    """(core, some of its neurons, the cores that hear them), in order of cores; neurons that nobody hears are left out.

    Analog pixels and encoded input come from the host and are not routed.
    """
    listeners = _listeners(layers, cores)
    for core in cores:
        for piece in core.slices:
            if piece.layer in listeners:
                for box, to in listeners[piece.layer].of(piece.box):
                    yield core, Slice(piece.layer, box), to


@dataclass(frozen=True)
class _Listeners:
    """Who hears a layer: per listening slice its core, and the masks of channels, rows and columns it hears."""

    cores: npt.NDArray[np.int64]  # [D]
    masks: tuple[Mask, Mask, Mask]  # [D, C], [D, H], [D, W]

    def of(self, box: Box) -> Iterator[tuple[Box, Targets]]:
        """Blocks of a source box with their destinations, in raster order; blocks without any are left out."""
        parts = [mask[:, a:b] for mask, (a, b) in zip(self.masks, box, strict=True)]
        near = np.logical_and.reduce([part.any(1) for part in parts])
        cores, (c, y, x) = self.cores[near], (part[near] for part in parts)
        cuts = [_cuts(part) for part in (c, y, x)]
        sets = dict[Box, Targets]()
        for c0, c1 in cuts[0]:
            for y0, y1 in cuts[1]:
                in_row = c[:, c0] & y[:, y0]
                for x0, x1 in cuts[2]:
                    to = np.unique(cores[in_row & x[:, x0]])
                    if len(to):
                        block = ((c0, c1), (y0, y1), (x0, x1))
                        sets[_moved(block, box)] = tuple(to.tolist())
        yield from _merged(sets).items()


def _listeners(every: tuple[Layer, ...], cores: tuple[Core, ...]) -> dict[str, _Listeners]:
    """By firing layer."""
    layers = {layer.name: layer for layer in every}
    found = dict[str, list[tuple[int, tuple[Mask, Mask, Mask]]]]()
    for core in cores:
        for piece in core.slices:
            for link in layers[piece.layer].links:
                if link.source in layers:
                    found.setdefault(link.source, []).append((core.id, heard(link, piece.box)))
    return {
        source: _Listeners(
            np.array([core for core, _ in items], np.int64),
            (
                np.stack([masks[0] for _, masks in items]),
                np.stack([masks[1] for _, masks in items]),
                np.stack([masks[2] for _, masks in items]),
            ),
        )
        for source, items in found.items()
    }


def _cuts(mask: Mask) -> list[tuple[int, int]]:
    """Spans of an axis inside which no mask changes."""
    changes = np.flatnonzero((mask[:, 1:] != mask[:, :-1]).any(0)) + 1
    ends = [0, *changes.tolist(), mask.shape[1]]
    return list(pairwise(ends))


def _moved(block: Box, box: Box) -> Box:
    return tuple((a + start, b + start) for (a, b), (start, _) in zip(block, box, strict=True))


def _merged(sets: dict[Box, Targets]) -> dict[Box, Targets]:
    """Fewer blocks: neighbours with equal destinations become one, along columns first, then rows, then channels.

    Cuts come from all listeners together, so a line where one of them begins also cuts blocks it does not concern.
    """
    for axis in (2, 1, 0):
        joined = dict[tuple[Box, Targets, int], Box]()  # by the rest of the block and where it ends
        for block, to in sorted(sets.items(), key=lambda item: item[0][axis]):
            start, end = block[axis]
            rest = block[:axis] + block[axis + 1 :]
            before = joined.pop((rest, to, start), block)
            joined[rest, to, end] = (*block[:axis], (before[axis][0], end), *block[axis + 1 :])
        sets = {block: to for (_, to, _), block in joined.items()}
    return dict(sorted(sets.items()))
