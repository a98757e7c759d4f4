"""Weights as the kernels read them: rows over the output channels, packed at their width.

A row of n codes of `bits` bits is one plane per power of two in `bits` (5 = 4 + 1), widest plane first, lowest code
bits in the first. In a plane of b bits, byte j holds the codes j, q + j, 2 q + j ... with q the bytes of the plane, so
that one field of every byte is a contiguous run of outputs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttfsc.ir import Array

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Code:
    """weight = mul * code + off, the code unsigned and `bits` wide."""

    bits: int
    mul: int
    off: int


@dataclass(frozen=True, eq=False, slots=True)
class Packed:
    """Rows of one synapse op."""

    code: Code
    row_bytes: int
    data: Bytes  # [rows * row_bytes]


def code_for(weights: Array, bits: int) -> Code:
    """The code of weights declared `bits` wide. One bit is -1 and +1; where zeros occur it takes two."""
    if bits == 1 and not (weights == 0).any():
        return Code(1, 2, -1)
    bits = max(bits, 2)
    return Code(bits, 1, -(2 ** (bits - 1)))


def pack(rows: Array, bits: int) -> Packed:
    """Pack rows [R, n] of integer weights."""
    code = code_for(rows, bits)
    codes = ((rows.astype(np.int16) - code.off) // code.mul).astype(np.uint8)
    if code.bits == 8:
        return Packed(code, rows.shape[1], codes.ravel())
    planes, done = list[Bytes](), 0
    for b in (4, 2, 1):
        if code.bits & b:
            planes.append(_plane((codes >> done).astype(np.uint8) & np.uint8(2**b - 1), b))
            done += b
    data = np.concatenate(planes, axis=1)
    return Packed(code, data.shape[1], data.ravel())


def unpack(packed: Packed, n: int) -> Array:
    """The weights again, [R, n]: what `ttfs_unpack` does, for tests and tools."""
    rows = packed.data.reshape(-1, packed.row_bytes)
    codes = np.zeros((len(rows), n), np.int16)
    start = done = 0
    for b in (8,) if packed.code.bits == 8 else (4, 2, 1):
        if packed.code.bits & b:
            fields = 8 // b
            q = -(-n // fields)
            plane = rows[:, start : start + q].astype(np.int16)
            spread = np.concatenate([(plane >> (f * b)) & (2**b - 1) for f in range(fields)], axis=1)[:, :n]
            codes |= spread << done
            start, done = start + q, done + b
    return codes * packed.code.mul + packed.code.off


def _plane(codes: Bytes, b: int) -> Bytes:
    """[R, n] codes of b bits -> [R, q] bytes."""
    fields = 8 // b
    q = -(-codes.shape[1] // fields)
    padded = np.zeros((len(codes), fields * q), np.uint8)
    padded[:, : codes.shape[1]] = codes
    out = np.zeros((len(codes), q), np.uint8)
    for f in range(fields):
        out |= padded[:, f * q : (f + 1) * q] << (f * b)
    return out
