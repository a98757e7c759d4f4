"""Distort batches of training images: uint8 [N, C, H, W] in, whole numbers 0..255 out, of any numeric dtype.

Every random number comes from one CPU generator, so a resumed run distorts as the interrupted one would have, on any
device. Each function works on the whole batch at once.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional


def _uniform(rng: Generator, like: Tensor, *shape: int) -> Tensor:
    """Uniform numbers in -1..1, drawn on the CPU, on the device of `like`."""
    return (torch.rand(*shape, generator=rng) * 2 - 1).to(like.device)


def digits(pixels: Tensor, rng: Generator) -> Tensor:
    """Move each digit by its own affine map and a smooth elastic field.

    Rotation +-15 degrees, size +-12 %, shear +-0.15, shift +-2 of 28 pixels, elastic displacement of half a pixel.
    """
    n, height = len(pixels), pixels.shape[2]
    turn, shear = _uniform(rng, pixels, n) * 0.26, _uniform(rng, pixels, n) * 0.15
    shift = _uniform(rng, pixels, n, 2) * 2 / 14
    size = 1 + _uniform(rng, pixels, 2, n) * 0.12
    coarse = (torch.randn(n, 2, 6, 6, generator=rng) * 0.055).to(pixels.device)
    field = functional.interpolate(coarse, size=(height, height), mode="bicubic").permute(0, 2, 3, 1)
    return _affine(pixels, turn, shear, shift, size, field)


def _affine(
    pixels: Tensor, turn: Tensor, shear: Tensor, shift: Tensor, size: Tensor, field: Tensor | float = 0.0
) -> Tensor:
    """Resample at A p + shift + field, p in -1..1: rotation `turn` (radians) [N], `shear` [N], `size` [2, N]."""
    row_x = torch.stack((size[0] * turn.cos(), -size[1] * turn.sin() + shear, shift[:, 0]), 1)
    row_y = torch.stack((size[0] * turn.sin(), size[1] * turn.cos(), shift[:, 1]), 1)
    grid = functional.affine_grid(torch.stack((row_x, row_y), 1), list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels.float(), grid + field, align_corners=False)
    return moved.round_().clamp_(0, 255)


def crop_flip(pixels: Tensor, rng: Generator, border: int = 4) -> Tensor:
    """Shift each image by up to `border` pixels, its edge mirrored, and flip every second one on average."""
    n, _, height, width = pixels.shape
    room = functional.pad(pixels.float(), [border] * 4, mode="reflect").to(pixels.dtype)
    down, right = torch.randint(0, 2 * border + 1, (2, n), generator=rng).to(pixels.device)
    flip = (torch.rand(n, generator=rng) < 0.5).to(pixels.device)
    rows = down[:, None] + torch.arange(height, device=pixels.device)
    columns = right[:, None] + torch.arange(width, device=pixels.device)
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    image = torch.arange(n, device=pixels.device)[:, None, None]
    return room[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def cutout(pixels: Tensor, rng: Generator, side: int = 8) -> Tensor:
    """Grey a square of `side` pixels of each image, partly outside where it falls so (DeVries & Taylor 2017)."""
    n, _, height, width = pixels.shape
    top = torch.randint(0, height, (n, 1), generator=rng).to(pixels.device) - side // 2
    left = torch.randint(0, width, (n, 1), generator=rng).to(pixels.device) - side // 2
    rows, columns = torch.arange(height, device=pixels.device), torch.arange(width, device=pixels.device)
    inside_rows = (rows >= top) & (rows < top + side)
    inside_columns = (columns >= left) & (columns < left + side)
    hole = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    return pixels.masked_fill(hole, 128)


def trivial(pixels: Tensor, rng: Generator) -> Tensor:
    """One random operation of random strength per image, in the manner of AutoAugment.

    As in TrivialAugment (Müller & Hutter, ICCV 2021) the choice is uniform and nothing is searched. Choices: nothing,
    rotation, shear, shift, brightness, contrast, saturation, posterise, solarise.
    """
    n = len(pixels)
    choice = torch.randint(0, 9, (n,), generator=rng).to(pixels.device)
    strength = _uniform(rng, pixels, n)
    moved = _moved(pixels, choice, strength)
    return _coloured(moved, choice, strength).round_().clamp_(0, 255)


def _moved(x: Tensor, choice: Tensor, strength: Tensor) -> Tensor:
    """Operations 1 to 3: rotation up to 30 degrees, shear up to 0.3, shift up to a fifth of the image."""
    turn, shear = (strength * factor * (choice == which) for which, factor in ((1, 0.52), (2, 0.3)))
    shift = (strength * 0.4 * (choice == 3))[:, None] * torch.tensor([1.0, 0.0], device=x.device)
    still = torch.ones(2, len(x), device=x.device)
    return torch.where(((choice >= 1) & (choice <= 3))[:, None, None, None], _affine(x, turn, shear, shift, still), x)


def _coloured(x: Tensor, choice: Tensor, strength: Tensor) -> Tensor:
    """Operations 4 to 8; each blends towards or away from a base image, or cuts levels."""
    x, strength, choice = x.float(), strength[:, None, None, None], choice[:, None, None, None]
    grey = x.mean(1, keepdim=True)
    for which, base in ((4, torch.zeros_like(grey)), (5, grey.mean((2, 3), keepdim=True)), (6, grey)):
        x = torch.where(choice == which, base + (1 + 0.9 * strength) * (x - base), x)
    coarse = 2 ** (strength.abs() * 5).round()  # keep 8 to 3 bits
    x = torch.where(choice == 7, (x / coarse).floor() * coarse, x)
    return torch.where((choice == 8) & (x >= 255 * (1 - strength.abs())), 255 - x, x)
