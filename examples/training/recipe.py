"""What a network is trained with: a `Recipe` per network, a `Task` per data set."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Generator, Tensor, nn

from examples.training.data import Images, Part

Augmentation = Callable[[Tensor, Generator], Tensor]


Build = Callable[[int | None, int | None], nn.Sequential]  # (bits, ticks) -> the net as it is trained


@dataclass(frozen=True)
class Task:
    """A data set: its reader, the number of training images kept out for validation, and where its builders are."""

    load: Callable[[Path, Part], Images]
    held: int
    network: Path  # the file that `ttfsc compile` loads builders from


@dataclass(frozen=True)
class Recipe:
    """How one network is trained. Every number can be changed on the command line."""

    build: Build
    builder: str  # the name of the compiled net's builder in the task's file; "" for a teacher, which is not compiled
    augment: tuple[Augmentation, ...]
    calm: float = 0.0  # share of the epochs, at the end, with the first augmentation only
    bits: int = 4
    ticks: int = 10
    epochs: int = 60
    batch: int = 128
    lr: float = 4e-3  # of AdamW; steps learn at a twentieth
    weight_decay: float = 1e-2  # of weights only
    smoothing: float = 0.05  # label smoothing
    average: float = 0.999  # decay of the moving average of the weights
    clip: float = 1.0  # largest gradient norm
    fraction: float = 0.35  # of neurons that fire at the start; 0 leaves the initialisation as it is (batch norm)
    spread: float = 0.5  # of the drives at the start
    widen: float = 1.0  # ranges at the start, in units of their own value, reached after half of the training
    lost: float = 1.0  # weight of the penalty on channels that never fire
    spikes: float = 0.0  # weight of spikes per neuron in the loss
    goal: float = 0.0  # spikes per neuron up to which they cost nothing
    packets: float = 0.0  # weight of packets per frame, in units of the neurons' fan-out
    distil: float = 0.0  # share of the loss that follows the teachers, given by --teacher
    temperature: float = 2.0  # of the distillation
    every: int = 1  # epochs from one validation to the next; the last ten epochs are all validated
    half: bool = False  # bfloat16 where torch's autocast allows it
    seed: int = 0

    def variant(self, build: Build, builder: str) -> "Recipe":
        """The same recipe for another network."""
        return replace(self, build=build, builder=builder)
