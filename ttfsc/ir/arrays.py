"""The array pool beside a net: immutable, content-hashed, stored as one .npz; nothing from outside is trusted."""

import hashlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, NewType, cast

import numpy as np
import numpy.typing as npt

from ttfsc.ir import codes
from ttfsc.ir.faults import Fault, Loc, TtfsError

Const = NewType("Const", str)
Array = npt.NDArray[Any]

MAX_BYTES = 8 << 30  # a pool larger than this is refused before anything is read
_SLACK, _RATIO = 64 << 20, 100  # and so is one that unpacks to more than 64 MiB plus 100 times its file

_HEADER = re.compile(  # what numpy writes; nothing else is evaluated, so nothing else can surprise
    r"\{'descr': '([<>|=][a-zA-Z][0-9]{0,4})', 'fortran_order': (True|False), "
    r"'shape': \(((?:[0-9]{1,18}(?:, ?)?)*)\), ?\} *\n?"
)
_BROKEN = (  # everything that zipfile and zlib raise on hostile bytes
    ValueError, EOFError, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, OverflowError, MemoryError,
    zlib.error, struct.error,
)  # fmt: skip


class Arrays(Mapping[Const, Array]):
    """Named read-only arrays. Equal when names, types, shapes and contents are."""

    __slots__ = ("_digests", "_items")

    def __init__(self, items: Mapping[Const, Array] | None = None) -> None:
        self._items = dict[Const, Array]()
        self._digests = dict[Const, str]()
        if isinstance(items, Arrays):
            self._digests.update(items._digests)
        for name, array in (items or {}).items():
            self._items[name] = _frozen(array)

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
            h.update(np.asarray(array, order="C").data)
            self._digests[name] = h.hexdigest()
        return self._digests[name]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Arrays):
            return NotImplemented
        return set(self) == set(other) and all(self[n] is other[n] or self.digest(n) == other.digest(n) for n in self)

    def __hash__(self) -> int:
        return hash(frozenset(self._items))


EMPTY = Arrays()


def _frozen(array: Array) -> Array:
    """The array in native byte order, unable to change: itself where that is certain, else a copy."""
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    owner = cast(object, native.base)
    safe = owner is None or isinstance(owner, bytes) or (isinstance(owner, np.ndarray) and not owner.flags.writeable)
    if native.flags.writeable or not safe:
        native = np.array(native, order="C")
        native.flags.writeable = False
    return native


def save_npz(path: Path, arrays: Mapping[Const, Array]) -> None:
    """Write the pool; the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in sorted(arrays):
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(arrays[name], order="C"), (1, 0), allow_pickle=False)


def load_npz(path: Path, *, max_bytes: int = MAX_BYTES) -> Arrays:
    """Read a pool from a file that may be damaged or hostile.

    Raises TtfsError naming file and array: missing, not a zip of .npy files, truncated, pickled objects, a name given
    twice, or too large unpacked (max_bytes, and 64 MiB plus 100 times the file). Memory stays within what the archive
    declares for its members: nothing is allocated on the word of an array's header.
    """
    loc = Loc(str(path))
    if not path.is_file():
        raise TtfsError.one(codes.FILE, "no such file", loc=loc)
    items, faults = dict[Const, Array](), list[Fault]()
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total, largest = sum(m.file_size for m in members), max(members, key=_size, default=None)
            allowed = min(max_bytes, _SLACK + _RATIO * path.stat().st_size)
            if largest is not None and total > allowed:
                fact = f"the file unpacks to {total} bytes, more than the {allowed} allowed for its size"
                raise TtfsError.one(codes.DAMAGED, fact, loc=loc, subject=f"@{_name(largest)}")
            for info in members:
                try:
                    if _name(info) in items:
                        raise ValueError("stands twice in the file")
                    items[_name(info)] = _read_member(archive, info)
                except _BROKEN as e:
                    fact = f"not a readable array: {_first_line(e)}"
                    faults.append(Fault(codes.DAMAGED, loc, f"@{_name(info)}", fact))
    except _BROKEN as e:
        raise TtfsError.one(codes.DAMAGED, f"not a readable .npz: {_first_line(e)}; write it again", loc=loc) from e
    if faults:
        raise TtfsError(faults)
    return Arrays(items)


def _name(info: zipfile.ZipInfo) -> Const:
    return Const(info.filename.removesuffix(".npy"))


def _size(info: zipfile.ZipInfo) -> int:
    return info.file_size


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One .npy member. Its header must promise exactly the bytes that the archive says the member has."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"compression method {info.compress_type} is not allowed")
    with archive.open(info) as member:
        magic = member.read(8)
        if magic[:6] != b"\x93NUMPY" or magic[6:7] not in (b"\1", b"\2", b"\3"):
            raise ValueError("it does not begin as an .npy file does")
        width = 2 if magic[6] == 1 else 4
        length = int.from_bytes(member.read(width), "little")
        if length > 1 << 16:
            raise ValueError(f"its header claims {length} bytes")
        match = _HEADER.fullmatch(member.read(length).decode("latin-1"))
        if match is None:
            raise ValueError("its header is not one of a plain array")
        dtype, shape = _number_type(match[1]), tuple(int(n) for n in re.findall(r"[0-9]{1,18}", match[3]))
        size = prod(shape) * dtype.itemsize
        held = info.file_size - len(magic) - width - length
        if size != held:
            raise ValueError(f"its header promises {size} bytes, the member has {held}")
        data = member.read(size)
        if len(data) < size or member.read(1):  # the second read makes zipfile compare the checksum
            raise ValueError("its data is truncated")
    array = np.frombuffer(data, dtype)
    return array.reshape(shape[::-1]).T if match[2] == "True" else array.reshape(shape)


def _number_type(descr: str) -> np.dtype[Any]:
    if descr[1:] not in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "b1"):
        raise ValueError(f"number type {descr} is not allowed" + (": it holds pickled objects" if "O" in descr else ""))
    return np.dtype(descr)


def _first_line(e: BaseException) -> str:
    return (str(e) or type(e).__name__).splitlines()[0]
