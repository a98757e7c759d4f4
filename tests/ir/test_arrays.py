"""The array pool: immutable, hashed, the same bytes every time; and files that are damaged or mean harm."""

import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ir.test_text import small
from tests.strategies import integer_nets
from ttfsc.ir import Array, Arrays, Const, Net, TtfsError, codes, load, load_npz, save, save_npz, show

W = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
POOL = {Const("c1.w"): W, Const("a/b"): np.array([1.5, -0.0, np.pi]), Const("t"): np.array([[7, 8]], np.int32)}


def npy(array: Array, *, version: tuple[int, int] = (1, 0)) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version, allow_pickle=True)
    return out.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin-1") + data


def npz(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def fault(path: Path, *, max_bytes: int = 1 << 30) -> str:
    with pytest.raises(TtfsError) as caught:
        load_npz(path, max_bytes=max_bytes)
    assert all(f.code in (codes.DAMAGED, codes.FILE) for f in caught.value.faults)
    return str(caught.value)


# -- the pool ------------------------------------------------------------------------------------------------------


def test_arrays_cannot_change() -> None:
    source = W.copy()
    view = source[:2]
    view.flags.writeable = False  # read-only, but its owner is not
    pool = Arrays({Const("a"): source, Const("b"): view})
    source[:] = 0
    assert np.array_equal(pool[Const("a")], W) and np.array_equal(pool[Const("b")], W[:2])
    with pytest.raises(ValueError, match="read-only"):
        pool[Const("a")][0, 0] = 1


def test_a_frozen_array_is_not_copied() -> None:
    frozen = W.copy()
    frozen.flags.writeable = False
    assert Arrays({Const("a"): frozen})[Const("a")] is frozen


def test_digest_tells_type_shape_and_content_apart() -> None:
    variants: list[Array] = [W, W.astype(np.int16), W.reshape(4, 3), W + np.int8(1), W.T, W.astype(np.float32)]
    variants += [np.zeros(()), np.zeros((0, 3))]
    digests = {Arrays({Const("a"): a}).digest(Const("a")) for a in variants}
    assert len(digests) == len(variants)
    a, b = np.array([0.0]), np.array([-0.0])
    assert Arrays({Const("a"): a}) != Arrays({Const("a"): b})


def test_byte_order_and_memory_layout_make_no_difference() -> None:
    swapped: Array = W.astype(">i4")
    assert Arrays({Const("a"): swapped}) == Arrays({Const("a"): W.astype(np.int32)})
    assert Arrays({Const("a"): np.asfortranarray(W)}) == Arrays({Const("a"): W})


def test_with_and_only_share_and_replace() -> None:
    pool = Arrays(POOL)
    first = pool.digest(Const("t"))
    more = pool.with_({Const("c1.w"): W + np.int8(1), Const("new"): W})
    assert more[Const("t")] is pool[Const("t")] and more.digest(Const("t")) == first
    assert more.digest(Const("c1.w")) != pool.digest(Const("c1.w")) and len(more) == 4
    assert list(more.only([Const("new"), Const("t"), Const("new")])) == ["new", "t"]


# -- files ---------------------------------------------------------------------------------------------------------


def test_pools_come_back_and_bytes_repeat(tmp_path: Path) -> None:
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    save_npz(one, POOL)
    save_npz(two, Arrays(dict(reversed(POOL.items()))))
    assert one.read_bytes() == two.read_bytes()
    assert load_npz(one) == Arrays(POOL)
    with np.load(one) as by_numpy:
        assert set(by_numpy) == set(POOL)


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    arrays: dict[str, Any] = {
        "u": np.zeros((2, 1, 3), np.uint8), "b": np.array([True, False]), "h": np.ones(1, np.float16), "s": np.array(5),
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "big": np.arange(4, dtype=">i4"), "e": np.zeros((0, 2)),
    }  # fmt: skip
    np.savez_compressed(path, **arrays)
    got = load_npz(path)
    assert set(got) == set(arrays)
    for name, array in arrays.items():
        assert np.array_equal(got[Const(name)], array) and got[Const(name)].shape == array.shape


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(net=integer_nets(max_layers=2))
def test_nets_come_back_from_disk(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "net.ttfs"
    save(net, path)
    first = path.read_bytes(), path.with_suffix(".npz").read_bytes()
    again = load(path)
    assert again == net and again.ops[0].loc.line == 2
    save(again, path)
    assert (path.read_bytes(), path.with_suffix(".npz").read_bytes()) == first


def test_missing_and_not_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    assert "error[TTFS013]: no such file" in fault(path)
    assert "no such file" in fault(tmp_path)  # a folder
    path.write_bytes(b"")
    assert "error[TTFS014]: not a readable .npz: File is not a zip file; write it again" in fault(path)
    path.write_bytes(b"PK\x03\x04" + b"\xff" * 500)
    assert "not a readable .npz" in fault(path)


def test_every_truncation_has_a_message(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save_npz(path, POOL)
    whole = path.read_bytes()
    for n in range(0, len(whole), 7):
        path.write_bytes(whole[:n])
        assert "error[TTFS014]" in fault(path)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_damage_reads_or_has_a_message(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save_npz(path, POOL)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        pool = load_npz(path)
    except TtfsError as e:
        assert e.faults
    else:  # the damage hit what nobody reads (dates, versions) or a name: contents are checksummed
        assert all(any(np.array_equal(a, b) for b in POOL.values()) for a in pool.values())


def test_a_flipped_bit_is_named(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", {"c1.w.npy": npy(W), "t.npy": npy(W)}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(W.tobytes())] ^= 1
    path.write_bytes(bytes(content))
    assert fault(path).endswith("@c1.w: not a readable array: Bad CRC-32 for file 'c1.w.npy'")


HEAD = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (npy(np.array([{"a": 1}, None], object)), "number type |O is not allowed: it holds pickled objects"),
        (npy(np.array(["ab"])), "number type <U2 is not allowed"),
        (npy(np.zeros(2, np.complex128)), "number type <c16 is not allowed"),
        (npy(np.zeros(2, [("a", "i4")])), "its header is not one of a plain array"),
        (pickle.dumps(W), "it does not begin as an .npy file does"),
        (b"", "it does not begin as an .npy file does"),
        (npy(W)[:-3], "its header promises 12 bytes, the member has 9"),
        (npy(W) + b"extra", "its header promises 12 bytes, the member has 17"),
        (npy(W)[:40], "its header is not one of a plain array"),
        (header(HEAD % ("<f8", "(1099511627776,)")), "its header promises 8796093022208 bytes, the member has 0"),
        (header(HEAD % ("<f8", "(" + "99999999, " * 50 + ")")), "its header promises"),
        (header(HEAD % ("|i1", "(" + "1, " * 90 + ")"), b"1"), "maximum supported dimension"),
        (header(HEAD % ("<f8", "(-1,)")), "its header is not one of a plain array"),
        (header(HEAD % ("<f8", "(" * 500)), "its header is not one of a plain array"),
        (header("__import__('os').system('true')"), "its header is not one of a plain array"),
        (b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little"), "its header claims 2147483648 bytes"),
        (b"\x93NUMPY\x09\x00", "it does not begin as an .npy file does"),
    ],
)
def test_hostile_members_are_named(tmp_path: Path, content: bytes, why: str) -> None:
    message = fault(npz(tmp_path / "a.npz", {"good.npy": npy(W), "c1.w.npy": content}))
    assert len(message.splitlines()) == 1
    assert "a.npz: error[TTFS014]: @c1.w: not a readable array: " in message
    assert why in message


def test_every_bad_member_is_reported(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", {"a.npy": b"", "b.npy": npy(W), "c.npy": npy(W)[:-1]})
    assert [line.split("@")[1][0] for line in fault(path).splitlines()] == ["a", "c"]


def test_other_compressions_and_doubled_names(tmp_path: Path) -> None:
    assert "compression method 14 is not allowed" in fault(npz(tmp_path / "a.npz", {"a.npy": npy(W)}, zipfile.ZIP_LZMA))
    assert "compression method 12 is not allowed" in fault(
        npz(tmp_path / "b.npz", {"a.npy": npy(W)}, zipfile.ZIP_BZIP2)
    )
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.npy", npy(W))
        archive.writestr("a.npy", npy(W))
    assert "@a: not a readable array: stands twice in the file" in fault(tmp_path / "c.npz")


def test_bombs_are_refused_before_they_unpack(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("huge.npy", "w") as member:
        member.write(header(HEAD % ("|i1", "(209715200,)")))
        for _ in range(200):
            member.write(bytes(1 << 20))
    tracemalloc.start()
    message = fault(path)
    assert "@huge: the file unpacks to 209715" in message and "allowed for its size" in message
    save_npz(tmp_path / "fine.npz", {Const("w"): np.random.default_rng(0).integers(0, 99, 50_000)})
    assert "@w: the file unpacks to 400128 bytes, more than the 1000 allowed" in fault(
        tmp_path / "fine.npz", max_bytes=1000
    )
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


# -- a net in two files --------------------------------------------------------------------------------------------


def saved(tmp_path: Path) -> tuple[Path, Path]:
    save(small(), tmp_path / "net.ttfs")
    return tmp_path / "net.ttfs", tmp_path / "net.npz"


def complaint(path: Path) -> list[str]:
    with pytest.raises(TtfsError) as caught:
        load(path)
    return str(caught.value).replace(str(path.parent) + "/", "").splitlines()


def test_a_pool_of_another_net_is_noticed(tmp_path: Path) -> None:
    text, pool = saved(tmp_path)
    arrays = dict(load_npz(pool))
    save_npz(pool, {**arrays, Const("w"): arrays[Const("w")] * 2})
    (line,) = complaint(text)
    assert line.startswith("net.ttfs:9: error[TTFS014]: @w: content hash is ")
    save_npz(pool, {**arrays, Const("w"): arrays[Const("w")].astype(np.int16)})
    assert complaint(text) == ["net.ttfs:9: error[TTFS014]: @w: is i2<2x4>, but the text was saved with i1<2x4>"]


def test_a_missing_or_broken_pool_is_said_once(tmp_path: Path) -> None:
    text, pool = saved(tmp_path)
    pool.write_bytes(pool.read_bytes()[:-30])
    assert complaint(text) == ["net.npz: error[TTFS014]: not a readable .npz: File is not a zip file; write it again"]
    pool.unlink()
    assert complaint(text) == ["net.npz: error[TTFS013]: no such file"]
    text.write_text(text.read_text().replace("membrane", "loudest"))
    assert len(complaint(text)) == 2


def test_texts_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "net.ttfs"
    assert complaint(path) == ["net.ttfs: error[TTFS013]: no such file"]
    path.mkdir()
    assert complaint(path)[0].startswith("net.ttfs: error[TTFS013]: cannot be read as text: ")
    path.rmdir()
    path.write_bytes(b"net @n {\xff\xfe")
    assert complaint(path)[0].startswith("net.ttfs: error[TTFS013]: cannot be read as text: 'utf-8' codec")
    with path.open("wb") as f:
        f.truncate(1 << 40)  # sparse: a terabyte of zeros
    assert complaint(path)[0].startswith("net.ttfs: error[TTFS001]: 1099511627776 bytes, more than the")


def test_windows_line_ends(tmp_path: Path) -> None:
    text, _ = saved(tmp_path)
    net = load(text)
    text.write_bytes(text.read_bytes().replace(b"\n", b"\r\n"))
    assert load(text) == net and show(load(text)) == show(net)
