"""What every frontend writes a net on: the walk over the source's nodes with its faults, names, arrays and input."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ttfsc.frontends.value import BROKEN, RAW, Constant, Declared, Refused, Value
from ttfsc.ir import (
    EMPTY,
    NOWHERE,
    Add,
    Analog,
    Array,
    Builder,
    Const,
    Fault,
    Input,
    Loc,
    Op,
    Potential,
    Ref,
    Shape,
    Synapse,
    TtfsError,
    codes,
    show_shape,
)  # fmt: skip

log = logging.getLogger(__name__)


def tidy(name: str) -> str:
    """A name that the text form can hold; sources are not trusted to have such."""
    return re.sub(r"[^A-Za-z0-9_./-]", "_", name).lstrip("./-") or "_"


class Tape:
    """A net under construction, its faults, and the place in the source model that is being lowered."""

    def __init__(self, name: str, declared: Declared | None = None) -> None:
        self.builder = Builder(name)
        self.declared = declared or Declared()
        self.faults = list[Fault]()
        self.base, self.loc = "", NOWHERE
        self.batch: int | None = None  # the size of the batch axis, where the source has it as a fixed number
        self._input: Value | None = None
        self.arrays = dict[Const, Array]()

    # -- the walk ------------------------------------------------------------------------------------------------

    def step(self, name: str, loc: Loc, subject: str, work: Callable[[], object]) -> object:
        """Lower one node of the source: what `work` returns, or BROKEN with its faults noted."""
        self.base, self.loc = name, loc
        try:
            return work()
        except Refused as e:
            self.faults.append(Fault(e.code, loc, subject, str(e)))
        except TtfsError as e:
            self.faults += [Fault(f.code, loc, subject, f.fact) for f in e.faults]
        return BROKEN

    def note(self, text: str) -> None:
        """Say what was decided about the source model without being asked."""
        log.info("%s: note: %s", self.loc, text)

    def value(self, x: object) -> Value:
        """An operand as an activation or a membrane; refuses everything else."""
        if x is RAW:
            return self.raw()
        if isinstance(x, Value):
            if x.tail:
                raise Refused(f"reads the result of {x.tail}, which is only understood as the last op; remove that op")
            return x
        what = f"the constant {x.name}" if isinstance(x, Constant) else f"{x!r}"
        raise Refused(f"reads {what} where an activation is expected; compute with the layer's input instead")

    # -- input ---------------------------------------------------------------------------------------------------

    def raw(self) -> Value:
        """The input, as the options declare it."""
        if self._input is None:
            d = self.declared
            if d.shape is None or d.range is None or d.scale is None:
                shape, low_high, scale = "--input-shape 1x28x28", "--input-range 0..255", "--input-scale 0.0039"
                options = ((shape, d.shape), (low_high, d.range), (scale, d.scale))
                missing = ", ".join(option for option, given in options if given is None)
                raise Refused(
                    f"the model does not say what its input is; give {missing} (real value = integer * scale), "
                    "or begin the model with ttfsc.nn.Input",
                    codes.INPUT,
                )
            return self.input(d.shape, *d.range, d.scale, name="input")
        return self._input

    def input(self, shape: Shape, low: int, high: int, scale: float, name: str = "") -> Value:
        """Integers low..high of `shape`; the source sees integer * scale."""
        if self._input is not None:
            raise Refused("the model has a second input layer; a net has exactly one")
        if len(shape) not in (1, 3) or min(shape) < 1:
            fact = f"the input is {show_shape(shape)}; must be channels x height x width, or features"
            raise Refused(fact, codes.INPUT)
        loc = replace(self.loc, origin=name) if name else self.loc
        op = Input(name=name or self.fresh(), type=Analog(shape, low, high), scale=scale, loc=loc)
        facts = list(op.faults((), EMPTY))
        if facts:
            raise Refused(facts[0][1], codes.INPUT)
        self.builder.add(op)
        self._input = Value(Ref(op.name), shape, nonneg=low >= 0)
        return self._input

    # -- names, arrays, ops --------------------------------------------------------------------------------------------

    def is_membrane(self, x: Value) -> bool:
        """Whether the value is a sum of synapses rather than what neurons send."""
        return isinstance(self.builder.types[x.ref], Potential)

    def fresh(self, tag: str = "") -> str:
        """A new name for an op of the present node: its own, or its own and a tag; numbered where it is taken."""
        name = wanted = tidy(f"{self.base}.{tag}" if tag else self.base)
        count = 1
        while self.taken(name):
            name, count = f"{wanted}_{count}", count + 1
        return name

    def const(self, name: str, array: Array) -> Const:
        """Put an array into the pool; equal arrays of one name are one array."""
        name = tidy(name)
        key, count = Const(name), 1
        while key in self.arrays:
            if np.array_equal(self.arrays[key], array) and self.arrays[key].dtype == array.dtype:
                return key
            key, count = Const(f"{name}_{count}"), count + 1
        self.arrays[key] = array
        return self.builder.array(key, array)

    def scaled(self, c: Constant, unit: float) -> Const:
        """The constant in the pool as float32, multiplied by what its reader's input leaves out."""
        with np.errstate(over="ignore"):  # what leaves float32 is infinite, and refused with its name by `verify`
            array = np.asarray(c.array, np.float32)
            return self.const(c.name, array if unit == 1 else array * np.float32(unit))

    def given(self, c: Constant | None) -> Const | None:
        """The constant in the pool as float32, if there is one."""
        return None if c is None else self.const(c.name, np.asarray(c.array, np.float32))

    def emit(self, op: Synapse | Add) -> Value:
        """Add an op that makes a membrane."""
        return self.whole(Ref(self.builder.add(op).name))

    def whole(self, ref: Ref) -> Value:
        """A value of the net as it stands, nothing waiting."""
        return Value(ref, self.builder.types[ref].shape)

    def op(self, ref: Ref) -> Op:
        """The op that defines a value."""
        return next(op for op in reversed(self.builder.ops) if op.name == ref)

    def taken(self, name: str) -> bool:
        """Whether an op has this name."""
        return name in self.builder.types

    def no_pad(self, x: Value) -> None:
        """Refuse a value whose zeros still wait for a convolution."""
        if any(x.pad):
            raise Refused("is padded, but only a convolution can take padding over; use the layer's own padding")
