"""Networks for measuring: random 4-bit weights on usual shapes, thresholds set so that a given share of neurons fires.

Each shape is built twice: as a quantised spiking net and as the plain ReLU net of the same shape in ONNX.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from ttfsc.ir import OPEN, Add, Analog, Array, Builder, Conv2d, Decode, Dense, Fire, Flatten, Input, MaxPool, Net, Ref
from ttfsc.passes.prove_widths import prove_widths

Kernel = Literal["hold", "ramp"]
Layers = tuple[tuple[str, int, int, int], ...]  # (what, outputs, kernel size, padding)
"""Or (block, outputs, stride, 0), a residual block; (depth, 0, stride, 0), 3x3 for each channel, then its neurons."""


def _vgg(plan: str, dense: tuple[int, ...]) -> Layers:
    convs = tuple(("max", 0, 2, 0) if word == "M" else ("conv", int(word), 3, 1) for word in plan.split())
    return (*convs, ("flat", 0, 0, 0), *(("dense", n, 0, 0) for n in dense))


def _mobilenet() -> Layers:
    """MobileNetV1 (Howard et al., 2017) with a first stride of 1, for small images."""
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    pairs = [layer for n, stride in plan for layer in (("depth", 0, stride, 0), ("conv", n, 1, 0))]
    return (("conv", 32, 3, 1), *pairs, ("avg", 0, 2, 0), ("flat", 0, 0, 0), ("dense", 10, 0, 0))


@dataclass(frozen=True, slots=True)
class Shape:
    """A network to measure: input [C, H, W] and its layers."""

    name: str
    input: tuple[int, int, int]
    layers: Layers


SHAPES = (
    Shape("vgg16", (3, 32, 32), _vgg("64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M", (4096, 4096, 10))),
    Shape("mnist", (1, 28, 28), (
        ("conv", 16, 5, 1), ("avg", 0, 2, 0), ("conv", 32, 5, 1), ("avg", 0, 2, 0), ("flat", 0, 0, 0),
        ("dense", 128, 0, 0), ("dense", 10, 0, 0),
    )),
    Shape("vgg11", (3, 32, 32), _vgg("64 M 128 M 256 256 M 512 512 M 512 512 M", (4096, 4096, 10))),
    Shape("resnet18", (3, 32, 32), (  # projections on every skip connection
        ("conv", 64, 3, 1), ("block", 64, 1, 0), ("block", 64, 1, 0), ("block", 128, 2, 0), ("block", 128, 1, 0),
        ("block", 256, 2, 0), ("block", 256, 1, 0), ("block", 512, 2, 0), ("block", 512, 1, 0), ("avg", 0, 4, 0),
        ("flat", 0, 0, 0), ("dense", 10, 0, 0),
    )),
    Shape("resnet18-identity", (3, 32, 32), (  # as published: projections only where the shape changes
        ("conv", 64, 3, 1), ("same", 64, 1, 0), ("same", 64, 1, 0), ("block", 128, 2, 0), ("same", 128, 1, 0),
        ("block", 256, 2, 0), ("same", 256, 1, 0), ("block", 512, 2, 0), ("same", 512, 1, 0), ("avg", 0, 4, 0),
        ("flat", 0, 0, 0), ("dense", 10, 0, 0),
    )),
    Shape("mobilenet", (3, 32, 32), _mobilenet()),
    Shape("wide", (3, 48, 48), _vgg("48 48 M 96 96 M 192 192 M 384 M", (100,))),
)  # fmt: skip


@dataclass
class Sample:
    """What calibrating needs of a layer: values [N, C, H, W] that images cause."""

    x: Array
    spikes: bool = False
    fired: list[float] = field(default_factory=list[float])


def spiking(shape: Shape, kernel: Kernel, images: Array, *, rate: float, ticks: int, bits: int, seed: int = 0) -> Net:
    """The quantised net; images [N, C, H, W] of 0..255 set the thresholds: `rate` of the neurons of a layer fire."""
    rng = np.random.default_rng(seed)
    b = Builder(shape.name, ticks=ticks)
    value, pool, at = b.add(Input(name="in", type=Analog(shape.input, 0, 255))).name, 1, Sample(images.astype(np.int64))
    flat, last = False, len(shape.layers) - 1
    for i, (what, outputs, size, pad) in enumerate(shape.layers):
        name = f"l{i}"
        if what == "max":
            value = b.add(MaxPool(name=name, type=OPEN, x=Ref(value), kernel=(size, size), stride=(size, size))).name
            at.x = _pooled(at.x, size).max(3)
        elif what == "avg":
            pool = size
        elif what == "flat":
            flat = True
            if pool == 1:
                value = b.add(Flatten(name=name, type=OPEN, x=Ref(value))).name
        elif what in ("block", "same"):
            how = (kernel, bits, rng, ticks, rate)
            value = _block(b, at, name, value, outputs, size, *how, project=what == "block")
        else:
            stride = 1
            if what == "depth":
                outputs, size, pad, stride = at.x.shape[1], 3, 1, size
            value, pool = _layer(b, at, name, value, what, outputs, size, pad, pool, kernel, bits, rng, stride), 1
            if i < last:
                value = _fire(b, at, name, value, ticks, rate, flat)
    b.add(Decode(name="out", type=OPEN, xs=(Ref(value),), rule="membrane"))
    return prove_widths(b.net())


def _layer(
    b: Builder, at: Sample, name: str, value: str, what: str, outputs: int, size: int, pad: int, pool: int,
    kernel: Kernel, bits: int, rng: np.random.Generator, stride: int = 1,
) -> str:  # fmt: skip
    """The synapses; at.x becomes the potential [2, N, C, H, W]: S and W. what: conv, depth, skip (ones) or dense."""
    how: Kernel = kernel if at.spikes else "hold"
    both = np.stack([at.x, at.x > 0]).astype(np.float32)
    folded = both.reshape(-1, *both.shape[2:])
    if pool > 1:
        folded = _pooled(folded, pool).sum(3)
    groups = outputs if what in ("depth", "skip") else 1
    fan = (outputs, *folded.shape[1:]) if what == "dense" else (outputs, folded.shape[1] // groups, size, size)
    w = _weights(rng, fan, bits)
    if what == "skip":
        w = np.full(fan, 2 ** (bits - 2), np.int8)
    if what != "dense" or pool > 1:
        const = b.array(f"{name}.w", w)
        b.add(Conv2d(
            name=f"{name}.m", type=OPEN, x=Ref(value), w=const, bits=bits, kernel=how, pad=(pad, pad, pad, pad),
            stride=(stride, stride), groups=groups,
            pool=(pool, pool), pool_stride=(pool, pool),
        ))  # fmt: skip
        value = f"{name}.m"
    else:
        const = b.array(f"{name}.w", w.reshape(outputs, -1))
        value = b.add(Dense(name=f"{name}.v", type=OPEN, x=Ref(value), w=const, bits=bits, kernel=how)).name
    if what == "dense" and pool > 1:
        value = b.add(Flatten(name=f"{name}.v", type=OPEN, x=Ref(value))).name
    v = _convolved(folded, w.astype(np.float32), pad, stride)
    at.x = v.reshape(2, -1, *v.shape[1:])
    if how == "hold":
        at.x[1] = 0
    return value


def _block(
    b: Builder, at: Sample, name: str, value: str, outputs: int, stride: int, kernel: Kernel, bits: int,
    rng: np.random.Generator, ticks: int, rate: float, *, project: bool,
) -> str:  # fmt: skip
    """A residual block: two convolutions of 3x3, and beside them one of 1x1 or the input itself."""
    skip = Sample(at.x, at.spikes)
    first = _layer(b, at, f"{name}a", value, "conv", outputs, 3, 1, 1, kernel, bits, rng, stride)
    first = _fire(b, at, f"{name}a", first, ticks, rate, False)
    second = _layer(b, at, f"{name}b", first, "conv", outputs, 3, 1, 1, kernel, bits, rng)
    beside = "conv" if project else "skip"
    third = _layer(b, skip, f"{name}s", value, beside, outputs, 1, 0, 1, kernel, bits, rng, stride)
    at.x = at.x + skip.x
    value = b.add(Add(name=f"{name}.v", type=OPEN, xs=(Ref(second), Ref(third)))).name
    return _fire(b, at, name, value, ticks, rate, False)


def _weights(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> Array:
    """Bell-shaped, as trained weights are: the largest about three deviations."""
    most = 2 ** (bits - 1) - 1
    return np.clip(np.rint(rng.standard_normal(shape) * max(most / 3, 0.7)), -most, most).astype(np.int8)


def _fire(b: Builder, at: Sample, name: str, value: str, ticks: int, rate: float, flat: bool) -> str:
    s, w = at.x.astype(np.int64)
    low, high = 1, int(max((np.abs(s) + np.abs(w) * ticks).max(), 1)) * ticks
    while high - low > max(1, low // 200):  # the larger the threshold, the fewer fire
        middle = (low + high) // 2
        low, high = (middle, high) if float((_spikes(s, w, middle, ticks) > 0).mean()) > rate else (low, middle)
    at.x, at.spikes = _spikes(s, w, high, ticks), True
    at.fired.append(float((at.x > 0).mean()))
    theta = b.array(f"{name}.theta", _table(high, ticks)[None].astype(np.int32))
    return b.add(Fire(name=name, type=OPEN, v=Ref(value), theta=theta)).name


def _table(top: int, ticks: int) -> Array:
    return -(-top * (ticks - np.arange(ticks)) // ticks)


def _spikes(s: Array, w: Array, top: int, ticks: int) -> Array:
    x = np.zeros_like(s)
    for n, theta in enumerate(_table(top, ticks)):
        x[(x == 0) & (s + w * n >= theta)] = ticks - n
    return x


def _pooled(x: Array, size: int) -> Array:
    """[N, C, H, W] -> [N, C, H', size * size, W'], ready to reduce over axis 3."""
    n, c, h, w = x.shape
    cut = x[:, :, : h // size * size, : w // size * size].reshape(n, c, h // size, size, w // size, size)
    return cut.transpose(0, 1, 2, 3, 5, 4).reshape(n, c, h // size, size * size, w // size)


def _convolved(x: Array, w: Array, pad: int, stride: int) -> Array:
    """[N, C, H, W] by [O, C, K, K] or, channel by channel, [C, 1, K, K]; in float32, exact below 2^24."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    taps = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    if w.shape[1] == 1 and x.shape[1] > 1:
        return np.einsum("nchwij,cij->nchw", taps, w[:, 0])
    n, _, oh, ow = taps.shape[:4]
    rows = taps.transpose(0, 2, 3, 1, 4, 5).reshape(n * oh * ow, -1)
    return (rows @ w.reshape(len(w), -1).T).reshape(n, oh, ow, -1).transpose(0, 3, 1, 2)


def relu_onnx(shape: Shape, seed: int = 0) -> onnx.ModelProto:
    """The plain ReLU network of the same shape, float32, batch 1."""
    rng = np.random.default_rng(seed)
    nodes, consts, value, (c, h, w) = list[onnx.NodeProto](), list[onnx.TensorProto](), "in", shape.input
    flat, last = 0, len(shape.layers) - 1

    def add(op: str, inputs: list[str], i: int, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{op}{i}"], **attributes))
        return f"{op}{i}"

    def conv(source: str, i: int, part: str, outputs: int, inputs: int, size: int, stride: int, groups: int = 1) -> str:
        dims = (outputs, inputs, size, size)
        weight = rng.standard_normal(dims, np.float32) * np.float32((2 / np.prod(dims[1:])) ** 0.5)
        consts.append(helper.make_tensor(f"w{i}{part}", TensorProto.FLOAT, dims, weight.tobytes(), raw=True))
        pads, out = [size // 2] * 4, f"Conv{i}{part}"
        node = helper.make_node(
            "Conv", [source, f"w{i}{part}"], [out], kernel_shape=[size, size], pads=pads, strides=[stride, stride],
            group=groups,
        )  # fmt: skip
        nodes.append(node)
        return out

    for i, (what, outputs, size, pad) in enumerate(shape.layers):
        if what in ("block", "same"):
            first = conv(value, i, "a", outputs, c, 3, size)
            skip = conv(value, i, "s", outputs, c, 1, size) if what == "block" else value
            nodes.append(helper.make_node("Relu", [first], [f"Relu{i}a"]))
            second = conv(f"Relu{i}a", i, "b", outputs, outputs, 3, 1)
            value = add("Relu", [add("Add", [second, skip], i)], i)
            c, h, w = outputs, -(-h // size), -(-w // size)
        elif what == "depth":
            value = add("Relu", [conv(value, i, "", c, 1, 3, size, groups=c)], i)
            h, w = -(-h // size), -(-w // size)
        elif what in ("max", "avg"):
            kind = "MaxPool" if what == "max" else "AveragePool"
            value = add(kind, [value], i, kernel_shape=[size, size], strides=[size, size])
            h, w = h // size, w // size
        elif what == "flat":
            value, flat = add("Flatten", [value], i), c * h * w
        else:
            dims = (outputs, c, size, size) if what == "conv" else (outputs, flat)
            scale = np.float32((2 / np.prod(dims[1:])) ** 0.5)
            weight = rng.standard_normal(dims, np.float32) * scale
            consts.append(helper.make_tensor(f"w{i}", TensorProto.FLOAT, dims, weight.tobytes(), raw=True))
            if what == "conv":
                value = add("Conv", [value, f"w{i}"], i, kernel_shape=[size, size], pads=[pad] * 4)
                c, h, w = outputs, h + 2 * pad - size + 1, w + 2 * pad - size + 1
            else:
                value, flat = add("Gemm", [value, f"w{i}"], i, transB=1), outputs
            value = add("Relu", [value], i) if i < last else value
    given = [helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, *shape.input])]
    found = [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, flat])]
    graph = helper.make_graph(nodes, shape.name, given, found, consts)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def smooth_images(n: int, shape: tuple[int, int, int], seed: int = 1) -> Array:
    """Random images whose neighbouring pixels are alike, as in photographs: [n, C, H, W] of 0..255."""
    x = np.random.default_rng(seed).standard_normal((n, *shape))
    for axis in (2, 3):
        for _ in range(3):
            x = x + np.roll(x, 1, axis) + np.roll(x, -1, axis)
    x -= x.min(axis=(1, 2, 3), keepdims=True)
    return np.rint(255 * x / x.max(axis=(1, 2, 3), keepdims=True)).astype(np.uint8)
