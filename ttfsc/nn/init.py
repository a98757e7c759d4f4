"""Initialise a net from data so that every neuron starts out alive."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ttfsc.nn.spikes import Potential
from ttfsc.nn.synapse import Synapse


@torch.no_grad()
def calibrate(model: nn.Module, pixels: Tensor, fraction: float = 0.4, spread: float = 0.5) -> None:
    """Scale the weights and set the biases of `model`, layer after layer, by what a batch of `pixels` makes of them.

    Drive is what decides whether a neuron ever fires: S for `hold`, S + W for `ramp`. Under Kaiming initialisation the
    drives of deeper DTA layers spread until theta + W <= 0 for many neurons, which then have no gradient and stay lost.
    Here each layer's weights are centred (so that W stays near 0 whatever the number of spikes) and scaled until its
    drives have the standard deviation `spread` (in units of theta), and each output channel's bias is set so that it
    fires for `fraction` of the samples and positions. The last synapse, a read-out, is scaled alike and gets zero bias.
    Weight steps are fitted anew.

    The model may hold several paths; each synapse is calibrated when it first runs, on inputs from calibrated layers.
    Layers without bias are only scaled.
    """
    synapses = [m for m in model.modules() if isinstance(m, Synapse)]
    order: list[Synapse] = []
    done: set[Synapse] = set()

    def note(module: nn.Module, _args: Any, _out: Any) -> None:
        assert isinstance(module, Synapse)
        order.append(module)

    def settle(module: nn.Module, args: Any, out: Any) -> Any:
        assert isinstance(module, Synapse)
        if module in done:
            return out
        done.add(module)
        module.weight.sub_(module.weight.mean(tuple(range(1, module.weight.dim())), keepdim=True))
        module.fit_step()
        if module.bias is not None:
            module.bias.zero_()
        drive = _drive(module.forward(*args))
        module.weight.mul_(spread / drive.std().clamp_min(1e-12))
        module.fit_step()
        if module.bias is not None and module is not order[-1]:
            drive = _drive(module.forward(*args)).transpose(0, 1).flatten(1)
            rank = min(int(drive.shape[1] * (1 - fraction)), drive.shape[1] - 1)
            module.bias.copy_(-drive.sort(1).values[:, rank])
        return module.forward(*args)

    was_training = model.training
    model.train()
    for hook in (note, settle):
        handles = [m.register_forward_hook(hook) for m in synapses]
        try:
            model(pixels)
        finally:
            for handle in handles:
                handle.remove()
    model.train(was_training)


def _drive(v: Tensor | Potential) -> Tensor:
    return v.s + v.w if isinstance(v, Potential) else v
