"""Firing under the falling threshold theta (1 - u): exact ReLU and DTA-TTFS, as a differentiable layer.

A window is one unit long; u in [0, 1) is the time in it and x = 1 - u the value of a spike, 0 for none. The membrane is
V(u) = S + W u, with W = 0 for the `hold` kernel. The neuron fires at the first u with V(u) >= theta (1 - u), that is
(theta + W) u >= theta - S:

- theta + W > 0: at u = (theta - S) / (theta + W), hence x = (S + W) / (theta + W). It saturates to x = 1 where
  S >= theta (the condition holds as the window opens) and is silent where S + W <= 0 (the root is the window's end or
  later).
- theta + W <= 0: the membrane falls at least as fast as the threshold, so the neuron fires at u = 0 (where S >= theta,
  x = 1) or never.

Inside the open window 0 < x < 1 (which implies theta + W > 0), with D = theta + W:

    dx/dS = 1 / D        dx/dW = (theta - S) / D^2 = (1 - x) / D        dx/dtheta = -x / D

With S = sum w_i x_i and W = sum of w_i over fired inputs these are Eq. 9 and 10 of DTA-TTFS (Wei et al., ICCV 2023):
dx/dw_i = (x_i + 1 - x) / D, the time from input spike i to the output spike over D, and dx/dx_i = w_i / D. Outside the
open window every gradient is zero.

On T ticks the spike falls on the first integer tick n = u T with V >= threshold: n = ceil(T (theta - S) / D), so the
value is floor(T x) / T, and the rounding passes the gradient straight through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ttfsc.ir.tables import falling_table
from ttfsc.nn.spikes import Lattice, Layer, Potential, Spikes, lattice, per_channel

SMALLEST_THETA = 1e-4


class _Hold(torch.autograd.Function):
    """(S, theta, ticks or None) -> x = clip(S / theta) for W = 0, in few passes over memory."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, theta: Tensor, ticks: int | None) -> Tensor:
        x = (s / theta).clamp_(0, 1)
        ctx.save_for_backward(x, theta)
        return x if ticks is None else (x * ticks).floor_().div_(ticks)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor | None, None]:
        x, theta = cast("tuple[Tensor, Tensor]", ctx.saved_tensors)
        inside = torch.ops.aten.hardtanh_backward(cast("Tensor", grads[0]), x, 0.0, 1.0)  # zero unless 0 < x < 1
        to_s = cast("Tensor", inside) / theta
        to_theta = (-x * to_s).sum_to_size(theta.shape) if ctx.needs_input_grad[1] else None
        return to_s, to_theta, None


class _Ramp(torch.autograd.Function):
    """(S, W, theta, ticks or None) -> x; the module docstring derives both directions."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, w: Tensor, theta: Tensor, ticks: int | None) -> Tensor:
        slope = theta + w
        meets = slope > 0
        free = ((s + w) / slope).where(meets, (s >= theta).to(slope.dtype))
        inside = (free > 0) & (free < 1) & meets
        x = free.clamp_(0, 1)
        ctx.save_for_backward(x, slope, inside)
        ctx.theta_shape = theta.shape
        return x if ticks is None else (x * ticks).floor_().div_(ticks)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, slope, inside = cast("tuple[Tensor, Tensor, Tensor]", ctx.saved_tensors)
        to_s = (cast("Tensor", grads[0]) / slope).masked_fill_(~inside, 0)
        to_theta = (-x * to_s).sum_to_size(ctx.theta_shape) if ctx.needs_input_grad[2] else None
        return to_s, to_s * (1 - x), to_theta, None


_hold = cast("Callable[[Tensor, Tensor, int | None], Tensor]", _Hold.apply)  # pyright: ignore[reportUnknownMemberType]
_ramp = cast(
    "Callable[[Tensor, Tensor, Tensor, int | None], Tensor]",
    _Ramp.apply,  # pyright: ignore[reportUnknownMemberType]
)


def first_crossing(s: Tensor, w: Tensor | None, theta: Tensor, ticks: int | None) -> Tensor:
    """Spike values of membranes S + W u (W None: 0), theta broadcast; in the dtype of S.

    Under autocast `hold` stays in half precision, which costs at most a tick; a ramp's root is a quotient of
    differences and is found in the precision of theta.
    """
    if w is None:
        return _hold(s, theta.to(s.dtype), ticks)
    wide = torch.promote_types(s.dtype, theta.dtype)
    return _ramp(s.to(wide), w.to(wide), theta.to(wide), ticks)


class Fire(Layer):
    """Neurons that spike at most once, under the falling threshold theta (1 - u); the module docstring derives it.

    Takes a Tensor (hold: V stays S) or a Potential (ramp) [N, C, ...]. Returns the spike values as a Tensor or, with
    `spikes=True` (for a `ramp` layer to follow), as Spikes; a Potential always gives Spikes.
    `ticks` = T puts spikes on T ticks; None leaves time free. `theta` is the real range: the S at which x reaches 1.
    `learn_theta` learns it, one per channel where `channels` is given, kept above 1e-4.
    """

    theta: Tensor
    shows = ("ticks", "learn_theta", "channels", "spikes")

    def __init__(
        self,
        ticks: int | None = None,
        theta: float = 1.0,
        learn_theta: bool = False,
        channels: int | None = None,
        spikes: bool = False,
    ) -> None:
        super().__init__()
        if ticks is not None and ticks < 1:
            raise ValueError(f"ticks is {ticks}, but a window has at least one tick (None: free time)")
        if not theta >= SMALLEST_THETA:
            raise ValueError(f"theta is {theta}, but a range is at least {SMALLEST_THETA}")
        self.ticks, self.learn_theta, self.channels, self.spikes = ticks, learn_theta, channels, spikes
        start = torch.full((channels or 1,), float(theta))
        if learn_theta:
            self.theta = nn.Parameter(start)
        else:
            self.register_buffer("theta", start)

    def threshold(self) -> Tensor:
        """The range in force, float32 [1] or [C], > 0: what a compiler reads."""
        return self.theta.clamp_min(SMALLEST_THETA)

    def forward(self, v: Tensor | Potential) -> Tensor | Spikes:
        """Spike values of the membranes `v`."""
        s, w = v if isinstance(v, Potential) else (v, None)
        if self.ticks is not None and isinstance(s, Lattice) and (w is None or isinstance(w, Lattice)):
            value = self._exact(s, w, self.ticks)
        else:
            value = first_crossing(s, w, per_channel(self.threshold(), s.dim()), self.ticks)
        return Spikes(value, _fired(value)) if self.spikes or w is not None else value

    def _exact(self, s: Lattice, w: Lattice | None, ticks: int) -> Lattice:
        """Decide in integers, tick by tick, with the table the compiler makes."""
        channels = s.ints.shape[1]
        unit = s.unit.expand(channels).numpy(force=True)
        theta = np.broadcast_to(self.threshold().detach().double().numpy(force=True), channels)
        bias = np.zeros(channels) if s.bias is None else s.bias.numpy(force=True)
        table = s.ints.new_tensor(falling_table(theta, bias, 0, unit, ticks))
        if w is not None and not torch.allclose(w.unit / ticks, s.unit, rtol=1e-9, atol=0):
            raise ValueError(
                f"a ramp layer's windows have one length: its input's ticks are not the {ticks} of its output"
            )
        ints = _spikes_of_constant(s.ints, table) if w is None else _spikes_of_ramp(s.ints, w.ints, table)
        return lattice(ints, torch.full_like(s.unit[:1], 1 / ticks))


def _fired(value: Tensor) -> Tensor:
    """1 where a neuron fired, else 0; no gradient."""
    if isinstance(value, Lattice):
        return lattice((value.ints > 0).double(), torch.ones_like(value.unit))
    return (value.detach() > 0).to(value.dtype)


def _spikes_of_constant(v: Tensor, table: Tensor) -> Tensor:
    """Values T - n, n the first tick with v >= table[:, n], or 0: the entries of the falling table that v meets."""
    channels, rest = v.shape[1], [v.shape[0], *v.shape[2:]]
    met = torch.searchsorted(
        table.flip(1).contiguous(), v.transpose(0, 1).reshape(channels, -1).contiguous(), right=True
    )
    return met.reshape(channels, *rest).transpose(0, 1).to(v.dtype)


def _spikes_of_ramp(s: Tensor, w: Tensor, table: Tensor) -> Tensor:
    """Values T - n, n the first tick with s + n w >= table[:, n], or 0."""
    ticks = table.shape[1]
    ints = torch.zeros_like(s)
    for n in reversed(range(ticks)):  # an earlier tick overwrites a later one
        ints.masked_fill_(s + n * w >= per_channel(table[:, n], s.dim()), ticks - n)
    return ints
