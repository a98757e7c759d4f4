"""Sums of synapses in numpy, exact on integers: im2col and one matrix product per batch.

Integers travel as floats because BLAS has no integer product; a float of 24 (53) bits of mantissa adds integers
exactly as long as every partial sum stays below 2^24 (2^53), which the caller proves from the weights beforehand.
"""

import numpy as np
import numpy.typing as npt

from ttfsc.ir.arrays import Array
from ttfsc.ir.geometry import conv_out, pool_out
from ttfsc.ir.ops import Conv2d, Dense, MaxPool, Pair, Quad

Floats = npt.NDArray[np.floating]
_COLUMNS = 64 << 20  # bytes of im2col buffer at a time: larger ones leave the cache and gain nothing


def synapses(op: Conv2d | Dense, x: Array, w: Array, dtype: type[np.float32] | type[np.float64]) -> Floats:
    """sum w x for every output. x [N, *shape], w as the op declares; dtype holds every partial sum exactly."""
    weights = w.astype(dtype)
    if isinstance(op, Dense):
        return x.astype(dtype) @ weights.T
    pooled = pool_sum(x.astype(dtype, copy=False), op.pool, op.pool_stride, op.pool_pad)
    size = conv_out(pooled.shape[2:], w.shape[2:], op.stride, op.pad, op.dilation)
    per_image = w.shape[1] * op.groups * w.shape[2] * w.shape[3] * size[0] * size[1] * np.dtype(dtype).itemsize
    chunk = max(1, _COLUMNS // per_image)
    parts = [_conv(op, pooled[i : i + chunk], weights, size) for i in range(0, len(x), chunk)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros((0, w.shape[0], *size), dtype)])


def _conv(op: Conv2d, x: Floats, w: Floats, size: Pair) -> Floats:
    """[N, C, H, W] * [O, C/groups, kh, kw] -> [N, O, *size]."""
    n, cout, per_group, kh, kw = len(x), w.shape[0], w.shape[1], w.shape[2], w.shape[3]
    padded = pad_with(x, op.pad, 0)
    taps = [(i, j) for i in range(kh) for j in range(kw)]
    if per_group == 1 and op.groups > 1:  # depthwise: a product per tap beats a matrix product per channel
        split = w.reshape(op.groups, cout // op.groups, kh, kw, 1, 1)
        out = np.zeros((n, op.groups, cout // op.groups, *size), x.dtype)
        for i, j in taps:
            out += _tap(padded, op, i, j, size)[:, :, None] * split[:, :, i, j]
        return out.reshape(n, cout, *size)
    columns = np.empty((x.shape[1], kh * kw, n, *size), x.dtype)
    for t, (i, j) in enumerate(taps):
        columns[:, t] = _tap(padded, op, i, j, size).swapaxes(0, 1)
    grouped = columns.reshape(op.groups, per_group * kh * kw, -1)
    out = w.reshape(op.groups, cout // op.groups, -1) @ grouped  # [groups, O/groups, N P]
    return np.ascontiguousarray(out.reshape(cout, n, *size).swapaxes(0, 1))


def _tap(x: Floats, op: Conv2d, i: int, j: int, size: Pair) -> Floats:
    """What tap (i, j) of the kernel reads, for every output position."""
    return _strided(x, i * op.dilation[0], j * op.dilation[1], op.stride, size)


def _strided(x: Array, i: int, j: int, stride: Pair, size: Pair) -> Array:
    return x[:, :, i : i + (size[0] - 1) * stride[0] + 1 : stride[0], j : j + (size[1] - 1) * stride[1] + 1 : stride[1]]


def pool_sum(x: Floats, kernel: Pair, stride: Pair, pad: Quad) -> Floats:
    """Sum over pooling windows; [N, C, H, W] -> [N, C, H', W']."""
    if kernel == (1, 1) and stride == (1, 1) and not any(pad):
        return x
    size, padded = pool_out(x.shape[2:], kernel, stride, pad), pad_with(x, pad, 0)
    out = np.zeros((*x.shape[:2], *size), x.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            out += _strided(padded, i, j, stride, size)
    return out


def pool_max(op: MaxPool, x: Array, floor: float | None = None) -> Array:
    """Largest value of each window. Padding never wins: every window holds a value, none is below `floor`."""
    if floor is None:
        floor = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    size = (op.type.shape[1], op.type.shape[2])
    need = [(size[a] - 1) * op.stride[a] + op.kernel[a] - x.shape[a + 2] - op.pad[a] for a in (0, 1)]
    padded = pad_with(x, (op.pad[0], op.pad[1], max(need[0], 0), max(need[1], 0)), floor)
    out = _strided(padded, 0, 0, op.stride, size).copy()
    for i in range(op.kernel[0]):
        for j in range(op.kernel[1]):
            np.maximum(out, _strided(padded, i, j, op.stride, size), out=out)
    return out


def pad_with(x: Array, pad: Quad, value: float) -> Array:
    """Zeros (or `value`) around the last two axes; pad is top, left, bottom, right."""
    if not any(pad):
        return x
    top, left, bottom, right = pad
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=x.dtype.type(value))
