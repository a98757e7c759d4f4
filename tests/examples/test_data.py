"""Readers of training data: the formats as they are, and everything else refused with its place and a way out."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the examples train with torch: pip install 'ttfsc[torch]'")

import torch

from examples.training import data
from tests.nn.common import numbers


def idx(*shape: int, body: bytes | None = None) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return header + (bytes(range(int(np.prod(shape)))) if body is None else body)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_is_read_plain_and_compressed(tmp_path: Path, packed: bool) -> None:
    raw = idx(2, 3, 4)
    (tmp_path / ("x.gz" if packed else "x")).write_bytes(gzip.compress(raw, mtime=0) if packed else raw)
    got = data.read_idx(tmp_path / "x", (2, 3, 4))
    assert got.dtype == np.uint8
    assert np.array_equal(got, np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x", b"", "holds 0 bytes, but it should hold 40"),
        ("x", b"PK\x03\x04" + bytes(36), "starts with 504b0304"),
        ("x", idx(2, 4, 3), "starts with 00000803000000020000000400000003"),
        ("x", idx(2, 3, 4)[:-1], "holds 39 bytes"),
        ("x", idx(2, 3, 4) + b"\0", "holds more bytes"),
        ("x.gz", b"not gzip at all", "cannot be read"),
        ("x.gz", gzip.compress(idx(2, 3, 4), mtime=0)[:-12], "cannot be read"),
        ("x.gz", gzip.compress(idx(2, 3, 4, body=bytes(10_000_000)), mtime=0), "holds more bytes"),
        ("y", b"", "no such file"),
    ],
)
def test_hostile_idx_files_are_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(data.BadDataError, match=says):
        data.read_idx(tmp_path / "x", (2, 3, 4))


def test_labels_are_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.IDX, "test", ("images", "labels", 2))
    (tmp_path / "images").write_bytes(idx(2, 28, 28, body=bytes(2 * 28 * 28)))
    (tmp_path / "labels").write_bytes(idx(2, body=bytes([9, 3])))
    x, y = data.mnist(tmp_path, "test")
    assert x.shape == (2, 1, 28, 28)
    assert numbers(y) == [9, 3]
    (tmp_path / "labels").write_bytes(idx(2, body=bytes([9, 10])))
    with pytest.raises(data.BadDataError, match="label 10"):
        data.mnist(tmp_path, "test")


def test_cifar_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two records of label, red, green, blue; found in the folder the archive unpacks to."""
    monkeypatch.setattr(data, "CIFAR_RECORDS", 2)
    place = tmp_path / "cifar-10-batches-bin"
    place.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    raw = b"".join(bytes([label]) + image.tobytes() for label, image in zip((7, 0), pixels, strict=True))
    (place / "test_batch.bin").write_bytes(raw)
    x, y = data.cifar10(tmp_path, "test")
    assert np.array_equal(x.numpy(), pixels)
    assert numbers(y) == [7, 0]
    (place / "test_batch.bin").write_bytes(bytes([10]) + raw[1:])
    with pytest.raises(data.BadDataError, match="label 10"):
        data.cifar10(tmp_path, "test")
    (place / "test_batch.bin").write_bytes(raw[:-1])
    with pytest.raises(data.BadDataError, match="holds 6145 bytes, but it should hold 6146"):
        data.cifar10(tmp_path, "test")
    (place / "data_batch_1.bin").write_bytes(raw)
    with pytest.raises(data.BadDataError, match=r"data_batch_2\.bin: no such file"):
        data.cifar10(tmp_path, "train")


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-py"])
def test_pickles_are_refused_unopened(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "test_batch").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(data.BadDataError, match=r"pickles, which can run any code.*cifar-10-binary\.tar\.gz"):
        data.cifar10(tmp_path, "test")


def test_an_empty_folder_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(data.BadDataError, match=r"neither test_batch\.bin nor a folder test/"):
        data.cifar10(tmp_path, "test")


def picture(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", kind: str = "PNG") -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def test_class_folders(tmp_path: Path) -> None:
    """Classes and names in alphabetical order; grey images become RGB; other files are passed over."""
    pytest.importorskip("PIL", reason="JPEG and PNG need Pillow: pip install pillow")
    colour = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    grey = np.arange(1024, dtype=np.uint32).astype(np.uint8).reshape(32, 32)
    for name, content in {
        "b/2.png": picture(colour),
        "b/1.JPG": picture(colour, "JPEG"),
        "a/x.png": picture(grey),
    }.items():
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).write_bytes(content)
    (tmp_path / "train" / "b" / "notes.txt").write_text("not an image")
    x, y = data.cifar10(tmp_path, "train")
    assert x.shape == (3, 3, 32, 32)
    assert x.dtype == torch.uint8
    assert numbers(y) == [0, 1, 1]
    assert np.array_equal(x[0].numpy(), np.broadcast_to(grey, (3, 32, 32)))
    assert np.array_equal(x[2].numpy(), colour.transpose(2, 0, 1))


def test_bad_pictures_are_named_all_at_once(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="JPEG and PNG need Pillow: pip install pillow")
    (tmp_path / "a").mkdir()
    good = picture(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))
    gif = picture(np.zeros((32, 32), np.uint8), "GIF")
    files = {
        "0.png": b"",
        "1.png": good[:200],
        "2.png": picture(np.zeros((32, 31), np.uint8)),
        "3.jpg": gif,
        "4.png": good,
    }
    for name, content in files.items():
        (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(data.BadDataError) as caught:
        data.class_folders(tmp_path, (32, 32))
    lines = str(caught.value).split("\n")
    assert [Path(line.split(": ")[0]).name for line in lines] == ["0.png", "1.png", "2.png", "3.jpg"]
    assert "is 31x32, but 32x32 is expected" in lines[2]
    (tmp_path / "b").mkdir()
    with pytest.raises(data.BadDataError, match=r"no \.jpg, \.jpeg, \.png in b"):
        data.class_folders(tmp_path, (32, 32))


def test_without_pillow_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"")
    with pytest.raises(data.BadDataError, match="pip install pillow"):
        data.class_folders(tmp_path, (32, 32))


@pytest.mark.parametrize(("count", "held"), [(60, 5), (50, 7), (9, 8), (4, 0)])
def test_split_takes_images_at_even_distances(count: int, held: int) -> None:
    images = data.Images(torch.arange(count), torch.arange(count))
    kept, out = data.split(images, held)
    assert len(out.x) == held
    assert sorted(numbers(kept.x) + numbers(out.x)) == list(range(count))
    gaps = {b - a for a, b in zip(numbers(out.x), numbers(out.x)[1:], strict=False)}
    assert all(abs(gap - count / held) < 1 for gap in gaps)
    assert torch.equal(kept.x, kept.y)


def test_split_leaves_something_to_train_on() -> None:
    with pytest.raises(data.BadDataError, match="nothing left to train on"):
        data.split(data.Images(torch.zeros(3), torch.zeros(3)), 3)
