"""Rules for layers: convolutions, dense layers, pools, batch norms. A rule gets the lowering, the node, operands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ttfsc.frontends.onnx_constants import axes_of, integer, ints, number, word
from ttfsc.frontends.onnx_file import Node
from ttfsc.frontends.onnx_lowering import OnnxLowering, finite
from ttfsc.frontends.onnx_tensor import Known
from ttfsc.frontends.onnx_view import BATCH_AXIS, View, canonical_rows, flattened, row_order
from ttfsc.frontends.value import Refused, Value
from ttfsc.ir import show_shape
from ttfsc.ir.ops import NO_PAD, Pair, Quad

Operand = View | Known | None


def activation(low: OnnxLowering, x: Operand) -> View:
    """An operand that depends on the input."""
    if not isinstance(x, View):
        raise Refused("reads a constant where an activation is expected; compute with the layer's input instead")
    if x.grid is not None:
        raise Refused(
            "computes with the integers of a QuantizeLinear; put a DequantizeLinear in front of it (QDQ format)"
        )
    if x.tail:
        raise Refused(f"reads the result of {x.tail}, which is only understood at the end; remove that node")
    return x


def fixed(x: Operand, what: str) -> Known:
    """An operand that must be known when compiling."""
    if isinstance(x, Known):
        return x
    raise Refused(f"its {what} is computed from the input; only fixed parameters can be compiled")


def optional(inputs: Sequence[Operand], at: int) -> Operand:
    """Operand `at`, None where it was left out."""
    return inputs[at] if len(inputs) > at else None


def _per_axis(values: list[int] | None, kernel: Sequence[int], default: int) -> Pair:
    """Strides and dilations, one per spatial axis; a signal has height 1."""
    found = [default] * len(kernel) if values is None else values
    if len(found) != len(kernel) or min(found) < 1 or max(found) >= 1 << 20:
        raise Refused(f"has {found} for a kernel of {list(kernel)}; must be one positive number per axis")
    return (found[0], found[1]) if len(found) == 2 else (1, found[0])


def _padding(node: Node, size: Pair, kernel: Pair, stride: Pair, dilation: Pair, axes: int) -> Quad:
    """Pads as top, left, bottom, right, whichever way the node says it."""
    how = word(node, "auto_pad", "NOTSET")
    if how in ("", "NOTSET"):
        pads = ints(node, "pads", [0] * (2 * axes))
        assert pads is not None
        if len(pads) != 2 * axes or min(pads) < 0 or max(pads) >= 1 << 20:
            raise Refused(f"has pads {pads}; must be {2 * axes} numbers from 0 upwards")
        return (pads[0], pads[1], pads[2], pads[3]) if axes == 2 else (0, pads[0], 0, pads[1])
    if how == "VALID":
        return NO_PAD
    if how not in ("SAME_UPPER", "SAME_LOWER"):
        raise Refused(f"has auto_pad {how!r}; must be NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    before, after = list[int](), list[int]()
    for a in (0, 1):
        out = -(-size[a] // stride[a])
        total = max((out - 1) * stride[a] + (kernel[a] - 1) * dilation[a] + 1 - size[a], 0)
        less, more = total // 2, total - total // 2
        before.append(less if how == "SAME_UPPER" else more)
        after.append(more if how == "SAME_UPPER" else less)
    return (before[0], before[1], after[0], after[1])


def conv(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Conv of [N, C, H, W] or [N, C, L]."""
    x, w = activation(low, inputs[0]), fixed(optional(inputs, 1), "weight")
    bias = optional(inputs, 2)
    axes = w.array.ndim - 2
    if axes not in (1, 2) or len(x.axes) != axes + 2:
        raise Refused(
            f"has a kernel of shape {show_shape(w.array.shape)} on {list(x.shape(low.size))}; only one or two spatial "
            "axes are understood"
        )
    x = low.image(x)
    kernel_shape = ints(node, "kernel_shape")
    if kernel_shape is not None and tuple(kernel_shape) != w.array.shape[2:]:
        raise Refused(f"says kernel_shape {kernel_shape}, but its weights are {show_shape(w.array.shape)}")
    wide = (*w.array.shape[:2], *(1,) * (2 - axes), *w.array.shape[2:])
    array, step = w.array.reshape(wide), w.step
    if step is not None:
        step = np.broadcast_to(step, w.array.shape).reshape(wide)
    kernel = (wide[2], wide[3])
    stride = _per_axis(ints(node, "strides"), w.array.shape[2:], 1)
    dilation = _per_axis(ints(node, "dilations"), w.array.shape[2:], 1)
    pad = _padding(node, (x.atoms[1], x.atoms[2]), kernel, stride, dilation, axes)
    groups = integer(node, "group", 1)
    if groups < 1 or array.shape[0] % groups or array.shape[1] * groups != x.atoms[0]:
        raise Refused(f"has weights {show_shape(w.array.shape)} in {groups} groups for {x.atoms[0]} input channels")
    weights, grid, bits = low.weights(w, array, step)
    options: dict[str, object] = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    out = low.conv_view(x, weights, grid, bits, _bias(bias, array.shape[0], 1.0), options)
    if axes == 1:
        out = replace(out, axes=(out.axes[0], out.axes[1], out.axes[3]))
    return out


def _bias(bias: Operand, size: int, factor: float) -> Known | None:
    if bias is None:
        return None
    known = fixed(bias, "bias")
    array = known.array.reshape(-1).astype(np.float64) * factor
    if array.size not in (1, size):
        raise Refused(f"has a bias of shape {show_shape(known.array.shape)} for {size} outputs")
    return Known(known.name, np.broadcast_to(finite(known.name, array), (size,)))


def gemm(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """alpha A' B' + beta C, A the activation."""
    x, w = activation(low, inputs[0]), fixed(optional(inputs, 1), "matrix B")
    if integer(node, "transA", 0):
        raise Refused("has transA=1 on an activation, which would swap batch and features; use transA=0")
    if w.array.ndim != 2:
        raise Refused(f"has a matrix B of shape {show_shape(w.array.shape)}")
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    if not integer(node, "transB", 0):
        w = replace(w, array=w.array.T, step=None if w.step is None else np.broadcast_to(w.step, w.array.shape).T)
    if alpha != 1:
        step = w.step * alpha if w.step is not None and alpha > 0 else None
        w = replace(w, array=w.array * np.float64(alpha), step=step)
    return _dense(low, x, w, _bias(optional(inputs, 2), w.array.shape[0], beta))


def matmul(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Activation @ matrix [in, out]; on the channels of [N, H, W, C] a 1x1 convolution."""
    if isinstance(inputs[0], Known):
        raise Refused("multiplies a constant by an activation from the left; write x @ W with the activation first")
    x, w = activation(low, inputs[0]), fixed(optional(inputs, 1), "right-hand side")
    if w.array.ndim != 2:
        raise Refused(f"multiplies by {show_shape(w.array.shape)}; only a matrix [in, out] is understood")
    turned = replace(w, array=w.array.T, step=None if w.step is None else np.broadcast_to(w.step, w.array.shape).T)
    if row_order(x) is not None:
        return _dense(low, x, turned, None)
    if x.raw or len(x.atoms) != 3 or x.axes[-1] not in ((0,), ()) or x.axes[-1] == BATCH_AXIS:
        raise Refused(
            f"multiplies the last axis of {list(x.shape(low.size))}, not the channels; flatten the sample first"
        )
    if turned.array.shape[1] != x.atoms[0]:
        raise Refused(f"multiplies {x.atoms[0]} channels by a matrix of {turned.array.shape[1]} rows")
    shape = (*turned.array.shape, 1, 1)
    step = None if turned.step is None else turned.step.reshape(shape)
    weights, grid, bits = low.weights(turned, turned.array.reshape(shape), step)
    out = low.conv_view(x, weights, grid, bits, None, {"groups": 1})
    last = () if out.atoms[0] == 1 else (0,)
    return replace(out, axes=(*x.axes[:-1], last))


def _dense(low: OnnxLowering, x: View, w: Known, bias: Known | None) -> View:
    """w [out, in] on the rows of x, permuted to the order in which the net holds them."""
    if len(x.axes) != 2 and row_order(x) is not None:
        shape = x.shape(low.size)
        if prod(shape[1:-1]) != 1:
            raise Refused(f"multiplies the last axis of {list(shape)}; flatten the sample first")
    x = low.row(x)
    inputs = prod(x.atoms)
    if w.array.shape[1] != inputs:
        raise Refused(f"has a matrix for {w.array.shape[1]} inputs, but reads {inputs} of them")
    array = canonical_rows(w.array.T, x).T
    step = None if w.step is None else canonical_rows(np.broadcast_to(w.step, w.array.shape).T, x).T
    weights, grid, bits = low.weights(w, array, step)
    return low.dense_view(x, weights, grid, bits, bias)


def batch_norm(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """(x - mean) / sqrt(var + epsilon) * scale + B, per channel."""
    x = activation(low, inputs[0])
    if integer(node, "training_mode", 0) or not integer(node, "spatial", 1):
        raise Refused("normalises by the statistics of the batch, or per place; export it for inference")
    names = ("scale", "B", "mean", "var")
    gamma, beta, mean, var = (
        finite(fixed(optional(inputs, i + 1), name).name, fixed(inputs[i + 1], name).array.astype(np.float64))
        for i, name in enumerate(names)
    )
    if (var + number(node, "epsilon", 1e-5) <= 0).any():
        raise Refused("has a variance that is not positive; train or export it again")
    scale = gamma / np.sqrt(var + number(node, "epsilon", 1e-5))
    shape = (-1, *[1] * (len(x.axes) - 2))
    return low.affine_view(x, scale.reshape(shape), (beta - mean * scale).reshape(shape))


def max_pool(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Earliest spike of each window."""
    if len([o for o in node.outputs if o]) > 1:
        raise Refused("asks for the indices of the largest values; leave the second output out")
    grid = inputs[0].grid if isinstance(inputs[0], View) else None
    x = replace(inputs[0], grid=None) if isinstance(inputs[0], View) else inputs[0]
    x, kernel, stride, pad, ceil = _window(low, node, activation(low, x))

    def pooled(part: Value) -> Value:
        inner, whole_pad = _taken_pad(part, pad, kernel)
        return low.maxpool(inner, kernel, stride, whole_pad, ceil)

    return _resized(replace(x, grid=grid), [pooled(p) for p in x.parts])


def average_pool(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Mean of each window."""
    x, kernel, stride, pad, ceil = _window(low, node, activation(low, inputs[0]))
    counts = bool(integer(node, "count_include_pad", 0))

    def pooled(part: Value) -> Value:
        inner, whole_pad = _taken_pad(part, pad, kernel) if counts or not any(pad) else (part, pad)
        return low.avgpool(inner, kernel, stride, whole_pad, ceil, counts or any(part.pad))

    return _resized(x, [pooled(p) for p in x.parts])


def _window(low: OnnxLowering, node: Node, x: View) -> tuple[View, Pair, Pair, Quad, bool]:
    """The image to pool, kernel, stride, padding, and whether sizes round up."""
    kernel = ints(node, "kernel_shape")
    axes = len(x.axes) - 2
    if kernel is None or len(kernel) != axes or axes not in (1, 2):
        raise Refused(
            f"pools {list(x.shape(low.size))} with kernel_shape {kernel}; one or two spatial axes are understood"
        )
    x = low.image(x)
    if integer(node, "storage_order", 0):
        raise Refused("has storage_order=1; use 0")
    if _per_axis(ints(node, "dilations"), kernel, 1) != (1, 1):
        raise Refused("has dilations, which pooling of spikes has not; use dilations of 1")
    size, stride = _per_axis(kernel, kernel, 1), _per_axis(ints(node, "strides"), kernel, 1)
    pad = _padding(node, (x.atoms[1], x.atoms[2]), size, stride, (1, 1), axes)
    return x, size, stride, pad, bool(integer(node, "ceil_mode", 0))


def _taken_pad(x: Value, pad: Quad, kernel: Pair) -> tuple[Value, Quad]:
    """Zeros that wait around a value taken over into a pool, where they cannot win against what is never negative."""
    total = (x.pad[0] + pad[0], x.pad[1] + pad[1], x.pad[2] + pad[2], x.pad[3] + pad[3])
    small = max(total[0], total[2]) < kernel[0] and max(total[1], total[3]) < kernel[1]
    if not any(x.pad) or not x.nonneg or not small:
        return x, pad
    inner = (x.shape[0], x.shape[1] - x.pad[0] - x.pad[2], x.shape[2] - x.pad[1] - x.pad[3])
    return replace(x, pad=NO_PAD, shape=inner), total


def _resized(x: View, parts: list[Value]) -> View:
    """The view of pooled images."""
    atoms = (x.atoms[0], *parts[0].shape[1:])
    full = [() if n == 1 else (i,) for i, n in enumerate(atoms)]
    if len(x.axes) == 3:
        del full[1]
    return replace(x, parts=tuple(parts), atoms=atoms, axes=(BATCH_AXIS, *full))


def global_pool(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """GlobalAveragePool and GlobalMaxPool."""
    x = low.image(activation(low, inputs[0]))
    size = (x.atoms[1], x.atoms[2])
    if node.op == "GlobalMaxPool":
        return _resized(x, [low.maxpool(p, size, size, NO_PAD, False) for p in x.parts])
    return _resized(x, [low.avgpool(p, size, size) for p in x.parts])


def reduce_mean(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Mean over height and width: global average pooling."""
    x = low.settled(activation(low, inputs[0]))
    rank = len(x.axes)
    given = axes_of(node, [i if isinstance(i, Known) else None for i in inputs])
    if not given and integer(node, "noop_with_empty_axes", 0):
        return x
    axes = sorted(a % rank for a in given) if given else list(range(rank))
    reduced = {a for i in axes for a in x.axes[i]}
    places = {a for a in (1, 2) if len(x.atoms) == 3 and x.atoms[a] > 1}
    if len(x.atoms) != 3 or reduced != places:
        raise Refused(f"takes the mean over axes {axes}; only height and width together are understood")
    size = (x.atoms[1], x.atoms[2])
    parts = tuple(low.avgpool(p, size, size) for p in x.parts) if size != (1, 1) else x.parts
    keep = bool(integer(node, "keepdims", 1))
    kept = tuple(() if i in axes else axis for i, axis in enumerate(x.axes) if keep or i not in axes)
    return replace(x, parts=parts, atoms=(x.atoms[0], 1, 1), axes=kept)


def flatten(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View:
    """Flatten."""
    x = inputs[0]
    assert isinstance(x, View)
    return flattened(x, integer(node, "axis", 1), low.size)
