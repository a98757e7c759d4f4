"""Rules for modules of torch.nn and ttfsc.nn. A rule gets the module, the path under which it hangs, and its inputs.

Modules are only read (their attributes), never imported, so this file works without torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ttfsc.frontends import torch_arithmetic as arithmetic
from ttfsc.frontends import torch_functions as functions
from ttfsc.frontends.lowering import FIRST_SPIKE, MEMBRANE, Lowering
from ttfsc.frontends.value import RAW, Constant, Refused, Value, pair, quad
from ttfsc.ir import Array


def numbers(tensor: Any) -> Array:
    """A torch tensor as numpy, float32 where it is real."""
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())


def parameter(module: Any, path: str, name: str) -> Constant | None:
    """A parameter or buffer under its state_dict key; None where the module has none."""
    tensor = getattr(module, name)
    return None if tensor is None else Constant(f"{path}.{name}" if path else name, numbers(tensor))


def _must(module: Any, path: str, name: str) -> Constant:
    found = parameter(module, path, name)
    assert found is not None, f"{path} has no {name}"
    return found


# -- torch.nn ----------------------------------------------------------------------------------------------------------


def conv2d(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.Conv2d."""
    if m.padding_mode != "zeros":
        raise Refused(f"pads with padding_mode={m.padding_mode!r}; use padding_mode='zeros'")
    return functions.conv2d(
        low, input, _must(m, path, "weight"), parameter(m, path, "bias"), m.stride, m.padding, m.dilation, m.groups
    )


def linear(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.Linear."""
    return functions.linear(low, input, _must(m, path, "weight"), parameter(m, path, "bias"))


def batch_norm(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.BatchNorm1d and 2d with running statistics."""
    if m.running_mean is None or m.running_var is None:
        raise Refused("has no running statistics, so it is no fixed function; use track_running_stats=True")
    mean, var = numbers(m.running_mean), numbers(m.running_var)
    gamma, beta = (None if t is None else numbers(t) for t in (m.weight, m.bias))
    return functions.normalised(low, low.value(input), mean, var, gamma, beta, m.eps)


def relu(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.ReLU."""
    return functions.relu(low, input)


def relu6(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.ReLU6."""
    return functions.relu6(low, input)


def hardtanh(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.Hardtanh(0, c)."""
    return functions.clamp(low, input, m.min_val, m.max_val)


def leaky_relu(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.LeakyReLU(0)."""
    return functions.leaky_relu(low, input, m.negative_slope)


def threshold(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.Threshold(0, 0)."""
    return functions.threshold(low, input, m.threshold, m.value)


def max_pool2d(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.MaxPool2d."""
    return functions.max_pool2d(
        low, input, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
    )


def avg_pool2d(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.AvgPool2d."""
    return functions.avg_pool2d(
        low, input, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override
    )


def adaptive_avg_pool2d(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.AdaptiveAvgPool2d."""
    return functions.adaptive_avg_pool2d(low, input, m.output_size)


def flatten(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.Flatten."""
    return arithmetic.flatten(low, input, m.start_dim, m.end_dim)


def zero_pad(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.ZeroPad2d."""
    return arithmetic.pad(low, input, tuple(m.padding))


def same(low: Lowering, m: Any, path: str, input: object) -> object:
    """nn.Identity, dropout at inference."""
    return input


def softmax(low: Lowering, m: Any, path: str, input: object) -> Value:
    """nn.Softmax and LogSoftmax at the end."""
    return arithmetic.softmax(low, input, m.dim)


# -- ttfsc.nn ----------------------------------------------------------------------------------------------------------


def spiking_input(low: Lowering, m: Any, path: str, input: object) -> Value:
    """ttfsc.nn.Input."""
    if input is not RAW:
        raise Refused("ttfsc.nn.Input reads something other than the model's input; put it first")
    declared = low.declared
    pairs = (
        ("--input-shape", declared.shape, tuple(m.shape)),
        ("--input-range", declared.range, (m.low, m.high)),
        ("--input-scale", declared.scale, m.scale),
    )
    for option, given, own in pairs:
        if given is not None and given != own:
            raise Refused(f"the model says {own} about its input, {option} says {given}; leave the option out")
    return low.input(tuple(m.shape), m.low, m.high, float(m.scale))


def _trained(m: Any, path: str) -> dict[str, Any]:
    """Weights, and the grid they were trained on."""
    if m.bits is None:
        return {"w": _must(m, path, "weight"), "kernel": m.kernel}
    step = numbers(m.weight_step())
    integers = m.weight_int().cpu().numpy().astype(np.float32)
    w = integers * step.reshape(-1, *[1] * (integers.ndim - 1))
    return {
        "w": Constant(f"{path}.weight", w), "kernel": m.kernel,
        "step": Constant(f"{path}.step", step), "bits": m.bits,
    }  # fmt: skip


def spiking_conv2d(low: Lowering, m: Any, path: str, input: object) -> Value:
    """ttfsc.nn.Conv2d."""
    return low.conv(
        low.value(input), bias=parameter(m, path, "bias"), stride=pair(m.stride), pad=quad(m.padding),
        dilation=pair(m.dilation), groups=m.groups, **_trained(m, path),
    )  # fmt: skip


def spiking_linear(low: Lowering, m: Any, path: str, input: object) -> Value:
    """ttfsc.nn.Linear."""
    return low.dense(low.value(input), bias=parameter(m, path, "bias"), **_trained(m, path))


def fire(low: Lowering, m: Any, path: str, input: object) -> Value:
    """ttfsc.nn.Fire."""
    return low.neurons(low.value(input), numbers(m.threshold()), m.ticks or 0)


def spiking_max_pool2d(low: Lowering, m: Any, path: str, input: object) -> Value:
    """ttfsc.nn.MaxPool2d."""
    return functions.max_pool2d(low, input, m.kernel_size, m.stride, m.padding, 1, m.ceil_mode)


def spiking_avg_pool2d(low: Lowering, m: Any, path: str, input: object) -> Value:
    """ttfsc.nn.AvgPool2d."""
    return functions.avg_pool2d(low, input, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad)


def spiking_flatten(low: Lowering, m: Any, path: str, input: object) -> Value:
    """ttfsc.nn.Flatten."""
    return low.flatten(low.value(input))


def spiking_add(low: Lowering, m: Any, path: str, a: object, b: object) -> Value:
    """ttfsc.nn.Add."""
    branches = [low.value(x) for x in (a, b)]
    if not all(low.is_membrane(x) for x in branches):
        raise Refused("ttfsc.nn.Add reads spikes; end each branch in a synapse, the shortcut in a 1x1 convolution")
    return low.add(*branches)


def membrane(low: Lowering, m: Any, path: str, input: object) -> Value:
    """ttfsc.nn.Membrane."""
    x = low.value(input)
    if not low.is_membrane(x):
        raise Refused("ttfsc.nn.Membrane reads spikes; put it directly behind the last synapse layer")
    return low.tail(x, MEMBRANE)


def first_spike(low: Lowering, m: Any, path: str, input: object) -> Value:
    """ttfsc.nn.FirstSpike."""
    x = low.value(input)
    if not x.spiking:
        raise Refused("ttfsc.nn.FirstSpike reads no neurons; put ttfsc.nn.Fire in front of it")
    return low.tail(x, FIRST_SPIKE)
