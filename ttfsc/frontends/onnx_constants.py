"""Constant folding: what ONNX computes from known tensors alone, in numpy. Shapes of reshapes, weights of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import cast

import numpy as np

from ttfsc.frontends.onnx_file import Node
from ttfsc.frontends.onnx_tensor import MAX_ELEMENTS, Known, checked_size
from ttfsc.frontends.value import Refused
from ttfsc.ir import Array

_Fold = Callable[[Node, list[Known | None]], Array]


def ints(node: Node, name: str, default: Sequence[int] | None = None) -> list[int] | None:
    """An attribute of integers."""
    value = node.attributes.get(name)
    if value is None:
        return None if default is None else list(default)
    if not isinstance(value, list) or not all(isinstance(v, int) for v in value):
        raise Refused(f"its attribute {name} is {value!r}, not a list of integers")
    return cast("list[int]", value)


def integer(node: Node, name: str, default: int) -> int:
    """An attribute of one integer."""
    value = node.attributes.get(name, default)
    if not isinstance(value, int):
        raise Refused(f"its attribute {name} is {value!r}, not an integer")
    return value


def number(node: Node, name: str, default: float) -> float:
    """An attribute of one real number."""
    value = node.attributes.get(name, default)
    if not isinstance(value, int | float):
        raise Refused(f"its attribute {name} is {value!r}, not a number")
    return float(value)


def word(node: Node, name: str, default: str) -> str:
    """An attribute of text."""
    value = node.attributes.get(name, default)
    if not isinstance(value, str):
        raise Refused(f"its attribute {name} is {value!r}, not a word")
    return value


def axes_of(node: Node, inputs: Sequence[Known | None], at: int = 1) -> list[int] | None:
    """Axes as an attribute (older opsets) or as input `at`."""
    if len(inputs) > at and inputs[at] is not None:
        return whole_numbers(inputs[at], "axes")
    return ints(node, "axes")


def whole_numbers(known: Known | None, what: str) -> list[int]:
    """A known tensor as a list of integers."""
    if known is None or known.array.dtype.kind not in "iu" or known.array.size > 1 << 16:
        raise Refused(f"its {what} is not a known list of integers")
    return [int(n) for n in known.array.reshape(-1)]


def fold(node: Node, inputs: list[Known | None]) -> Known | None:
    """The node's result, known when compiling; None for an op that is not folded."""
    rule = _FOLDS.get(node.op)
    if rule is None or node.domain:
        return None
    first = next((k for k in inputs if k is not None), None)
    try:
        with np.errstate(all="ignore"):
            array = rule(node, inputs)
    except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError) as e:
        raise Refused(f"cannot be computed from its known inputs: {str(e).splitlines()[0] if str(e) else e!r}") from e
    name = first.name if first is not None and first.array.size > 1 else node.outputs[0]
    elem = _elem_of(array, first)
    if first is not None and first.step is not None and node.op in _MOVES:
        step = rule(node, [_like(first, np.broadcast_to(first.step, first.array.shape)), *inputs[1:]])
        return Known(name, array, elem, step, first.bits)
    return Known(name, array, elem)


def _like(known: Known, array: Array) -> Known:
    return Known(known.name, array, known.elem)


_MOVES = ("Identity", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Dropout")
_ELEMS = {"f4": 1, "u1": 2, "i1": 3, "u2": 4, "i2": 5, "i4": 6, "i8": 7, "b1": 9, "f8": 11, "u4": 12, "u8": 13}


def _elem_of(array: Array, first: Known | None) -> int:
    if first is not None and first.array.dtype == array.dtype:
        return first.elem
    return _ELEMS.get(array.dtype.str[1:], 1)


def _array(inputs: Sequence[Known | None], at: int = 0) -> Array:
    found = inputs[at] if len(inputs) > at else None
    if found is None:
        raise Refused(f"its input {at} is missing")
    return found.array


def _small(size: int) -> None:
    if size > MAX_ELEMENTS:
        raise Refused(f"would make a constant of {size} elements; at most {MAX_ELEMENTS} are computed")


def _binary(compute: Callable[[Array, Array], Array]) -> _Fold:
    def run(node: Node, inputs: list[Known | None]) -> Array:
        a, b = _array(inputs), _array(inputs, 1)
        _small(prod(np.broadcast_shapes(a.shape, b.shape)))
        return compute(a, b)

    return run


def _many(compute: Callable[[Array, Array], Array]) -> _Fold:
    def run(node: Node, inputs: list[Known | None]) -> Array:
        arrays = [_array(inputs, i) for i in range(len(inputs))]
        _small(prod(np.broadcast_shapes(*(a.shape for a in arrays))))
        result = _array(inputs)
        for array in arrays[1:]:
            result = compute(result, array)
        return result

    return run


def _dropout(node: Node, inputs: list[Known | None]) -> Array:
    if len(inputs) > 2 and inputs[2] is not None and inputs[2].array.any():
        raise Refused("drops at inference too (training_mode); export the model for inference")
    return _array(inputs)


def _mod(node: Node, inputs: list[Known | None]) -> Array:
    return _binary(np.fmod if integer(node, "fmod", 0) else np.mod)(node, inputs)


def _unary(compute: Callable[[Array], Array]) -> _Fold:
    return lambda node, inputs: compute(_array(inputs))


def _divided(a: Array, b: Array) -> Array:
    if a.dtype.kind in "iu":
        if not np.all(b):
            raise ZeroDivisionError("division by zero")
        return np.trunc(a / b).astype(a.dtype)
    return a / b


def _constant(node: Node, inputs: list[Known | None]) -> Array:
    for value in node.attributes.values():
        if isinstance(value, Known):
            return value.array
        if isinstance(value, float):
            return np.array(value, np.float32)
        if isinstance(value, int):
            return np.array(value, np.int64)
        if isinstance(value, list) and value and not isinstance(value[0], str):
            return np.array(value, np.float32 if isinstance(value[0], float) else np.int64)
    raise Refused("has a value that is no number")


def _constant_of_shape(node: Node, inputs: list[Known | None]) -> Array:
    shape = whole_numbers(inputs[0] if inputs else None, "shape")
    _small(checked_size(shape))
    value = node.attributes.get("value")
    filling = value.array.reshape(-1)[0] if isinstance(value, Known) and value.array.size else np.float32(0)
    return np.full(shape, filling)


def _reshape(node: Node, inputs: list[Known | None]) -> Array:
    array = _array(inputs)
    shape = whole_numbers(inputs[1], "shape") if len(inputs) > 1 else ints(node, "shape", ())
    assert shape is not None
    if not integer(node, "allowzero", 0):
        shape = [array.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return array.reshape(shape)


def _squeeze(node: Node, inputs: list[Known | None]) -> Array:
    axes = axes_of(node, inputs)
    return np.squeeze(_array(inputs), None if axes is None else tuple(axes))


def _unsqueeze(node: Node, inputs: list[Known | None]) -> Array:
    return np.expand_dims(_array(inputs), tuple(axes_of(node, inputs) or ()))


def _gather(node: Node, inputs: list[Known | None]) -> Array:
    a, index = _array(inputs), _array(inputs, 1)
    axis = integer(node, "axis", 0)
    _small(a.size // max(a.shape[axis], 1) * index.size if a.ndim else 0)
    return np.take(a, index.astype(np.int64), axis=axis)


def _slice(node: Node, inputs: list[Known | None]) -> Array:
    a = _array(inputs)
    if len(inputs) > 1:
        starts, ends = whole_numbers(inputs[1], "starts"), whole_numbers(inputs[2], "ends")
        axes = whole_numbers(inputs[3], "axes") if len(inputs) > 3 and inputs[3] is not None else None
        steps = whole_numbers(inputs[4], "steps") if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    else:
        starts, ends, axes = ints(node, "starts", ()) or [], ints(node, "ends", ()) or [], ints(node, "axes")
        steps = [1] * len(starts)
    cuts = [slice(None)] * a.ndim
    for axis, start, end, step in zip(axes or range(len(starts)), starts, ends, steps, strict=True):
        stop = None if step < 0 and end < -a.shape[axis] else end
        cuts[axis] = slice(start, stop, step)
    return a[tuple(cuts)]


def _concat(node: Node, inputs: list[Known | None]) -> Array:
    arrays = [_array(inputs, i) for i in range(len(inputs))]
    _small(sum(a.size for a in arrays))
    return np.concatenate(arrays, integer(node, "axis", 1))


def _expand(node: Node, inputs: list[Known | None]) -> Array:
    shape = np.broadcast_shapes(_array(inputs).shape, tuple(whole_numbers(inputs[1], "shape")))
    _small(checked_size(shape))
    return np.broadcast_to(_array(inputs), shape)


def _cast(node: Node, inputs: list[Known | None]) -> Array:
    to = {
        1: "f4",
        2: "u1",
        3: "i1",
        4: "u2",
        5: "i2",
        6: "i4",
        7: "i8",
        9: "b1",
        10: "f4",
        11: "f8",
        12: "u4",
        13: "u8",
    }
    target = integer(node, "to", 1)
    if target not in to:
        raise Refused(f"casts to type {target}, which is not understood")
    return _array(inputs).astype(to[target])


def _shape(node: Node, inputs: list[Known | None]) -> Array:
    shape = _array(inputs).shape
    return np.array(shape[integer(node, "start", 0) : integer(node, "end", len(shape))], np.int64)


def _range(node: Node, inputs: list[Known | None]) -> Array:
    start, limit, delta = (_array(inputs, i).reshape(-1)[0] for i in (0, 1, 2))
    if not delta:
        raise ZeroDivisionError("a range of step 0")
    _small(int(max(0, (limit - start) / delta)))
    return start + delta * np.arange(max(0, int(np.ceil((limit - start) / delta))))


def _reduce(compute: Callable[..., Array]) -> _Fold:
    def run(node: Node, inputs: list[Known | None]) -> Array:
        axes = axes_of(node, inputs)
        keep = bool(integer(node, "keepdims", 1))
        if not axes and integer(node, "noop_with_empty_axes", 0):
            return _array(inputs)
        return np.asarray(compute(_array(inputs), axis=tuple(axes) if axes else None, keepdims=keep))

    return run


def _where(node: Node, inputs: list[Known | None]) -> Array:
    arrays = [_array(inputs, i) for i in (0, 1, 2)]
    _small(prod(np.broadcast_shapes(*(a.shape for a in arrays))))
    return np.where(*arrays)


def _matmul(node: Node, inputs: list[Known | None]) -> Array:
    a, b = _array(inputs), _array(inputs, 1)
    outer = prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])) * (a.shape[-2] if a.ndim > 1 else 1)
    if not (a.ndim and b.ndim) or outer * a.shape[-1] * (b.shape[-1] if b.ndim > 1 else 1) > 1 << 34:
        raise Refused("multiplies constants that are no matrices of moderate size; store the product instead")
    _small(outer * (b.shape[-1] if b.ndim > 1 else 1))
    return np.asarray(np.matmul(a, b))


def _transpose(node: Node, inputs: list[Known | None]) -> Array:
    return np.transpose(_array(inputs), ints(node, "perm"))


def _flatten(node: Node, inputs: list[Known | None]) -> Array:
    a, axis = _array(inputs), integer(node, "axis", 1)
    return a.reshape(prod(a.shape[:axis]), -1)


_FOLDS: dict[str, _Fold] = {
    "Add": _binary(np.add), "Sub": _binary(np.subtract), "Mul": _binary(np.multiply), "Div": _binary(_divided),
    "Pow": _binary(np.power), "Min": _many(np.minimum), "Max": _many(np.maximum), "Sum": _many(np.add), "Mod": _mod,
    "Equal": _binary(np.equal), "Greater": _binary(np.greater), "Less": _binary(np.less),
    "Neg": _unary(np.negative), "Sqrt": _unary(np.sqrt), "Reciprocal": _unary(np.reciprocal), "Exp": _unary(np.exp),
    "Abs": _unary(np.abs), "Floor": _unary(np.floor), "Ceil": _unary(np.ceil), "Round": _unary(np.rint),
    "Identity": _unary(np.asarray), "Dropout": _dropout, "Not": _unary(np.logical_not),
    "Relu": _unary(lambda a: np.maximum(a, 0)),
    "Constant": _constant, "ConstantOfShape": _constant_of_shape, "Shape": _shape, "Range": _range, "Expand": _expand,
    "Reshape": _reshape, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Transpose": _transpose, "Flatten": _flatten,
    "Gather": _gather, "Slice": _slice, "Concat": _concat, "Cast": _cast, "Where": _where, "MatMul": _matmul,
    "Size": _unary(lambda a: np.array(a.size, np.int64)),
    "ReduceProd": _reduce(np.prod), "ReduceSum": _reduce(np.sum), "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min), "ReduceMean": _reduce(np.mean),
}  # fmt: skip
FOLDED = tuple(_FOLDS)
