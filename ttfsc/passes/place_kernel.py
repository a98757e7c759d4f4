"""The annealing moves of `place`, compiled: swap two places, keep the swap if it pays or by chance.

Traffic comes as *groups*: packets of one source core to one set of destinations. Moving a core changes the cost of the
groups it sends or hears and of no other, so a move costs those few trees, not the whole mesh. Most moves are bad, and a
look at the core's partners two by two tells so in a tenth of the time: trees are counted only for swaps that pass
this, and keeping them is then decided such that both together keep what counting alone would (delayed acceptance,
Christen and Fox, J. Comput. Graph. Stat. 14, 2005). One generator of random numbers per restart: the result depends
on the seed and nothing else.

This file is imported only where annealing is asked for; it needs numba (`pip install ttfsc[map]`).
"""

# numpy's stubs say that an element of an array may be an array; compiled, it is a number
# pyright: reportArgumentType=false, reportReturnType=false

import math

import numba
import numpy as np
import numpy.typing as npt

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
REACH = 0.3  # of the mesh: how far from its place a core is set down at a temperature of one unit
NEAR = 3  # how far `balance` sets a core down


@numba.njit(cache=True, nogil=True)
def _random(state: I64) -> float:
    """xorshift64*: uniform in [0, 1)."""
    s = np.uint64(state[0])
    s ^= s >> np.uint64(12)
    s ^= s << np.uint64(25)
    s ^= s >> np.uint64(27)
    state[0] = np.int64(s)
    return float((s * np.uint64(2685821657736338717)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit(cache=True, nogil=True)
def _hops(g: int, source: I32, start: I32, to: I32, x: I32, y: I32, low: I32, high: I32, how: int) -> int:
    """Links that a packet of group g takes. low, high [width]: scratch, low > high everywhere between calls.

    how: 0 = of its XY tree, 1 = to every destination on its own, 2 = to the farthest destination.
    """
    s = source[g]
    sx, sy = x[s], y[s]
    total = 0
    if how:
        for i in range(start[g], start[g + 1]):
            one = abs(x[to[i]] - sx) + abs(y[to[i]] - sy)
            total = total + one if how == 1 else max(total, one)
        return total
    left = right = sx
    for i in range(start[g], start[g + 1]):
        tx, ty = x[to[i]], y[to[i]]
        left, right = min(left, tx), max(right, tx)
        if low[tx] > high[tx]:
            low[tx], high[tx] = min(sy, ty), max(sy, ty)
        else:
            low[tx], high[tx] = min(low[tx], ty), max(high[tx], ty)
    total = right - left
    for i in range(start[g], start[g + 1]):
        tx = x[to[i]]
        if low[tx] <= high[tx]:
            total += high[tx] - low[tx]
            low[tx], high[tx] = 1, 0
    return total


@numba.njit(cache=True, nogil=True)
def total_hops(weight: F64, source: I32, start: I32, to: I32, x: I32, y: I32, width: int, how: int) -> float:
    """Packets times links, over all groups."""
    low, high = np.ones(width, np.int32), np.zeros(width, np.int32)
    total = 0.0
    for g in range(len(weight)):
        total += weight[g] * _hops(g, source, start, to, x, y, low, high, how)
    return total


@numba.njit(cache=True, nogil=True)
def _stretch(a: int, b: int, px: int, py: int, near: I32, partner: I32, pull: F64, x: I32, y: I32) -> float:
    """Packets times links, core by core, that core a would cost more at px, py; b, which takes its place, left out."""
    total, ax, ay = 0.0, x[a], y[a]
    for i in range(near[a], near[a + 1]):
        p = partner[i]
        if p != b:
            total += pull[i] * (abs(px - x[p]) + abs(py - y[p]) - abs(ax - x[p]) - abs(ay - y[p]))
    return total


@numba.njit(cache=True, nogil=True)
def _groups_of(a: int, b: int, member: I32, groups: I32, seen: I64, stamp: int, touched: I32) -> int:
    """Writes the groups that a or b send or hear, each once, to `touched`; how many they are."""
    found = 0
    for core in (a, b):
        for i in range(member[core], member[core + 1]):
            g = groups[i]
            if seen[g] != stamp:
                seen[g] = stamp
                touched[found] = g
                found += 1
    return found


@numba.njit(cache=True, nogil=True)
def _swap(a: int, b: int, x: I32, y: I32) -> None:
    x[a], y[a], x[b], y[b] = x[b], y[b], x[a], y[a]


@numba.njit(cache=True, nogil=True)
def _exchange(a: int, b: int, x: I32, y: I32, at: I32) -> None:
    """After `_swap`: cores a and b at the other's port."""
    for i in range(at.shape[2]):
        if at[y[a], x[a], i] == b:
            for j in range(at.shape[2]):
                if at[y[b], x[b], j] == a:
                    at[y[a], x[a], i], at[y[b], x[b], j] = a, b
                    return


@numba.njit(cache=True, nogil=True)
def anneal(
    weight: F64,  # [G] packets of a group
    source: I32,  # [G] its core
    start: I32,  # [G + 1] where its destinations begin in `to`
    to: I32,
    member: I32,  # [cores + 1] where the groups of a core begin in `groups`: those it sends or hears
    groups: I32,
    near: I32,  # [cores + 1] where the partners of a core begin in `partner`: cores it sends to or hears
    partner: I32,
    pull: F64,  # packets between a core and each partner, both ways
    x: I32,  # [cores] changed in place; cores beyond the real ones are empty places
    y: I32,
    at: I32,  # [height, width, ports] the cores at a router, -1 where none may stand; changed in place
    movable: I32,  # real cores that may move
    state: I64,  # [1] of the random numbers
    hot: float,
    cold: float,
    unit: float,  # of temperature: a core's mean traffic
    moves: int,
    share: float,  # links of trees by links core by core, for the look at partners; 0 = count trees at once
    how: int,
) -> None:
    """Anneal with `moves` proposals, temperature from hot to cold geometrically."""
    height, width, ports = at.shape
    low, high = np.ones(width, np.int32), np.zeros(width, np.int32)
    count, fixed = len(weight), len(movable)
    cost = np.empty(count, np.int32)
    for g in range(count):
        cost[g] = _hops(g, source, start, to, x, y, low, high, how)
    seen, stamp = np.zeros(count, np.int64), 0
    touched, fresh = np.empty(count, np.int32), np.empty(count, np.int32)
    blocks = 512
    for block in range(blocks):
        temperature = hot * (cold / hot) ** (block / (blocks - 1))
        reach = min(max(width, height), max(1, round(max(width, height) * REACH * math.sqrt(temperature / unit))))
        for _ in range(max(1, moves // blocks)):
            a = movable[int(_random(state) * fixed)]
            aim, span = a, reach
            if _random(state) < 0.5 and near[a] < near[a + 1]:
                aim, span = partner[near[a] + int(_random(state) * (near[a + 1] - near[a]))], 1
            px = x[aim] + int(_random(state) * (2 * span + 1)) - span
            py = y[aim] + int(_random(state) * (2 * span + 1)) - span
            if px < 0 or py < 0 or px >= width or py >= height:
                continue
            b = at[py, px, int(_random(state) * ports) if ports > 1 else 0]
            if b < 0 or b == a:
                continue
            rise = _stretch(a, b, px, py, near, partner, pull, x, y)
            rise = share * (rise + _stretch(b, a, x[a], y[a], near, partner, pull, x, y))
            if rise > 0.0 and _random(state) >= math.exp(-rise / temperature):
                continue
            _swap(a, b, x, y)
            if how != 1:  # core by core is all there is to unicast
                stamp += 1
                found = _groups_of(a, b, member, groups, seen, stamp, touched)
                excess = -rise
                for i in range(found):
                    g = touched[i]
                    fresh[i] = _hops(g, source, start, to, x, y, low, high, how)
                    excess += weight[g] * (fresh[i] - cost[g])
                if excess > 0.0 and _random(state) >= math.exp(-excess / temperature):
                    _swap(a, b, x, y)
                    continue
                for i in range(found):
                    cost[touched[i]] = fresh[i]
            _exchange(a, b, x, y, at)


@numba.njit(cache=True, nogil=True)
def _add(loads: F64, direction: int, row: int, column: int, w: float) -> float:
    """One link's load grows by w; the change of its fourth power."""
    old = loads[direction, row, column]
    loads[direction, row, column] = old + w
    return (old + w) ** 4 - old**4


@numba.njit(cache=True, nogil=True)
def _load(loads: F64, w: float, g: int, source: I32, start: I32, to: I32, x: I32, y: I32, low: I32, high: I32) -> float:
    """Add w to every link of group g's tree; the change of the sum of fourth powers. loads [4, height, width]."""
    s = source[g]
    sx, sy = x[s], y[s]
    left = right = sx
    change = 0.0
    for i in range(start[g], start[g + 1]):
        tx, ty = x[to[i]], y[to[i]]
        left, right = min(left, tx), max(right, tx)
        if low[tx] > high[tx]:
            low[tx], high[tx] = min(sy, ty), max(sy, ty)
        else:
            low[tx], high[tx] = min(low[tx], ty), max(high[tx], ty)
    for i in range(sx, right):
        change += _add(loads, 0, sy, i, w)
    for i in range(left + 1, sx + 1):
        change += _add(loads, 1, sy, i, w)
    for i in range(start[g], start[g + 1]):
        tx = x[to[i]]
        if low[tx] <= high[tx]:
            for j in range(sy, high[tx]):
                change += _add(loads, 2, j, tx, w)
            for j in range(low[tx] + 1, sy + 1):
                change += _add(loads, 3, j, tx, w)
            low[tx], high[tx] = 1, 0
    return change


@numba.njit(cache=True, nogil=True)
def link_loads(weight: F64, source: I32, start: I32, to: I32, x: I32, y: I32, width: int, height: int) -> F64:
    """[4, height, width]: packets over the links east, west, south and north of every router."""
    low, high = np.ones(width, np.int32), np.zeros(width, np.int32)
    loads = np.zeros((4, height, width))
    for g in range(len(weight)):
        _load(loads, weight[g], g, source, start, to, x, y, low, high)
    return loads


@numba.njit(cache=True, nogil=True)
def balance(
    weight: F64,
    source: I32,
    start: I32,
    to: I32,
    member: I32,
    groups: I32,
    x: I32,  # [cores] changed in place
    y: I32,
    at: I32,  # [height, width, ports] changed in place
    movable: I32,
    state: I64,
    moves: int,
) -> None:
    """Swaps that lower the sum of fourth powers of link loads, which the most loaded links dominate; none raises it."""
    height, width, ports = at.shape
    low, high = np.ones(width, np.int32), np.zeros(width, np.int32)
    loads = link_loads(weight, source, start, to, x, y, width, height)
    seen, touched, stamp = np.zeros(len(weight), np.int64), np.empty(len(weight), np.int32), 0
    for _ in range(moves):
        a, span = movable[int(_random(state) * len(movable))], NEAR
        px = x[a] + int(_random(state) * (2 * span + 1)) - span
        py = y[a] + int(_random(state) * (2 * span + 1)) - span
        if px < 0 or py < 0 or px >= width or py >= height:
            continue
        b = at[py, px, int(_random(state) * ports) if ports > 1 else 0]
        if b < 0 or b == a:
            continue
        stamp += 1
        found = _groups_of(a, b, member, groups, seen, stamp, touched)
        change = 0.0
        for i in range(found):
            change += _load(loads, -weight[touched[i]], touched[i], source, start, to, x, y, low, high)
        _swap(a, b, x, y)
        for i in range(found):
            change += _load(loads, weight[touched[i]], touched[i], source, start, to, x, y, low, high)
        if change <= 0.0:
            _exchange(a, b, x, y, at)
            continue
        for i in range(found):
            _load(loads, -weight[touched[i]], touched[i], source, start, to, x, y, low, high)
        _swap(a, b, x, y)
        for i in range(found):
            _load(loads, weight[touched[i]], touched[i], source, start, to, x, y, low, high)


def warm_up() -> None:
    """Compile now (or load what was compiled before), not while the clock runs or in several threads at once."""
    one, pair = np.ones(1), np.array([0, 1], np.int32)
    args = one, pair[:1], pair, pair[1:]
    lists = np.array([0, 1, 2], np.int32), np.array([0, 0], np.int32)
    x, y, at = pair.copy(), np.zeros(2, np.int32), pair.reshape(1, 2, 1).copy()
    state = np.ones(1, np.int64)
    total_hops(*args, x, y, 2, 0)
    anneal(*args, *lists, lists[0], pair[::-1].copy(), np.ones(2), x, y, at, pair, state, 1.0, 0.5, 1.0, 1, 1.0, 0)
    balance(*args, *lists, x, y, at, pair, state, 1)
