"""VGG networks, the one home of their plan: 284,682 neurons and 33.6 M weights for VGG16 as the DTA-TTFS paper has it.

Wei et al., ICCV 2023: 64 64 M 128 128 M 256x3 M 512x3 M 512x3 M, fully connected 512-4096-4096-10, no bias, no batch
norm. `vgg` is the integer net that mapping wants, `vgg16` the real-valued one that is compiled.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ttfsc.ir import (
    OPEN,
    Analog,
    Array,
    Builder,
    Const,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Input,
    MaxPool,
    Net,
    Ref,
)

Kernel = Literal["hold", "ramp"]
Weights = Callable[[str, tuple[int, ...]], Const]  # name and shape; the sum over all axes but the first is the fan-in
Theta = Callable[[str, int, bool], Const]  # name, fan-in, whether the input is pixels

VGG16: Sequence[int] = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: max pool
DENSE: Sequence[int] = (4096, 4096)
CLASSES = 10


def vgg(plan: Sequence[int] = VGG16, dense: Sequence[int] = DENSE, side: int = 32, seed: int | None = None) -> Net:
    """An integer VGG; weights and thresholds zero, which is all that mapping looks at, or random from a seed."""
    rng, b = None if seed is None else np.random.default_rng(seed), Builder("vgg16", ticks=10)

    def weights(name: str, shape: tuple[int, ...]) -> Const:
        return b.array(name, np.zeros(shape, np.int8) if rng is None else rng.integers(-7, 8, shape, np.int8))

    def theta(name: str, fan_in: int, pixels: bool) -> Const:
        top = 0 if rng is None else round(2 * fan_in**0.5 * (300 if pixels else 10))
        return b.array(name, (-(-top * (10 - np.arange(10)) // 10))[None].astype(np.int32))

    return _stacked(b, plan, dense, side, weights, theta, kernel="ramp", bits=4, width=32)


def vgg16(kernel: Kernel, seed: int = 0) -> Net:
    """Random real weights, scaled so that about a third of the neurons of a layer fire on random pixels."""
    rng, b = np.random.default_rng(seed), Builder("vgg16")

    def weights(name: str, shape: tuple[int, ...]) -> Const:
        return b.array(name, _random(rng, shape))

    one = b.array("theta", np.ones(1, np.float32))

    def theta(name: str, fan_in: int, pixels: bool) -> Const:
        return one

    return _stacked(b, VGG16, DENSE, 32, weights, theta, kernel=kernel, bits=0, width=0)


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    scale = np.float32((2 / np.prod(shape[1:])) ** 0.5)
    return (rng.standard_normal(shape, np.float32) * scale).astype(np.float32)


def _stacked(
    b: Builder,
    plan: Sequence[int],
    dense: Sequence[int],
    side: int,
    weights: Weights,
    theta: Theta,
    *,
    kernel: Kernel,
    bits: int,
    width: int,
) -> Net:
    """The layers of a plan; only pixels are held, which is all that a first layer can do with them."""
    here = b.add(Input(name="in", type=Analog((3, side, side), 0, 255), scale=1 / 255)).name
    channels = 3

    def fire(name: str, fan_in: int) -> str:
        table = theta(f"{name}.theta", fan_in, here == "in")
        return b.add(Fire(name=name, type=OPEN, v=Ref(f"{name}.v"), theta=table, width=width)).name

    for i, out in enumerate(plan):
        if not out:
            here = b.add(MaxPool(name=f"p{i}", type=OPEN, x=Ref(here), kernel=(2, 2), stride=(2, 2))).name
            side //= 2
            continue
        w, how = weights(f"c{i}.w", (out, channels, 3, 3)), "hold" if here == "in" else kernel
        b.add(Conv2d(name=f"c{i}.v", type=OPEN, x=Ref(here), w=w, pad=(1, 1, 1, 1), bits=bits, kernel=how))
        here, channels = fire(f"c{i}", 9 * channels), out
    here, size = b.add(Flatten(name="flat", type=OPEN, x=Ref(here))).name, channels * side * side
    for i, out in enumerate(dense):
        w = weights(f"f{i}.w", (out, size))
        b.add(Dense(name=f"f{i}.v", type=OPEN, x=Ref(here), w=w, bits=bits, kernel=kernel))
        here, size = fire(f"f{i}", size), out
    b.add(Dense(name="out.v", type=OPEN, x=Ref(here), w=weights("out.w", (CLASSES, size)), bits=bits, kernel=kernel))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("out.v"),), rule="membrane", width=width))
    return b.net()
