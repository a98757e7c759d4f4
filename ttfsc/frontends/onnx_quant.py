"""Rules for quantised models: QuantizeLinear / DequantizeLinear (QDQ) and QONNX's Quant.

Weights keep their integers: a constant that was dequantised knows its step. Activations that are quantised to at most
64 levels become neurons with as many ticks (`OnnxLowering.levels`); more levels than that only give the range.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ttfsc.frontends.onnx_constants import integer, word
from ttfsc.frontends.onnx_file import Node
from ttfsc.frontends.onnx_layers import Operand, activation, fixed, optional
from ttfsc.frontends.onnx_lowering import OnnxLowering, finite
from ttfsc.frontends.onnx_tensor import Known, limits_of
from ttfsc.frontends.onnx_view import View
from ttfsc.frontends.value import Refused, Value
from ttfsc.ir import Array, show_shape

_UINT8 = 2
_FLOATS = (1, 10, 11, 16)


def quantize_linear(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View | Known:
    """round(x / scale) + zero point, saturated."""
    scale, zero = _scale(inputs), optional(inputs, 2)
    zero = None if zero is None else fixed(zero, "zero point")
    elem = zero.elem if zero is not None else integer(node, "output_dtype", _UINT8) or _UINT8
    if elem in _FLOATS or elem in (17, 18, 19, 20, 23):
        raise Refused("quantises to floating point numbers; only integers are understood")
    low_q, high_q = limits_of(elem)
    if isinstance(inputs[0], Known):
        x = inputs[0].array
        factor, offset = (_along(a, x, node) for a in (scale.array, np.zeros(1) if zero is None else zero.array))
        q = np.clip(np.rint(x / factor) + offset, low_q, high_q)
        return Known(inputs[0].name, q.astype(np.int32), elem)
    x = activation(low, inputs[0])
    if scale.array.size != 1 or (zero is not None and zero.array.size != 1):
        raise Refused("quantises an activation with a scale per channel; use one scale per tensor")
    step, offset = float(scale.array.reshape(-1)[0]), 0 if zero is None else int(zero.array.reshape(-1)[0])
    return replace(_staircase(low, x, step, low_q - offset, high_q - offset, nearest=True), grid=(step, offset))


def dequantize_linear(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View | Known:
    """(q - zero point) * scale."""
    scale, zero = _scale(inputs), optional(inputs, 2)
    zero = None if zero is None else fixed(zero, "zero point")
    if isinstance(inputs[0], Known):
        return _weights(low, inputs[0], scale, zero, node)
    x = inputs[0]
    assert isinstance(x, View)
    if scale.array.size != 1 or (zero is not None and zero.array.size != 1):
        raise Refused("dequantises an activation with a scale per channel; use one scale per tensor")
    step, offset = float(scale.array.reshape(-1)[0]), 0 if zero is None else int(zero.array.reshape(-1)[0])
    if x.grid is None:
        if not x.raw:
            raise Refused("dequantises what no QuantizeLinear made")
        x = replace(x, grid=(1.0, 0))  # the graph's input is integers itself
    own_step, own_offset = x.grid or (1.0, 0)
    bare = replace(x, grid=None)
    if offset != own_offset:
        bare = low.affine_view(bare, np.full((), 1.0), np.full((), (own_offset - offset) * own_step))
    return bare if step == own_step else low.affine_view(bare, np.full((), step / own_step), np.zeros(()))


def _scale(inputs: list[Operand]) -> Known:
    scale = fixed(optional(inputs, 1), "scale")
    if not (finite(scale.name, scale.array) > 0).all():
        raise Refused(f"{scale.name} must be positive throughout")
    return scale


def _along(a: Array, x: Array, node: Node) -> Array:
    """A scale or zero point per tensor, per axis or per block, shaped to broadcast over x."""
    a = a.astype(np.float64)
    if a.size == 1:
        return a.reshape(())
    axis, block = integer(node, "axis", 1), integer(node, "block_size", 0)
    if not -x.ndim <= axis < x.ndim:
        raise Refused(f"has axis {axis} for a tensor of {x.ndim} axes")
    axis %= x.ndim
    if block and a.ndim == x.ndim:
        return np.repeat(a, block, axis=axis)[tuple(slice(n) for n in x.shape)]
    if a.ndim != 1 or a.size != x.shape[axis]:
        raise Refused(f"has a scale of shape {show_shape(a.shape)} for axis {axis} of {show_shape(x.shape)}")
    return a.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def _weights(low: OnnxLowering, q: Known, scale: Known, zero: Known | None, node: Node) -> Known:
    """A dequantised constant; its integers are kept where 8 bits hold them."""
    step = _along(scale.array, q.array, node)
    integers = q.array.astype(np.int64)
    if zero is not None:
        integers = integers - _along(zero.array, q.array, node).astype(np.int64)
    values = integers * step
    low_q, high_q = limits_of(q.elem)
    bits = (high_q - low_q).bit_length()
    if bits > 8:
        return Known(q.name, values)  # biases: real constants that thresholds absorb
    bits = max(bits, 2)
    if integers.size and not (-(2 ** (bits - 1)) <= integers.min() and integers.max() < 2 ** (bits - 1)):
        low.note(f"{q.name} has a zero point that {bits} symmetric bits cannot follow; its real values are used")
        return Known(q.name, values)
    return Known(q.name, values, step=np.broadcast_to(step, values.shape), bits=bits)


def quant(low: OnnxLowering, node: Node, inputs: list[Operand]) -> View | Known:
    """QONNX Quant(x, scale, zero point, bit width): quantised and dequantised in one."""
    names = ("scale", "zero point", "bit width")
    scale, zero, width = (fixed(optional(inputs, i + 1), name) for i, name in enumerate(names))
    signed, narrow = bool(integer(node, "signed", 1)), bool(integer(node, "narrow", 0))
    mode = word(node, "rounding_mode", "ROUND").upper()
    if width.array.size != 1 or zero.array.any():
        raise Refused("has a bit width per channel or a zero point that is not 0; use one width and zero point 0")
    if not (finite(scale.name, scale.array) > 0).all():
        raise Refused(f"{scale.name} must be positive throughout")
    bits = float(finite(width.name, width.array).reshape(-1)[0])
    if bits != int(bits) or not 1 <= bits <= 32:
        raise Refused(f"has a bit width of {bits:g}; must be a whole number of 1..32")
    bits = int(bits)
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    least = -(2 ** (bits - 1)) + narrow if signed else 0
    if isinstance(inputs[0], Known):
        x, step = inputs[0].array, scale.array.astype(np.float64)
        integers = np.clip(_rounded(x / step, mode), least, high)
        values = integers * step
        if bits > 8 or (not signed and bits == 8):
            return Known(inputs[0].name, values)
        held = max(bits + (not signed), 2)
        return Known(inputs[0].name, values, step=np.broadcast_to(step, values.shape), bits=held)
    if scale.array.size != 1:
        raise Refused("quantises an activation with a scale per channel; use one scale per tensor")
    if mode not in ("ROUND", "HALF_EVEN", "FLOOR"):
        raise Refused(f"rounds an activation by {mode}; ROUND and FLOOR are understood")
    step = float(scale.array.reshape(-1)[0])
    return _staircase(low, activation(low, inputs[0]), step, least, high, nearest=mode != "FLOOR")


def bipolar_quant(low: OnnxLowering, node: Node, inputs: list[Operand]) -> Known:
    """QONNX BipolarQuant: the sign times a scale, of weights."""
    scale = fixed(optional(inputs, 1), "scale")
    if not isinstance(inputs[0], Known):
        raise Refused("makes activations -1 or 1, which spikes (0 and upwards) do not carry; use Quant with signed=0")
    step = finite(scale.name, scale.array).astype(np.float64)
    if not (step > 0).all():
        raise Refused(f"{scale.name} must be positive throughout")
    values = np.where(inputs[0].array >= 0, 1.0, -1.0) * step
    return Known(inputs[0].name, values, step=np.broadcast_to(step, values.shape), bits=1)


def _rounded(x: Array, mode: str) -> Array:
    how = {"ROUND": np.rint, "HALF_EVEN": np.rint, "FLOOR": np.floor, "CEIL": np.ceil, "ROUND_TO_ZERO": np.trunc}
    if mode not in how:
        raise Refused(f"rounds by {mode}; {', '.join(how)} are understood")
    return how[mode](x)


def _staircase(low: OnnxLowering, view: View, step: float, least: int, most: int, *, nearest: bool) -> View:
    """A quantised activation with the levels least..most, each worth `step`."""
    if view.raw:
        return _of_input(low, view, step, least, most)

    def one(x: Value) -> Value:
        if low.is_membrane(x) and least < 0 and not x.nonneg:
            low.note("quantises a membrane, which stays as it is: only what neurons send is quantised")
            return x
        return low.levels(x, step, most, nearest=nearest)

    return view.each(one)


def _of_input(low: OnnxLowering, view: View, step: float, least: int, most: int) -> View:
    """A quantiser right behind the input: the net's integers are its integers."""
    if view.changes or not low.declare(least, most, step):
        low.note("quantises the input on another grid than the input's own, which is left as it is")
    return view
