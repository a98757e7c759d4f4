"""Layers cut into pieces of output rows, which the caller's threads may do at the same time.

Pieces write different rows of the output and read what earlier steps have finished; all that is left to separate is
scratch memory, of which every piece gets its own copy. Lists of spikes, which all pieces of a layer read, are a step of
their own before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ttfsc.backends.c.memory import Buffer
from ttfsc.backends.c.plan import FastLayer, Gather, Layer, Move, Step
from ttfsc.ir import Loc, TtfsError, codes

MOST = 64  # pieces


def check_threads(threads: int) -> None:
    """Raises TtfsError: not a number of pieces."""
    if not 1 <= threads <= MOST:
        raise TtfsError.one(codes.OPTION, f"{threads} threads: must be 1..{MOST}", loc=Loc("C"), subject="threads")


def rows_of(step: Step) -> int:
    """Output rows that can be done apart from each other; 1: the step is done as a whole."""
    match step:
        case Layer() | FastLayer():
            return step.grid[1]
        case Move(pool=str()):
            return step.out.grid[1]
        case _:
            return 1


def pieces_of(step: Step, threads: int) -> int:
    """Into how many pieces a step is cut; 1: not at all."""
    return min(threads, rows_of(step))


def with_copies(steps: Sequence[Step], buffers: Sequence[Buffer], threads: int) -> list[Buffer]:
    """The buffers, scratch of every step that is cut as often as it has pieces."""
    found = list(buffers)
    for step in steps:
        pieces = pieces_of(step, threads)
        for i in set(_scratch(step)) if pieces > 1 else ():
            found[i] = replace(found[i], length=found[i].length * pieces, copies=pieces)
    return found


def _scratch(step: Step) -> Iterator[int]:
    match step:
        case FastLayer():
            found = [step.sum, step.slope]
            found += [i for b in step.bundles if isinstance(b, Gather) for i in (b.rows, b.late, b.at, b.whole)]
        case Layer():
            found = [step.sum, step.slope]
            found += [i for link in step.links for i in (link.scratch, link.current)]
            found += [link.v for link in step.links if link.v >= 0]
        case _:
            found = []
    yield from (i for i in found if i is not None)
