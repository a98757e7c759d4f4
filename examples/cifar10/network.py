"""CIFAR-10 networks: builders that `ttfsc compile` loads, and, with batch norm, what is trained.

    ttfsc compile examples/cifar10/network.py:vgg8 --weights examples/cifar10/vgg8.safetensors -o build/vgg8

vgg8 is sized for training on a CPU: seven 3x3 convolutions of 32 to 192 channels and a dense read-out, 25.7 million
multiply-accumulates, 75,776 neurons that fire. vgg11 and vgg16 are those of the papers, in both families:
512-4096-4096-10 behind the convolutions, and without the ten outputs vgg16 has 284,672 neurons that fire.

Pixels are [N, 3, 32, 32] of 0..255, scores [N, 10]. A max pool passes the earliest spike on.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

import ttfsc.nn as tnn

POOL = 0  # stands for a 2x2 max pool among the widths
VGG8 = (32, POOL, 48, 48, POOL, 96, 96, POOL, 192, 192)
VGG11 = (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL)
VGG16 = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL)
HIDDEN = 4096  # neurons of each hidden dense layer of VGG11 and VGG16
GAIN = 0.5  # of a batch norm at the start: drives of half a range, so that few neurons saturate


def vgg8(bits: int | None = 4, ticks: int | None = 16, batchnorm: bool = False) -> nn.Sequential:
    """Exact-ReLU network for CPUs; the last 4x4 neurons of each channel are averaged before the read-out."""
    layers = _exact_relu(VGG8, bits, ticks, batchnorm)
    layers.update(mean=tnn.AvgPool2d(4), flatten=tnn.Flatten())
    layers.update(dense=tnn.Linear(192, 10, bits=bits, per_tensor=True), scores=tnn.Membrane())
    return nn.Sequential(layers)


def vgg11_relu(bits: int | None = 4, ticks: int | None = 10, batchnorm: bool = False) -> nn.Sequential:
    """Exact-ReLU VGG11."""
    return _with_head(_exact_relu(VGG11, bits, ticks, batchnorm), bits, ticks, batchnorm)


def vgg16_relu(bits: int | None = 4, ticks: int | None = 10, batchnorm: bool = False) -> nn.Sequential:
    """Exact-ReLU VGG16 (Stanojevic et al.)."""
    return _with_head(_exact_relu(VGG16, bits, ticks, batchnorm), bits, ticks, batchnorm)


def vgg11_dta(bits: int | None = 4, ticks: int | None = 10) -> nn.Sequential:
    """DTA-TTFS VGG11, without biases."""
    return _dta(VGG11, bits, ticks)


def vgg16_dta(bits: int | None = 4, ticks: int | None = 10) -> nn.Sequential:
    """DTA-TTFS VGG16 (Wei et al., ICCV 2023), without biases."""
    return _dta(VGG16, bits, ticks)


def _norm(channels: int, dense: bool = False) -> nn.Module:
    norm = nn.BatchNorm1d(channels) if dense else nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, GAIN)
    return norm


def _convolutions(
    widths: Sequence[int], block: Callable[[int, int, int], dict[str, nn.Module]]
) -> OrderedDict[str, nn.Module]:
    """Input, and for each width a pool or `block(number, fan_in, width)`, the modules of one convolution."""
    layers = OrderedDict[str, nn.Module](input=tnn.Input((3, 32, 32), 0, 255, 1 / 255))
    channels, conv, pool = 3, 0, 0
    for width in widths:
        if width == POOL:
            pool += 1
            layers[f"pool{pool}"] = tnn.MaxPool2d(2)
            continue
        conv += 1
        layers.update(block(conv, channels, width))
        channels = width
    return layers


def _exact_relu(
    widths: Sequence[int], bits: int | None, ticks: int | None, batchnorm: bool
) -> OrderedDict[str, nn.Module]:
    """Convolutions, each with a batch norm or a bias, neurons and pools."""

    def block(number: int, fan_in: int, width: int) -> dict[str, nn.Module]:
        conv = tnn.Conv2d(fan_in, width, 3, padding=1, bias=not batchnorm, bits=bits)
        norm: dict[str, nn.Module] = {f"norm{number}": _norm(width)} if batchnorm else {}
        return {f"conv{number}": conv, **norm, f"fire{number}": tnn.Fire(ticks)}

    return _convolutions(widths, block)


def _with_head(
    layers: OrderedDict[str, nn.Module], bits: int | None, ticks: int | None, batchnorm: bool
) -> nn.Sequential:
    """Two hidden dense layers of 4096 and the read-out behind the convolutions of VGG11 or VGG16."""
    convolutions = [layer for layer in layers.values() if isinstance(layer, tnn.Conv2d)]
    channels = convolutions[-1].out_channels  # the last pool leaves one pixel of each
    layers["flatten"] = tnn.Flatten()
    for i, fan_in in ((1, channels), (2, HIDDEN)):
        layers[f"dense{i}"] = tnn.Linear(fan_in, HIDDEN, bias=not batchnorm, bits=bits)
        if batchnorm:
            layers[f"dense{i}_norm"] = _norm(HIDDEN, dense=True)
        layers[f"dense{i}_fire"] = tnn.Fire(ticks)
    layers.update(dense3=tnn.Linear(HIDDEN, 10, bits=bits, per_tensor=True), scores=tnn.Membrane())
    return nn.Sequential(layers)


def _dta(widths: Sequence[int], bits: int | None, ticks: int | None) -> nn.Sequential:
    """The first convolution takes the image directly (`hold`), every later layer takes spikes (`ramp`)."""

    def block(number: int, fan_in: int, width: int) -> dict[str, nn.Module]:
        kernel: tnn.Kernel = "hold" if number == 1 else "ramp"
        conv = tnn.Conv2d(fan_in, width, 3, padding=1, bias=False, bits=bits, kernel=kernel)
        return {f"conv{number}": conv, f"fire{number}": tnn.Fire(ticks, spikes=True)}

    layers = _convolutions(widths, block)
    channels = next(w for w in reversed(widths) if w != POOL)  # the last pool leaves one pixel of each
    layers["flatten"] = tnn.Flatten()
    for i, fan_in in ((1, channels), (2, HIDDEN)):
        layers[f"dense{i}"] = tnn.Linear(fan_in, HIDDEN, bias=False, bits=bits, kernel="ramp")
        layers[f"dense{i}_fire"] = tnn.Fire(ticks)
    last = tnn.Linear(HIDDEN, 10, bias=False, bits=bits, kernel="ramp", per_tensor=True)
    layers.update(dense3=last, scores=tnn.Membrane())
    return nn.Sequential(layers)
