"""Input, pooling and flattening: layers without neurons of their own."""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor
from torch.nn import functional

from ttfsc.nn.spikes import Lattice, Layer, Spikes, lattice, remake


class Input(Layer):
    """Direct coding of an image: integer pixels [N, *shape] in low..high -> real values pixel * scale (float32).

    In evaluation it returns a `Lattice`, which makes everything behind it exact, and refuses other pixels.
    """

    shows = ("shape", "low", "high", "scale")

    def __init__(
        self, shape: tuple[int, ...] = (1, 28, 28), low: int = 0, high: int = 255, scale: float = 1 / 255
    ) -> None:
        super().__init__()
        if not (low < high and scale > 0):
            raise ValueError(f"pixels {low}..{high} with scale {scale}: low lies below high and the scale is positive")
        self.shape, self.low, self.high, self.scale = tuple(shape), low, high, scale

    def forward(self, pixels: Tensor) -> Tensor:
        """Scale the pixels; ValueError for a wrong shape."""
        if tuple(pixels.shape[1:]) != self.shape:
            raise ValueError(f"input is {list(pixels.shape)}, but the net takes [N, {', '.join(map(str, self.shape))}]")
        if self.training:
            return pixels.float() * self.scale
        ints = pixels.double()
        if bool((ints != ints.round()).any()) or bool((ints < self.low).any()) or bool((ints > self.high).any()):
            raise ValueError(f"pixels are not all integers of {self.low}..{self.high}")
        return lattice(ints, torch.full((1,), self.scale, dtype=torch.float64, device=ints.device))


class MaxPool2d(Layer):
    """The earliest spike, that is the largest value, of every window: Tensor or Spikes [N, C, H, W]."""

    shows = ("kernel_size", "stride", "padding", "ceil_mode")

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0, ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride or kernel_size
        self.padding, self.ceil_mode = padding, ceil_mode

    @overload
    def forward(self, x: Spikes) -> Spikes: ...
    @overload
    def forward(self, x: Tensor) -> Tensor: ...
    def forward(self, x: Tensor | Spikes) -> Tensor | Spikes:
        """Pool the values and, of Spikes, the fired flags."""
        return Spikes(self._pool(x.value), self._pool(x.fired)) if isinstance(x, Spikes) else self._pool(x)

    def _pool(self, x: Tensor) -> Tensor:
        if isinstance(x, Lattice) and x.summable:
            return remake(
                x, functional.max_pool2d(x.ints, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode)
            )
        return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode)


class AvgPool2d(Layer):
    """Mean over every window: Tensor or Spikes [N, C, H, W]; of Spikes both the values and the fired flags.

    Exact in evaluation where all windows have one divisor: no ceil_mode, padding counted or none; floating point else.
    """

    shows = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride or kernel_size, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    @overload
    def forward(self, x: Spikes) -> Spikes: ...
    @overload
    def forward(self, x: Tensor) -> Tensor: ...
    def forward(self, x: Tensor | Spikes) -> Tensor | Spikes:
        """Pool the values and, of Spikes, the fired flags."""
        return Spikes(self._pool(x.value), self._pool(x.fired)) if isinstance(x, Spikes) else self._pool(x)

    def _pool(self, x: Tensor) -> Tensor:
        one_divisor = not self.ceil_mode and (self.count_include_pad or not self.padding)
        if isinstance(x, Lattice) and x.summable and one_divisor:
            sums = functional.avg_pool2d(x.ints, self.kernel_size, self.stride, self.padding, divisor_override=1)
            return remake(x, sums.round(), self.kernel_size**2)
        return functional.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


class Flatten(Layer):
    """[N, C, H, W] -> [N, C*H*W], Tensor or Spikes."""

    @overload
    def forward(self, x: Spikes) -> Spikes: ...
    @overload
    def forward(self, x: Tensor) -> Tensor: ...
    def forward(self, x: Tensor | Spikes) -> Tensor | Spikes:
        """Flatten the values and, of Spikes, the fired flags."""
        return Spikes(self._flat(x.value), self._flat(x.fired)) if isinstance(x, Spikes) else self._flat(x)

    def _flat(self, x: Tensor) -> Tensor:
        return remake(x, x.ints.flatten(1)) if isinstance(x, Lattice) and x.summable else x.flatten(1)
