"""Slice, Split and zero channels: a convolution of zeros and ones, which the layers behind take into their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ttfsc.frontends.onnx_constants import integer, ints, whole_numbers
from ttfsc.frontends.onnx_file import Node
from ttfsc.frontends.onnx_layers import Operand, activation, fixed, optional
from ttfsc.frontends.onnx_lowering import OnnxLowering
from ttfsc.frontends.onnx_view import BATCH_AXIS, View
from ttfsc.frontends.value import Refused, Value
from ttfsc.ir import Array


def select(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Slice with fixed bounds."""
    x = activation(low, inputs[0])
    rank, shape = len(x.axes), x.shape(low.size)
    if len(inputs) > 1:
        given = [None if optional(inputs, i) is None else whole_numbers(fixed(inputs[i], word), word)
                 for i, word in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps"))]  # fmt: skip
    else:
        given = [ints(node, "starts"), ints(node, "ends"), ints(node, "axes"), None]
    starts, ends = given[0] or [], given[1] or []
    axes, steps = given[2] or list(range(len(starts))), given[3] or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or any(not -rank <= a < rank for a in axes):
        raise Refused(f"has starts {starts}, ends {ends}, axes {axes} and steps {steps} for a tensor of {rank} axes")
    taken = [range(n) for n in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise Refused(
                f"runs backwards (step {step}), which would move neurons; take step 1 and permute the weights"
            )
        taken[axis] = range(shape[axis])[start:end:step]
    return selected(low, x, taken)


def split(low: OnnxLowering, node: Node, inputs: list[Operand]) -> tuple[View, ...]:
    """Split along one axis: a selection for every output."""
    x = activation(low, inputs[0])
    axis, shape, count = integer(node, "axis", 0), x.shape(low.size), len(node.outputs)
    if not -len(shape) <= axis < len(shape):
        raise Refused(f"splits axis {axis} of a tensor of {len(shape)} axes")
    size = shape[axis]
    sizes = ints(node, "split")
    if sizes is None and optional(inputs, 1) is not None:
        sizes = whole_numbers(fixed(inputs[1], "split"), "split")
    if sizes is None:
        each = -(-size // count)
        sizes = [max(0, min(each, size - i * each)) for i in range(count)]
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 1:
        raise Refused(f"splits {size} into {sizes} for {count} outputs")
    found, at = list[View](), 0
    for part in sizes:
        taken = [range(n) for n in shape]
        taken[axis] = range(at, at + part)
        found.append(selected(low, x, taken))
        at += part
    return tuple(found)


def selected(low: OnnxLowering, view: View, taken: Sequence[range]) -> View:
    """These indices of every axis of the tensor."""
    shape = view.shape(low.size)
    cut = [i for i, (n, kept) in enumerate(zip(shape, taken, strict=True)) if len(kept) < n]
    if not cut:
        return view
    if any(view.axes[i] == BATCH_AXIS for i in cut):
        raise Refused("takes some samples of the batch; keep all of them")
    if not all(len(kept) for kept in taken):
        raise Refused("takes nothing")
    view = low.settled(view)
    if any(len(view.axes[i]) > 1 for i in cut):
        raise Refused("cuts a flattened image; cut it before it is flattened")
    atoms = [range(n) for n in view.atoms]
    for i in cut:
        atoms[view.axes[i][0]] = taken[i]
    places = any(len(kept) < n for kept, n in zip(atoms[1:], view.atoms[1:], strict=True))
    parts, at = list[Value](), 0
    for part in view.parts:
        count = part.shape[0]
        channels = [c - at for c in atoms[0] if at <= c < at + count]
        at += count
        if channels:
            whole = len(channels) == count and not places
            parts.append(part if whole else _picked(low, part, channels, atoms[1:]))
    sizes = tuple(map(len, atoms))
    axes = tuple(() if len(a) == 1 and a != BATCH_AXIS and sizes[a[0]] == 1 else a for a in view.axes)
    return replace(view, parts=tuple(parts), atoms=sizes, axes=axes)


def _picked(low: OnnxLowering, x: Value, channels: list[int], places: Sequence[range]) -> Value:
    """Channels, and rows and columns begin, begin + step, ... of a value."""
    if len(x.shape) == 1:
        return low.pick_rows(x, np.eye(x.shape[0])[channels])
    kernel, stride, tap = list[int](), list[int](), list[int]()
    for size, kept in zip(x.shape[1:], places, strict=True):
        # the kernel reaches from the first place kept to where just len(kept) strides fit in
        kernel.append(max(kept.start + 1, size - kept.step * len(kept) + 1))
        stride.append(kept.step)
        tap.append(kept.start)
    everything = len(channels) == x.shape[0]
    w: Array = np.zeros((len(channels), 1 if everything else x.shape[0], *kernel))
    w[range(len(channels)), 0 if everything else channels, tap[0], tap[1]] = 1
    return low.pick(x, w, (stride[0], stride[1]), len(channels) if everything else 1)


def widened(low: OnnxLowering, view: View, front: int, back: int) -> View:
    """With channels of zeros in front and behind."""
    parts = list(low.settled(view).parts)
    for at, before, after in ((0, front, 0), (-1, 0, back)):
        if before or after:
            count = parts[at].shape[0]
            w = np.zeros((before + count + after, count, 1, 1))
            w[range(before, before + count), range(count)] = 1
            parts[at] = low.pick(parts[at], w)
    return replace(view, parts=tuple(parts), atoms=(front + view.atoms[0] + back, *view.atoms[1:]))
