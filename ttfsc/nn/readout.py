"""Read-outs: how the last layer's membrane or spikes become class scores, and the loss on spike times."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ttfsc.nn.spikes import Lattice, Layer, Potential, Spikes


class Membrane(Layer):
    """Scores [N, classes] = the membrane as the window ends: S (Tensor) or S + W (Potential). The layer never fires.

    In evaluation behind a quantised synapse the scores are float64 and ordered exactly as the compiled net's integers,
    which include the bias rounded to whole units; for that the synapse needs `per_tensor=True`, else ValueError.
    """

    def forward(self, v: Tensor | Potential) -> Tensor:
        """Scores of the membranes `v`."""
        s, w = v if isinstance(v, Potential) else (v, None)
        if not isinstance(s, Lattice):
            return s if w is None else s + w
        if not bool((s.unit == s.unit[0]).all()):
            raise ValueError("the classes of a membrane read-out have different steps: per_tensor=True on its synapse")
        scores = s.ints
        if isinstance(w, Lattice):
            scores = scores + w.ints * (w.unit[0] / s.unit[0]).round()  # the window's length in ticks
        if s.bias is not None:
            scores = scores + (s.bias / s.unit).round()
        return scores * s.unit[0]


class FirstSpike(Layer):
    """Scores [N, classes] = minus the spike time, -t = x - 1 in [-1, 0]; -1 for a class that never spikes.

    Classes that spike at one tick have one score here; the compiled net's label ranks them by their membranes
    (`decode rule=first_spike`), `argmax` of the scores by the lower index.
    """

    def forward(self, spikes: Tensor | Spikes) -> Tensor:
        """Scores of the output layer's spikes."""
        return (spikes.value if isinstance(spikes, Spikes) else spikes) - 1


def first_spike_loss(spikes: Tensor | Spikes, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of minus the spike times of the output layer (DTA-TTFS, Wei et al., ICCV 2023, Eq. 8); a scalar.

    L = -log softmax(-t / temperature)[target], `spikes` [N, classes], `target` [N] class numbers. Times are in units
    of the window, so a temperature below 1 sharpens them (1/T counts time in ticks of a T-tick window).
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, but it divides spike times: positive")
    value = spikes.value if isinstance(spikes, Spikes) else spikes
    return functional.cross_entropy((value - torch.ones_like(value)) / temperature, target)
