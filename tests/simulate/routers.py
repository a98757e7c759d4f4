"""The routers of the cycle model once more, packet by packet in plain Python: slow, obvious, and written apart.

Only the rules in the module docstring of `ttfsc.backends.noc.cycle` are shared with what it is compared with.
"""

from collections import deque
from dataclasses import dataclass, field

from ttfsc.backends.noc.cycle import Router
from ttfsc.backends.noc.packets import Tree

OUT = {0: (1, 0), 1: (-1, 0), 2: (0, 1), 3: (0, -1)}
ENTERS = {0: 1, 1: 0, 2: 3, 3: 2}  # leaving east, a packet comes in from the west


@dataclass
class Copy:
    packet: int
    arrives: int
    left: set[int] | None = None  # outputs still to go to; found at the head of the buffer


@dataclass
class Place:
    inputs: list[deque[Copy]] = field(default_factory=lambda: [deque() for _ in range(5)])
    turn: list[int] = field(default_factory=lambda: [0] * 5)


def play(trees: list[Tree], mesh: tuple[int, int], router: Router, sent: list[int]) -> list[tuple[int, int, int]]:
    """(cycle, packet, router) of every delivery; sent: the tree of each packet, all there from cycle 0 on."""
    width, height = mesh
    places = [Place() for _ in range(width * height)]
    queues: dict[int, deque[int]] = {}
    for packet, tree in enumerate(sent):
        queues.setdefault(trees[tree].source, deque()).append(packet)
    expected = sum(len(trees[tree].to) for tree in sent)
    done: list[tuple[int, int, int]] = []
    now = 0
    while len(done) < expected:
        assert now < 100_000
        for source, queue in queues.items():
            if queue and len(places[source].inputs[4]) < router.depth:
                places[source].inputs[4].append(Copy(queue.popleft(), now))
        full = {(r, i): len(p.inputs[i]) >= router.depth for r, p in enumerate(places) for i in range(5)}
        moves: list[tuple[int, int, int]] = []  # router, input, output
        for r, place in enumerate(places):
            for out in range(5):
                asking: list[int] = []
                for i, buffer in enumerate(place.inputs):
                    if not buffer or buffer[0].arrives + router.route > now:
                        continue
                    head = buffer[0]
                    if head.left is None:
                        mask = trees[sent[head.packet]].forks[r]
                        head.left = {d for d in range(5) if mask >> d & 1}
                    if out in head.left and (out == 4 or not full[behind(r, out, width)]):
                        asking.append(i)
                if asking:
                    winner = min(asking, key=lambda i: (i - place.turn[out]) % 5)
                    place.turn[out] = (winner + 1) % 5
                    moves.append((r, winner, out))
        for r, i, out in moves:
            head = places[r].inputs[i][0]
            assert head.left is not None
            head.left.remove(out)
            if out == 4:
                done.append((now + router.allocate + router.cross, head.packet, r))
            else:
                to, side = behind(r, out, width)
                delay = router.allocate + router.cross + router.link
                places[to].inputs[side].append(Copy(head.packet, now + delay))
        for place in places:
            for buffer in place.inputs:
                if buffer and buffer[0].left is not None and not buffer[0].left:
                    buffer.popleft()
        now += 1
    return sorted(done)


def behind(r: int, out: int, width: int) -> tuple[int, int]:
    """The router and input that an output leads to."""
    dx, dy = OUT[out]
    return r + dy * width + dx, ENTERS[out]
