"""What the torch frontend's tests share: a module traced and run beside torch itself."""

import numpy as np
import torch
from torch import nn

from ttfsc.frontends.torch_trace import trace_module
from ttfsc.frontends.value import Declared
from ttfsc.ir import Array, Net, TtfsError, check_stage, run
from ttfsc.passes import fold_avgpool, fold_batchnorm

SCALE = 1 / 16


def pixels(shape: tuple[int, ...], *, low: int = -20, high: int = 20, n: int = 4, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(low, high + 1, (n, *shape))


def traced(model: nn.Module, shape: tuple[int, ...], *, low: int = -20, high: int = 20) -> Net:
    return trace_module(model.eval(), "m", Declared(shape, (low, high), SCALE))


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The module with random weights, and batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor, low, high in ((m.running_mean, -0.5, 0.5), (m.running_var, 0.5, 2.0)):
                if tensor is not None:
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
            if m.affine:
                m.weight.data = torch.rand(m.weight.shape, generator=generator) + 0.5
                m.bias.data = torch.rand(m.bias.shape, generator=generator) - 0.5
        elif isinstance(m, (nn.Conv2d, nn.Linear)):
            m.weight.data = torch.randn(m.weight.shape, generator=generator) / m.weight[0].numel() ** 0.5
    return model.eval()


def assert_same(model: nn.Module, shape: tuple[int, ...], *, low: int = -20, high: int = 20, seed: int = 0) -> Net:
    """The imported real net computes what the module does, to float32's accuracy, and folds. Returns the net."""
    shaken(model, seed)
    net = traced(model, shape, low=low, high=high)
    x = pixels(shape, low=low, high=high, seed=seed)
    with torch.no_grad():
        want = model(torch.tensor(x, dtype=torch.float32) * SCALE).numpy()
    got = run(net, x).scores
    np.testing.assert_allclose(got, want.reshape(got.shape), atol=1e-4, rtol=1e-4)
    folded = check_stage(fold_avgpool(fold_batchnorm(net)), "canonical")
    np.testing.assert_allclose(run(folded, x).scores, got, atol=1e-3, rtol=1e-3)
    assert np.ptp(want) > 1e-3, "a network that answers the same to everything tests nothing"
    return net


def refusals(model: nn.Module, shape: tuple[int, ...] = (2, 8, 8)) -> list[str]:
    """The lines of every fault that importing the module raises."""
    try:
        traced(model, shape)
    except TtfsError as e:
        return [str(f) for f in e.faults]
    return []
