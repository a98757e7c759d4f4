"""The annealing moves of `place`, compiled: swap two places, keep the swap if it pays or by chance.

Traffic comes as *groups*: packets of one source core to one set of destinations. Moving a core changes the cost of the
groups it sends or hears and of no other, so a move costs those few trees, not the whole mesh. Everything is integers
and one generator of random numbers per restart: the result depends on the seed and nothing else.

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
def anneal(
    weight: F64,  # [G] packets of a group
    source: I32,  # [G] its core
    start: I32,  # [G + 1] where its destinations begin in `to`
    to: I32,
    member: I32,  # [cores + 1] where the groups of a core begin in `groups`: those it sends or hears
    groups: I32,
    near: I32,  # [cores + 1] where the partners of a core begin in `partner`: cores it sends to or hears
    partner: I32,
    x: I32,  # [cores] changed in place; cores beyond the real ones are empty places
    y: I32,
    at: I32,  # [width * height] the core at a place, -1 where none may stand; changed in place
    movable: I32,  # real cores that may move
    width: int,
    height: int,
    state: I64,  # [1] of the random numbers
    hot: float,
    cold: float,
    moves: int,
    reach: int,  # how far from its aim a core is set down when the temperature is `hot`
    how: int,
) -> float:
    """Anneal with `moves` proposals, temperature from hot to cold geometrically; the change of cost."""
    low, high = np.ones(width, np.int32), np.zeros(width, np.int32)
    count, fixed = len(weight), len(movable)
    cost = np.empty(count, np.int32)
    for g in range(count):
        cost[g] = _hops(g, source, start, to, x, y, low, high, how)
    seen, stamp = np.zeros(count, np.int64), 0
    touched, fresh = np.empty(count, np.int32), np.empty(count, np.int32)
    changed, blocks = 0.0, 512
    per = max(1, moves // blocks)
    for block in range(blocks):
        part = block / (blocks - 1)
        temperature = hot * (cold / hot) ** part
        span = max(1, int(reach * (1.0 - part) ** 2 + 0.5))
        for _ in range(per):
            a = movable[int(_random(state) * fixed)]
            aim = a
            if _random(state) < 0.5 and near[a] < near[a + 1]:
                aim = partner[near[a] + int(_random(state) * (near[a + 1] - near[a]))]
            px = x[aim] + int(_random(state) * (2 * span + 1)) - span
            py = y[aim] + int(_random(state) * (2 * span + 1)) - span
            if px < 0 or py < 0 or px >= width or py >= height:
                continue
            b = at[py * width + px]
            if b < 0 or b == a:
                continue
            stamp += 1
            found = 0
            for core in (a, b):
                for i in range(member[core], member[core + 1]):
                    g = groups[i]
                    if seen[g] != stamp:
                        seen[g] = stamp
                        touched[found] = g
                        found += 1
            ax, ay, bx, by = x[a], y[a], x[b], y[b]
            x[a], y[a], x[b], y[b] = bx, by, ax, ay
            delta = 0.0
            for i in range(found):
                g = touched[i]
                fresh[i] = _hops(g, source, start, to, x, y, low, high, how)
                delta += weight[g] * (fresh[i] - cost[g])
            if delta <= 0.0 or _random(state) < math.exp(-delta / temperature):
                changed += delta
                at[by * width + bx], at[ay * width + ax] = a, b
                for i in range(found):
                    cost[touched[i]] = fresh[i]
            else:
                x[a], y[a], x[b], y[b] = ax, ay, bx, by
    return changed


@numba.njit(cache=True, nogil=True)
def _load(
    loads: F64, w: float, g: int, source: I32, start: I32, to: I32, x: I32, y: I32, low: I32, high: I32, width: int
) -> float:
    """Add w to every link of group g's tree; the change of the sum of squared loads. loads [4, height, width]."""
    s = source[g]
    sx, sy = x[s], y[s]
    left = right = sx
    squares = 0.0
    for i in range(start[g], start[g + 1]):
        tx, ty = x[to[i]], y[to[i]]
        left, right = min(left, tx), max(right, tx)
        if low[tx] > high[tx]:
            low[tx], high[tx] = min(sy, ty), max(sy, ty)
        else:
            low[tx], high[tx] = min(low[tx], ty), max(high[tx], ty)
    for i in range(sx, right):
        squares += w * (2 * loads[0, sy, i] + w)
        loads[0, sy, i] += w
    for i in range(left + 1, sx + 1):
        squares += w * (2 * loads[1, sy, i] + w)
        loads[1, sy, i] += w
    for i in range(start[g], start[g + 1]):
        tx = x[to[i]]
        if low[tx] <= high[tx]:
            for j in range(sy, high[tx]):
                squares += w * (2 * loads[2, j, tx] + w)
                loads[2, j, tx] += w
            for j in range(low[tx] + 1, sy + 1):
                squares += w * (2 * loads[3, j, tx] + w)
                loads[3, j, tx] += w
            low[tx], high[tx] = 1, 0
    return squares


@numba.njit(cache=True, nogil=True)
def link_loads(weight: F64, source: I32, start: I32, to: I32, x: I32, y: I32, width: int, height: int) -> F64:
    """[4, height, width]: packets over the links east, west, south and north of every router."""
    low, high = np.ones(width, np.int32), np.zeros(width, np.int32)
    loads = np.zeros((4, height, width))
    for g in range(len(weight)):
        _load(loads, weight[g], g, source, start, to, x, y, low, high, width)
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
    at: I32,  # changed in place
    movable: I32,
    width: int,
    height: int,
    state: I64,
    moves: int,
) -> None:
    """Swaps that lower the sum of squared link loads, which the most loaded links dominate; none that raises it."""
    low, high = np.ones(width, np.int32), np.zeros(width, np.int32)
    loads = link_loads(weight, source, start, to, x, y, width, height)
    seen, touched, stamp = np.zeros(len(weight), np.int64), np.empty(len(weight), np.int32), 0
    for _ in range(moves):
        a = movable[int(_random(state) * len(movable))]
        b = at[int(_random(state) * len(at))]
        if b < 0 or b == a:
            continue
        stamp += 1
        found = 0
        for core in (a, b):
            for i in range(member[core], member[core + 1]):
                g = groups[i]
                if seen[g] != stamp:
                    seen[g] = stamp
                    touched[found] = g
                    found += 1
        delta = 0.0
        for i in range(found):
            g = touched[i]
            delta += _load(loads, -weight[g], g, source, start, to, x, y, low, high, width)
        ax, ay, bx, by = x[a], y[a], x[b], y[b]
        x[a], y[a], x[b], y[b] = bx, by, ax, ay
        for i in range(found):
            g = touched[i]
            delta += _load(loads, weight[g], g, source, start, to, x, y, low, high, width)
        if delta <= 0.0:
            at[by * width + bx], at[ay * width + ax] = a, b
            continue
        for i in range(found):
            g = touched[i]
            _load(loads, -weight[g], g, source, start, to, x, y, low, high, width)
        x[a], y[a], x[b], y[b] = ax, ay, bx, by
        for i in range(found):
            g = touched[i]
            _load(loads, weight[g], g, source, start, to, x, y, low, high, width)


def warm_up() -> None:
    """Compile now (or load what was compiled before), not while the clock runs or in several threads at once."""
    one, pair = np.ones(1), np.array([0, 1], np.int32)
    args = one, pair[:1], pair, pair[1:]
    lists = np.array([0, 1, 2], np.int32), np.array([0, 0], np.int32)
    x, y = pair.copy(), np.zeros(2, np.int32)
    state = np.ones(1, np.int64)
    total_hops(*args, x, y, 2, 0)
    anneal(*args, *lists, lists[0], pair[::-1].copy(), x, y, pair.copy(), pair, 2, 1, state, 1.0, 0.5, 1, 2, 0)
    balance(*args, *lists, x, y, pair.copy(), pair, 2, 1, state, 1)
