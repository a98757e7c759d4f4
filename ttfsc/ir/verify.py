"""The rules of a whole net. `faults_of` reports every broken one at once; `verify` raises them."""

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from ttfsc.ir import codes
from ttfsc.ir.arrays import Array, Const
from ttfsc.ir.faults import Fault, Loc, TtfsError
from ttfsc.ir.net import Net, consts_of
from ttfsc.ir.ops import AvgPool, BatchNorm, Decode, Fire, Input, Op, ShapeError, Synapse
from ttfsc.ir.types import Analog, Type, show_shape
from ttfsc.ir.verify_map import map_faults

MAX_SIZE = 2**26  # numbers in one value: 67 million neurons, twenty times VGG16's largest layer on ImageNet
MAX_TICKS = 2**16 - 1  # in one window: spike times fit 16 bits
MAX_END = 2**31 - 1  # the last window's end: absolute ticks fit 32 bits
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")  # what the text form can hold
_ALPHABET = "names are made of letters, digits and _ . / -, and begin with a letter, digit or _"


def verify(net: Net) -> Net:
    """The same net, or TtfsError with every fault of it."""
    faults = faults_of(net)
    if faults:
        raise TtfsError(faults)
    return net


def faults_of(net: Net, *, lost: frozenset[str] = frozenset(), whole: bool = True) -> list[Fault]:
    """Every broken rule, in the order of ops.

    For readers of damaged text: users of the values in `lost` are not checked against them, and without `whole` the
    rules about the net as a whole (one input, nothing unread, the map) are not asked of a part of it.
    """
    arrays = {c: _array_fact(net.arrays[c]) for op in net.ops for c in consts_of(op) if c in net.arrays}
    usable = {const for const, fact in arrays.items() if fact is None}
    faults = [*_names(net, lost), *_arrays(net, arrays)]
    broken = {id(op) for op in net.ops if _untouchable(net, op, lost, usable)}
    doubled = {name for name, count in Counter(op.name for op in net.ops).items() if count > 1}
    before = set[str]()
    for op in net.ops:
        facts = list(_type_facts(op.type))
        faults += [Fault(code, op.loc, op.subject, fact) for code, fact in facts]
        if not facts and id(op) not in broken and before.issuperset(op.operands()):
            faults += _op(net, op)
        before |= {op.name} - doubled
    if whole and not faults:
        faults += _whole(net)
    if whole and not faults and net.mapped is not None:
        faults += map_faults(net, net.mapped)
    order = {op.loc: i for i, op in reversed(list(enumerate(net.ops)))}
    return sorted(faults, key=lambda f: order.get(f.loc, len(order)))


def _untouchable(net: Net, op: Op, lost: frozenset[str], usable: set[Const]) -> bool:
    """Whether an operand or array that the op's own rules would look at is missing or unusable."""
    missing = any(ref not in net.by_name or ref in lost for ref in op.operands())
    return missing or not usable.issuperset(consts_of(op))


def _names(net: Net, lost: frozenset[str]) -> Iterator[Fault]:
    if not _NAME.fullmatch(net.name):
        yield Fault(codes.NAME, Loc(net.name), "", f"@{net.name} is no name: {_ALPHABET}")
    first = dict[str, Op]()
    every = {op.name for op in net.ops} | lost
    for op in net.ops:
        for sign, name in (("%", op.name), *(("@", const) for const in consts_of(op))):
            if not _NAME.fullmatch(name):
                yield Fault(codes.NAME, op.loc, op.subject, f"{sign}{name} is no name: {_ALPHABET}")
        if op.name in first:
            yield Fault(codes.NAME, op.loc, op.subject, f"%{op.name} is already defined at {first[op.name].loc}")
        for ref in dict.fromkeys(op.operands()):
            if ref not in first and ref not in lost:
                fact = f"%{ref} before it is defined" if ref in every else f"%{ref}, which nothing defines"
                yield Fault(codes.NAME, op.loc, op.subject, f"reads {fact}")
        first.setdefault(op.name, op)


def _arrays(net: Net, facts: dict[Const, tuple[int, str] | None]) -> Iterator[Fault]:
    seen = set[str]()
    for op in net.ops:
        for const in consts_of(op):
            if const not in net.arrays:
                yield Fault(codes.NAME, op.loc, op.subject, f"@{const} is not in the array pool")
            elif const not in seen and (fact := facts[const]):
                yield Fault(fact[0], op.loc, op.subject, f"@{const} {fact[1]}")
            seen.add(const)


def _array_fact(array: Array) -> tuple[int, str] | None:
    """What no array of any op may be."""
    if array.dtype.kind not in "if" or array.dtype.itemsize not in (1, 2, 4, 8) or array.dtype.str[1:] == "f2":
        return codes.ARRAY, f"is {array.dtype}: int8, int16, int32, int64, float32 or float64 only"
    if array.ndim == 0 or array.size == 0:
        return codes.ARRAY, "is a single number, not a row of them" if array.ndim == 0 else "is empty"
    if array.dtype.kind == "i" or (finite := np.isfinite(array)).all():
        return None
    place = [int(i) for i in np.argwhere(~finite)[0]]
    count = int(array.size - np.count_nonzero(finite))
    return codes.NONFINITE, f"holds {count} values that are NaN or infinite, the first at {place}"


def _type_facts(t: Type) -> Iterator[tuple[int, str]]:
    """What holds for the type of every value."""
    if not t.shape or min(t.shape) < 1:
        yield codes.SHAPE, f"shape {show_shape(t.shape)} has an empty side"
    elif t.size > MAX_SIZE:
        yield codes.SHAPE, f"{show_shape(t.shape)} are {t.size} values, more than the {MAX_SIZE} a value may have"
    if isinstance(t, Analog):
        return
    closes = t.opens + 1 if t.closes is None else t.closes
    if not 0 <= t.opens < closes <= MAX_END:
        yield codes.WINDOW, f"window {t.opens}..{'' if t.closes is None else closes} must rise inside 0..{MAX_END}"
    elif closes - t.opens > MAX_TICKS:
        yield codes.WINDOW, f"window {t.opens}..{closes} has {closes - t.opens} ticks, more than {MAX_TICKS}"


def _op(net: Net, op: Op) -> Iterator[Fault]:
    ins = net.operand_types(op)
    try:
        result = op.infer(ins, net.arrays)
    except ShapeError as e:
        yield Fault(e.code, op.loc, op.subject, str(e))
        return
    if result != op.type:
        yield Fault(*_mismatch(op, result))
        if result.shape != op.type.shape or type(result) is not type(op.type):
            return  # further rules would only repeat it
    for code, fact in op.faults(ins, net.arrays):
        yield Fault(code, op.loc, op.subject, fact)


def _mismatch(op: Op, result: Type) -> tuple[int, Loc, str, str]:
    same = result.shape == op.type.shape and type(result) is type(op.type)
    code = codes.WINDOW if same else codes.SHAPE
    return code, op.loc, op.subject, f"is written as {op.type}, but its operands give {result}"


def _whole(net: Net) -> Iterator[Fault]:
    inputs = [op for op in net.ops if isinstance(op, Input)]
    if len(inputs) != 1:
        loc = inputs[1].loc if inputs else Loc(net.ops[0].loc.file if net.ops else net.name)
        yield Fault(codes.NAME, loc, f"net @{net.name}", f"has {len(inputs)} inputs, must have exactly one")
    if net.ops and not isinstance(net.answer, Decode):
        yield Fault(codes.NAME, net.answer.loc, net.answer.subject, "the last op must be a decode: it is the answer")
    for op in net.ops[:-1]:
        if not net.users[op.name]:
            yield Fault(codes.NAME, op.loc, op.subject, "nobody reads it: remove it, or read it")
    kinds = [(op, number) for op in net.ops if (number := _number(net, op))]
    for op, number in kinds:
        first, other = kinds[0]
        if number != other:
            fact = f"is {number}, but {first.subject} is {other}: a net is real or quantised throughout"
            yield Fault(codes.ARRAY, op.loc, op.subject, fact)


def _number(net: Net, op: Op) -> str:
    """Whether an op is real or integer by its arrays; '' where it is neither."""
    match op:
        case BatchNorm() | AvgPool() | Fire(theta=None):
            return "real"
        case Synapse(w=const) | Fire(theta=str(const)) | Decode(table=str(const)):
            return "integer" if net.arrays[const].dtype.kind == "i" else "real"
        case _:
            return ""
