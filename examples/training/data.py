"""Read training images: MNIST's IDX files, CIFAR-10 in its binary version, and folders of one class each (JPEG, PNG).

Nothing read here can run code: pickles are refused, and no file is read further than it should be long.
"""

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Part = Literal["train", "test"]
IDX = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000),
}
CIFAR_BINARY = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
CIFAR_RECORDS = 10_000  # in each file
PICTURES = (".jpg", ".jpeg", ".png")


class BadDataError(Exception):
    """Data is missing or is not what it should be; the message names the place, says why and what helps."""


class Images(NamedTuple):
    """Pixels uint8 [N, C, H, W] and labels int64 [N]."""

    x: Tensor
    y: Tensor


def read_whole(path: Path, size: int) -> bytes:
    """The bytes of `path`, or, compressed, of `path`.gz, which must be `size`; a compressed bomb costs no memory."""
    packed = path.with_name(path.name + ".gz")
    source = path if path.is_file() else packed
    if not source.is_file():
        raise BadDataError(f"{path}: no such file, and no {packed.name} beside it")
    try:
        with gzip.open(source) if source == packed else source.open("rb") as file:
            raw = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadDataError(f"{source}: cannot be read: {error}") from error
    if len(raw) != size:
        raise BadDataError(
            f"{source}: holds {'more' if len(raw) > size else len(raw)} bytes, but it should hold {size}"
        )
    return raw


def read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Read a big-endian IDX file of unsigned bytes with exactly this shape; `path` or `path`.gz."""
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    raw = read_whole(path, len(header) + int(np.prod(shape)))
    if raw[: len(header)] != header:
        start = raw[: len(header)].hex()
        raise BadDataError(f"{path}: starts with {start}, but an IDX file of bytes {shape} with {header.hex()}")
    return np.frombuffer(raw, np.uint8, offset=len(header)).reshape(shape).copy()


def mnist(folder: Path, part: Part) -> Images:
    """MNIST's digits [N, 1, 28, 28] from the two IDX files of a part, plain or `.gz`."""
    images, labels, count = IDX[part]
    x = read_idx(folder / images, (count, 28, 28))
    y = read_idx(folder / labels, (count,))
    if y.max() > 9:
        raise BadDataError(f"{folder / labels}: label {y.max()}, but digits are 0 to 9")
    return Images(torch.tensor(x[:, None]), torch.tensor(y.astype(np.int64)))


def cifar10(folder: Path, part: Part) -> Images:
    """CIFAR-10 [N, 3, 32, 32] from the binary version's `.bin` files or from class folders `PART/CLASS/*.jpg`."""
    for place in (folder, folder / "cifar-10-batches-bin"):
        if any((place / name).exists() for name in CIFAR_BINARY[part]):
            return cifar_binary(place, part)
    if (folder / part).is_dir():
        return class_folders(folder / part, (32, 32))
    for place in (folder, folder / "cifar-10-batches-py"):
        if any((place / name.removesuffix(".bin")).exists() for name in CIFAR_BINARY[part]):
            raise BadDataError(
                f"{place}: holds CIFAR-10's Python version, pickles, which can run any code when they are read; take "
                "the binary version (cifar-10-binary.tar.gz, from the same page) or class folders instead"
            )
    raise BadDataError(
        f"{folder}: holds neither {CIFAR_BINARY[part][0]} nor a folder {part}/ with one folder per class"
    )


def cifar_binary(folder: Path, part: Part) -> Images:
    """CIFAR-10's binary version: records of one label byte and 3 x 32 x 32 pixel bytes."""
    files = [read_whole(folder / name, CIFAR_RECORDS * 3073) for name in CIFAR_BINARY[part]]
    records = np.concatenate([np.frombuffer(raw, np.uint8).reshape(-1, 3073) for raw in files])
    if records[:, 0].max() > 9:
        raise BadDataError(f"{folder}: label {records[:, 0].max()}, but the classes are 0 to 9")
    pixels, labels = records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)
    return Images(torch.tensor(pixels), torch.tensor(labels))


def class_folders(folder: Path, size: tuple[int, int]) -> Images:
    """RGB images [N, 3, *size] of `folder/CLASS/NAME.{jpg,jpeg,png}`; classes and names in alphabetical order.

    Needs Pillow. An image of another size is refused before its pixels are decoded.
    """
    classes = sorted(p for p in folder.iterdir() if p.is_dir())
    paths = [[p for p in sorted(place.iterdir()) if p.suffix.lower() in PICTURES] for place in classes]
    empty = [place.name for place, found in zip(classes, paths, strict=True) if not found]
    if not classes or empty:
        fact = f"no {', '.join(PICTURES)} in {', '.join(empty)}" if empty else "no folders, one is expected per class"
        raise BadDataError(f"{folder}: {fact}")
    pixels = _decode((p for found in paths for p in found), size)
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in paths])
    return Images(torch.tensor(pixels), torch.tensor(labels))


def _decode(paths: Iterable[Path], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Decode images to uint8 [N, 3, *size]; all bad ones are named at once."""
    try:
        from PIL import Image
    except ImportError as error:
        raise BadDataError("reading JPEG and PNG needs Pillow: pip install pillow") from error
    good: list[npt.NDArray[np.uint8]] = []
    bad: list[str] = []
    for path in paths:
        try:
            with Image.open(path, formats=("JPEG", "PNG")) as image:
                if image.size != size[::-1]:
                    bad.append(f"{path}: is {image.size[0]}x{image.size[1]}, but {size[1]}x{size[0]} is expected")
                    continue
                good.append(np.asarray(image.convert("RGB"), np.uint8).transpose(2, 0, 1))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            bad.append(f"{path}: cannot be read as an image: {error}")
    if bad:
        more = f"\nand {len(bad) - 10} more" if len(bad) > 10 else ""
        raise BadDataError("\n".join(bad[:10]) + more)
    return np.stack(good)


def split(images: Images, held: int) -> tuple[Images, Images]:
    """Training images and `held` validation images, taken at even distances: folders hold one class after the other."""
    if not 0 <= held < len(images.x):
        raise BadDataError(f"{held} validation images of {len(images.x)}: there is nothing left to train on")
    kept_out = torch.zeros(len(images.x), dtype=torch.bool)
    kept_out[[(2 * i + 1) * len(images.x) // (2 * held) for i in range(held)]] = True
    return Images(images.x[~kept_out], images.y[~kept_out]), Images(images.x[kept_out], images.y[kept_out])
