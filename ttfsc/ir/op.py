"""What every op is: one line of a net, with a name, a type, a place it came from, and rules."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, NewType

from ttfsc.ir import codes
from ttfsc.ir.arrays import Arrays
from ttfsc.ir.faults import NOWHERE, Loc
from ttfsc.ir.types import Type

Ref = NewType("Ref", str)
Pair = tuple[int, int]
Quad = tuple[int, int, int, int]  # top, left, bottom, right
Broken = Iterator[tuple[int, str]]

ONE: Pair = (1, 1)
NO_PAD: Quad = (0, 0, 0, 0)


class ShapeError(Exception):
    """`infer` cannot give a type; the text is the fact to report."""

    def __init__(self, fact: str, code: int = codes.SHAPE) -> None:
        super().__init__(fact)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One line of a net: the value `name` of `type`, and where it came from."""

    mnemonic: ClassVar[str] = ""
    name: str
    type: Type
    loc: Loc = field(default=NOWHERE, compare=False)

    def operands(self) -> tuple[Ref, ...]:
        """Names of the values read, in order."""
        return ()

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        """The type these operands give; raises ShapeError when they give none."""
        raise AssertionError(f"'{self.mnemonic}' does not say what its type is")

    def faults(self, ins: tuple[Type, ...], arrays: Arrays) -> Broken:
        """Broken rules beyond `infer`, as (code, sentence)."""
        return iter(())

    @property
    def subject(self) -> str:
        """How messages call this op."""
        return f"'{self.mnemonic}' %{self.name}"
