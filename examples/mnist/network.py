"""The MNIST network 16C5-P2-32C5-P2-800-128-10 in both families: builders that `ttfsc compile` loads.

    ttfsc compile examples/mnist/network.py:exact_relu --weights examples/mnist/exact_relu.safetensors -o build/mnist
    ttfsc compile examples/mnist/network.py:dta --weights examples/mnist/dta.safetensors -o build/mnist-dta

Both convolutions have padding 1 (28 -> 26 -> 13 -> 11 -> 5), 800 = 32 * 5 * 5 is the flattened size, P2 is an average
pool. 16*26*26 + 32*11*11 + 128 = 14,816 neurons fire, the ten outputs only integrate; 1.92 million
multiply-accumulates.
"""

from collections import OrderedDict

from torch import nn

import ttfsc.nn as tnn

NEURONS = 16 * 26 * 26 + 32 * 11 * 11 + 128


def exact_relu(bits: int | None = 4, ticks: int | None = 10) -> nn.Sequential:
    """Exact-ReLU network: pixels [N, 1, 28, 28] of 0..255 -> scores [N, 10]."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            input=tnn.Input((1, 28, 28), 0, 255, 1 / 255),
            conv1=tnn.Conv2d(1, 16, 5, padding=1, bits=bits),
            fire1=tnn.Fire(ticks),
            pool1=tnn.AvgPool2d(2),
            conv2=tnn.Conv2d(16, 32, 5, padding=1, bits=bits),
            fire2=tnn.Fire(ticks),
            pool2=tnn.AvgPool2d(2),
            flatten=tnn.Flatten(),
            dense3=tnn.Linear(800, 128, bits=bits),
            fire3=tnn.Fire(ticks),
            dense4=tnn.Linear(128, 10, bits=bits, per_tensor=True),
            scores=tnn.Membrane(),
        )
    )


def dta(bits: int | None = 4, ticks: int | None = 10) -> nn.Sequential:
    """DTA-TTFS network (Wei et al., ICCV 2023): pixels [N, 1, 28, 28] of 0..255 -> scores [N, 10]."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            input=tnn.Input((1, 28, 28), 0, 255, 1 / 255),
            conv1=tnn.Conv2d(1, 16, 5, padding=1, bits=bits),
            fire1=tnn.Fire(ticks, spikes=True),
            pool1=tnn.AvgPool2d(2),
            conv2=tnn.Conv2d(16, 32, 5, padding=1, bits=bits, kernel="ramp"),
            fire2=tnn.Fire(ticks),
            pool2=tnn.AvgPool2d(2),
            flatten=tnn.Flatten(),
            dense3=tnn.Linear(800, 128, bits=bits, kernel="ramp"),
            fire3=tnn.Fire(ticks),
            dense4=tnn.Linear(128, 10, bits=bits, kernel="ramp", per_tensor=True),
            scores=tnn.Membrane(),
        )
    )


def teacher(_bits: int | None = None, _ticks: int | None = None) -> nn.Sequential:
    """A wider, ordinary convolutional network, whose answers the others may learn from; it is not compiled."""
    layers = OrderedDict[str, nn.Module](input=tnn.Input((1, 28, 28), 0, 255, 1 / 255))
    channels = 1
    for i, (width, kernel) in enumerate(((32, 5), (64, 3), (128, 3)), 1):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm2d(width)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"pool{i}"] = nn.MaxPool2d(2)
        channels = width
    layers.update(flatten=nn.Flatten(), drop=nn.Dropout(0.4), dense=nn.Linear(channels * 3 * 3, 10))
    return nn.Sequential(layers)
