"""Fold batch normalisation into the synapse before it, for nets trained with it and shipped without."""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import nn

from ttfsc.nn.synapse import Synapse


@torch.no_grad()
def fold_batchnorm(model: nn.Sequential) -> nn.Sequential:
    """Return a copy of `model` without the BatchNorm1d/2d layers, each of which directly follows a `hold` synapse.

    With g = gamma / sqrt(var + eps) per channel: weights and bias become g w and g (bias - mean) + beta, and a learned
    step |g| step, so the weight integers keep their size (and change sign with g). A channel with g = 0 keeps its step.
    Layers keep their names. A per-tensor step cannot take one factor per channel: ValueError.
    """
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in model.named_children():
        if not isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            kept[name] = copy.deepcopy(layer)
            continue
        synapse = kept[next(reversed(kept))] if kept else None
        if not isinstance(synapse, Synapse) or synapse.kernel != "hold":
            raise ValueError(
                f"layer {name}: a batch norm folds into a `hold` synapse directly before it, and there is none"
            )
        if synapse.per_tensor and synapse.bits is not None:
            raise ValueError(f"layer {name}: one step per tensor cannot take the batch norm's factor per channel")
        if layer.running_mean is None or layer.running_var is None:
            raise ValueError(f"layer {name}: a batch norm without running statistics is not a fixed function")
        gain = (layer.running_var + layer.eps).rsqrt()
        gain = gain if not layer.affine else gain * layer.weight
        shift = -layer.running_mean * gain if not layer.affine else layer.bias - layer.running_mean * gain
        synapse.weight.mul_(gain.reshape(-1, *[1] * (synapse.weight.dim() - 1)))
        synapse.bias = nn.Parameter(shift if synapse.bias is None else synapse.bias * gain + shift)
        if synapse.step is not None:
            synapse.step.mul_(torch.where(gain == 0, 1, gain.abs()))
    return nn.Sequential(kept)
