"""Layers cut into pieces of output rows, or of outputs where there is one position, for the caller's threads to share.

Pieces write different parts of the output and read what earlier steps have finished; all that is left to separate is
scratch memory, of which every piece gets its own copy. Lists of spikes, which all pieces of a layer read, are a step of
their own before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ttfsc.backends.c.memory import Buffer
from ttfsc.backends.c.plan import Bundle, FastLayer, Gather, Layer, Move, Step
from ttfsc.ir import Loc, TtfsError, codes

MOST = 64  # pieces
WORTH = 100.0  # kilocycles from which a step is cut
POOLED = 16  # values that a cycle pools
BLOCKWISE = ("bundle_tile", "bundle_tile_half", "walk_tile", "stride_tile", "pixels_tile")  # a block after the other


def check_threads(threads: int) -> None:
    """Raises TtfsError: not a number of pieces."""
    if not 1 <= threads <= MOST:
        raise TtfsError.one(codes.OPTION, f"{threads} threads: must be 1..{MOST}", loc=Loc("C"), subject="threads")


def parts_of(step: Step) -> int:
    """Parts of a step that can be done apart from each other, output rows or `unit_of` outputs; 1: none."""
    if isinstance(step, FastLayer) and unit_of(step):
        return step.width // unit_of(step)
    return rows_of(step)


def rows_of(step: Step) -> int:
    """Output rows of a step; 1: it is done as a whole."""
    match step:
        case Layer() | FastLayer():
            return step.grid[1]
        case Move(pool=str()):
            return step.out.grid[1]
        case _:
            return 1


def block_of(bundle: Bundle) -> int:
    """Outputs that the kernel of a bundle adds up at once."""
    types = dict(bundle.call.types)
    return int(types["block"]) * (2 if bundle.kind == "pile" else 1)


def unit_of(step: FastLayer) -> int:
    """Outputs of a single position that can be done apart from the others; 0: it has several positions or cannot."""
    if (
        step.groups > 1
        or step.dots
        or step.grid[1:] != (1, 1)
        or any(b.call.kernel not in BLOCKWISE for b in step.bundles)
    ):
        return 0
    unit = max(block_of(b) for b in step.bundles)
    return 0 if step.width % unit or any(unit % block_of(b) for b in step.bundles) else unit


def pieces_of(steps: Sequence[Step], kilocycles: Mapping[str, float], threads: int) -> dict[str, int]:
    """Into how many pieces steps are cut, by their id; those that are not are left out.

    kilocycles: predicted, by id; of a pooling from what it reads. Waking a thread takes about as long as `WORTH`.
    """
    found = dict[str, int]()
    for step in steps:
        cost = step.x.size / POOLED / 1000 if isinstance(step, Move) else kilocycles.get(step.id, 0.0)
        pieces = min(threads, parts_of(step))
        if pieces > 1 and cost >= WORTH:
            found[step.id] = pieces
    return found


def with_copies(steps: Sequence[Step], buffers: Sequence[Buffer], cut: Mapping[str, int]) -> list[Buffer]:
    """The buffers, scratch of every step that is cut as often as it has pieces."""
    found = list(buffers)
    for step in steps:
        pieces = cut.get(step.id, 1)
        for i in set(_scratch(step)) if pieces > 1 else ():
            found[i] = replace(found[i], length=found[i].length * pieces, copies=pieces)
    return found


def _scratch(step: Step) -> Iterator[int]:
    match step:
        case FastLayer():
            found = [] if unit_of(step) else [step.sum, step.slope]
            found += [i for b in step.bundles if isinstance(b, Gather) for i in (b.rows, b.late, b.at, b.whole)]
        case Layer():
            found = [step.sum, step.slope]
            found += [i for link in step.links for i in (link.scratch, link.current)]
            found += [link.v for link in step.links if link.v >= 0]
        case _:
            found = []
    yield from (i for i in found if i is not None)
