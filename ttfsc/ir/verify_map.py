"""The rules of a map: cores hold every neuron exactly once, inside the mesh; routes start where their neurons are."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ttfsc.ir import codes
from ttfsc.ir.faults import Fault, Loc
from ttfsc.ir.layers import Layer, layers_of
from ttfsc.ir.mapping import ORDERS, Core, Mapped, Place, Pool, Route, Slice
from ttfsc.ir.net import Net
from ttfsc.ir.ops import AvgPool, BatchNorm
from ttfsc.ir.pooling import EVERY, pool_of
from ttfsc.ir.types import show_shape

Facts = Iterator[tuple[str, str]]  # subject, sentence


def map_faults(net: Net, mapped: Mapped) -> list[Fault]:
    """Every broken rule of the map section of a net that is itself in order."""
    where = Loc(net.ops[0].loc.file)
    early = next((op for op in net.ops if isinstance(op, AvgPool | BatchNorm)), None)
    if early is not None:
        fact = "has a map, but is not canonical yet: map the net after folding"
        return [Fault(codes.MAPPING, early.loc, early.subject, fact)]
    layers = {layer.name: layer for layer in layers_of(net)}
    facts = [*_cores(mapped), *_slices(mapped, layers), *_routes(mapped, layers)]
    return [Fault(codes.MAPPING, where, subject, fact) for subject, fact in facts]


def _cores(mapped: Mapped) -> Facts:
    width, height = mapped.mesh
    if min(width, height, mapped.cores_per_router) < 1:
        shared = f" with {mapped.cores_per_router} cores per router" if mapped.cores_per_router != 1 else ""
        yield f"map @{mapped.chip}", f"a {width}x{height} mesh{shared} has no place for a core"
    taken = dict[Place, list[int]]()
    for core in mapped.cores:
        x, y = core.place
        here = taken.setdefault(core.place, [])
        if len(here) >= max(mapped.cores_per_router, 1):
            owners = f"core{'s' if len(here) > 1 else ''} {' '.join(map(str, here))}"
            yield f"core {core.id}", f"place {x},{y} is already taken by {owners}"
        if not (0 <= x < width and 0 <= y < height):
            yield f"core {core.id}", f"place {x},{y} is outside the {width}x{height} mesh"
        here.append(core.id)
    for number, count in Counter(core.id for core in mapped.cores).items():
        if count > 1:
            yield f"core {number}", f"the number is used {count} times"
        if number < 0:
            yield f"core {number}", "core numbers begin at 0"


def _slices(mapped: Mapped, layers: dict[str, Layer]) -> Facts:
    covered = {name: np.zeros(layer.grid, np.uint8) for name, layer in layers.items()}
    for core in mapped.cores:
        yield from _core_slices(core, layers, covered)
    for name, count in covered.items():
        if (count != 1).any():
            i = [int(n) for n in np.argwhere(count != 1)[0]]
            yield f"%{name}", f"neuron {i} is {'on no core' if count[tuple(i)] == 0 else 'on more than one core'}"


def _core_slices(core: Core, layers: dict[str, Layer], covered: dict[str, npt.NDArray[np.uint8]]) -> Facts:
    for piece in core.slices:
        layer = layers.get(piece.layer)
        if layer is None:
            yield f"core {core.id}", f"%{piece.layer} is no layer of neurons"
        elif not _inside(piece, layer):
            yield f"core {core.id}", f"{piece} is not a box inside {show_shape(layer.grid)}"
        else:
            here = covered[piece.layer][tuple(slice(a, b) for a, b in piece.box)]
            np.minimum(here + 1, 2, out=here)


def _routes(mapped: Mapped, layers: dict[str, Layer]) -> Facts:
    if mapped.delivery not in ("multicast", "unicast"):
        yield f"map @{mapped.chip}", f"deliver={mapped.delivery}, must be multicast or unicast"
    if mapped.order not in ORDERS:
        yield f"map @{mapped.chip}", f"order={mapped.order}, must be {' or '.join(ORDERS)}"
    cores = {core.id: core for core in mapped.cores}
    pools = {name: pool_of(name, layers.values()) for name in layers}
    for route in mapped.routes:
        yield from ((f"route {route.core}", fact) for fact in _route(route, cores, layers))
        pool = pools.get(route.source.layer, EVERY)
        if route.pool not in (EVERY, pool):
            yield f"route {route.core}", _pool_fact(route, pool)


def _pool_fact(route: Route, pool: Pool) -> str:
    """Why the source may not pool like this."""
    here = f"{route.source} is pooled by {show_shape(route.pool)}, but"
    if pool == EVERY:
        return f"{here} its readers do not all stand behind one max pool of windows side by side"
    return f"{here} all its readers stand behind a max pool of {show_shape(pool)}"


def _route(route: Route, cores: dict[int, Core], layers: dict[str, Layer]) -> Iterator[str]:
    unknown = [c for c in (route.core, *route.to) if c not in cores]
    layer = layers.get(route.source.layer)
    if unknown:
        yield f"there is no core {unknown[0]}"
    elif layer is None or not layer.fires or not _inside(route.source, layer):
        yield f"{route.source} is no box of neurons that fire"
    elif not any(_holds(piece, route.source) for piece in cores[route.core].slices):
        yield f"{route.source} is not on that core"
    if list(route.to) != sorted(set(route.to)):
        yield f"destinations {' '.join(map(str, route.to))} must rise"


def _inside(piece: Slice, layer: Layer) -> bool:
    return len(piece.box) == 3 and all(
        0 <= a < b <= n for (a, b), n in zip(piece.box, layer.grid, strict=True)
    )  # fmt: skip


def _holds(outer: Slice, inner: Slice) -> bool:
    return outer.layer == inner.layer and all(
        a <= c and d <= b for (a, b), (c, d) in zip(outer.box, inner.box, strict=True)
    )
