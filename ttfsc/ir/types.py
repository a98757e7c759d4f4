"""The types of values: what flows, in which shape, and when.

A window is part of a type (semantics.md, Time and spikes): `spikes<16x24x24, 10..20>` says that every neuron of that
layer fires inside the ticks 10..19 or never. Real-valued nets use windows of length one, with real time inside.
"""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

Shape = tuple[int, ...]


def show_shape(shape: Shape) -> str:
    """(16, 24, 24) -> '16x24x24'."""
    return "x".join(map(str, shape))


@dataclass(frozen=True, slots=True)
class Analog:
    """Integers low..high, both included, present at the outset: pixels of a direct-coded first layer."""

    word: ClassVar[str] = "analog"
    shape: Shape
    low: int
    high: int

    def __str__(self) -> str:
        return f"analog<{show_shape(self.shape)}, {self.low}..{self.high}>"

    @property
    def size(self) -> int:
        """How many numbers."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Spikes:
    """At most one spike per neuron, inside the ticks opens..closes-1."""

    word: ClassVar[str] = "spikes"
    shape: Shape
    opens: int
    closes: int

    def __str__(self) -> str:
        return f"spikes<{show_shape(self.shape)}, {self.opens}..{self.closes}>"

    @property
    def size(self) -> int:
        """How many numbers."""
        return prod(self.shape)

    @property
    def ticks(self) -> int:
        """T, the window's length; 1 in real-valued nets."""
        return self.closes - self.opens


@dataclass(frozen=True, slots=True)
class Potential:
    """A membrane. Windowed: settled for whoever opens at `opens`. Streaming: it evolves over opens..closes."""

    word: ClassVar[str] = "potential"
    shape: Shape
    opens: int
    closes: int | None = None  # None: windowed

    def __str__(self) -> str:
        end = "" if self.closes is None else self.closes
        return f"potential<{show_shape(self.shape)}, {self.opens}..{end}>"

    @property
    def size(self) -> int:
        """How many numbers."""
        return prod(self.shape)

    @property
    def streaming(self) -> bool:
        """Whether it evolves tick by tick, with its inputs' window as its own."""
        return self.closes is not None


@dataclass(frozen=True, slots=True)
class Scores:
    """One number per class, read in the window opens..closes; the largest wins."""

    word: ClassVar[str] = "scores"
    shape: Shape
    opens: int
    closes: int

    def __str__(self) -> str:
        return f"scores<{show_shape(self.shape)}, {self.opens}..{self.closes}>"

    @property
    def size(self) -> int:
        """How many numbers."""
        return prod(self.shape)

    @property
    def ticks(self) -> int:
        """T, the window's length."""
        return self.closes - self.opens


Type = Analog | Spikes | Potential | Scores
