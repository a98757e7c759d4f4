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


class _FirstCrossing(torch.autograd.Function):
    """(S, W or None, theta, ticks or None) -> x; the module docstring derives both directions."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, w: Tensor | None, theta: Tensor, ticks: int | None) -> Tensor:
        slope = theta.expand_as(s) if w is None else theta + w
        meets = slope > 0
        root = (s if w is None else s + w) / torch.where(meets, slope, 1)
        free = torch.where(meets, root, (s >= theta).to(s.dtype))
        inside = (free > 0) & (free < 1) & meets
        x = free.clamp(0, 1)
        ctx.save_for_backward(x, slope, inside)
        ctx.theta_shape, ctx.ramps = theta.shape, w is not None
        return x if ticks is None else (x * ticks).floor() / ticks

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, slope, inside = cast("tuple[Tensor, Tensor, Tensor]", ctx.saved_tensors)
        to_s = torch.where(inside, cast("Tensor", grads[0]) / slope, 0)
        to_w = to_s * (1 - x) if ctx.ramps else None
        to_theta = (-x * to_s).sum_to_size(ctx.theta_shape) if ctx.needs_input_grad[2] else None
        return to_s, to_w, to_theta, None


first_crossing = cast(
    "Callable[[Tensor, Tensor | None, Tensor, int | None], Tensor]",
    _FirstCrossing.apply,  # pyright: ignore[reportUnknownMemberType]
)


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
            fired = lattice((value.ints > 0).double(), torch.ones_like(value.unit))
        else:
            theta = per_channel(self.threshold(), s.dim())
            value = first_crossing(s, w, theta, self.ticks)
            fired = (value.detach() > 0).to(value.dtype)
        return Spikes(value, fired) if self.spikes or w is not None else value

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
        ints = torch.zeros_like(s.ints)
        for n in reversed(range(ticks)):  # an earlier tick overwrites a later one
            v = s.ints if w is None else s.ints + n * w.ints
            ints.masked_fill_(v >= per_channel(table[:, n], v.dim()), ticks - n)
        return lattice(ints, torch.full_like(s.unit[:1], 1 / ticks))
