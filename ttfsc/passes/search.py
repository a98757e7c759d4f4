"""Annealing as `place` uses it: restarts in parallel, the best and the spread of them.

Restart i draws its random numbers from (seed, i) alone, and the best is chosen by cost, then by number: the result is
the same for any number of threads. The moves themselves are compiled (`ttfsc.passes.place_kernel`, numba).
"""

import logging
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import product

import numpy as np

from ttfsc.ir import Place, TtfsError, codes
from ttfsc.passes.flow import Floats, Flow, Index

log = logging.getLogger(__name__)
HOPS = {"multicast": 0, "unicast": 1, "latency": 2}  # how the compiled moves count a group's links
MOVES_PER_CORE = 150_000
_TRIAL = 20_000  # moves that measure the speed


@dataclass(frozen=True)
class Search:
    """How long and for what: moves per restart, or seconds for all of them together."""

    objective: str
    seed: int
    restarts: int
    moves: int  # 0: MOVES_PER_CORE for every core that may move
    seconds: float  # 0: no budget, the moves decide
    heat: float  # first temperature, in units of a core's mean traffic
    threads: int  # 0: as many as there are processors


@dataclass(frozen=True)
class Board:
    """Where cores stand and may stand."""

    mesh: tuple[int, int]
    places: tuple[Place, ...]  # of the cores, by number
    closed: frozenset[Place]  # no core may stand there
    pinned: frozenset[int]  # cores that stay where they are
    ports: int = 1  # cores that may share a router


def annealed(flow: Flow, board: Board, search: Search) -> tuple[Place, ...]:
    """Places of the cores that cost least. Raises TtfsError (TOOL) where numba is not installed."""
    need_numba()
    from ttfsc.passes.place_kernel import warm_up

    movable = [i for i in range(len(board.places)) if i not in board.pinned]
    if not len(flow.weight) or len(movable) < 2:
        return board.places
    problem = _Problem(flow, board, movable)
    begun = time.perf_counter()
    warm_up()
    moves = search.moves or MOVES_PER_CORE * len(movable)
    threads = min(search.restarts, search.threads or os.cpu_count() or 1)
    if search.seconds:
        trial = time.perf_counter()
        problem.anneal(replace(search, moves=_TRIAL), 0, _TRIAL)
        each = (time.perf_counter() - trial) / _TRIAL
        left = max(0.0, search.seconds - (time.perf_counter() - begun))
        moves = max(_TRIAL, int(left / each * threads / search.restarts))
    with ThreadPoolExecutor(threads) as pool:
        runs = [pool.submit(problem.anneal, search, i, moves) for i in range(search.restarts)]
        found = [run.result() for run in runs]
    costs = [cost for cost, _ in found]
    best = min(range(len(found)), key=lambda i: (costs[i], i))
    log.info(
        "place: best of %d restarts %.0f %s, from %.0f; worst %.0f, spread %.1f %%; %d moves each, %.1f s",
        len(found), costs[best], _UNITS[search.objective], problem.cost(board.places, search.objective), max(costs),
        100 * (max(costs) / costs[best] - 1) if costs[best] else 0.0, moves, time.perf_counter() - begun,
    )  # fmt: skip
    return found[best][1]


def cost_of(flow: Flow, places: tuple[Place, ...], mesh: tuple[int, int], objective: str) -> float:
    """What the objective counts (`ttfsc.passes.place`), of cores at these places of a mesh (width, height)."""
    from ttfsc.passes.place_kernel import link_loads, total_hops

    x, y = np.array(places, np.int32).T.copy()
    groups = flow.weight, flow.source, flow.start, flow.to
    if objective == "busiest":
        return float(link_loads(*groups, x, y, *mesh).max(initial=0))
    return float(total_hops(*groups, x, y, mesh[0], HOPS[objective]))


_UNITS = {
    "multicast": "multicast hops",
    "unicast": "unicast hops",
    "latency": "packets x links to the farthest destination",
    "busiest": "packets on the busiest link",
}


def need_numba() -> None:
    """TtfsError (TOOL) where the compiled moves cannot be had."""
    if find_spec("numba") is None:
        fact = "scheme=anneal needs numba: pip install 'ttfsc[map]', or choose scheme=hilbert"
        raise TtfsError.one(codes.TOOL, fact, subject="place")


class _Problem:
    """The flow as the compiled moves want it: groups by core, partners by core."""

    def __init__(self, flow: Flow, board: Board, movable: list[int]) -> None:
        self.flow, self.board = flow, board
        self.slots = board.mesh[0] * board.mesh[1] * board.ports  # cores and free ports, which move without traffic
        self.movable = np.array(movable, np.int32)
        sizes = np.diff(flow.start)
        senders, packets = np.repeat(flow.source, sizes), np.repeat(flow.weight, sizes)
        every = np.arange(len(flow.weight), dtype=np.int32)
        self.member, self.groups, _ = _by_core(
            np.concatenate([flow.source, flow.to]), np.concatenate([every, np.repeat(every, sizes)]), self.slots
        )
        self.near, self.partner, self.pull = _by_core(
            np.concatenate([senders, flow.to]), np.concatenate([flow.to, senders]), self.slots, np.tile(packets, 2)
        )
        self.unit = float((flow.weight * (1 + sizes)).sum()) / max(1, len(board.places))

    def cost(self, places: tuple[Place, ...], objective: str) -> float:
        """What the objective counts, of cores that stand there."""
        return cost_of(self.flow, places, self.board.mesh, objective)

    def anneal(self, search: Search, restart: int, moves: int) -> tuple[float, tuple[Place, ...]]:
        """One restart: its cost and its places."""
        from ttfsc.passes.place_kernel import anneal, balance

        x, y, at = self._start()
        flow, places = self.flow, self.board.places
        state = np.random.SeedSequence((search.seed, restart)).generate_state(1, np.uint64).astype(np.int64)
        state |= 1  # a generator of xorshift type never leaves 0
        groups = flow.weight, flow.source, flow.start, flow.to, self.member, self.groups
        by_links = "multicast" if search.objective == "busiest" else search.objective
        share = self.cost(places, by_links) / max(self.cost(places, "unicast"), 1e-9)
        share = 0.0 if by_links == "latency" else share  # partners two by two say little about the farthest
        anneal(
            *groups, self.near, self.partner, self.pull, x, y, at, self.movable, state,
            search.heat * self.unit, COLD * self.unit, self.unit, moves, share, HOPS[by_links],
        )  # fmt: skip
        if search.objective == "busiest":
            balance(*groups, x, y, at, self.movable, state, max(1, moves // 8))
        found = tuple(zip(x[: len(places)].tolist(), y[: len(places)].tolist(), strict=True))
        return self.cost(found, search.objective), found

    def _start(self) -> tuple[Index, Index, Index]:
        """x, y of every core and free port, and who is at [y, x, port]; -1 where nothing may move to."""
        board, (width, height) = self.board, self.board.mesh
        at = np.full((height, width, board.ports), -1, np.int32)
        x, y = np.zeros(self.slots, np.int32), np.zeros(self.slots, np.int32)
        taken = Counter[Place]()
        for core, place in enumerate(board.places):
            x[core], y[core] = place
            if core not in board.pinned:
                at[place[1], place[0], taken[place]] = core
            taken[place] += 1
        free = len(board.places)
        for place in product(range(width), range(height)):
            for port in range(board.ports if place in board.closed else taken[place], board.ports):
                x[free], y[free], at[place[1], place[0], port] = *place, free
                free += 1
        return x, y, at


COLD = 0.05  # last temperature, in units of a core's mean traffic: below, nothing moves any more


def _by_core(core: Index, value: Index, cores: int, packets: Floats | None = None) -> tuple[Index, Index, Floats]:
    """The different values of every core, ascending: where each core's begin, the values, the packets of each."""
    pairs, which = np.unique(core.astype(np.int64) << 32 | value, return_inverse=True)
    start = np.searchsorted(pairs >> 32, np.arange(cores + 1)).astype(np.int32)
    return start, (pairs & 0xFFFFFFFF).astype(np.int32), np.bincount(which, packets, len(pairs)).astype(np.float64)
