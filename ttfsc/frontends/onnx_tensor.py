"""ONNX tensors to arrays. Nothing in the file is believed: sizes are compared with bytes before anything is made."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from ttfsc.frontends.value import Constant, Refused
from ttfsc.ir import Array, codes

MAX_ELEMENTS = 1 << 28  # of one tensor: a gigabyte of float32, more than any layer that a chip here could hold
_MAX_AXES = 32

_T = onnx.TensorProto
BITS: dict[int, int] = {_T.UINT4: 4, _T.INT4: 4, 25: 2, 26: 2}  # packed, low bits first; 25, 26: UINT2, INT2
SIGNED: tuple[int, ...] = (_T.INT8, _T.INT16, _T.INT32, _T.INT4, 26)
_TYPES: dict[int, str] = {
    _T.FLOAT: "<f4", _T.UINT8: "<u1", _T.INT8: "<i1", _T.UINT16: "<u2", _T.INT16: "<i2", _T.INT32: "<i4",
    _T.INT64: "<i8", _T.BOOL: "|b1", _T.FLOAT16: "<f2", _T.DOUBLE: "<f8", _T.UINT32: "<u4", _T.UINT64: "<u8",
    _T.BFLOAT16: "<u2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known(Constant):
    """A tensor whose content is known when compiling."""

    elem: int = _T.FLOAT  # onnx.TensorProto.DataType
    step: Array | None = None  # `array` is step * integer; broadcasts against it
    bits: int = 0  # width of that integer


def text(s: str | bytes) -> str:
    """A string of the file; protobuf hands out bytes where it is no UTF-8."""
    return s.decode("utf-8", "replace") if isinstance(s, bytes) else s


def limits_of(elem: int) -> tuple[int, int]:
    """Smallest and largest number of an integer type."""
    bits = BITS.get(elem) or 8 * np.dtype(_TYPES.get(elem, "<i8")).itemsize
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if elem in SIGNED else (0, 2**bits - 1)


def type_name(elem: int) -> str:
    """FLOAT, INT4, ..."""
    try:
        return str(_T.DataType.Name(elem))  # pyright: ignore[reportArgumentType]
    except ValueError:
        return f"type {elem}"


def checked_size(dims: list[int] | tuple[int, ...]) -> int:
    """Number of elements; refuses what is negative or absurd."""
    if any(d < 0 for d in dims):
        raise Refused(f"has the dimensions {list(dims)}, of which one is negative; write the file again", codes.DAMAGED)
    if len(dims) > _MAX_AXES:
        raise Refused(f"claims {len(dims)} axes; at most {_MAX_AXES} are read", codes.DAMAGED)
    size = prod(dims)
    if size > MAX_ELEMENTS:
        fact = f"claims {size} elements {list(dims)}; at most {MAX_ELEMENTS} are read"
        raise Refused(fact, codes.DAMAGED)
    return size


def known(tensor: onnx.TensorProto, folder: Path | None, name: str = "") -> Known:
    """The tensor's content; external data from below `folder` only. Refuses damaged and hostile tensors."""
    dims, elem = tuple(tensor.dims), int(tensor.data_type)
    size = checked_size(dims)
    if elem not in _TYPES and elem not in BITS:
        raise Refused(f"is of type {type_name(elem)}, which is not understood; use float or integer numbers")
    width = BITS.get(elem) or 8 * np.dtype(_TYPES[elem]).itemsize
    wanted = (size * width + 7) // 8
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if external or tensor.HasField("raw_data") or not size:
        data = _external(tensor, folder, wanted) if external else tensor.raw_data
        if len(data) != wanted:
            fact = f"claims {size} numbers {list(dims)}, {wanted} bytes, but holds {len(data)}; write the file again"
            raise Refused(fact, codes.DAMAGED)
        flat = (
            _unpacked(np.frombuffer(data, np.uint8), elem, size) if elem in BITS else np.frombuffer(data, _TYPES[elem])
        )
    else:
        flat = _typed(tensor, elem, size)
    if elem == _T.BFLOAT16:
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    if elem == _T.FLOAT16:
        flat = flat.astype(np.float32)
    return Known(name or text(tensor.name), flat.reshape(dims), elem)


def _typed(tensor: onnx.TensorProto, elem: int, size: int) -> Array:
    """Numbers in the field of their type instead of raw bytes."""
    numbers: Array
    if elem == _T.FLOAT:
        numbers, stored = np.array(tensor.float_data, np.float32), size
    elif elem == _T.DOUBLE:
        numbers, stored = np.array(tensor.double_data, np.float64), size
    elif elem == _T.INT64:
        numbers, stored = np.array(tensor.int64_data, np.int64), size
    elif elem in (_T.UINT32, _T.UINT64):
        numbers, stored = np.array(tensor.uint64_data, np.uint64), size
    else:
        numbers = np.array(tensor.int32_data, np.int64)
        stored = (size * BITS[elem] + 7) // 8 if elem in BITS else size
    if len(numbers) != stored:
        fact = f"claims {size} numbers {list(tensor.dims)} but holds {len(numbers)}; write the file again"
        raise Refused(fact, codes.DAMAGED)
    if elem in BITS:
        return _unpacked((numbers & 255).astype(np.uint8), elem, size)
    if elem == _T.FLOAT16:
        return numbers.astype(np.uint16).view(np.float16)
    return numbers.astype(_TYPES[elem])


def _unpacked(data: Array, elem: int, size: int) -> Array:
    """Numbers of 2 or 4 bits, several to a byte."""
    bits = BITS[elem]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    flat = np.bitwise_and(data[:, None] >> shifts, 2**bits - 1).reshape(-1)[:size]
    numbers: npt.NDArray[np.int8] = flat.astype(np.int8)
    if elem in SIGNED:
        numbers[numbers >= 2 ** (bits - 1)] -= np.int8(2**bits)
    return numbers


def _external(tensor: onnx.TensorProto, folder: Path | None, wanted: int) -> bytes:
    """The bytes of a tensor that lie in a file beside the model, and nowhere else."""
    entries = {text(entry.key): text(entry.value) for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None or not location:
        raise Refused("says that its data lies in another file, but not in which", codes.DAMAGED)
    root = folder.resolve()
    path = (root / location).resolve()
    if not path.is_relative_to(root):
        fact = f"takes its data from {location!r}, outside the model's folder; only files below it are opened"
        raise Refused(fact, codes.FILE)
    if not path.is_file():
        raise Refused(f"takes its data from {location!r}, which is missing; put the file beside the model", codes.FILE)
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(wanted)))
    except ValueError:
        raise Refused("has an offset or a length of external data that is no number", codes.DAMAGED) from None
    held = path.stat().st_size
    if length != wanted or offset < 0 or offset + wanted > held:
        fact = f"wants {wanted} bytes at {offset} of {location!r}, entry says {length}, the file has {held}"
        raise Refused(fact, codes.DAMAGED)
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(wanted)
