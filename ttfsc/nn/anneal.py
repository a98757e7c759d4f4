"""Ranges that are wide as training starts and narrow to their own value."""

from __future__ import annotations

import torch
from torch import nn

from ttfsc.nn.fire import Fire


class RangeAnnealing:
    """Anneals every fixed range of a model: theta(done) = theta (1 + (start - 1) max(0, 1 - done / until)).

    A neuron that saturates has no gradient, and one whose values use a corner of its range wastes ticks. Wide at first,
    a range lets all gradients through; narrowing, it teaches the weights to use the ticks. Learned ranges are left
    alone. `done` in 0..1 is the share of training that is over. From `until` on the ranges are exactly those the model
    was made with, so what is compiled knows nothing of it.
    """

    def __init__(self, model: nn.Module, start: float = 2.0, until: float = 0.5) -> None:
        if not (start >= 1 and 0 < until <= 1):
            raise ValueError(f"start {start}, until {until}: ranges start at 1 or more times their value, until 0..1")
        self.start, self.until = start, until
        self._own = [
            (m, m.theta.detach().clone()) for m in model.modules() if isinstance(m, Fire) and not m.learn_theta
        ]

    @torch.no_grad()
    def set(self, done: float) -> None:
        """Set the ranges for this moment of training."""
        factor = 1 + (self.start - 1) * max(0.0, 1 - done / self.until)
        for layer, own in self._own:
            layer.theta.copy_(own * factor)
