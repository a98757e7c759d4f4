"""The rules of a whole net. `faults_of` reports every broken one at once; `verify` raises them."""

from collections.abc import Iterator

import numpy as np

from ttfsc.ir import codes
from ttfsc.ir.faults import Fault, Loc, TtfsError
from ttfsc.ir.layers import Layer, layers_of
from ttfsc.ir.mapping import Core, Mapped
from ttfsc.ir.net import Net, consts_of
from ttfsc.ir.ops import Decode, Input, Op, ShapeError
from ttfsc.ir.types import Type


def verify(net: Net) -> Net:
    """The same net, or TtfsError with every fault of it."""
    faults = faults_of(net)
    if faults:
        raise TtfsError(faults)
    return net


def faults_of(net: Net, *, lost: frozenset[str] = frozenset()) -> list[Fault]:
    """Every broken rule, in the order of ops. Readers of the values in `lost` are not checked against them."""
    faults = [*_names(net, lost), *_arrays(net)]
    broken = {f.subject for f in faults} | {f"%{name}" for name in lost}
    for op in net.ops:
        if op.subject not in broken and not any(f"%{ref}" in broken for ref in op.operands()):
            faults += _op(net, op)
    if not faults and not lost:
        faults += [*_whole(net), *(_map(net, net.mapped) if net.mapped else ())]
    order = {op.loc: i for i, op in reversed(list(enumerate(net.ops)))}
    return sorted(faults, key=lambda f: order.get(f.loc, len(order)))


def _names(net: Net, lost: frozenset[str]) -> Iterator[Fault]:
    first = dict[str, Op]()
    every = {op.name for op in net.ops} | lost
    for op in net.ops:
        if op.name in first:
            yield Fault(codes.NAME, op.loc, op.subject, f"%{op.name} is already defined at {first[op.name].loc}")
        for ref in op.operands():
            if ref not in first and ref not in lost:
                fact = f"%{ref} before it is defined" if ref in every else f"%{ref}, which nothing defines"
                yield Fault(codes.NAME, op.loc, op.subject, f"reads {fact}")
        first.setdefault(op.name, op)


def _arrays(net: Net) -> Iterator[Fault]:
    seen = set[str]()
    for op in net.ops:
        for const in consts_of(op):
            if const not in net.arrays:
                yield Fault(codes.NAME, op.loc, op.subject, f"@{const} is not in the array pool")
                continue
            array = net.arrays[const]
            if const not in seen and np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                count = int(array.size - np.isfinite(array).sum())
                fact = f"@{const} holds {count} values that are NaN or infinite, the first at {list(place)}"
                yield Fault(codes.NONFINITE, op.loc, op.subject, fact)
            elif array.dtype.kind not in "if" and const not in seen:
                yield Fault(codes.ARRAY, op.loc, op.subject, f"@{const} is {array.dtype}: signed integers or floats only")
            seen.add(const)


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


def _map(net: Net, mapped: Mapped) -> Iterator[Fault]:
    """Cores must hold every neuron exactly once, inside the mesh; routes must leave from where the neurons are."""
    width, height = mapped.mesh
    where = Loc(net.ops[0].loc.file)
    layers = {layer.name: layer for layer in layers_of(net)}
    covered = {name: np.zeros(layer.grid, np.uint8) for name, layer in layers.items()}
    ids, places = set[int](), set[tuple[int, int]]()
    for core in mapped.cores:
        subject = f"core {core.id}"
        x, y = core.place
        if core.id in ids:
            yield Fault(codes.MAPPING, where, subject, "the number is used twice")
        if core.place in places:
            yield Fault(codes.MAPPING, where, subject, f"place {x},{y} is already taken")
        if not (0 <= x < width and 0 <= y < height):
            yield Fault(codes.MAPPING, where, subject, f"place {x},{y} is outside the {width}x{height} mesh")
        ids.add(core.id)
        places.add(core.place)
        yield from _slices(core, layers, covered, where)
    for name, count in covered.items():
        if (count != 1).any():
            i = [int(n) for n in np.argwhere(count != 1)[0]]
            how = "on no core" if count[tuple(i)] == 0 else "on more than one core"
            yield Fault(codes.MAPPING, where, f"%{name}", f"neuron {i} is {how}")
    by_id = {core.id: core for core in mapped.cores}
    for route in mapped.routes:
        unknown = [c for c in (route.core, *route.to) if c not in by_id]
        if unknown:
            yield Fault(codes.MAPPING, where, f"route {route.core}", f"there is no core {unknown[0]}")
        elif not any(_holds(s.layer, s.box, route.source.layer, route.source.box) for s in by_id[route.core].slices):
            yield Fault(codes.MAPPING, where, f"route {route.core}", f"{route.source} is not on that core")


def _slices(
    core: Core, layers: dict[str, Layer], covered: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]], where: Loc
) -> Iterator[Fault]:
    for piece in core.slices:
        layer = layers.get(piece.layer)
        if layer is None:
            yield Fault(codes.MAPPING, where, f"core {core.id}", f"%{piece.layer} is no layer of neurons")
        elif len(piece.box) != 3 or any(not 0 <= a < b <= n for (a, b), n in zip(piece.box, layer.grid, strict=True)):
            yield Fault(codes.MAPPING, where, f"core {core.id}", f"{piece} is not a box inside {layer.grid}")
        else:
            covered[piece.layer][tuple(slice(a, b) for a, b in piece.box)] += 1


def _holds(layer: str, outer: tuple[tuple[int, int], ...], name: str, inner: tuple[tuple[int, int], ...]) -> bool:
    return layer == name and all(a <= c and d <= b for (a, b), (c, d) in zip(outer, inner, strict=True))
