"""Which positions a window reads: sizes and exact incidence of convolution and pooling, one axis at a time.

Convolution and pooling are separable in what they *touch*: an input (i, j) reaches an output (p, q) exactly when i
reaches p along the height and j reaches q along the width. So an axis is a small count matrix [out, in], windows
compose by matrix product, and fan-out, receptive fields and destination cores all follow without a loop over neurons.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def conv_out(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], dilation: Sequence[int]
) -> tuple[int, int]:
    """Output height and width of a convolution; pad is top, left, bottom, right. May be < 1: does not fit."""
    h, w = ((n + pad[a] + pad[a + 2] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a, n in enumerate(size))
    return h, w


def pool_out(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], ceil: bool = False
) -> tuple[int, int]:
    """Output height and width of a pooling; with `ceil` a last window counts if it starts in the input or before it."""
    out = list[int]()
    for a, n in enumerate(size):
        span = n + pad[a] + pad[a + 2] - kernel[a]
        count = (-(-span // stride[a]) if ceil else span // stride[a]) + 1
        if ceil and (count - 1) * stride[a] >= n + pad[a]:
            count -= 1  # the rule of PyTorch and ONNX: a window wholly inside the right padding does not exist
        out.append(count)
    return out[0], out[1]


def reads(size: int, out: int, kernel: int, stride: int, before: int, dilation: int = 1) -> Counts:
    """[out, in]: how many taps of output o read input i, along one axis with `before` zeros in front."""
    taps = np.arange(out)[:, None] * stride + np.arange(kernel) * dilation - before  # [out, kernel]
    counts = np.zeros((out, size), np.int64)
    inside = (taps >= 0) & (taps < size)
    rows = np.broadcast_to(np.arange(out)[:, None], taps.shape)
    np.add.at(counts, (rows[inside], taps[inside]), 1)
    return counts
