"""Augmentation keeps images images, draws every number from its generator, and does what its name says."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the examples train with torch: pip install 'ttfsc[torch]'")

import torch
from torch import Tensor

from examples.training import augment
from examples.training.recipe import Augmentation

DIGITS = Path(__file__).parents[2] / "examples" / "mnist" / "digits.npz"
ALL = [augment.digits, augment.crop_flip, augment.cutout, augment.trivial]


def generator(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def colourful(count: int = 64) -> Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator(9))


@pytest.mark.parametrize("distort", ALL)
def test_images_stay_images(distort: Augmentation) -> None:
    x = colourful()
    before = x.clone()
    out = distort(x, generator())
    assert torch.equal(x, before)
    assert out.shape == x.shape
    assert bool((out == out.round()).all())
    assert 0 <= out.min() <= out.max() <= 255
    assert not torch.equal(out.to(torch.uint8), x)


@pytest.mark.parametrize("distort", ALL)
def test_the_generator_decides(distort: Augmentation) -> None:
    x = colourful()
    torch.rand(3)  # the global generator has no say
    assert torch.equal(distort(x, generator(1)), distort(x, generator(1)))
    assert not torch.equal(distort(x, generator(1)), distort(x, generator(2)))


def test_digits_move_a_little() -> None:
    with np.load(DIGITS, allow_pickle=False) as digits:
        x = torch.tensor(digits["x"][:64])
    out = augment.digits(x, generator())
    assert 0.85 < out.sum() / x.sum() < 1.15
    assert (out - x).abs().mean() > 5


def test_crops_and_flips_are_windows_of_the_mirrored_image() -> None:
    x = colourful(40)
    out = augment.crop_flip(x, generator(), border=2)
    room = torch.nn.functional.pad(x.float(), [2, 2, 2, 2], mode="reflect").to(torch.uint8)
    kinds = set[tuple[int, int, bool]]()
    for image, source in zip(out, room, strict=True):
        windows = {
            (i, j, flip): window.flip(2) if flip else window
            for i in range(5)
            for j in range(5)
            for window in [source[:, i : i + 32, j : j + 32]]
            for flip in (False, True)
        }
        kinds.add(next(kind for kind, window in windows.items() if torch.equal(image, window)))
    assert {flip for _, _, flip in kinds} == {False, True}
    assert {i for i, _, _ in kinds} == {j for _, j, _ in kinds} == set(range(5))


def test_cutout_greys_one_square() -> None:
    x = torch.zeros(50, 3, 32, 32, dtype=torch.uint8)
    holes = augment.cutout(x, generator(), side=6) == 128
    assert bool((holes.any(1) == holes.all(1)).all())
    rows, columns = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(holes[:, 0].sum((1, 2)), rows * columns)
    assert bool((rows <= 6).all())
    assert int(rows.max()) == int(columns.max()) == 6


def test_trivial_leaves_about_a_ninth_alone() -> None:
    x = colourful(900)
    same = (augment.trivial(x, generator()) == x).flatten(1).all(1).float().mean()
    assert 0.07 < same < 0.2  # the ninth with no operation, and operations of no strength
