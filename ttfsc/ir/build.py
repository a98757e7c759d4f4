"""Build a net op by op, types inferred: what frontends and tests use instead of writing types by hand."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ttfsc.ir.arrays import Array, Arrays, Const
from ttfsc.ir.faults import TtfsError
from ttfsc.ir.fields import fields_of
from ttfsc.ir.net import Net
from ttfsc.ir.ops import Decode, Encode, Fire, Input, Op, ShapeError, Synapse
from ttfsc.ir.types import Analog, Potential, Scores, Shape, Spikes, Type
from ttfsc.ir.verify import verify

OpT = TypeVar("OpT", bound=Op)


class Builder:
    """Collects ops in order. Windows follow from the operands; `ticks` is their length (1 in real nets).

    b = Builder("mnist")
    b.add(Input(name="in", type=Analog((1, 28, 28), 0, 255), scale=1 / 255))
    b.add(Conv2d(name="c1.v", type=OPEN, x=Ref("in"), w=b.array("c1.w", w)))
    b.add(Fire(name="c1", type=OPEN, v=Ref("c1.v"), theta=b.array("c1.theta", theta)))
    """

    def __init__(self, name: str, *, ticks: int = 1) -> None:
        self.name, self.ticks = name, ticks
        self.ops = list[Op]()
        self.types = dict[str, Type]()
        self._arrays = dict[Const, Array]()

    def array(self, name: str, value: Array) -> Const:
        """Put an array into the pool; names must be new."""
        const = Const(name)
        assert const not in self._arrays, f"@{name} is already in the pool"
        self._arrays[const] = np.array(value)
        return const

    def add(self, op: OpT) -> OpT:
        """Add an op, its type inferred from its operands. Raises TtfsError where they give none."""
        ins = tuple(self.types[ref] for ref in op.operands())
        given = self._hint(op, ins)
        try:
            inferred = given.infer(ins, Arrays(self._named(given)))
        except ShapeError as e:
            raise TtfsError.one(e.code, str(e), loc=op.loc, subject=op.subject) from e
        typed = replace(op, type=inferred)
        self.ops.append(typed)
        self.types[op.name] = inferred
        return typed

    def net(self) -> Net:
        """The finished net, verified. Raises TtfsError with every fault."""
        return verify(Net(self.name, tuple(self.ops), Arrays(self._arrays)))

    def unverified(self) -> Net:
        """The net as it stands."""
        return Net(self.name, tuple(self.ops), Arrays(self._arrays))

    def _named(self, op: Op) -> Mapping[Const, Array]:
        names = (getattr(op, f.name) for f in fields_of(type(op)) if f.kind == "const")
        return {n: self._arrays[n] for n in names if n is not None}

    def _hint(self, op: OpT, ins: tuple[Type, ...]) -> OpT:
        """The op with the part of its type that operands cannot tell: where a window opens and how long it is."""
        shape = op.type.shape
        match op:
            case Input():
                return op
            case Encode():
                return replace(op, type=Spikes(shape, 0, self.ticks)) if op.type == OPEN else op
            case Fire() if op.type == OPEN:
                start = ins[0].opens if isinstance(ins[0], Potential) else 0
                return replace(op, type=Spikes(shape, start, start + self.ticks))
            case Decode() if op.type == OPEN:
                start = ins[0].opens if isinstance(ins[0], Potential | Spikes) else 0
                return replace(op, type=Scores(shape, start, start + self.ticks))
            case Synapse() if isinstance(ins[0], Analog) and op.type == OPEN:
                closes = self.ticks if op.kernel in ("step", "leak") else None
                return replace(op, type=Potential(shape, 0, closes))
            case _:
                return op


_NONE: Shape = (1,)
OPEN = Potential(_NONE, -1)  # "to be inferred": no verified op ever has this type
