"""What is understood of PyTorch: one table from names to rules. Everything else is refused with a reason and a rewrite.

Names are public ones ("torch.nn.Conv2d", "torch.nn.functional.relu", "Tensor.view", "operator.add", "aten.relu"), so
the table can be read and printed without torch; the tracer resolves them to classes and functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ttfsc.frontends import torch_arithmetic as a
from ttfsc.frontends import torch_functions as f
from ttfsc.frontends import torch_layers as m


@dataclass(frozen=True, slots=True)
class Rule:
    """How one name is lowered, and what a user should know about it.

    `call` gets the Lowering, for modules then the module and its path, then the arguments of the source.
    """

    call: Callable[..., Any]
    notes: str

    def kind_of(self, name: str) -> str:
        """module, function, method or aten."""
        if name.startswith("aten."):
            return "aten"
        if name.startswith("Tensor."):
            return "method"
        return "module" if name.rsplit(".", 1)[1][0].isupper() else "function"


_F = "torch.nn.functional"
_AT_END = "only at the end, where it leaves the largest score the largest"
_CLIP = "0..c with fixed c: neurons of range c"
_FIXED = "with a constant, one number or one per channel"
_RANGE = "neurons; the range comes from calibration"
_EARLIEST = "earliest spike of each window; no dilation; in front of the ReLU too"
_MEAN = "folded into the synapse behind it"
_EQUAL = "where the output size divides the input's"
_NOTHING = "nothing at inference"
_NORM = "with running statistics; folded into a neighbouring synapse"
_BRANCH = "two branches (a skip gets a synapse of ones), or a constant"

_MODULES: dict[str, tuple[Callable[..., Any], str]] = {
    "torch.nn.Conv2d": (m.conv2d, "any stride, zero padding, dilation, groups"),
    "torch.nn.Linear": (m.linear, ""),
    "torch.nn.BatchNorm1d": (m.batch_norm, _NORM),
    "torch.nn.BatchNorm2d": (m.batch_norm, _NORM),
    "torch.nn.ReLU": (m.relu, _RANGE),
    "torch.nn.ReLU6": (m.relu6, "neurons of range 6"),
    "torch.nn.Hardtanh": (m.hardtanh, _CLIP),
    "torch.nn.LeakyReLU": (m.leaky_relu, "with slope 0"),
    "torch.nn.Threshold": (m.threshold, "with threshold 0 and value 0"),
    "torch.nn.MaxPool2d": (m.max_pool2d, _EARLIEST),
    "torch.nn.AvgPool2d": (m.avg_pool2d, _MEAN),
    "torch.nn.AdaptiveAvgPool2d": (m.adaptive_avg_pool2d, _EQUAL),
    "torch.nn.Flatten": (m.flatten, "from axis 1"),
    "torch.nn.ZeroPad2d": (m.zero_pad, "in front of a convolution"),
    "torch.nn.Identity": (m.same, ""),
    "torch.nn.Dropout": (m.same, _NOTHING),
    "torch.nn.Dropout1d": (m.same, _NOTHING),
    "torch.nn.Dropout2d": (m.same, _NOTHING),
    "torch.nn.AlphaDropout": (m.same, _NOTHING),
    "torch.nn.FeatureAlphaDropout": (m.same, _NOTHING),
    "torch.nn.Softmax": (m.softmax, _AT_END),
    "torch.nn.LogSoftmax": (m.softmax, _AT_END),
    "ttfsc.nn.Input": (m.spiking_input, "declares the pixels: shape, range, scale"),
    "ttfsc.nn.Conv2d": (m.spiking_conv2d, "trained weight grid kept"),
    "ttfsc.nn.Linear": (m.spiking_linear, "trained weight grid kept"),
    "ttfsc.nn.Fire": (m.fire, "trained range and ticks kept"),
    "ttfsc.nn.MaxPool2d": (m.spiking_max_pool2d, ""),
    "ttfsc.nn.AvgPool2d": (m.spiking_avg_pool2d, ""),
    "ttfsc.nn.Flatten": (m.spiking_flatten, ""),
    "ttfsc.nn.Add": (m.spiking_add, "two branches on one membrane; `Residual` is traced into"),
    "ttfsc.nn.Membrane": (m.membrane, "read-out: the membrane as the window ends"),
    "ttfsc.nn.FirstSpike": (m.first_spike, "read-out: the earliest spike"),
}

# One row per meaning: the rule, what to know, and the names under which torch offers it (F is torch.nn.functional).
_FUNCTIONS: tuple[tuple[Callable[..., Any], str, str], ...] = (
    (f.conv2d, "with fixed weights", "F.conv2d aten.conv2d aten.conv2d.padding"),
    (f.convolution, "with fixed weights, not transposed", "aten.convolution"),
    (f.linear, "with fixed weights", "F.linear aten.linear"),
    (f.addmm, "with fixed weights", "torch.addmm aten.addmm"),
    (
        f.matmul,
        "with a fixed matrix",
        "torch.matmul torch.mm operator.matmul Tensor.matmul Tensor.mm aten.matmul aten.mm",
    ),
    (f.transpose, "of weights", "torch.t torch.transpose torch.permute Tensor.t Tensor.transpose Tensor.permute"),
    (f.transpose, "of weights", "aten.t aten.transpose aten.permute"),
    (f.batch_norm, "at inference", "F.batch_norm"),
    (f.aten_batch_norm, "at inference", "aten.batch_norm"),
    (f.aten_batch_norm_inference, "at inference", "aten._native_batch_norm_legit_no_training"),
    (f.relu, _RANGE, "torch.relu torch.relu_ F.relu F.relu_ Tensor.relu Tensor.relu_ aten.relu aten.relu_"),
    (f.relu6, "neurons of range 6", "F.relu6 aten.relu6 aten.relu6_"),
    (f.hardtanh, _CLIP, "F.hardtanh F.hardtanh_ aten.hardtanh aten.hardtanh_"),
    (f.clamp, _CLIP, "torch.clamp torch.clamp_ torch.clip torch.clamp_min Tensor.clamp Tensor.clamp_ Tensor.clip"),
    (f.clamp, _CLIP, "Tensor.clamp_min aten.clamp aten.clamp_ aten.clamp_min"),
    (f.leaky_relu, "with slope 0", "F.leaky_relu aten.leaky_relu"),
    (f.threshold, "with threshold 0 and value 0", "F.threshold aten.threshold"),
    (f.max_pool2d, _EARLIEST, "torch.max_pool2d F.max_pool2d aten.max_pool2d"),
    (f.max_pool2d_with_indices, "without reading the indices", "aten.max_pool2d_with_indices"),
    (f.avg_pool2d, _MEAN, "F.avg_pool2d aten.avg_pool2d"),
    (f.adaptive_avg_pool2d, _EQUAL, "F.adaptive_avg_pool2d aten.adaptive_avg_pool2d aten._adaptive_avg_pool2d"),
    (f.mean, "over height and width", "torch.mean Tensor.mean aten.mean"),
    (a.flatten, "from axis 1", "torch.flatten Tensor.flatten aten.flatten"),
    (
        a.view,
        "flattening a sample",
        "torch.reshape Tensor.view Tensor.reshape aten.view aten.reshape aten._unsafe_view",
    ),
    (a.squeeze, "of axes (2, 3)", "torch.squeeze Tensor.squeeze aten.squeeze"),
    (a.pad, "with zeros, in front of a convolution", "F.pad aten.pad aten.constant_pad_nd"),
    (a.add, _BRANCH, "torch.add operator.add operator.iadd Tensor.add Tensor.add_ aten.add aten.add_"),
    (a.sub, _FIXED, "torch.sub operator.sub operator.isub Tensor.sub aten.sub aten.sub_"),
    (a.mul, _FIXED, "torch.mul operator.mul operator.imul Tensor.mul aten.mul aten.mul_"),
    (a.div, _FIXED, "torch.div operator.truediv operator.itruediv Tensor.div aten.div aten.div_"),
    (a.dropout, _NOTHING, "F.dropout F.dropout2d F.alpha_dropout torch.dropout"),
    (a.aten_dropout, _NOTHING, "aten.dropout aten.feature_dropout aten.alpha_dropout"),
    (a.same, "", "Tensor.contiguous Tensor.float Tensor.detach Tensor.clone torch.clone aten.contiguous aten.clone"),
    (a.same, "", "aten.alias aten.detach aten.detach_ aten.lift_fresh_copy"),
    (a.softmax, _AT_END, "torch.softmax torch.log_softmax F.softmax F.log_softmax Tensor.softmax Tensor.log_softmax"),
    (a.softmax, _AT_END, "aten.softmax aten.log_softmax aten._softmax aten._log_softmax"),
    (a.argmax, _AT_END, "torch.argmax Tensor.argmax aten.argmax"),
    (a.size, "", "Tensor.size aten.sym_size"),
    (a.attribute, "shape", "builtins.getattr"),
    (a.item, "of tuples and shapes", "operator.getitem"),
)

RULES: dict[str, Rule] = {name: Rule(call, notes) for name, (call, notes) in _MODULES.items()} | {
    name: Rule(call, notes) for call, notes, names in _FUNCTIONS for name in names.replace("F.", f"{_F}.").split()
}

_CURVED = "is curved or lets negative values through; spikes carry 0..c, straight: train with ReLU (or ReLU6) instead"
_STATISTICS = "normalises by the statistics of each input, which no fixed weights can do; use BatchNorm2d"
_TIME = "keeps a state from step to step; a net here sees one image: leave it out"
_GROWS = "enlarges the image, for which there is no synapse here; use strides and convolutions only"
_ONE_D = "works along one axis; use the 2-d layer with height 1: Conv2d(..., kernel_size=(1, k)) on [N, C, 1, L]"
_CAT = "joins activations; add the branches instead (one convolution each, then a sum), which is the same function"
_MAX = "pools to an output size; use MaxPool2d with the kernel and stride that give it"

_PRODUCT = "multiplies activations with each other, which spikes cannot do; use convolutions"
# Modules, functions and ATen ops alike: their names without capitals and underscores.
_REASONS = (
    (
        _CURVED,
        "gelu silu mish elu selu celu prelu rrelu sigmoid tanh softplus softsign hardswish hardsigmoid logsigmoid",
    ),
    (_CURVED, "tanhshrink softshrink hardshrink glu"),
    (_STATISTICS, "layernorm groupnorm instancenorm instancenorm1d instancenorm2d localresponsenorm rmsnorm normalize"),
    (_TIME, "lstm gru rnn lstmcell grucell rnncell"),
    (_GROWS, "convtranspose2d upsample pixelshuffle interpolate"),
    (_ONE_D, "conv1d maxpool1d avgpool1d adaptiveavgpool1d"),
    (_CAT, "cat concat concatenate stack"),
    (_MAX, "adaptivemaxpool2d"),
    (_PRODUCT, "multiheadattention bmm einsum scaleddotproductattention"),
)
REASONS: dict[str, str] = {name: why for why, names in _REASONS for name in names.split()}


def reason(name: str) -> str:
    """Why `name`, which has no rule, is refused, and what to do instead."""
    last = name.split(".")[1] if name.startswith("aten.") else name.rsplit(".", 1)[-1]
    known = REASONS.get(last.replace("_", "").lower())
    return known or "has no rule; `ttfsc supported-ops` lists what is understood: rewrite it with those"
