"""What every pass needs: free names, arrays with owners, types from operands, values nobody reads any more."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ttfsc.ir import (
    Add,
    Array,
    Arrays,
    AvgPool,
    BatchNorm,
    Const,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Identity,
    Input,
    MaxPool,
    Net,
    Op,
    Ref,
    Type,
    consts_of,
)  # fmt: skip

Reals = npt.NDArray[np.float64]
SynapseOp = Conv2d | Dense
OpT = TypeVar("OpT", bound=Op)


class Pool:
    """The arrays that a pass writes. An array of the old net is replaced only by the one op that reads it."""

    def __init__(self, net: Net) -> None:
        self._old = net.arrays
        self.changes = dict[Const, Array]()
        self._readers = dict[Const, set[str]]()
        self._writers = dict[Const, set[str]]()
        for op in net.ops:
            for const in consts_of(op):
                self._readers.setdefault(const, set()).add(op.name)

    def put(self, owner: Op, name: str, value: Array) -> Const:
        """Store `value` for `owner`, as @name if that is free, else under a number behind it."""
        value = np.ascontiguousarray(value)
        value.flags.writeable = False  # spares the array pool a copy
        const, n = Const(name), 1
        while not self._free(owner, const, value):
            n += 1
            const = Const(f"{name}.{n}")
        self.changes[const] = value
        self._writers.setdefault(const, set()).add(owner.name)
        return const

    def __getitem__(self, const: Const) -> Array:
        return self.changes[const] if const in self.changes else self._old[const]

    def view(self, op: Op) -> Arrays:
        """The arrays of one op, for type inference."""
        return Arrays({const: self[const] for const in consts_of(op)})

    def _free(self, owner: Op, const: Const, value: Array) -> bool:
        if const in self.changes:
            old = self.changes[const]
            same = old.dtype == value.dtype and np.array_equal(old, value)
            return same or self._writers[const] <= {owner.name}
        return self._readers.get(const, set()) <= {owner.name}


def reals(pool: Pool | Arrays, const: Const) -> Reals:
    """An array in float64."""
    return pool[const].astype(np.float64)


def retyped(op: OpT, types: Mapping[str, Type], pool: Pool) -> OpT:
    """The op with the type that its operands give; what operands cannot tell is taken from its present type."""
    return replace(op, type=op.infer(tuple(types[ref] for ref in op.operands()), pool.view(op)))


def free_name(taken: Iterable[str], wish: str) -> str:
    """`wish`, or `wish.2`, `wish.3`, ... if that is taken."""
    names, name, n = set(taken), wish, 1
    while name in names:
        n += 1
        name = f"{wish}.{n}"
    return name


def pruned(net: Net) -> Net:
    """The net without ops that nobody reads; input and answer stay."""
    read = set[str]()
    kept = list[Op]()
    for op in reversed(net.ops):
        if op is net.answer or op.name in read or isinstance(op, Input):
            kept.append(op)
            read.update(op.operands())
    return net if len(kept) == len(net.ops) else net.with_ops(reversed(kept))


def source_of(net: Net, name: str) -> Input | Encode | Fire:
    """Whose spikes (or pixels) the value %name is, back through everything that owns no neurons."""
    op = net.by_name[name]
    while not isinstance(op, Input | Encode | Fire):
        assert isinstance(op, MaxPool | AvgPool | Flatten | Identity | BatchNorm), f"{op.subject} gives no spikes"
        op = net.by_name[op.x]
    return op


def synapses_into(net: Net, potential: str) -> tuple[SynapseOp, ...]:
    """The synapse ops whose sum the potential is."""
    op = net.by_name[potential]
    match op:
        case Conv2d() | Dense():
            return (op,)
        case Add():
            return tuple(s for x in op.xs for s in synapses_into(net, x))
        case Flatten() | Identity() | BatchNorm():
            return synapses_into(net, op.x)
        case _:
            raise AssertionError(f"{op.subject} gives no potential")


def read_potential(op: Fire | Decode) -> Ref | None:
    """The membrane that an op watches; None for a read-out of spikes alone."""
    if isinstance(op, Fire):
        return op.v
    return {"membrane": op.xs[0], "first_spike": op.xs[-1]}.get(op.rule)
