"""How one layer's grid is cut into boxes: schemes, patches, even spans. Nothing here knows of chips or traffic."""

from collections.abc import Callable
from itertools import pairwise, product

from ttfsc.ir import Box, Grid

Span = tuple[int, int]
Cuts = dict[str, list[Box]]  # by layer
GROUPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # of channels, tried


def boxes_of(grid: Grid, limit: int, scheme: str) -> list[Box]:
    """The boxes that one layer is cut into, each of at most `limit` neurons, in the order of their cores."""
    return SCHEMES[scheme](grid, limit)


def by_feature(grid: Grid, limit: int) -> list[Box]:
    """Equal groups of whole channels, or patches of single channels where a plane exceeds the limit."""
    channels, height, width = grid
    plane = height * width
    if plane <= limit:
        groups = split(channels, -(-channels // (limit // plane)))
        return [(group, (0, height), (0, width)) for group in groups]
    return tiles_of(split(channels, channels), height, width, limit)


def by_tile(grid: Grid, limit: int) -> list[Box]:
    """Patches with all channels, or with as few groups of channels as hold at least one pixel."""
    channels, height, width = grid
    groups = split(channels, -(-channels // limit))
    return tiles_of(groups, height, width, limit // max(b - a for a, b in groups))


SCHEMES: dict[str, Callable[[Grid, int], list[Box]]] = {"feature": by_feature, "tile": by_tile}


def tiles_of(groups: list[Span], height: int, width: int, area: int) -> list[Box]:
    """Groups of channels by patches of a plane, of at most `area` pixels."""
    down, across = _patches(height, width, area)
    return list(product(groups, split(height, down), split(width, across)))


def patches_of(height: int, width: int, area: int) -> list[Box]:
    """Patches of a plane, of at most `area` pixels."""
    return tiles_of([(0, 1)], height, width, area)


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


def split(size: int, parts: int) -> list[Span]:
    """0..size in `parts` consecutive spans, equal or one apart."""
    ends = [i * size // parts for i in range(parts + 1)]
    return list(pairwise(ends))
