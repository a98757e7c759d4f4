"""Straight-through rounding and k-bit weights with a learned step.

LSQ: Esser et al., "Learned Step Size Quantization", ICLR 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SMALLEST_STEP = 1e-8


def round_through(x: Tensor) -> Tensor:
    """Round to the nearest integer (ties to even); the gradient passes unchanged."""
    return x + (x.round() - x).detach()


def largest_level(bits: int) -> int:
    """The largest weight integer of `bits` bits, symmetric: 2^(bits-1) - 1."""
    return 2 ** (bits - 1) - 1


def first_step(weight: Tensor, bits: int, *, per_tensor: bool) -> Tensor:
    """The step with the least squared error for `weight` [Cout, ...], out of 41 fractions of max|w| / qmax.

    Returns [Cout], or [1] per tensor, positive. A channel of zeros gets the smallest step.
    """
    top = largest_level(bits)
    rows = weight.detach().reshape(1 if per_tensor else weight.shape[0], -1)
    widest = rows.abs().amax(1, keepdim=True) / top
    best = widest.clone()
    least = torch.full_like(widest, math.inf)
    for fraction in (hundredth / 100 for hundredth in range(20, 101, 2)):
        step = (widest * fraction).clamp_min(SMALLEST_STEP)
        error = (rows - (rows / step).round().clamp(-top, top) * step).square().sum(1, keepdim=True)
        best = torch.where(error < least, step, best)
        least = torch.minimum(error, least)
    return best.squeeze(1).clamp_min(SMALLEST_STEP)


def on_grid(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """Fake-quantise `weight` [Cout, ...] to step * integer, |integer| <= 2^(bits-1) - 1; `step` is [Cout] or [1].

    Gradients as LSQ's: straight through to a weight inside the range, none to one outside; to the step the rounding
    error inside and the bound outside, scaled by 1 / sqrt(weights per step * qmax).
    """
    top = largest_level(bits)
    scale = 1 / math.sqrt(weight.numel() / step.numel() * top)
    damped = (step * scale) + (step - step * scale).detach()
    damped = damped.reshape(-1, *[1] * (weight.dim() - 1))
    return round_through((weight / damped).clamp(-top, top)) * damped


def integers(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """The integers of `on_grid`, detached, in the dtype of `weight`; same shape."""
    top = largest_level(bits)
    step = step.detach().reshape(-1, *[1] * (weight.dim() - 1))
    return (weight.detach() / step).clamp(-top, top).round()
