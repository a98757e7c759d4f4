"""Rules for layers as functions, methods and ATen ops: one function each, its parameters named as torch names them.

Rules never see torch: they get Values, Constants and plain Python numbers, so an exported graph is lowered without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttfsc.frontends.lowering import Lowering
from ttfsc.frontends.value import BROKEN, Constant, Refused, Value, items, pair, quad
from ttfsc.ir import Array, show_shape
from ttfsc.ir.ops import NO_PAD, Pair, Quad

Number = int | float


def weight(c: object, what: str) -> Constant:
    """An operand that must be known when compiling."""
    if isinstance(c, Constant):
        return c
    raise Refused(f"its {what} is computed from the input; only fixed parameters can be compiled")


def conv2d(
    low: Lowering,
    input: object,
    weight_: object,
    bias: object = None,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
) -> Value:
    """F.conv2d, aten.conv2d."""
    w = weight(weight_, "weight")
    d = pair(dilation)
    return low.conv(
        low.value(input), w, None if bias is None else weight(bias, "bias"), stride=pair(stride),
        pad=padding_of(padding, w.array.shape[2:], d), dilation=d, groups=groups,
    )  # fmt: skip


def padding_of(padding: object, kernel: Sequence[int], dilation: Pair) -> Quad:
    """torch's padding argument as (top, left, bottom, right); 'same' puts the odd zero behind."""
    if padding == "valid":
        return NO_PAD
    if padding == "same":
        total = [dilation[a] * (kernel[a] - 1) for a in (0, 1)]
        return (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    return quad(padding)


def convolution(
    low: Lowering,
    input: object,
    weight_: object,
    bias: object,
    stride: object,
    padding: object,
    dilation: object,
    transposed: bool,
    output_padding: object,
    groups: int,
) -> Value:
    """aten.convolution."""
    if transposed:
        raise Refused("a transposed convolution has no spike-timing form here; use a convolution or pooling")
    return conv2d(low, input, weight_, bias, stride, padding, dilation, groups)


def linear(low: Lowering, input: object, weight_: object, bias: object = None) -> Value:
    """F.linear."""
    return low.dense(low.value(input), weight(weight_, "weight"), None if bias is None else weight(bias, "bias"))


def addmm(low: Lowering, bias: object, mat1: object, mat2: object, *, beta: Number = 1, alpha: Number = 1) -> Value:
    """beta * bias + alpha * mat1 @ mat2."""
    if beta != 1 or alpha != 1:
        raise Refused(f"beta={beta}, alpha={alpha}; only 1 and 1 are understood: multiply the weights instead")
    return linear(low, mat1, turned(weight(mat2, "weight")), bias)


def matmul(low: Lowering, input: object, other: object) -> Value:
    """Activation @ fixed matrix [in, out]."""
    w = weight(other, "right-hand side")
    if w.array.ndim != 2:
        raise Refused(
            f"multiplies by {w.name} of shape {show_shape(w.array.shape)}; only matrices [in, out] are understood"
        )
    return linear(low, input, turned(w))


def turned(c: Constant) -> Constant:
    """A constant matrix, transposed."""
    return Constant(c.name, c.array.T)


def transpose(low: Lowering, input: object, *dims: object) -> Constant:
    """t, permute, transpose: of weights only."""
    if not isinstance(input, Constant) or input.array.ndim != 2:
        raise Refused("moves axes of an activation; keep [N, channels, height, width] throughout")
    order = [n % 2 for d in dims for n in items(d) if isinstance(n, int)]
    return input if order == [0, 1] and isinstance(dims[0], list | tuple) else turned(input)


def batch_norm(
    low: Lowering,
    input: object,
    running_mean: object,
    running_var: object,
    weight_: object = None,
    bias: object = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    """F.batch_norm at inference."""
    if training or running_mean is None or running_var is None:
        raise Refused(
            "normalises by the statistics of the batch, which is no fixed function; use running statistics (eval)"
        )
    gamma = None if weight_ is None else weight(weight_, "weight").array
    beta = None if bias is None else weight(bias, "bias").array
    return normalised(
        low,
        low.value(input),
        weight(running_mean, "mean").array,
        weight(running_var, "variance").array,
        gamma,
        beta,
        eps,
    )


def normalised(
    low: Lowering, x: Value, mean: Array, var: Array, gamma: Array | None, beta: Array | None, eps: float
) -> Value:
    """(x - mean) / sqrt(var + eps) * gamma + beta, per channel."""
    scale = 1 / np.sqrt(var.astype(np.float64) + eps)
    scale = scale if gamma is None else scale * gamma
    return low.affine(x, scale, -mean.astype(np.float64) * scale + (0 if beta is None else beta))


def aten_batch_norm(
    low: Lowering,
    input: object,
    weight_: object,
    bias: object,
    running_mean: object,
    running_var: object,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Value:
    """aten.batch_norm: another order of arguments."""
    return batch_norm(low, input, running_mean, running_var, weight_, bias, training, momentum, eps)


def aten_batch_norm_inference(
    low: Lowering,
    input: object,
    weight_: object,
    bias: object,
    running_mean: object,
    running_var: object,
    momentum: float,
    eps: float,
) -> tuple[object, ...]:
    """aten._native_batch_norm_legit_no_training: the value and two results that inference never reads."""
    value = batch_norm(low, input, running_mean, running_var, weight_, bias, False, momentum, eps)
    return value, BROKEN, BROKEN


def relu(low: Lowering, input: object, inplace: bool = False) -> Value:
    """max(x, 0)."""
    return low.relu(low.value(input))


def relu6(low: Lowering, input: object, inplace: bool = False) -> Value:
    """min(max(x, 0), 6)."""
    return low.clip(low.value(input), 6.0)


def clamp(low: Lowering, input: object, min: object = None, max: object = None, inplace: bool = False) -> Value:
    """clamp and clip: 0..c, or 0 and upwards."""
    if not isinstance(min, int | float) or min != 0 or not isinstance(max, int | float | None):
        raise Refused(
            f"clips to {min}..{max}; spikes carry values from 0 upwards: clip to 0..c with fixed c, or use ReLU"
        )
    return low.relu(low.value(input)) if max is None else low.clip(low.value(input), float(max))


def hardtanh(
    low: Lowering, input: object, min_val: Number = -1.0, max_val: Number = 1.0, inplace: bool = False
) -> Value:
    """Clipping, by default to -1..1."""
    return clamp(low, input, min_val, max_val)


def leaky_relu(low: Lowering, input: object, negative_slope: Number = 0.01, inplace: bool = False) -> Value:
    """A ReLU where the slope is 0."""
    if negative_slope != 0:
        raise Refused(
            f"lets negative values through (slope {negative_slope}), which no spike can carry; train with ReLU"
        )
    return low.relu(low.value(input))


def threshold(low: Lowering, input: object, threshold: Number, value: Number, inplace: bool = False) -> Value:
    """A ReLU where both numbers are 0."""
    if threshold != 0 or value != 0:
        raise Refused(f"threshold {threshold} and value {value}; only 0 and 0, a ReLU, is understood")
    return low.relu(low.value(input))


def max_pool2d(
    low: Lowering,
    input: object,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    dilation: object = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    """Largest value of each window."""
    if pair(dilation) != (1, 1):
        raise Refused("has dilation, which earliest-spike pooling does not; use dilation=1")
    if return_indices:
        raise Refused("asks for the indices of the largest values; use return_indices=False")
    kernel = pair(kernel_size)
    return low.maxpool(low.value(input), kernel, pair(stride) if stride else kernel, quad(padding), ceil_mode)


def max_pool2d_with_indices(low: Lowering, *args: object) -> tuple[object, ...]:
    """aten: the value, and indices that nobody may read."""
    return max_pool2d(low, *args), BROKEN  # pyright: ignore[reportArgumentType]


def avg_pool2d(
    low: Lowering,
    input: object,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """Mean of each window."""
    kernel, pad = pair(kernel_size), quad(padding)
    if divisor_override not in (None, kernel[0] * kernel[1]) or (divisor_override and ceil_mode):
        raise Refused(f"divides by {divisor_override} instead of its window's size; drop divisor_override")
    counts = count_include_pad or divisor_override is not None
    return low.avgpool(low.value(input), kernel, pair(stride) if stride else kernel, pad, ceil_mode, counts)


def adaptive_avg_pool2d(low: Lowering, input: object, output_size: object) -> Value:
    """Mean over equal windows: the output size divides the input's."""
    x = _image(low.value(input))
    wanted = items(output_size)
    out, side = [n for n in wanted * (3 - len(wanted)) if isinstance(n, int | None)], x.shape[1:]
    size = [own if n is None else n for n, own in zip(out, side, strict=True)]
    if any(n < 1 or own % n for n, own in zip(size, side, strict=True)):
        raise Refused(
            f"pools {show_shape(side)} to {show_shape(tuple(size))}, whose windows differ in size; use an output size "
            "that divides the input's, or AvgPool2d"
        )
    if tuple(size) == side:
        return x
    kernel = (side[0] // size[0], side[1] // size[1])
    return low.avgpool(x, kernel, kernel)


def mean(low: Lowering, input: object, dim: object = None, keepdim: bool = False, *, dtype: object = None) -> Value:
    """Mean over height and width: global average pooling."""
    x = _image(low.value(input))
    dims = sorted(n % 4 for n in items(dim) if isinstance(n, int))
    if dims != [2, 3]:
        raise Refused(f"takes the mean over {dim}; only height and width together (2, 3) are understood")
    size = (x.shape[1], x.shape[2])
    pooled = low.avgpool(x, size, size)
    return pooled if keepdim else low.flatten(pooled)


def _image(x: Value) -> Value:
    if len(x.shape) != 3:
        raise Refused(f"pools the shape {show_shape(x.shape)}; pooling wants [channels, height, width]")
    return x
