"""Fold batch normalisation into the synapse before it, for nets trained with it and shipped without."""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn

from ttfsc.nn.residual import Residual
from ttfsc.nn.synapse import Synapse


@torch.no_grad()
def fold_batchnorm(model: nn.Sequential) -> nn.Sequential:
    """Return a copy of `model` without the BatchNorm1d/2d layers, which stand behind a `hold` synapse or a `Residual`.

    With g = gamma / sqrt(var + eps) per channel: weights and bias become g w and g (bias - mean) + beta, and a learned
    step |g| step, so the weight integers keep their size (and change sign with g). A channel with g = 0 keeps its step.
    Behind a residual block the weights of both branches take the factor; those inside its main branch are folded too.
    Layers keep their names. A per-tensor step cannot take one factor per channel: ValueError.
    """
    return _folded(copy.deepcopy(model))


def _folded(model: nn.Sequential) -> nn.Sequential:
    """The same layers, changed, without the batch norms."""
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in model.named_children():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            _fold(name, layer, kept[next(reversed(kept))] if kept else None)
            continue
        if isinstance(layer, Residual):
            layer.main = _folded(layer.main)
        kept[name] = layer
    return nn.Sequential(kept)


def _fold(name: str, norm: nn.BatchNorm1d | nn.BatchNorm2d, before: nn.Module | None) -> None:
    """Let `before` compute what it computes with `norm` behind it."""
    synapse = before.last if isinstance(before, Residual) else before
    if not isinstance(synapse, Synapse) or synapse.kernel != "hold":
        raise ValueError(
            f"layer {name}: a batch norm folds into a `hold` synapse directly before it, and there is none"
        )
    if synapse.per_tensor and synapse.bits is not None:
        raise ValueError(f"layer {name}: one step per tensor cannot take the batch norm's factor per channel")
    gain, shift = _affine(name, norm)
    for each in (synapse, before.shortcut) if isinstance(before, Residual) else (synapse,):
        each.weight.mul_(gain.reshape(-1, *[1] * (each.weight.dim() - 1)))
    synapse.bias = nn.Parameter(shift if synapse.bias is None else synapse.bias * gain + shift)
    if synapse.step is not None:
        synapse.step.mul_(torch.where(gain == 0, 1, gain.abs()))


def _affine(name: str, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The batch norm as gain x + shift, [C] each."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"layer {name}: a batch norm without running statistics is not a fixed function")
    gain = (norm.running_var + norm.eps).rsqrt()
    gain = gain if not norm.affine else gain * norm.weight
    return gain, -norm.running_mean * gain if not norm.affine else norm.bias - norm.running_mean * gain
