"""Synapse layers: convolution and dense, with k-bit weights, for the `hold` and the `ramp` kernel."""

from __future__ import annotations

import math
from typing import Literal, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ttfsc.nn.quant import SMALLEST_STEP, first_step, integers, on_grid
from ttfsc.nn.spikes import Lattice, Layer, Potential, Spikes, lattice

Kernel = Literal["hold", "ramp"]


class Synapse(Layer):
    """Weighted sums of spike values.

    hold: Tensor -> Tensor, S = sum w x + bias, there when the window opens (exact ReLU; direct coding of an image).
    ramp: Spikes -> Potential, S = sum w x + bias and W = sum of w over the inputs that fired (DTA-TTFS).

    `bits` = k: the layer computes with w = step * integer, |integer| <= 2^(k-1) - 1, one learned step per output
    channel or, for read-outs whose scores are compared, one per tensor. `bits` = None: float weights.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    step: nn.Parameter | None

    def __init__(
        self, weight_shape: tuple[int, ...], bias: bool, bits: int | None, kernel: Kernel, per_tensor: bool
    ) -> None:
        super().__init__()
        if bits is not None and not 2 <= bits <= 8:
            raise ValueError(f"bits is {bits}, but weights have 2 to 8 bits, or None for float weights")
        if kernel not in ("hold", "ramp"):
            raise ValueError(f"kernel is {kernel!r}, but a trained layer's kernel is 'hold' or 'ramp'")
        if min(weight_shape) < 1:
            raise ValueError(f"weights of shape {list(weight_shape)} hold nothing")
        self.bits, self.kernel, self.per_tensor = bits, kernel, per_tensor
        self.weight = nn.Parameter(torch.empty(weight_shape))
        self.bias = nn.Parameter(torch.empty(weight_shape[0])) if bias else None
        steps = 1 if per_tensor else weight_shape[0]
        self.step = None if bits is None else nn.Parameter(torch.empty(steps))
        self._sharing: tuple[Synapse, ...] = (self,)  # a tuple, so that torch takes none of them for a submodule
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming weights, zero bias, the steps that fit these weights best."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.weight[0].numel()))
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.fit_step()

    @torch.no_grad()
    def fit_step(self) -> None:
        """Set the steps to those that fit the present weights best; nothing to do for float weights.

        Where synapses share one step, it is fitted to the weights of all.
        """
        owner = self._sharing[0]
        if owner.bits is not None and owner.step is not None:
            rows = torch.cat([synapse.weight.flatten(1) for synapse in owner._sharing], 1)
            owner.step.copy_(first_step(rows, owner.bits, per_tensor=owner.per_tensor))

    def borrow_step(self, owner: Synapse) -> None:
        """Put this layer's weights on the grid of `owner`: from now on the learned step of both is the owner's."""
        facts = [(s.bits, s.per_tensor, s.kernel, s.weight.shape[0]) for s in (self, owner)]
        if facts[0] != facts[1]:
            raise ValueError(
                f"bits, per_tensor, kernel and outputs are {facts[0]} here and {facts[1]} in the layer whose step is "
                "shared; make them equal"
            )
        if self._sharing != (self,) or owner._sharing[0] is not owner:
            raise ValueError("one of the two layers shares a step already; share the step of the first owner")
        self.step, self._sharing = None, (owner, self)
        owner._sharing = (*owner._sharing, self)
        self.fit_step()

    def weight_step(self) -> Tensor:
        """The real weight of integer 1, float32 [Cout], > 0, detached. Float weights have none: ValueError."""
        return self._step().detach().expand(self.weight.shape[0]).clone()

    def weight_int(self) -> Tensor:
        """The weight integers, int8, shape of `weight`. Float weights have none: ValueError."""
        step = self._step()
        return integers(self.weight, step, cast("int", self.bits)).to(torch.int8)

    def forward(self, x: Tensor | Spikes) -> Tensor | Potential:
        """Sum the weighted inputs [N, Cin, ...] to potentials [N, Cout, ...]."""
        if isinstance(x, Spikes) != (self.kernel == "ramp"):
            takes, got = ("Spikes", "a Tensor") if self.kernel == "ramp" else ("a Tensor", "Spikes")
            raise ValueError(f"kernel {self.kernel!r} takes {takes}, but got {got}")
        if isinstance(x, Spikes):
            if self._countable(x.value) and self._countable(x.fired):
                return Potential(self._exact(x.value, with_bias=True), self._exact(x.fired, with_bias=False))
            # One call for both sums: values and fired flags side by side along the batch.
            s, w = self.apply_weight(torch.cat((x.value, x.fired)), self._weight(), None).chunk(2)
            if self.bias is not None:
                s = s + self.bias.reshape(-1, *[1] * (s.dim() - 2))
            return Potential(s, w)
        if self._countable(x):
            return self._exact(x, with_bias=True)
        return self.apply_weight(x, self._weight(), self.bias)

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's linear map with these weights."""
        raise TypeError(f"{type(self).__name__} is an abstract synapse: use Conv2d or Linear")

    def _countable(self, x: Tensor) -> TypeGuard[Lattice]:
        return self.bits is not None and isinstance(x, Lattice) and x.summable

    def _step(self) -> Tensor:
        step = self._sharing[0].step
        if step is None:
            raise ValueError("the layer has float weights (bits=None): there is no step")
        return step.clamp_min(SMALLEST_STEP)

    def _weight(self) -> Tensor:
        return self.weight if self.bits is None else on_grid(self.weight, self._step(), self.bits)

    def _exact(self, x: Lattice, *, with_bias: bool) -> Lattice:
        weight = self.weight_int().double()
        narrow = x.ints.device.type == "cpu" and _largest_sum(x.ints, weight) < 2**24
        dtype = torch.float32 if narrow else torch.float64
        # Rounded, so that a device whose convolutions go through a transform (Winograd, FFT) gives the same integers.
        ints = self.apply_weight(x.ints.to(dtype), weight.to(dtype), None).double().round()
        bias = self.bias.detach().double() if with_bias and self.bias is not None else None
        # In this order, as the compiler: average pools first scale the step, then the step meets the input's unit.
        return lattice(ints, self.weight_step().double() / x.divisor * x.unit, bias=bias)


def _largest_sum(x: Tensor, weight: Tensor) -> float:
    """A bound on every partial sum: below 2^24 float32 adds integers exactly, at several times the speed of float64."""
    return float(x.abs().amax() * weight.abs().flatten(1).sum(1).amax()) if x.numel() else 0.0


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


class Conv2d(Synapse):
    """2-D convolution, zero padded: [N, Cin, H, W] -> [N, Cout, H', W'], weight [Cout, Cin/groups, kh, kw]."""

    shows = (
        *("in_channels", "out_channels", "kernel_size", "stride", "padding", "groups", "dilation"),
        *("bits", "kernel", "per_tensor"),
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        bits: int | None = None,
        kernel: Kernel = "hold",
        per_tensor: bool = False,
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"{groups} groups do not divide {in_channels} input and {out_channels} output channels")
        sizes = _pair(kernel_size)
        super().__init__((out_channels, in_channels // groups, *sizes), bias, bits, kernel, per_tensor)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = sizes, _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The linear map with these weights: a convolution."""
        return functional.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class Linear(Synapse):
    """Dense layer: [N, Fin] -> [N, Fout], weight [Fout, Fin]."""

    shows = ("in_features", "out_features", "bits", "kernel", "per_tensor")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        bits: int | None = None,
        kernel: Kernel = "hold",
        per_tensor: bool = False,
    ) -> None:
        super().__init__((out_features, in_features), bias, bits, kernel, per_tensor)
        self.in_features, self.out_features = in_features, out_features

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The linear map with these weights: a matrix."""
        return functional.linear(x, weight, bias)
