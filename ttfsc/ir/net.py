"""A net: ops in order, arrays beside them, and after mapping the cores they run on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ttfsc.ir.arrays import EMPTY, Array, Arrays, Const
from ttfsc.ir.mapping import Mapped
from ttfsc.ir.ops import Input, Op, Ref
from ttfsc.ir.types import Type


@dataclass(frozen=True)
class Net:
    """An immutable network. Passes return a new one; the last op is the answer."""

    name: str
    ops: tuple[Op, ...]
    arrays: Arrays = field(default=EMPTY)
    mapped: Mapped | None = None

    @cached_property
    def by_name(self) -> dict[str, Op]:
        """Ops by the value they define."""
        return {op.name: op for op in self.ops}

    @cached_property
    def users(self) -> dict[str, tuple[Op, ...]]:
        """Readers of each value, in order."""
        found: dict[str, list[Op]] = {op.name: [] for op in self.ops}
        for op in self.ops:
            for ref in dict.fromkeys(op.operands()):
                found.setdefault(ref, []).append(op)
        return {name: tuple(ops) for name, ops in found.items()}

    @property
    def input(self) -> Input:
        """The net's input op (the verifier allows exactly one)."""
        return next(op for op in self.ops if isinstance(op, Input))

    @property
    def answer(self) -> Op:
        """The last op; the verifier makes sure it is a decode."""
        return self.ops[-1]

    def type_of(self, name: str) -> Type:
        """The type of a value."""
        return self.by_name[name].type

    def operand_types(self, op: Op) -> tuple[Type, ...]:
        """The types that an op reads, in order."""
        return tuple(self.by_name[ref].type for ref in op.operands())

    def with_ops(self, ops: Iterable[Op], changes: Mapping[Const, Array] | None = None) -> "Net":
        """The same net with other ops; arrays that no op names any more are dropped."""
        ops = tuple(ops)
        pool = self.arrays.with_(changes) if changes else self.arrays
        used = [const for op in ops for const in consts_of(op)]
        return Net(self.name, ops, pool.only([c for c in used if c in pool]), self.mapped)

    def with_map(self, mapped: Mapped | None) -> "Net":
        """The same net on these cores."""
        return replace(self, mapped=mapped)


def consts_of(op: Op) -> tuple[Const, ...]:
    """Names of the arrays an op reads, in field order."""
    from ttfsc.ir.fields import fields_of  # the declarations know which fields are arrays

    values = (getattr(op, f.name) for f in fields_of(type(op)) if f.kind == "const")
    return tuple(v for v in values if v is not None)


def reread(op: Op, names: Mapping[str, str]) -> Op:
    """The op with its operands renamed; names not in the mapping stay."""
    from ttfsc.ir.fields import fields_of

    changes: dict[str, object] = {}
    for f in fields_of(type(op)):
        value = getattr(op, f.name)
        if f.kind == "ref":
            changes[f.name] = Ref(names.get(value, value))
        elif f.kind == "refs":
            changes[f.name] = tuple(Ref(names.get(v, v)) for v in value)
    return replace(op, **changes) if changes else op  # pyright: ignore[reportArgumentType]
