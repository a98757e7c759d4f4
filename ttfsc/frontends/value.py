"""What flows through a frontend while it lowers a source model: values, constants, and the reasons for refusing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from ttfsc.ir import Array, Ref, Shape, codes
from ttfsc.ir.ops import NO_PAD, Pair, Quad


class Refused(Exception):  # noqa: N818  # it is no error: the walk goes on
    """A rule cannot lower its node; the text is the fact and the way out, as it will be printed."""

    def __init__(self, fact: str, code: int = codes.UNSUPPORTED) -> None:
        super().__init__(fact)
        self.code = code


@dataclass(frozen=True, slots=True)
class Waiting:
    """A max pool or a flatten that stands between a membrane and its activation: relu(max(v)) = max(relu(v))."""

    kind: Literal["maxpool", "flatten"]
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    pad: Quad = NO_PAD
    ceil: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """An activation or a membrane of the source model, one sample of it: the source sees `unit * %ref`."""

    ref: Ref
    shape: Shape  # behind what is waiting, without the batch
    unit: float = 1.0
    nonneg: bool = False  # certainly >= 0: a ReLU changes nothing, padding with zeros is padding with the smallest
    spiking: bool = False  # straight from neurons of a spiking layer, whose times may be read out
    waiting: tuple[Waiting, ...] = ()
    pad: Quad = NO_PAD  # zeros around it that wait for a convolution
    tail: str = ""  # an op that may only be followed by the output

    @property
    def size(self) -> int:
        """Neurons of one sample."""
        return int(np.prod(self.shape))


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor that is no activation: a weight, under the name that the source model gives it."""

    name: str
    array: Array


@dataclass(frozen=True, slots=True)
class Declared:
    """What the user says about the input of a model that does not say it itself."""

    shape: Shape | None = None
    range: tuple[int, int] | None = None
    scale: float | None = None
    seen: tuple[int, int, float] | None = None  # range and scale of the sample inputs, where nobody says otherwise


class Mark:
    """A value that is only compared by identity."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


RAW = Mark("RAW")  # the model's input, before anything is known about it
BROKEN = Mark("BROKEN")  # the result of a node that was refused: whoever reads it stays silent
UNKNOWN = Mark("UNKNOWN")  # the shape of something broken: what is computed from it stays silent, too
BATCH = Mark("BATCH")  # the size of the batch axis


def items(x: object) -> list[object]:
    """A list or tuple as a list, anything else as a list of one."""
    return list(cast("list[object] | tuple[object, ...]", x)) if isinstance(x, list | tuple) else [x]


def pair(size: object) -> Pair:
    """3 or (3, 5) as (3, 5)."""
    numbers = [n for n in items(size) if isinstance(n, int)]
    if len(numbers) < len(items(size)) or len(numbers) not in (1, 2):
        raise Refused(f"its size is {size!r}, which is not one or two fixed integers; write the numbers out")
    return (numbers[0], numbers[-1])


def quad(size: object) -> Quad:
    """Padding (top, left) as (top, left, bottom, right)."""
    top, left = pair(size)
    return (top, left, top, left)
