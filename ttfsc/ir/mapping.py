"""The map section of a net: cores with their neurons and place, and where each core's spikes go.

Neurons are addressed as boxes of a layer's grid [channels, height, width] (dense layers: [neurons, 1, 1]). A route
says which cores the spikes of one box reach; the tree they travel is a rule, not data: along x first, then along y
in each column, every link once (`xy_tree`), or along y first, then along x in each row.

A route may pool at the source: its box is cut into groups of `pool` neurons (rows x columns, at multiples of it on the
grid) and only the earliest spike of every group is sent, as the max pool in front of every reader would keep no other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

Box = tuple[tuple[int, int], ...]  # half-open range per axis
Place = tuple[int, int]  # x, y
Hop = tuple[Place, Place]
Pool = tuple[int, int]
ORDERS = ("xy", "yx")


@dataclass(frozen=True, slots=True)
class Slice:
    """Some neurons of one layer: `%c1[0:4, 0:26, 0:26]`."""

    layer: str
    box: Box

    def __str__(self) -> str:
        return f"%{self.layer}[{', '.join(f'{a}:{b}' for a, b in self.box)}]"

    @property
    def size(self) -> int:
        """How many neurons."""
        return prod(b - a for a, b in self.box)


@dataclass(frozen=True, slots=True)
class Core:
    """A core at a router of the mesh, and the neurons it owns."""

    id: int
    place: Place
    slices: tuple[Slice, ...]

    @property
    def neurons(self) -> int:
        """How many it owns."""
        return sum(s.size for s in self.slices)


@dataclass(frozen=True, slots=True)
class Route:
    """The spikes of `source` (neurons of one core) go to the cores `to`, ascending.

    pool: rows x columns of a group of which the core sends the earliest spike only; 1x1 sends every spike.
    """

    core: int
    source: Slice
    to: tuple[int, ...]
    pool: Pool = (1, 1)


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where a net runs: a chip's mesh of width x height routers, the cores used, and the routes between them."""

    chip: str
    mesh: tuple[int, int]  # width, height
    partition: str
    placement: str
    delivery: str  # multicast or unicast
    cores: tuple[Core, ...]
    routes: tuple[Route, ...]
    order: str = "xy"  # along which axis packets travel first: xy or yx
    cores_per_router: int = 1  # that may stand at one place; between them no link is travelled


def flipped(place: Place) -> Place:
    """x and y exchanged: a YX tree is the XY tree of the flipped mesh."""
    return place[1], place[0]


def xy_tree(source: Place, targets: Iterable[Place], order: str = "xy") -> frozenset[Hop]:
    """Links of the XY multicast tree: along the source's row first, then along each target's column.

    A link is a pair of neighbouring places, in the direction of travel; injection and ejection are not links. For
    one target this is the XY unicast path, |dx| + |dy| links. order=yx: along the column first, then along the rows.
    """
    if order == "yx":
        return frozenset((flipped(a), flipped(b)) for a, b in xy_tree(flipped(source), map(flipped, targets)))
    sx, sy = source
    links = set[Hop]()
    for tx, ty in targets:
        step = 1 if tx > sx else -1
        links.update(((x, sy), (x + step, sy)) for x in range(sx, tx, step))
        step = 1 if ty > sy else -1
        links.update(((tx, y), (tx, y + step)) for y in range(sy, ty, step))
    return frozenset(links)


def tree_hops(source: Place, targets: Iterable[Place], order: str = "xy") -> int:
    """len(xy_tree(...)) without building it: the row span, plus each column's span."""
    if order == "yx":
        return tree_hops(flipped(source), map(flipped, targets))
    sx, sy = source
    columns = dict[int, tuple[int, int]]()
    for tx, ty in targets:
        low, high = columns.get(tx, (sy, sy))
        columns[tx] = (min(low, ty), max(high, ty))
    xs = [sx, *columns]
    return max(xs) - min(xs) + sum(high - low for low, high in columns.values())
