"""What the op declarations say about their fields: the one place that printer, parser and renaming ask."""

from dataclasses import MISSING, dataclass, fields
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ttfsc.ir.arrays import Const
from ttfsc.ir.ops import Op, Ref

Kind = Literal["ref", "refs", "const", "int", "float", "bool", "word", "sizes"]
_OWN = ("name", "type", "loc")  # written outside the attribute list


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an op class. ref/refs are positional (`%a %b`), everything else is `name=value`."""

    name: str
    kind: Kind
    default: Any  # MISSING where the field must be given
    words: tuple[str, ...] = ()  # kind word: the accepted ones
    count: int = 0  # kind sizes: how many numbers

    @property
    def required(self) -> bool:
        """Whether the text must give it."""
        return self.default is MISSING


@cache
def fields_of(op: type[Op]) -> tuple[Field, ...]:
    """The printable fields of an op class, in order of declaration."""
    hints = get_type_hints(op)
    return tuple(_field(f.name, hints[f.name], f.default) for f in fields(op) if f.name not in _OWN)


def _field(name: str, hint: Any, default: Any) -> Field:
    members = [a for a in get_args(hint) if a is not NoneType]
    if hint is Ref:
        return Field(name, "ref", default)
    if hint is Const or Const in members:
        return Field(name, "const", default)
    if hint == tuple[Ref, ...]:
        return Field(name, "refs", default)
    if get_origin(hint) is Literal:
        return Field(name, "word", default, words=get_args(hint))
    if get_origin(hint) is tuple:
        return Field(name, "sizes", default, count=len(members))
    kinds: dict[Any, Kind] = {int: "int", float: "float", bool: "bool"}
    assert hint in kinds, f"field {name}: {hint} has no text form"
    return Field(name, kinds[hint], default)
