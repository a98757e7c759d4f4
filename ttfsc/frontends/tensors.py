"""Weights from a .safetensors file that may be damaged or hostile. Reading one can run no code: it is JSON and numbers.

Layout: eight bytes, the length n of the header (little-endian); n bytes of JSON, {"name": {"dtype", "shape",
"data_offsets": [begin, end]}, "__metadata__": {...}}; then the data, offsets counted from its start.
https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np

from ttfsc.ir import Array, Fault, Loc, TtfsError, codes, show_shape

PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")
MAX_HEADER = 100 << 20  # bytes, as the reference implementation has it
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "u1",
}  # fmt: skip


def load_tensors(path: Path) -> dict[str, Array]:
    """Every tensor of a .safetensors file; half and bfloat16 as float32.

    Raises TtfsError with everything that is wrong: no such file, a pickle, a damaged header, tensors that do not fit.
    """
    loc = Loc(str(path))
    if path.suffix in PICKLES:
        raise TtfsError.one(codes.FILE, _pickle(path), loc=loc)
    if not path.is_file():
        raise TtfsError.one(codes.FILE, "no such file", loc=loc)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER):
                fact = f"is no .safetensors file: a header of {length} bytes in a file of {size}; save it again"
                raise TtfsError.one(codes.DAMAGED, fact, loc=loc)
            header = _header(file.read(length), loc)
            data = np.fromfile(file, np.uint8)
    except OSError as e:
        raise TtfsError.one(codes.FILE, f"cannot be read: {e.strerror}", loc=loc) from e
    found, faults = dict[str, Array](), list[Fault]()
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            found[name] = _tensor(entry, data)
        except ValueError as e:
            faults.append(Fault(codes.DAMAGED, loc, f"tensor {name}", str(e)))
    if faults:
        raise TtfsError(faults)
    return found


def _header(text: bytes, loc: Loc) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as e:
        why = (str(e) or type(e).__name__).splitlines()[0]
        raise TtfsError.one(codes.DAMAGED, f"its header is no JSON: {why}; save it again", loc=loc) from e
    if not isinstance(header, dict):
        raise TtfsError.one(codes.DAMAGED, "its header is no table of tensors; save it again", loc=loc)
    return cast("dict[str, Any]", header)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return dict(pairs)


def _tensor(entry: object, data: Array) -> Array:
    """One tensor of the header; every number in it is checked against the data before it is believed."""
    if not isinstance(entry, dict):
        raise ValueError("its entry is no table")
    table = cast("dict[str, object]", entry)
    dtype, shape, span = table.get("dtype"), _sizes(table.get("shape")), _sizes(table.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise ValueError(f"number type {dtype!r} is none of {', '.join(_TYPES)}")
    if shape is None or span is None or len(span) != 2 or len(shape) > 8:
        raise ValueError(f"shape {table.get('shape')!r}, data_offsets {table.get('data_offsets')!r} describe no tensor")
    kind = np.dtype(_TYPES[dtype])
    begin, end = span
    if not begin <= end <= data.size or end - begin != prod(shape) * kind.itemsize:
        need = prod(shape) * kind.itemsize
        raise ValueError(
            f"{dtype} {show_shape(shape)} takes {need} bytes, its offsets are {begin}..{end} of {data.size}"
        )
    raw = data[begin:end].view(kind).reshape(shape)
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    if dtype == "BOOL":
        return raw.astype(np.bool_)
    return raw.astype(np.float32) if dtype == "F16" else raw.copy()


def _sizes(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    sizes = tuple(n for n in items if isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**48)
    return sizes if len(sizes) == len(items) else None


def _pickle(path: Path) -> str:
    target = path.with_suffix(".safetensors").name
    return (
        "is a pickle, which can run any code when it is read, so it is never loaded; where you trust it, convert it: "
        f"safetensors.torch.save_file(torch.load('{path.name}', weights_only=True), '{target}')"
    )
