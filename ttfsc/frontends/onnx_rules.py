"""What is understood of ONNX: a table from op types to rules. Everything else is refused with reason and rewrite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ttfsc.frontends import onnx_arithmetic as a
from ttfsc.frontends import onnx_layers as m
from ttfsc.frontends import onnx_quant as q
from ttfsc.frontends import onnx_select as s
from ttfsc.frontends.onnx_constants import FOLDED
from ttfsc.frontends.onnx_file import Node
from ttfsc.frontends.onnx_lowering import OnnxLowering
from ttfsc.frontends.onnx_tensor import Known
from ttfsc.frontends.onnx_view import View

Call = Callable[[OnnxLowering, Node, list[View | Known | None]], View | Known | tuple[View, ...]]


@dataclass(frozen=True, slots=True)
class Rule:
    """How an op type is lowered, and what a user should know about it."""

    call: Call
    notes: str


_AT_END = "only at the end, where it leaves the largest score the largest"
_FIXED = "with a constant: one number, or one per channel"
_RANGE = "neurons; the range comes from calibration"
_LABEL = "where no neuron moves: flattening, axes of size 1, and whatever is undone before the next layer"
_MEAN = "folded into the synapse behind it"

_ROWS: tuple[tuple[str, Call, str], ...] = (
    ("Conv", m.conv, "1-D and 2-D; auto_pad, strides, pads, dilations, groups"),
    ("Gemm", m.gemm, "B and C fixed; transB, alpha, beta; transA=0"),
    ("MatMul", m.matmul, "with a fixed matrix on the right; on the channels of [N, H, W, C] a 1x1 convolution"),
    ("BatchNormalization", m.batch_norm, "at inference; folded into a neighbouring synapse"),
    ("MaxPool", m.max_pool, "earliest spike of each window; 1-D and 2-D, pads, auto_pad, ceil_mode; no dilations"),
    ("AveragePool", m.average_pool, f"{_MEAN}; 1-D and 2-D"),
    ("GlobalAveragePool", m.global_pool, _MEAN),
    ("GlobalMaxPool", m.global_pool, "earliest spike of all"),
    ("ReduceMean", m.reduce_mean, f"over height and width; {_MEAN}"),
    ("Flatten", m.flatten, "from axis 1"),
    ("Add", a.add, "two branches (a skip gets a synapse of ones), or a constant, one per place behind a Conv too"),
    ("Sum", a.add, "as Add, of any number of branches"),
    ("Sub", a.subtract, _FIXED),
    ("Mul", a.multiply, _FIXED),
    ("Div", a.divide, _FIXED),
    ("Neg", a.negate, "a factor of -1"),
    ("Relu", a.relu, _RANGE),
    ("LeakyRelu", a.relu, "with alpha 0"),
    ("PRelu", a.relu, "with slope 0"),
    ("ThresholdedRelu", a.relu, "with alpha 0"),
    ("Clip", a.clip, "0..c with fixed c: neurons of range c; 0 and upwards: a ReLU"),
    ("Max", a.extreme, "of 0: a ReLU"),
    ("Min", a.extreme, "of a number, behind a ReLU: a clip"),
    ("Reshape", a.reshape, _LABEL),
    ("Transpose", a.transpose, _LABEL),
    ("Squeeze", a.squeeze, _LABEL),
    ("Unsqueeze", a.unsqueeze, _LABEL),
    ("Shape", a.shape_of, "known when compiling"),
    ("Size", a.size_of, "known when compiling"),
    ("Identity", a.same, ""),
    ("Dropout", a.same, "nothing at inference"),
    ("Cast", a.same, "between real numbers; of the input"),
    ("Pad", a.pad, "zeros around height and width, taken over by the convolution or pool behind, or beside channels"),
    ("Slice", s.select, "fixed bounds: channels, rows, columns, every n-th; taken into the layers behind"),
    ("Split", s.split, "along one axis, as Slice"),
    ("Concat", a.concat, "along the channels: its readers add up convolutions of its parts"),
    ("Softmax", a.tail, _AT_END),
    ("LogSoftmax", a.tail, _AT_END),
    ("Hardmax", a.tail, _AT_END),
    ("Sigmoid", a.tail, _AT_END),
    ("ArgMax", a.tail, _AT_END),
    ("QuantizeLinear", q.quantize_linear, "up to 64 levels become ticks, more only give the range"),
    ("DequantizeLinear", q.dequantize_linear, "weights keep their integers: up to 8 bits, symmetric"),
    ("Quant", q.quant, "QONNX: as QuantizeLinear and DequantizeLinear together; zero point 0"),
    ("BipolarQuant", q.bipolar_quant, "QONNX: of weights"),
)  # fmt: skip
RULES: dict[str, Rule] = {name: Rule(call, notes) for name, call, notes in _ROWS}
CONSTANTS = "of constants only"  # ops that are computed where all their inputs are known
ONLY_FOLDED = tuple(name for name in FOLDED if name not in RULES)

_CURVED = (
    "is curved or lets negative values through; spikes carry 0..c, straight: train with Relu (or Clip 0..6) instead"
)
_STATISTICS = "normalises by the statistics of each input, which no fixed weights can do; use BatchNormalization"
_TIME = "keeps a state from step to step; a net here sees one image: leave it out"
_GROWS = "enlarges the image, for which there is no synapse here; use strides and convolutions only"
_INTEGERS = (
    "computes on integers; export the model in QDQ format (QuantizeLinear and DequantizeLinear around float ops)"
)
_CONTROL = "chooses its nodes while running; export the model with fixed control flow"
_PICKS = "picks elements one by one; take a range of channels, rows or columns with Slice, or use a convolution"
_PRODUCT = "multiplies activations with each other, which spikes cannot do; use convolutions"
_REASONS = (
    (_CURVED, "Gelu Elu Selu Celu Tanh Softplus Softsign HardSwish HardSigmoid Mish Swish Erf Exp Log "
     "Sqrt Abs Pow Sin Cos"),
    (_STATISTICS, "LayerNormalization GroupNormalization InstanceNormalization LRN LpNormalization "
     "MeanVarianceNormalization RMSNormalization"),
    (_TIME, "LSTM GRU RNN Scan Loop"),
    (_GROWS, "ConvTranspose Upsample Resize DepthToSpace MaxUnpool"),
    (_INTEGERS, "QLinearConv QLinearMatMul ConvInteger MatMulInteger DynamicQuantizeLinear QLinearAdd QGemm"),
    (_CONTROL, "If Where"),
    (_PICKS, "Gather GatherElements GatherND TopK SpaceToDepth"),
    (_PRODUCT, "Einsum Attention"),
    ("takes a norm over windows, which is no linear map; use AveragePool or MaxPool", "LpPool GlobalLpPool"),
    ("sums instead of averaging; use ReduceMean and scale the layer behind it", "ReduceSum"),
    ("takes the largest of an axis; use MaxPool or GlobalMaxPool", "ReduceMax"),
    ("quantises by cutting bits off; use Quant with rounding_mode FLOOR", "Trunc"),
)  # fmt: skip
REASONS: dict[str, str] = {name: why for why, names in _REASONS for name in names.split()}


def reason(node: Node) -> str:
    """Why a node without a rule is refused, and what to do instead."""
    if node.domain:
        return f"belongs to the domain {node.domain!r}, which is not understood; export with standard ONNX ops only"
    if node.op in ONLY_FOLDED and node.op not in REASONS:
        return "is understood of constants only, but depends on the input; take it out of the model"
    return REASONS.get(node.op) or "has no rule; `ttfsc supported-ops` lists what is understood: rewrite it with those"
