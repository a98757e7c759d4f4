"""What flows between the layers: `Spikes`, `Potential`, `Lattice`, a tensor that remembers its integers; `Layer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Spikes(NamedTuple):
    """The spikes of one layer, in the layer's own window of unit length.

    `value` [N, ...] is x = closes - t in (0, 1], 0 where the neuron never fires; `fired` [N, ...] counts spikes: 1
    or 0, or the mean of these behind an average pool. `fired` carries no gradient.
    """

    value: Tensor
    fired: Tensor


class Potential(NamedTuple):
    """A membrane that ramps through the window: V(u) = s + w u for u in [0, 1), both [N, C, ...], in weight units."""

    s: Tensor
    w: Tensor


class Lattice(Tensor):
    """A real tensor that remembers the integers it is made of: real = ints * unit / divisor + bias.

    In evaluation `Input` starts one and the layers of this package carry it on, so that every sum is a sum of integers
    (float64, exact below 2^53) and every firing decision is the compiled net's own. Any other torch operation sees the
    real float32 tensor and returns a plain one: from there on evaluation goes on in floating point. It has no gradient.
    """

    ints: Tensor  # float64 [N, C, ...], integer valued
    unit: Tensor  # float64, [1] or one per channel [C]
    divisor: int  # of the average pools passed since the last synapse
    bias: Tensor | None  # float64 [C], in real units

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # No torch operation returns a Lattice: the integers would not belong to its result.
        with torch._C.DisableTorchFunctionSubclass():  # pyright: ignore[reportPrivateUsage]
            return func(*args, **(kwargs or {}))

    @property
    def summable(self) -> bool:
        """Whether a synapse can sum these values as integers: one unit for all of them and no constant added."""
        return self.bias is None and self.unit.numel() == 1


class Layer(nn.Module):
    """A module that prints the attributes it names in `shows`."""

    shows: tuple[str, ...] = ()

    def extra_repr(self) -> str:
        """What stands between the brackets when the module is printed."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.shows)


def lattice(ints: Tensor, unit: Tensor, divisor: int = 1, bias: Tensor | None = None) -> Lattice:
    """Make a Lattice of integer-valued `ints` [N, C, ...] (float64) with `unit` [1] or [C] and `bias` [C] (float64)."""
    real = ints * per_channel(unit / divisor, ints.dim())
    if bias is not None:
        real = real + per_channel(bias, ints.dim())
    made = real.float().as_subclass(Lattice)
    made.ints, made.unit, made.divisor, made.bias = ints, unit, divisor, bias
    return made


def remake(x: Lattice, ints: Tensor, divisor: int = 1) -> Lattice:
    """The Lattice `x` with other integers, its divisor multiplied by `divisor`."""
    return lattice(ints, x.unit, x.divisor * divisor, x.bias)


def per_channel(table: Tensor, dims: int) -> Tensor:
    """View a [C] tensor so that it broadcasts along axis 1 of a tensor with `dims` axes; of one value, a scalar.

    A scalar is broadcast in vector registers, a [1, 1, 1, 1] tensor is not: five times as slow in bfloat16 on a CPU.
    """
    if table.numel() == 1:
        return table.reshape(())
    return table.reshape(1, -1, *[1] * (dims - 2))
