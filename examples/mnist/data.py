"""MNIST: a reader for its IDX files, augmentation on the fly, and the digits that ship with the example.

python examples/mnist/data.py --data DIR --out examples/mnist/digits.npz [--count 300]
"""

import argparse
import gzip
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000),
}


class BadDataError(Exception):
    """A data file is missing or is not what it should be; the message names it and says why."""


def read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Read a big-endian IDX file of unsigned bytes with exactly this shape; `path` or, compressed, `path`.gz.

    Never reads more than such a file holds, so a compressed bomb costs no memory.
    """
    packed = path.with_name(path.name + ".gz")
    source = path if path.is_file() else packed
    if not source.is_file():
        raise BadDataError(f"{path}: no such file, and no {packed.name} beside it")
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    size = len(header) + int(np.prod(shape))
    try:
        with gzip.open(source) if source == packed else source.open("rb") as file:
            raw = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadDataError(f"{source}: cannot be read: {error}") from error
    if raw[: len(header)] != header:
        start = raw[: len(header)].hex()
        raise BadDataError(f"{source}: starts with {start}, but an IDX file of bytes {shape} with {header.hex()}")
    if len(raw) != size:
        raise BadDataError(f"{source}: holds {'more' if len(raw) > size else len(raw)} bytes, but {shape} takes {size}")
    return np.frombuffer(raw, np.uint8, offset=len(header)).reshape(shape).copy()


def load(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels uint8 [N, 1, 28, 28] and labels int64 [N] of the "train" or "test" set in `folder`."""
    images, labels, count = FILES[part]
    x = read_idx(folder / images, (count, 28, 28))
    y = read_idx(folder / labels, (count,))
    if y.max() > 9:
        raise BadDataError(f"{folder / labels}: label {y.max()}, but digits are 0 to 9")
    return torch.tensor(x[:, None]), torch.tensor(y.astype(np.int64))


def augment(pixels: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Distort each image by its own affine map and a smooth elastic field: uint8 [N, 1, 28, 28] -> float, integers.

    Rotation +-15 degrees, size +-12 %, shear +-0.15, shift +-2 pixels, elastic displacement of about half a pixel.
    """
    n = len(pixels)

    def within(bound: float, *shape: int) -> torch.Tensor:
        return (torch.rand(n, *shape, generator=rng) * 2 - 1) * bound

    turn, shear, shift = within(0.26), within(0.15), within(2 / 14, 2)
    size_x, size_y = 1 + within(0.12), 1 + within(0.12)
    row_x = torch.stack((size_x * turn.cos(), -size_y * turn.sin() + shear, shift[:, 0]), 1)
    row_y = torch.stack((size_x * turn.sin(), size_y * turn.cos(), shift[:, 1]), 1)
    grid = functional.affine_grid(torch.stack((row_x, row_y), 1), [n, 1, 28, 28], align_corners=False)
    field = functional.interpolate(torch.randn(n, 2, 6, 6, generator=rng) * 0.055, size=(28, 28), mode="bicubic")
    return (
        functional.grid_sample(pixels.float(), grid + field.permute(0, 2, 3, 1), align_corners=False)
        .round()
        .clamp(0, 255)
    )


def main() -> int:
    """Write the first digits of the test set to an .npz file: x uint8 [count, 1, 28, 28], y uint8 [count]."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four MNIST files, .gz or not")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, choices=range(1, 10_001), metavar="N", default=300)
    args = parser.parse_args()
    try:
        x, y = load(args.data, "test")
    except BadDataError as error:
        print(error, file=sys.stderr)
        return 1
    np.savez_compressed(args.out, x=x[: args.count].numpy(), y=y[: args.count].numpy().astype(np.uint8))
    return 0


if __name__ == "__main__":
    sys.exit(main())
