"""A net by hand: semantics.md neuron by neuron, spike by spike, tick by tick, in Python integers.

Shares nothing with `ttfsc.ir.meaning` but the declarations of the ops: no arrays of values, no closed forms, no
matrix products. Spikes arrive at absolute ticks; membranes are stepped through the ticks; a neuron looks at each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import floor
from typing import Any

from ttfsc.ir import (
    Add,
    Analog,
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
    Potential,
    Scores,
    Spikes,
    Synapse,
)

Index = tuple[int, ...]
Ticks = dict[Index, int | None]  # absolute tick of each neuron's spike, None: never
Numbers = dict[Index, int]
Traces = dict[Index, list[int]]  # V at every tick of the reader's window, one more for the window's end


@dataclass
class Answer:
    label: int
    scores: list[int]
    ticks: dict[str, Ticks]  # of every fire and encode
    values: dict[str, Any]  # of every op: ticks, numbers, traces


def simulate(net: Net, x: Any) -> Answer:
    """One input (nested lists or an array of the input's shape) through a verified integer net."""
    values: dict[str, Any] = {}
    for op in net.ops:
        match op:
            case Input():
                values[op.name] = _given(op, x)
            case Encode():
                values[op.name] = _encode(op, values[op.x], net.type_of(op.x))
            case Conv2d() | Dense():
                values[op.name] = _potential(net, op, values[op.x])
            case Add():
                parts = [values[x] for x in op.xs]
                values[op.name] = {i: [sum(v) for v in zip(*(p[i] for p in parts), strict=True)] for i in parts[0]}
            case Identity():
                values[op.name] = values[op.x]
            case MaxPool():
                values[op.name] = _maxpool(op, values[op.x])
            case Flatten():
                values[op.name] = {(n,): v for n, (_, v) in enumerate(sorted(values[op.x].items()))}
            case Fire():
                values[op.name] = _fire(net, op, values[op.v])
            case Decode():
                label, scores = _decode(net, op, [values[x] for x in op.xs])
                ticks = {o.name: values[o.name] for o in net.ops if isinstance(o, Fire | Encode)}
                return Answer(label, scores, ticks, values)
            case _:
                raise AssertionError(op.mnemonic)
    raise AssertionError("no decode")


def _given(op: Input, x: Any) -> Any:
    out: dict[Index, int | None] = {}
    for index in product(*(range(n) for n in op.type.shape)):
        value = x
        for i in index:
            value = value[i]
        if isinstance(op.type, Spikes):
            out[index] = op.type.closes - int(value) if value else None
        else:
            out[index] = int(value)
    return out


def _encode(op: Encode, x: Numbers, source: Any) -> Ticks:
    assert isinstance(op.type, Spikes) and isinstance(source, Analog)
    out: Ticks = {}
    for index, value in x.items():
        u = Fraction(value - source.low, source.high - source.low)
        tick = op.type.opens + floor((1 - u) * op.type.ticks + Fraction(1, 2))
        out[index] = tick if tick < op.type.closes else None
    return out


def _conv_taps(op: Conv2d, kernel: Index, shape: Index, out: Index, groups_out: int) -> Iterator[tuple[Index, Index]]:
    """(index into the weights, index of the input) of every synapse of one output neuron, padding left out."""
    o, p, q = out
    group = o // groups_out
    pooled = [
        (shape[a + 1] + op.pool_pad[a] + op.pool_pad[a + 2] - op.pool[a]) // op.pool_stride[a] + 1 for a in (0, 1)
    ]
    for c, i, j in product(range(kernel[1]), range(kernel[2]), range(kernel[3])):
        y = p * op.stride[0] + i * op.dilation[0] - op.pad[0]
        x = q * op.stride[1] + j * op.dilation[1] - op.pad[1]
        if not (0 <= y < pooled[0] and 0 <= x < pooled[1]):
            continue
        for a, b in product(range(op.pool[0]), range(op.pool[1])):
            row = y * op.pool_stride[0] + a - op.pool_pad[0]
            column = x * op.pool_stride[1] + b - op.pool_pad[1]
            if 0 <= row < shape[1] and 0 <= column < shape[2]:
                yield (o, c, i, j), (group * kernel[1] + c, row, column)


def _potential(net: Net, op: Conv2d | Dense, source: dict[Index, Any]) -> Traces:
    assert isinstance(op.type, Potential)
    w = net.arrays[op.w]
    shape = net.type_of(op.x).shape
    longest = max(t.ticks for o in net.ops if isinstance(t := o.type, Spikes | Scores))  # nobody looks any later
    traces: Traces = {}
    for out in product(*(range(n) for n in op.type.shape)):
        if isinstance(op, Conv2d):
            taps = list(_conv_taps(op, w.shape, shape, out, w.shape[0] // op.groups))
        else:
            taps = [((out[0], i), (i,)) for i in range(shape[0])]
        inputs = [(int(w[k]), source[i]) for k, i in taps if source[i] is not None]
        bias, drift = (_constant(net, c, out, op.type.shape) for c in (op.bias, op.drift))
        if op.type.closes is None:
            traces[out] = _windowed(op, inputs, bias, drift, net.type_of(op.x), longest)
        else:
            ticks = range(op.type.opens, op.type.closes)
            traces[out] = _streaming(op, inputs, bias, drift, isinstance(net.type_of(op.x), Analog), ticks)
    return traces


def _constant(net: Net, name: Any, out: Index, shape: Index) -> int:
    if name is None:
        return 0
    array = net.arrays[name]
    return int(array[out] if array.shape == shape else array[out[0]])


def _windowed(op: Synapse, inputs: list[tuple[int, int]], bias: int, drift: int, x: Any, longest: int) -> list[int]:
    v = bias
    if isinstance(x, Analog):
        v += sum(w * pixel for w, pixel in inputs)
    else:
        for t in range(x.opens, x.closes):  # the source window: every spike pushes from its tick on, until the close
            v += sum(w for w, arrives in inputs if arrives <= t)
    trace = [v]
    for _ in range(longest):  # the neuron's own window
        if op.kernel == "ramp":
            v += sum(w for w, _ in inputs)  # whoever fired pushes on
        v += drift
        trace.append(v)
    return trace


def _streaming(
    op: Synapse, inputs: list[tuple[int, int]], bias: int, drift: int, analog: bool, ticks: range
) -> list[int]:
    v, trace = 0, list[int]()
    for t in ticks:
        v = bias if t == ticks[0] else _kept(op, v) + drift
        for w, what in inputs:
            if analog and (op.every or t == ticks[0]):
                v += w * what
            if not analog and what + op.delay == t:
                v += w
        trace.append(v)
    return [*trace, trace[-1]]


def _kept(op: Synapse, v: int) -> int:
    if op.kernel != "leak":
        return v
    exact = v * (Fraction(op.keep, 32768) if op.keep else 1 - Fraction(1, 2**op.shift))
    if op.rounding == "floor":
        return floor(exact)
    if op.rounding == "nearest":
        return floor(exact + Fraction(1, 2))
    return floor(exact) if exact >= 0 else -floor(-exact)


def _maxpool(op: MaxPool, x: dict[Index, Any]) -> dict[Index, Any]:
    out: dict[Index, Any] = {}
    for c, p, q in product(*(range(n) for n in op.type.shape)):
        window = [
            x[c, y, z]
            for a, b in product(range(op.kernel[0]), range(op.kernel[1]))
            if (c, y := p * op.stride[0] + a - op.pad[0], z := q * op.stride[1] + b - op.pad[1]) in x
        ]
        if isinstance(op.type, Analog):
            out[c, p, q] = max(window)
        else:
            out[c, p, q] = min((t for t in window if t is not None), default=None)
    return out


def _fire(net: Net, op: Fire, v: Traces) -> Ticks:
    assert isinstance(op.type, Spikes) and op.theta is not None
    theta = net.arrays[op.theta]
    out: Ticks = {}
    for index, trace in v.items():
        row = theta[index] if theta.shape[:-1] == op.type.shape else theta[index[0] if len(theta) > 1 else 0]
        out[index] = op.type.closes - 1 if op.force_last else None
        for n in range(op.type.ticks):
            if trace[n] >= int(row[n]):
                out[index] = op.type.opens + n
                break
    return out


def _decode(net: Net, op: Decode, read: list[Any]) -> tuple[int, list[int]]:
    assert isinstance(op.type, Scores)
    classes = range(op.type.shape[0])
    if op.rule == "membrane":
        scores = [read[0][k,][op.type.ticks] for k in classes]
        return _largest(scores), scores
    first: list[int | None] = [read[0][k,] for k in classes]
    if op.rule == "weighted":
        assert op.table is not None
        table = [int(n) for n in net.arrays[op.table]]
        scores = [0 if t is None else table[t - op.type.opens] for t in first]
        return _largest(scores), scores
    values = [0 if t is None else op.type.closes - t for t in first]
    if not any(values):
        return _largest([read[1][k,][op.type.ticks] for k in classes]), values
    when = min(t for t in first if t is not None)
    winners = [k for k in classes if first[k] == when]
    best = max(read[1][k,][when - op.type.opens] for k in winners)
    return next(k for k in winners if read[1][k,][when - op.type.opens] == best), values


def _largest(scores: list[int]) -> int:
    return scores.index(max(scores))
