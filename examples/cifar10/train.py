"""Train the CIFAR-10 networks of `network.py`, from scratch, on the CPU or on CUDA.

    python -m examples.cifar10.train vgg8 --data DIR --out vgg8.safetensors
    python -m examples.cifar10.train vgg16-dta --data DIR --out vgg16_dta.safetensors

DIR holds CIFAR-10's binary version (`data_batch_1.bin`...) or class folders (`train/CLASS/*.jpg`, `test/CLASS/*.jpg`).
Every tenth training image is kept apart for all choices; the test set is looked at once, at the end, by the compiled C.
docs/training.md has every recipe's command and result. vgg11 and vgg16 are meant for a GPU.
"""

import sys
from functools import partial
from pathlib import Path

from examples.cifar10 import network
from examples.training import augment
from examples.training.data import cifar10
from examples.training.recipe import Recipe, Task
from examples.training.run import main

TASK = Task(load=cifar10, held=5_000, network=Path(__file__).with_name("network.py"))
STRONG = (augment.crop_flip, augment.trivial, augment.cutout)
VGG8 = Recipe(
    partial(network.vgg8, batchnorm=True), "vgg8", (augment.crop_flip, augment.trivial), calm=0.12,
    ticks=16, epochs=90, lr=2e-3, weight_decay=0.05, smoothing=0.1, fraction=0.0, lost=0.0, every=10, half=True,
)  # fmt: skip
RELU = Recipe(
    partial(network.vgg16_relu, batchnorm=True), "vgg16_relu", STRONG, epochs=300, lr=2e-3, weight_decay=0.05,
    smoothing=0.1, average=0.9995, fraction=0.0, lost=0.0, every=5, half=True,
)  # fmt: skip
DTA = Recipe(
    network.vgg16_dta, "vgg16_dta", STRONG, epochs=300, lr=1e-3, weight_decay=0.02, smoothing=0.1, average=0.9995,
    spread=0.4, every=5, half=True,
)  # fmt: skip
RECIPES = {
    "vgg8": VGG8,
    "vgg11-relu": RELU.variant(partial(network.vgg11_relu, batchnorm=True), "vgg11_relu"),
    "vgg16-relu": RELU,
    "vgg11-dta": DTA.variant(network.vgg11_dta, "vgg11_dta"),
    "vgg16-dta": DTA,
}

if __name__ == "__main__":
    sys.exit(main(RECIPES, TASK, __doc__))
