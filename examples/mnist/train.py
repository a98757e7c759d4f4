"""Train the MNIST networks of `network.py`, from scratch, on the CPU or on CUDA.

    python -m examples.mnist.train exact-relu --data DIR --out exact_relu.safetensors

Every twelfth training image is kept apart for all choices; the test set is looked at once, at the end, by the compiled
C. All files are safetensors. docs/training.md has every recipe's command and result.
"""

import sys
from dataclasses import replace
from pathlib import Path

from examples.mnist import network
from examples.training import augment
from examples.training.data import mnist
from examples.training.recipe import Recipe, Task
from examples.training.run import main

TASK = Task(load=mnist, held=5_000, network=Path(__file__).with_name("network.py"))
RELU = Recipe(network.exact_relu, "exact_relu", (augment.digits,))
RECIPES = {
    "exact-relu": RELU,
    "exact-relu-2bit": replace(RELU, bits=2, ticks=4, every=5),
    "exact-relu-sparse": replace(RELU, spikes=5.0, goal=0.07, epochs=6, lr=1.5e-3),
    "dta": Recipe(network.dta, "dta", (augment.digits,), lr=3e-3, spread=0.4),
    "teacher": Recipe(
        network.teacher, "", (augment.digits,), bits=0, ticks=0, epochs=36, lr=2e-3, weight_decay=0.05, smoothing=0.0,
        fraction=0.0, lost=0.0, half=True,
    ),
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(RECIPES, TASK, __doc__))
