"""Rules for arithmetic, activations, shapes, and what may stand at the end; see `ttfsc.frontends.onnx_layers`."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np

from ttfsc.frontends.onnx_constants import axes_of, integer, ints, number, whole_numbers, word
from ttfsc.frontends.onnx_file import Node
from ttfsc.frontends.onnx_layers import Operand, activation, fixed, optional
from ttfsc.frontends.onnx_lowering import OnnxLowering, finite, joined
from ttfsc.frontends.onnx_select import widened
from ttfsc.frontends.onnx_tensor import Known
from ttfsc.frontends.onnx_view import BATCH_AXIS, View, reshaped, row_order, squeezed, transposed, unsqueezed
from ttfsc.frontends.value import Refused, Value
from ttfsc.ir import Array, show_shape


def _two(node: Node, inputs: list[Operand], low: OnnxLowering) -> tuple[View, Array | None, View | None]:
    """An activation and the other operand: a constant, or another activation."""
    if len(inputs) != 2:
        raise Refused(f"has {len(inputs)} operands; two are understood")
    a, b = inputs
    axis = integer(node, "axis", -1)
    if (
        integer(node, "broadcast", 0) and isinstance(a, View) and isinstance(b, Known)
    ):  # opset 6: b's axes begin at axis
        behind = len(a.axes) - (axis if axis >= 0 else len(a.axes) - b.array.ndim) - b.array.ndim
        b = replace(b, array=b.array.reshape(*b.array.shape, *(1,) * max(behind, 0)))
    if isinstance(a, Known):
        a, b = b, a
    x = activation(low, a)
    if isinstance(b, Known):
        return x, finite(b.name, b.array.astype(np.float64)), None
    return x, None, activation(low, b)


def add(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Two branches, or a branch and a constant."""
    if node.op == "Sum" and len(inputs) != 2:
        views = [activation(low, i) for i in inputs]
        total = views[0]
        for view in views[1:]:
            total = low.add_views(total, view)
        return total
    x, constant, other = _two(node, inputs, low)
    if constant is None:
        assert other is not None
        return low.add_views(x, other)
    return low.affine_view(x, np.ones(()), constant)


def subtract(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """A branch minus a constant, or a constant minus a branch."""
    x, constant, _ = _two(node, inputs, low)
    if constant is None:
        raise Refused("subtracts an activation; let the branch's weights change sign and add it instead")
    if isinstance(inputs[0], Known):
        return low.affine_view(x, -np.ones(()), constant)
    return low.affine_view(x, np.ones(()), -constant)


def multiply(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """A branch times a constant."""
    x, constant, _ = _two(node, inputs, low)
    if constant is None:
        raise Refused(
            "multiplies two activations (attention, gates, squeeze-excitation), which spikes cannot do; leave it out"
        )
    return low.affine_view(x, constant, np.zeros(()))


def divide(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """A branch divided by a constant."""
    x, constant, _ = _two(node, inputs, low)
    if constant is None or isinstance(inputs[0], Known):
        raise Refused("divides by an activation; only division by a constant is understood")
    if not constant.all():
        raise Refused("divides by zero")
    return low.affine_view(x, 1 / constant, np.zeros(()))


def negate(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """-x."""
    return low.affine_view(activation(low, inputs[0]), -np.ones(()), np.zeros(()))


def relu(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """max(x, 0), and the ops that are this with their default or given numbers."""
    if node.op == "LeakyRelu" and (slope := number(node, "alpha", 0.01)):
        raise Refused(f"lets negative values through (slope {slope:g}), which no spike can carry; train with ReLU")
    if node.op == "PRelu" and fixed(optional(inputs, 1), "slope").array.any():
        raise Refused("lets negative values through (its slope is not 0), which no spike can carry; train with ReLU")
    if node.op == "ThresholdedRelu" and number(node, "alpha", 1.0):
        raise Refused("jumps at its threshold, which no spike time can; only alpha=0, a ReLU, is understood")
    return low.settled(activation(low, inputs[0])).each(low.relu)


def clip(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Clip to 0..c, or to 0 and upwards."""
    least = _bound(node, "min", inputs, 1, -inf)
    most = _bound(node, "max", inputs, 2, inf)
    return _clipped(low, activation(low, inputs[0]), least, most)


def extreme(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Max(x, 0) and Min(x, c)."""
    x, constant, _ = _two(node, inputs, low)
    if constant is None or constant.size != 1:
        raise Refused(f"compares activations; only {node.op} with one constant number is understood")
    c = float(constant.reshape(-1)[0])
    return _clipped(low, x, c, inf) if node.op == "Max" else _clipped(low, x, -inf, c)


def _bound(node: Node, name: str, inputs: list[Operand], at: int, default: float) -> float:
    given = optional(inputs, at)
    if given is None:
        return number(node, name, default)
    array = fixed(given, name).array
    if array.size != 1 or np.isnan(array).any():
        raise Refused(f"its {name} is {show_shape(array.shape)} numbers; must be one")
    return float(array.reshape(-1)[0])


_HUGE = 3e38  # what exporters of old opsets write for infinity


def _clipped(low: OnnxLowering, view: View, least: float, most: float) -> View:
    if most >= _HUGE and least <= -_HUGE:
        return view
    view = low.settled(view)

    def one(x: Value) -> Value:
        if least != 0 and not (x.nonneg and least < 0):
            raise Refused(
                f"clips to {least:g}..{most:g}; spikes carry values from 0 upwards: clip to 0..c with fixed c, or use "
                "Relu"
            )
        return low.relu(x) if most >= _HUGE else low.clipped(x, most)

    return view.each(one)


# -- shapes ------------------------------------------------------------------------------------------------------------


def reshape(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Reshape, as long as no neuron moves."""
    x = _view(inputs[0])
    if len(inputs) > 1:
        shape = whole_numbers(fixed(inputs[1], "shape"), "shape")
    else:
        shape = ints(node, "shape", ()) or []
    if x.tail:
        return x
    now = x.shape(low.size)
    if not integer(node, "allowzero", 0):
        if any(n == 0 and i >= len(now) for i, n in enumerate(shape)):
            raise Refused(f"copies an axis that {list(now)} has not (0 in {shape})")
        shape = [now[i] if n == 0 else n for i, n in enumerate(shape)]
    return reshaped(x, shape, low.size)


def transpose(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Transpose: axes are relabelled, nothing moves."""
    x = _view(inputs[0])
    return transposed(x, ints(node, "perm") or list(reversed(range(len(x.axes)))))


def squeeze(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Squeeze."""
    x = _view(inputs[0])
    return x if x.tail else squeezed(x, _axes(node, inputs), low.size)


def unsqueeze(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Unsqueeze."""
    x = _view(inputs[0])
    return x if x.tail else unsqueezed(x, _axes(node, inputs) or [])


def _axes(node: Node, inputs: list[Operand]) -> list[int] | None:
    if len(inputs) > 1 and isinstance(inputs[1], View):
        raise Refused("its axes are computed from the input; write the numbers out")
    return axes_of(node, [i if isinstance(i, Known) else None for i in inputs])


def _view(x: Operand) -> View:
    assert isinstance(x, View), "constants are folded"
    return x


def shape_of(low: OnnxLowering, node: Node, inputs: list[Operand]) -> Known:
    """The shape of an activation, known when compiling."""
    shape = np.array(_view(inputs[0]).shape(low.size), np.int64)
    start, end = integer(node, "start", 0), integer(node, "end", len(shape))
    return Known(node.outputs[0], shape[start:end], 7)


def size_of(low: OnnxLowering, node: Node, inputs: list[Operand]) -> Known:
    """The number of elements of an activation."""
    return Known(node.outputs[0], np.array(np.prod(_view(inputs[0]).shape(low.size)), np.int64), 7)


def same(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Identity; Dropout at inference; a Cast between real numbers."""
    x = _view(inputs[0])
    to = integer(node, "to", 1)
    whole = to not in (1, 10, 11, 16)  # the input is integers anyway, and so is what a quantiser made
    if node.op == "Cast" and whole and not (x.tail or x.grid or (x.raw and to in (2, 3, 4, 5, 6, 7, 12, 13))):
        raise Refused("casts an activation to integers, which rounds it; quantise it with QuantizeLinear instead")
    if node.op == "Dropout" and len(inputs) > 2 and isinstance(inputs[2], Known) and inputs[2].array.any():
        ratio = inputs[1]
        if not isinstance(ratio, Known) or ratio.array.any():
            raise Refused("drops at inference too (training_mode); export the model for inference")
    return x


def pad(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Zeros around height and width; the convolution or pool behind takes them over."""
    x = activation(low, inputs[0])
    pads = (
        ints(node, "pads", ints(node, "paddings"))
        if len(inputs) < 2
        else whole_numbers(fixed(inputs[1], "pads"), "pads")
    )
    value = optional(inputs, 2)
    filling = fixed(value, "value").array.reshape(-1).any() if value is not None else number(node, "value", 0.0)
    if word(node, "mode", "constant") != "constant" or filling:
        raise Refused("pads with something else than zeros; only mode constant with value 0 is understood")
    rank = len(x.axes)
    axes = list(range(rank))
    if optional(inputs, 3) is not None:
        axes = [a % rank for a in whole_numbers(fixed(inputs[3], "axes"), "axes")]
    if pads is None or len(pads) != 2 * len(axes) or max(map(abs, pads), default=0) >= 1 << 20:
        raise Refused(f"has pads {pads} for {len(axes)} axes")
    before, after = dict(zip(axes, pads, strict=False)), dict(zip(axes, pads[len(axes) :], strict=True))
    if not any(pads):
        return x
    x = low.settled(x)
    quad = [0, 0, 0, 0]
    for axis in axes:
        front, back = before[axis], after[axis]
        if not front and not back:
            continue
        atom = x.axes[axis]
        if atom == (0,) and len(x.atoms) == 3 and min(front, back) >= 0:
            x = widened(low, x, front, back)
            continue
        if x.axes[axis] == BATCH_AXIS or len(x.atoms) != 3 or atom not in ((1,), (2,)):
            raise Refused(f"pads axis {axis}; only channels, height and width of an image can have zeros around them")
        quad[atom[0] - 1], quad[atom[0] + 1] = front, back
    if not any(quad):
        return x
    size = (x.atoms[0], x.atoms[1] + quad[0] + quad[2], x.atoms[2] + quad[1] + quad[3])
    padded = x.each(lambda v: low.zero_pad(v, (quad[0], quad[1], quad[2], quad[3])))
    return replace(padded, atoms=size)


def concat(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Concat along the channels: whoever reads it reads its parts."""
    views = [_rows(low, low.settled(activation(low, i))) for i in inputs]
    first = views[0]
    if len(views) == 1:
        return first
    at = integer(node, "axis", 1) % len(first.axes)
    shapes = ", ".join(str(list(v.shape(low.size))) for v in views)
    beside = [tuple(axis for i, axis in enumerate(v.axes) if i != at) for v in views]
    if any(v.atoms[1:] != first.atoms[1:] or len(v.axes) != len(first.axes) for v in views) or len(set(beside)) > 1:
        raise Refused(f"joins {shapes}, which differ beside the channels")
    lone = [v for v in views if v.axes[at] != (0,)]
    if any(v.axes[at] != () or v.atoms[0] != 1 for v in lone) or (len(lone) == len(views) and at != 1):
        raise Refused(f"joins {shapes} along axis {at}; only channels, or the neurons of rows, can be joined")
    made = joined([p for v in views for p in v.parts])
    return replace(made, axes=(*first.axes[:at], (0,), *first.axes[at + 1 :]))


def _rows(low: OnnxLowering, view: View) -> View:
    """A flattened image as what it is by now: a row of neurons."""
    order = row_order(view)
    if len(view.axes) != 2 or order is None or (len(view.atoms) == 1 and len(view.parts[0].shape) == 1):
        return view
    if order != sorted(order):
        raise Refused("joins flattened images whose axes were transposed before; flatten them as [N, C, H, W]")
    return joined(view.each(low.flatten).parts)


# -- the end -----------------------------------------------------------------------------------------------------------


def tail(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """An op that leaves the largest score the largest, or names it."""
    x = low.settled(activation(low, inputs[0]))
    rank = len(x.axes)
    if node.op in ("Softmax", "LogSoftmax", "ArgMax", "Hardmax"):
        default = 0 if node.op == "ArgMax" else (-1 if low.opset >= 13 else 1)
        axis = integer(node, "axis", default) % rank
        later = [a for i in range(axis + 1, rank) for a in x.axes[i]]
        over = x.axes[axis]
        if over == BATCH_AXIS or sum(n > 1 for n in x.atoms) > 1 or (later and low.opset >= 13):
            raise Refused(f"runs over axis {axis} of {list(x.shape(low.size))}; only over the classes, at the end")
    return replace(x, tail=node.op)
