"""Rules for arithmetic, shapes and what may stand at the end; see `ttfsc.frontends.torch_functions`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ttfsc.frontends.lowering import Lowering
from ttfsc.frontends.torch_functions import Number, turned, weight
from ttfsc.frontends.value import BATCH, RAW, Constant, Refused, Value, items
from ttfsc.ir import Array, Shape, show_shape


def flatten(low: Lowering, input: object, start_dim: int = 0, end_dim: int = -1) -> Value:
    """[N, C, H, W] -> [N, C*H*W]."""
    x = low.value(input)
    rank = len(x.shape) + 1
    first, last = start_dim % rank, end_dim % rank
    if first == 0 and rank > 1:
        raise Refused("flattens the batch away; use torch.flatten(x, 1)")
    if (first, last) != (1, rank - 1) and first != last:
        raise Refused(
            f"flattens axes {first}..{last} of {rank}; only all of a sample, torch.flatten(x, 1), is understood"
        )
    return x if first == last and rank > 2 else low.flatten(x)


def view(low: Lowering, input: object, *sizes: object) -> object:
    """view and reshape, as long as they flatten a sample or change nothing."""
    wanted = [n for size in sizes for n in items(size)]
    if isinstance(input, Constant):
        return Constant(input.name, input.array.reshape([n for n in wanted if isinstance(n, int)]))
    x = low.value(input)
    if wanted and wanted[0] == low.batch is not None:
        wanted[0] = BATCH
    shape = _reshaped(wanted, x)
    if shape == x.shape:
        return x
    if shape == (x.size,):
        return low.flatten(x)
    raise Refused(
        f"reshapes {show_shape(x.shape)} to {show_shape(shape)}; only flattening, x.view(x.size(0), -1), is understood"
    )


def _reshaped(wanted: list[object], x: Value) -> Shape:
    """The shape of a sample after view(*wanted)."""
    head, rest = (wanted[0], wanted[1:]) if wanted else (None, [])
    sizes = [n for n in rest if isinstance(n, int)]
    product = int(np.prod([n for n in sizes if n != -1]))
    if len(sizes) < len(rest) or not rest or sizes.count(-1) > 1:
        raise Refused(f"reshapes to {wanted}, which is not the batch and fixed sizes; use torch.flatten(x, 1)")
    if head is not BATCH and head != -1:
        raise Refused(f"fixes the batch to {head}; use torch.flatten(x, 1)")
    if head is BATCH and -1 in sizes and product and x.size % product == 0:
        sizes, product = [x.size // product if n == -1 else n for n in sizes], x.size
    if product != x.size or -1 in sizes:
        raise Refused(f"reshapes {show_shape(x.shape)} to {wanted}, which mixes samples; use torch.flatten(x, 1)")
    return tuple(sizes)


def squeeze(low: Lowering, input: object, *dims: object) -> Value:
    """[N, C, 1, 1] -> [N, C]."""
    x = low.value(input)
    if len(x.shape) == 3 and x.shape[1:] == (1, 1) and dims:
        flat = [n for d in dims for n in items(d)]
        if sorted(n % 4 for n in flat if isinstance(n, int)) == [2, 3]:
            return low.flatten(x)
    raise Refused(f"squeezes {show_shape(x.shape)}; only axes (2, 3) of size 1 together: use torch.flatten(x, 1)")


def pad(low: Lowering, input: object, pad: object, mode: str = "constant", value: Number | None = None) -> Value:
    """Zeros around an image: (left, right, top, bottom)."""
    sizes = [n for n in items(pad) if isinstance(n, int)]
    if mode != "constant" or value or len(sizes) not in (2, 4) or len(sizes) < len(items(pad)):
        raise Refused(
            f"pads by {pad} with mode {mode} and value {value}; only zeros around height and width are understood"
        )
    left, right, top, bottom = (*sizes, 0, 0)[:4]
    return low.zero_pad(low.value(input), (top, left, bottom, right))


def add(low: Lowering, input: object, other: object, *, alpha: Number = 1) -> object:
    """Two branches, or a branch and a constant."""
    if not _activation(input) and not _activation(other):
        return _plain(lambda a, b: a + b, input, other)
    if alpha != 1:
        raise Refused(f"alpha={alpha}; only 1 is understood: scale the branch's weights instead")
    if not _activation(input):
        input, other = other, input
    if _activation(other):
        return low.add(low.value(input), low.value(other))
    x = low.value(input)
    return low.affine(x, np.ones(1), channelwise(other, x))


def sub(low: Lowering, input: object, other: object, *, alpha: Number = 1) -> object:
    """A branch minus a constant."""
    if not _activation(input) and not _activation(other):
        return _plain(lambda a, b: a - b, input, other)
    if _activation(other) or alpha != 1:
        raise Refused("subtracts an activation; let the branch's weights change sign and add it instead")
    x = low.value(input)
    return low.affine(x, np.ones(1), -channelwise(other, x))


def mul(low: Lowering, input: object, other: object) -> object:
    """A branch times a constant."""
    if not _activation(input) and not _activation(other):
        return _plain(lambda a, b: a * b, input, other)
    if not _activation(input):
        input, other = other, input
    if _activation(other):
        raise Refused(
            "multiplies two activations (attention, gates, squeeze-excitation), which spikes cannot do; leave it out"
        )
    x = low.value(input)
    return low.affine(x, channelwise(other, x), np.zeros(1))


def div(low: Lowering, input: object, other: object, *, rounding_mode: str | None = None) -> object:
    """A branch divided by a constant."""
    if not _activation(input) and not _activation(other):
        return _plain(lambda a, b: a / b, input, other)
    if _activation(other) or rounding_mode is not None:
        raise Refused("divides by an activation or rounds; only division by a constant is understood")
    x = low.value(input)
    divisor = channelwise(other, x)
    if not np.all(divisor):
        raise Refused("divides by zero")
    return low.affine(x, 1 / divisor, np.zeros(1))


def _activation(x: object) -> bool:
    return isinstance(x, Value) or x is RAW


def _plain(compute: Callable[[Array, Array], Array], a: object, b: object) -> object:
    """Arithmetic that no activation takes part in: sizes and parameters."""
    if isinstance(a, int | float) and isinstance(b, int | float):
        return compute(a, b)  # pyright: ignore[reportArgumentType]
    first, second = (c.array if isinstance(c, Constant) else c for c in (a, b))
    if all(isinstance(c, int | float | np.ndarray) for c in (first, second)):
        name = "_".join(c.name for c in (a, b) if isinstance(c, Constant))
        return Constant(name, compute(np.asarray(first), np.asarray(second)))
    raise Refused(f"computes with {a!r} and {b!r}, which depends on the batch; use torch.flatten(x, 1)")


def channelwise(c: object, x: Value) -> Array:
    """A number or a constant [C], [C, 1, 1] or [1, C, 1, 1] as [C] or [1]."""
    if isinstance(c, int | float):
        return np.full(1, float(c))
    array = weight(c, "operand").array.astype(np.float64)
    channels, rank = x.shape[0], len(x.shape)
    trimmed = array.reshape(array.shape[1:]) if array.ndim == rank + 1 and array.shape[0] == 1 else array
    if trimmed.size == 1:
        return trimmed.reshape(1)
    if trimmed.shape != (channels, *[1] * (rank - 1)):
        raise Refused(
            f"computes with a constant of shape {show_shape(array.shape)} on {show_shape(x.shape)}; one number, or one "
            "per channel, is understood"
        )
    return trimmed.reshape(channels)


def same(low: Lowering, input: object, *args: object, **kwargs: object) -> object:
    """contiguous, float, detach, clone: the same numbers."""
    return input


def dropout(low: Lowering, input: object, p: float = 0.5, training: bool = True, inplace: bool = False) -> object:
    """Nothing at inference."""
    if training and p:
        raise Refused("drops at inference too; write F.dropout(x, p, training=self.training), or use nn.Dropout")
    return input


def aten_dropout(low: Lowering, input: object, p: float, train: bool) -> object:
    """aten.dropout."""
    return dropout(low, input, p, train)


def softmax(low: Lowering, input: object, dim: object = None, *args: object, **kwargs: object) -> Value:
    """At the end only: the largest score stays the largest."""
    if dim not in (None, 1, -1):
        raise Refused(f"runs over axis {dim}; only over the classes (dim=1), at the end, is understood")
    return low.tail(input, "softmax")


def argmax(low: Lowering, input: object, dim: object = None, keepdim: bool = False) -> Value:
    """At the end only: this is how scores are read anyway."""
    if dim not in (1, -1):
        raise Refused(f"runs over axis {dim}; only over the classes (dim=1), at the end, is understood")
    return low.tail(input, "argmax")


def size(low: Lowering, input: object, dim: int | None = None) -> object:
    """x.size(), x.size(i), x.shape."""
    if isinstance(input, Constant):
        shape: tuple[object, ...] = input.array.shape
    else:
        shape = (BATCH, *low.value(input).shape)
    return shape if dim is None else shape[dim]


def attribute(low: Lowering, input: object, name: str) -> object:
    """x.shape and the attributes of parameters."""
    if name == "shape":
        return size(low, input)
    if name == "T" and isinstance(input, Constant):
        return turned(input)
    if name == "data":
        return input
    raise Refused(f"reads .{name} of a tensor, which tracing does not know; write the number out")


def item(low: Lowering, input: object, index: object) -> object:
    """Element of a tuple or of a shape."""
    if isinstance(input, tuple) and isinstance(index, int | slice):
        return input[index]  # pyright: ignore[reportUnknownVariableType]
    raise Refused("slices an activation; every layer reads a whole layer: select with a convolution, or leave it out")
