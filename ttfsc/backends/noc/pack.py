"""Weights as a stream of bits: weight i in bits i*b .. i*b + b - 1, bit j in byte j // 8 at position j % 8."""

import numpy as np
import numpy.typing as npt

from ttfsc.ir import Array

Bytes = npt.NDArray[np.uint8]
Weights = npt.NDArray[np.int8]


def code_of(w: Array, bits: int) -> tuple[int, bool]:
    """Stored bits and whether 1 bit means a sign. Weights of 1 bit are -1 and +1, or -1 and 0, or all three: 2 bits."""
    if bits > 1 or not (w == 1).any():
        return bits, False
    return (1, True) if not (w == 0).any() else (2, False)


def pack(w: Array, bits: int, sign: bool = False) -> bytes:
    """Integers, flattened, as `bits` bits each; the last byte is filled up with zeros."""
    codes = (w.reshape(-1) > 0).astype(np.uint8) if sign else w.reshape(-1).astype(np.int8).view(np.uint8)
    if bits == 8:
        return codes.tobytes()
    codes = codes & np.uint8((1 << bits) - 1)
    if 8 % bits == 0:
        each = 8 // bits
        full = np.zeros((-(-len(codes) // each), each), np.uint8)
        full.reshape(-1)[: len(codes)] = codes
        packed = np.zeros(len(full), np.uint8)
        for i in range(each):
            packed |= full[:, i] << np.uint8(i * bits)
        return packed.tobytes()
    stream = np.unpackbits(codes[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(stream, bitorder="little").tobytes()


def unpack(data: bytes, count: int, bits: int, sign: bool = False) -> Weights:
    """The first `count` weights of a packed stream, int8."""
    raw = np.frombuffer(data, np.uint8)
    if bits == 8:
        return raw[:count].view(np.int8)
    if 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes = ((raw[:, None] >> shifts) & np.uint8((1 << bits) - 1)).reshape(-1)[:count]
    else:
        stream = np.unpackbits(raw, bitorder="little", count=count * bits).reshape(count, bits)
        codes = np.packbits(stream, axis=1, bitorder="little")[:, 0]
    if sign:
        return codes.astype(np.int8) * np.int8(2) - np.int8(1)
    up = np.uint8(8 - bits)  # to the top and back: the arithmetic shift copies the sign
    return (codes << up).view(np.int8) >> up.view(np.int8)


def integers(a: Array, size: int) -> bytes:
    """Integers as little-endian two's complement of `size` bytes each."""
    return np.ascontiguousarray(a, f"<i{size}").tobytes()


def bytes_for(a: Array) -> int:
    """2, 4 or 8: the smallest size that holds every value."""
    low, high = int(a.min(initial=0)), int(a.max(initial=0))
    return next(size for size in (2, 4, 8) if -(1 << (8 * size - 1)) <= low and high < 1 << (8 * size - 1))
