"""The array pool beside a net: immutable, content-hashed, stored as one .npz; nothing from outside is trusted."""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NewType

import numpy as np
import numpy.typing as npt

from ttfsc.ir import codes
from ttfsc.ir.faults import Fault, Loc, TtfsError

Const = NewType("Const", str)
Array = npt.NDArray[Any]

DTYPES = {"i1": np.int8, "u1": np.uint8, "i2": np.int16, "u2": np.uint16, "i4": np.int32, "i8": np.int64}
DTYPES_REAL = {"f4": np.float32, "f8": np.float64}
MAX_BYTES = 8 << 30  # a pool larger than this is refused before anything is read


class Arrays(Mapping[Const, Array]):
    """Named read-only arrays. Equal when names, types, shapes and contents are."""

    __slots__ = ("_digests", "_items")

    def __init__(self, items: Mapping[Const, Array] | None = None) -> None:
        self._items = dict[Const, Array]()
        self._digests = dict[Const, str]()
        if isinstance(items, Arrays):
            self._digests.update(items._digests)
        for name, array in (items or {}).items():
            kept = array if not array.flags.writeable else np.ascontiguousarray(array).copy()
            kept.flags.writeable = False
            self._items[name] = kept

    def __getitem__(self, name: Const) -> Array:
        return self._items[name]

    def __iter__(self) -> Iterator[Const]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def with_(self, changes: Mapping[Const, Array]) -> "Arrays":
        """A pool with these arrays added or replaced."""
        merged = Arrays({**self._items, **changes})
        merged._digests.update({n: d for n, d in self._digests.items() if n not in changes})
        return merged

    def only(self, names: Iterator[Const] | list[Const]) -> "Arrays":
        """A pool of these names alone, in this order."""
        kept = list(dict.fromkeys(names))
        pool = Arrays({n: self._items[n] for n in kept})
        pool._digests.update({n: self._digests[n] for n in kept if n in self._digests})
        return pool

    def digest(self, name: Const) -> str:
        """sha256 over number type, shape and content, as hex; computed once."""
        if name not in self._digests:
            array = self._items[name]
            h = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
            h.update(np.ascontiguousarray(array).data)
            self._digests[name] = h.hexdigest()
        return self._digests[name]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Arrays):
            return NotImplemented
        return set(self) == set(other) and all(
            self[n] is other[n] or self.digest(n) == other.digest(n) for n in self
        )

    def __hash__(self) -> int:
        return hash(frozenset(self._items))


EMPTY = Arrays()


def save_npz(path: Path, arrays: Mapping[Const, Array]) -> None:
    """Write the pool; the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in sorted(arrays):
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)


def load_npz(path: Path, *, max_bytes: int = MAX_BYTES) -> Arrays:
    """Read a pool from a file that may be damaged or hostile.

    Raises TtfsError: missing, not a zip of .npy files, truncated, pickled objects, or larger unpacked than max_bytes.
    """
    loc = Loc(str(path))
    if not path.is_file():
        raise TtfsError.one(codes.FILE, "no such file", loc=loc)
    items, faults = dict[Const, Array](), list[Fault]()
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
            if total > max_bytes:
                raise TtfsError.one(
                    codes.DAMAGED, f"unpacks to {total} bytes, more than the {max_bytes} allowed", loc=loc
                )
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                try:
                    with archive.open(info) as member:
                        items[Const(name)] = _read_member(member, info.file_size)
                except (ValueError, EOFError, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as e:
                    faults.append(Fault(codes.DAMAGED, loc, f"@{name}", f"not a readable array: {_first_line(e)}"))
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as e:
        raise TtfsError.one(codes.DAMAGED, f"not a readable .npz: {_first_line(e)}; write it again", loc=loc) from e
    if faults:
        raise TtfsError(faults)
    return Arrays(items)


def _read_member(member: IO[bytes], size: int) -> Array:
    """One .npy member; its header must promise no more bytes than the member has, so nothing is allocated on its word."""
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"unknown .npy version {version}")
    shape, fortran, dtype = read(member)
    if dtype.hasobject or dtype.kind not in "iufb":
        raise ValueError(f"number type {dtype} is not allowed")
    if any(n < 0 for n in shape):
        raise ValueError(f"negative dimension in {shape}")
    count = 1
    for n in shape:
        count *= n
    if count * dtype.itemsize > size:
        raise ValueError(f"header promises {count * dtype.itemsize} bytes, the member has {size}")
    try:
        data = member.read(count * dtype.itemsize)
    except zlib.error as e:
        raise ValueError(str(e)) from e
    if len(data) < count * dtype.itemsize:
        raise ValueError("truncated")
    array = np.frombuffer(data, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _first_line(e: BaseException) -> str:
    return (str(e) or type(e).__name__).splitlines()[0]
