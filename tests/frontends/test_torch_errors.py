"""One bad model per rule, with its message word for word: where, what, why, and the rewrite that works."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the torch frontend needs torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

import ttfsc.nn as tnn  # noqa: E402
from tests.frontends.torch_helpers import refusals  # noqa: E402

FILE = "test_torch_errors.py"


class Net(nn.Module):
    """conv, relu, then what is under test, then a dense layer."""

    def __init__(self, middle: Any = None, *, end: Any = None) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(256, 5)
        self.middle, self.end = middle or nn.Identity(), end or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(F.relu(self.conv(x)))
        return self.end(self.head(torch.flatten(x, 1)))


def line_of(function: Callable[..., Any]) -> int:
    return function.__code__.co_firstlineno


CURVED = "is curved or lets negative values through; spikes carry 0..c, straight: train with ReLU (or ReLU6) instead"
MODULES: list[tuple[nn.Module, str]] = [
    (nn.GELU(), f"'torch.nn.GELU': {CURVED}"),
    (nn.PReLU(), f"'torch.nn.PReLU': {CURVED}"),
    (
        nn.LayerNorm(8),
        "'torch.nn.LayerNorm': normalises by the statistics of each input, which no fixed weights can do; "
        "use BatchNorm2d",
    ),
    (nn.LSTM(8, 8), "'torch.nn.LSTM': keeps a state from step to step; a net here sees one image: leave it out"),
    (
        nn.Upsample(scale_factor=2),
        "'torch.nn.Upsample': enlarges the image, for which there is no synapse here; use strides "
        "and convolutions only",
    ),
    (
        nn.Conv1d(4, 4, 3),
        "'torch.nn.Conv1d': works along one axis; use the 2-d layer with height 1: "
        "Conv2d(..., kernel_size=(1, k)) on [N, C, 1, L]",
    ),
    (
        nn.AdaptiveMaxPool2d(4),
        "'torch.nn.AdaptiveMaxPool2d': pools to an output size; use MaxPool2d with the kernel and stride that give it",
    ),
    (
        nn.ReflectionPad2d(1),
        "'torch.nn.ReflectionPad2d': has no rule; `ttfsc supported-ops` lists what is understood: rewrite "
        "it with those",
    ),
    (
        nn.LeakyReLU(0.1),
        "'torch.nn.LeakyReLU': lets negative values through (slope 0.1), which no spike can carry; train with ReLU",
    ),
    (
        nn.Hardtanh(),
        "'torch.nn.Hardtanh': clips to -1.0..1.0; spikes carry values from 0 upwards: clip to 0..c with fixed c, "
        "or use ReLU",
    ),
    (nn.Threshold(0.5, 0), "'torch.nn.Threshold': threshold 0.5 and value 0; only 0 and 0, a ReLU, is understood"),
    (
        nn.MaxPool2d(2, dilation=2),
        "'torch.nn.MaxPool2d': has dilation, which earliest-spike pooling does not; use dilation=1",
    ),
    (
        nn.MaxPool2d(2, return_indices=True),
        "'torch.nn.MaxPool2d': asks for the indices of the largest values; use return_indices=False",
    ),
    (
        nn.AvgPool2d(2, divisor_override=3),
        "'torch.nn.AvgPool2d': divides by 3 instead of its window's size; drop divisor_override",
    ),
    (
        nn.AdaptiveAvgPool2d(3),
        "'torch.nn.AdaptiveAvgPool2d': pools 8x8 to 3x3, whose windows differ in size; use an output "
        "size that divides the input's, or AvgPool2d",
    ),
    (
        nn.BatchNorm2d(4, track_running_stats=False),
        "'torch.nn.BatchNorm2d': has no running statistics, so it is no fixed function; use track_running_stats=True",
    ),
    (
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        "'torch.nn.Conv2d': pads with padding_mode='reflect'; use padding_mode='zeros'",
    ),
    (
        nn.Softmax(1),
        "'torch.nn.Flatten': reads the result of softmax, which is only understood as the last op; remove that op",
    ),
    (nn.Flatten(0), "'torch.nn.Flatten': flattens the batch away; use torch.flatten(x, 1)"),
    (
        nn.Flatten(2),
        "'torch.nn.Flatten': flattens axes 2..3 of 4; only all of a sample, torch.flatten(x, 1), is understood",
    ),
    (
        nn.Linear(8, 8),
        "'torch.nn.Linear': a dense layer reads the shape 4x8x8, which applies it to every row; flatten first: "
        "torch.flatten(x, 1)",
    ),
    (nn.ZeroPad2d(-1), "'torch.nn.ZeroPad2d': crops the value (-1x-1x-1x-1); only padding with zeros is understood"),
    (nn.MaxPool2d(9), "'torch.nn.MaxPool2d': window 9x9 does not fit its padded input 8x8"),
    (
        tnn.Input((2, 8, 8)),
        "'ttfsc.nn.Input': ttfsc.nn.Input reads something other than the model's input; put it first",
    ),
    (
        tnn.Membrane(),
        "'ttfsc.nn.Membrane': ttfsc.nn.Membrane reads spikes; put it directly behind the last synapse layer",
    ),
    (tnn.FirstSpike(), "'ttfsc.nn.FirstSpike': ttfsc.nn.FirstSpike reads no neurons; put ttfsc.nn.Fire in front of it"),
]


@pytest.mark.parametrize(("middle", "message"), MODULES, ids=lambda x: x.split(":")[0] if isinstance(x, str) else "")
def test_modules(middle: nn.Module, message: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), middle, nn.Flatten(), nn.Linear(256, 5))
    at = "3" if isinstance(middle, nn.Softmax) else "2"
    code = "004" if "does not fit" in message else "011"
    assert refusals(model)[0] == f"{at}: error[TTFS{code}]: {message}"


def pads_and_pools(x: Tensor) -> Tensor:
    return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 2)


FUNCTIONS: list[tuple[Callable[[Tensor], Any], str]] = [
    (lambda x: torch.sigmoid(x), f"'torch.sigmoid': {CURVED}"),
    (lambda x: F.gelu(x), f"'torch.nn.functional.gelu': {CURVED}"),
    (
        lambda x: torch.cat([x, x], 1),
        "'torch.cat': joins activations; add the branches instead (one convolution each, then a "
        "sum), which is the same function",
    ),
    (
        lambda x: x * x,
        "'operator.mul': multiplies two activations (attention, gates, squeeze-excitation), which spikes cannot "
        "do; leave it out",
    ),
    (
        lambda x: x - x,
        "'operator.sub': subtracts an activation; let the branch's weights change sign and add it instead",
    ),
    (
        lambda x: 1 / x,
        "'operator.truediv': divides by an activation or rounds; only division by a constant is understood",
    ),
    (lambda x: x / 0, "'operator.truediv': divides by zero"),
    (
        lambda x: torch.add(x, x, alpha=2),
        "'torch.add': alpha=2; only 1 is understood: scale the branch's weights instead",
    ),
    (lambda x: x + F.max_pool2d(x, 2), "'operator.add': adds 4x8x8 and 4x4x4; branches must agree in shape"),
    (
        lambda x: x + torch.ones(8),
        "'operator.add': computes with a constant of shape 8 on 4x8x8; one number, or one per channel, is understood",
    ),
    (
        lambda x: x[:, :2],
        "'operator.getitem': slices an activation; every layer reads a whole layer: select with a "
        "convolution, or leave it out",
    ),
    (
        lambda x: x.permute(0, 2, 3, 1),
        "'Tensor.permute': moves axes of an activation; keep [N, channels, height, width] throughout",
    ),
    (
        lambda x: x.clamp(-1, 1),
        "'Tensor.clamp': clips to -1..1; spikes carry values from 0 upwards: clip to 0..c with fixed c, or use ReLU",
    ),
    (lambda x: x.clamp(0, -1), "'Tensor.clamp': clips to 0..-1.0; the upper end must be a positive number"),
    (
        lambda x: F.leaky_relu(x),
        "'torch.nn.functional.leaky_relu': lets negative values through (slope 0.01), which no spike "
        "can carry; train with ReLU",
    ),
    (
        lambda x: F.dropout(x),
        "'torch.nn.functional.dropout': drops at inference too; write F.dropout(x, p, "
        "training=self.training), or use nn.Dropout",
    ),
    (
        lambda x: F.batch_norm(x, None, None, training=True),
        "'torch.nn.functional.batch_norm': normalises by the statistics of "
        "the batch, which is no fixed function; use running statistics (eval)",
    ),
    (
        lambda x: F.conv2d(x, x),
        "'torch.nn.functional.conv2d': its weight is computed from the input; only fixed parameters can be compiled",
    ),
    (lambda x: x.view(4, -1), "'Tensor.view': fixes the batch to 4; use torch.flatten(x, 1)"),
    (lambda x: x.view(-1, 4), "'Tensor.view': reshapes 4x8x8 to [-1, 4], which mixes samples; use torch.flatten(x, 1)"),
    (
        lambda x: x.view(x.size(0), 8, -1),
        "'Tensor.view': reshapes 4x8x8 to 8x32; only flattening, x.view(x.size(0), -1), is understood",
    ),
    (lambda x: x.mean(1), "'Tensor.mean': takes the mean over 1; only height and width together (2, 3) are understood"),
    (
        lambda x: x.squeeze(),
        "'Tensor.squeeze': squeezes 4x8x8; only axes (2, 3) of size 1 together: use torch.flatten(x, 1)",
    ),
    (
        lambda x: F.pad(x, (1, 1), mode="reflect"),
        "'torch.nn.functional.pad': pads by (1, 1) with mode reflect and value None; "
        "only zeros around height and width are understood",
    ),
    (
        pads_and_pools,
        "'torch.nn.functional.max_pool2d': is padded, but only a convolution can take padding over; use the "
        "layer's own padding",
    ),
    (
        lambda x: x.softmax(2),
        "'Tensor.softmax': runs over axis 2; only over the classes (dim=1), at the end, is understood",
    ),
    (
        lambda x: x.argmax(),
        "'Tensor.argmax': runs over axis None; only over the classes (dim=1), at the end, is understood",
    ),
    (
        lambda x: F.max_pool2d(0.5 - x, 2),
        "'operator.sub': subtracts an activation; let the branch's weights change sign and add it instead",
    ),
    (
        lambda x: F.max_pool2d(x * -1, 2),
        "'torch.nn.functional.max_pool2d': takes the largest of values that a batch norm "
        "scales by factors that are not all positive; put the pool in front of the batch norm",
    ),
    (
        lambda x: F.max_pool2d(F.avg_pool2d(x - 1, 2), 2),
        "'torch.nn.functional.max_pool2d': takes the largest of averages that "
        "may be negative; put a ReLU in front of it",
    ),
    (
        lambda x: x.to(torch.float64),
        "'Tensor.to': has no rule; `ttfsc supported-ops` lists what is understood: rewrite it with those",
    ),
    (
        lambda x: torch.add(x, 1, out=None),
        "'torch.add': got an unexpected keyword argument 'out'; this argument is not "
        "understood: leave it at its default",
    ),
]


@pytest.mark.parametrize(("middle", "message"), FUNCTIONS, ids=lambda x: x.split(":")[0] if isinstance(x, str) else "")
def test_functions(middle: Callable[[Tensor], Any], message: str) -> None:
    (first, *_) = refusals(Net(middle))
    assert first == f"{FILE}:{line_of(middle) + (middle is pads_and_pools)} (forward): error[TTFS011]: {message}"


def before_relu(x: Tensor) -> Tensor:
    return F.conv2d(x, torch.ones(4, 2, 3, 3), padding=1)


MEMBRANES: list[tuple[Callable[[Tensor], Any], str]] = [
    (
        lambda x: F.conv2d(before_relu(x), torch.ones(4, 4, 3, 3), padding=1),
        "'torch.nn.functional.conv2d': reads a membrane: there is no "
        "activation between it and the layer before; put a ReLU between the two, or merge them into one layer",
    ),
    (
        lambda x: F.max_pool2d(before_relu(x), 2) + x.mean(),
        "'Tensor.mean': takes the mean over None; only height and width together (2, 3) are understood",
    ),
    (
        lambda x: F.max_pool2d(before_relu(x), 1) + before_relu(x),
        "'operator.add': a max pool stands between a membrane and this "
        "add; earliest-spike pooling needs spikes: put the ReLU in front of the pool",
    ),
    (
        lambda x: -1 * F.max_pool2d(before_relu(x), 2),
        "'operator.mul': scales a max-pooled membrane by factors that are not all "
        "positive, which turns largest into smallest; put the ReLU and the pool behind it",
    ),
    (
        lambda x: F.avg_pool2d(before_relu(x), 3, 1, 1),
        "'torch.nn.functional.avg_pool2d': averages a membrane over padded or cut "
        "windows; put the ReLU in front of the pool, or pad=0",
    ),
    (
        lambda x: F.pad(before_relu(x), (1, 1, 1, 1)),
        "'torch.nn.functional.pad': pads something that is not an activation "
        "[channels, height, width]; pad in the convolution",
    ),
]


@pytest.mark.parametrize(("body", "message"), MEMBRANES, ids=lambda x: x.split(":")[0] if isinstance(x, str) else "")
def test_membranes(body: Callable[[Tensor], Any], message: str) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return body(x)

    assert refusals(Model())[0].split(": ", 1)[1] == f"error[TTFS011]: {message}"


OUTPUTS: list[tuple[Callable[[Tensor], Any], str]] = [
    (
        lambda x: (x.flatten(1), x),
        "output: error[TTFS011]: forward returns 2 values, must be the class scores alone; return the "
        "others only `if self.training`",
    ),
    (
        lambda x: {"a": x},
        "output: error[TTFS011]: forward returns 1 values, must be the class scores alone; return the others "
        "only `if self.training`",
    ),
    (lambda x: x, "output: error[TTFS011]: the input reaches the output unchanged; the model has no layers"),
    (lambda x: 3, "output: error[TTFS011]: the model returns 3, not class scores; return one tensor [N, classes]"),
    (
        lambda x: x.relu(),
        "output: error[TTFS011]: the model returns 2x8x8 per sample, not class scores; end with one number per class",
    ),
    (
        lambda x: F.max_pool2d(before_relu(x), 8),
        "output: error[TTFS011]: a max pool stands between a membrane and this output; "
        "earliest-spike pooling needs spikes: put the ReLU in front of the pool",
    ),
]


@pytest.mark.parametrize(("body", "message"), OUTPUTS)
def test_outputs(body: Callable[[Tensor], Any], message: str) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return body(x)

    assert refusals(Model()) == [message]
