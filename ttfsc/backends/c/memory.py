"""Where buffers lie: per C type one array in the state, shared by buffers that are not alive at the same time.

An array per type rather than one of bytes: reading bytes as int16_t would break C's aliasing rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ttfsc.backends.c.cgen import SIZES


@dataclass(frozen=True, slots=True)
class Buffer:
    """`length` elements, alive from the step that writes them to the last that reads them, both included."""

    ctype: str
    length: int
    first: int
    last: int
    offset: int = 0
    copies: int = 1  # that many stretches, one for each piece of a step

    def meets(self, other: "Buffer") -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


def placed(buffers: Sequence[Buffer]) -> tuple[Buffer, ...]:
    """The buffers with offsets, in the order given: largest first, each at the lowest free place of its type."""
    done = dict[int, Buffer]()
    for i in sorted(range(len(buffers)), key=lambda i: (-buffers[i].length, i)):
        one = buffers[i]
        taken = sorted((b.offset, b.offset + b.length) for b in done.values() if b.ctype == one.ctype and b.meets(one))
        offset = 0
        for start, end in taken:
            if start >= offset + one.length:
                break
            offset = max(offset, end)
        done[i] = replace(one, offset=offset)
    return tuple(done[i] for i in range(len(buffers)))


def arenas(buffers: Sequence[Buffer]) -> tuple[tuple[str, int], ...]:
    """(C type, elements) of the state's arrays, the most strictly aligned first: no padding between them."""
    ends = dict[str, int]()
    for b in buffers:
        ends[b.ctype] = max(ends.get(b.ctype, 0), b.offset + b.length)
    return tuple(sorted(ends.items(), key=lambda item: (-SIZES[item[0]], item[0])))


def state_bytes(arrays: Sequence[tuple[str, int]]) -> int:
    """sizeof the state struct: its arrays and the padding behind the last."""
    if not arrays:
        return 1  # C has no empty struct: the state then holds one unused byte
    widest = SIZES[arrays[0][0]]
    return -(-sum(SIZES[t] * n for t, n in arrays) // widest) * widest
