"""MobileNetV1-like and ResNet-18-like ONNX files with random weights: import, passes, mapping and one verified input.

    python bench/onnx_models.py [--net mobilenet resnet18] [--size 32 224] [--bits 4] [--ticks 16] [--options TEXT]

The passes are those of `ttfsc compile --calib` (nearest, compensate, correct). CPU seconds do not depend on what else
the machine does; OMP_NUM_THREADS=1 gives those of one core. Files are written with onnx.helper as PyTorch exports them:
Conv, BatchNormalization, Relu or Clip 0..6, residual Add, GlobalAveragePool, Flatten, Gemm. Every net runs in a process
of its own, so that seconds and peak memory are its own. The mapped net is verified on one input against onnxruntime's
answer for the same (unquantised) file: correlation of scores, beside the exact comparison of the quantised net before
and after mapping.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ttfsc.frontends.onnx_load import load_onnx
from ttfsc.hardware import load_chip
from ttfsc.ir import Array, Net, run
from ttfsc.pipeline import Context, Pipeline

SAMPLES = 8  # random images for ranges


class Writer:
    """An ONNX file under construction."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes = list[onnx.NodeProto]()
        self.weights = list[onnx.TensorProto]()

    def weight(self, value: Array) -> str:
        """An initialiser."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node; its result."""
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=f"{op}_{len(self.nodes)}", **attributes))
        return out

    def conv(self, x: str, cin: int, cout: int, k: int, stride: int = 1, groups: int = 1) -> str:
        """Convolution and batch norm."""
        w = self.rng.standard_normal((cout, cin // groups, k, k)) * (2 / (cin // groups * k * k)) ** 0.5
        pad = [k // 2] * 4
        out = self.node(
            "Conv", x, self.weight(w), strides=[stride, stride], pads=pad, group=groups, kernel_shape=[k, k]
        )
        parts = (self.rng.uniform(0.8, 1.2, cout), self.rng.normal(0, 0.1, cout), self.rng.normal(0, 0.1, cout),
                 self.rng.uniform(0.8, 1.2, cout))  # fmt: skip
        return self.node("BatchNormalization", out, *(self.weight(p) for p in parts), epsilon=1e-5)

    def clip(self, x: str) -> str:
        """ReLU6."""
        return self.node("Clip", x, self.weight(np.array(0.0)), self.weight(np.array(6.0)))

    def head(self, x: str, cin: int, classes: int) -> None:
        """Global average pool and classifier."""
        x = self.node("Flatten", self.node("GlobalAveragePool", x))
        w = self.rng.standard_normal((classes, cin)) * cin**-0.5
        self.node("Gemm", x, self.weight(w), self.weight(np.zeros(classes)), transB=1)

    def model(self, size: int) -> onnx.ModelProto:
        """The finished file."""
        x = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, size, size])
        y = helper.make_tensor_value_info(self.nodes[-1].output[0], TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "net", [x], [y], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def mobilenet(size: int) -> onnx.ModelProto:
    """MobileNetV1 (Howard et al., 2017); at small sizes the first stride is 1."""
    w = Writer(0)
    x, channels = w.clip(w.conv("image", 3, 32, 3, 2 if size > 64 else 1)), 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in plan:
        x = w.clip(w.conv(x, channels, channels, 3, stride, groups=channels))
        x, channels = w.clip(w.conv(x, channels, width, 1)), width
    w.head(x, channels, 1000 if size > 64 else 10)
    return w.model(size)


def resnet18(size: int) -> onnx.ModelProto:
    """ResNet-18 (He et al., 2016); at small sizes the stem is a 3x3 convolution."""
    w = Writer(1)
    x = w.node("Relu", w.conv("image", 3, 64, 7 if size > 64 else 3, 2 if size > 64 else 1))
    if size > 64:
        x = w.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for width, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            y = w.conv(w.node("Relu", w.conv(x, channels, width, 3, stride)), width, width, 3)
            skip = x if stride == 1 and channels == width else w.conv(x, channels, width, 1, stride)
            x, channels = w.node("Relu", w.node("Add", y, skip)), width
    w.head(x, channels, 1000 if size > 64 else 10)
    return w.model(size)


NETS = {"mobilenet": mobilenet, "resnet18": resnet18}


def measure(name: str, size: int, bits: int, ticks: int, options: str) -> None:
    """Everything for one net, timed step by step."""
    rng = np.random.default_rng(2)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(NETS[name](size).SerializeToString())
        began = time.perf_counter()
        net = load_onnx(path, input_range=(0, 255), input_scale=1 / 255)
        print(f"  {time.perf_counter() - began:7.2f} s  import: {len(net.ops)} ops", flush=True)
        want = _source_scores(path, x := rng.integers(0, 256, (1, 3, size, size)))
    samples = rng.integers(0, 256, (SAMPLES, 3, size, size))
    start, cpu = time.perf_counter(), time.process_time()
    text = (
        f"drop-identity,fold-batchnorm,fold-avgpool,calibrate{{ticks={ticks},nearest=true}},"
        f"quantize{{bits={bits},ticks={ticks},nearest=true{options}}},prove-widths"
    )
    small = _timed(text, net, Context(calibration=samples))
    mapped = _timed("partition,place,route", small, Context(chip=load_chip("canmore-22nm")))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert mapped.mapped is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    a, b = run(small, x), run(mapped, x)
    assert np.array_equal(a.scores, b.scores)
    fit = float(np.corrcoef(want.reshape(-1), a.scores.reshape(-1))[0, 1])
    cores, spikes = len(mapped.mapped.cores), sum(int((s > 0).sum()) for s in a.spikes.values())
    print(f"  passes {seconds:.1f} s ({cpu:.1f} s of CPU), at most {peak:.2f} GiB")
    print(f"  {cores} cores, {spikes} spikes, correlation {fit:.3f}")


def _timed(text: str, net: Net, context: Context) -> Net:
    def after(name: str, _: Net, seconds: float) -> None:
        print(f"  {seconds:7.2f} s  {name}", flush=True)

    return Pipeline.parse(text).run(net, context, after=after)


def _source_scores(path: Path, x: Array) -> Array:
    import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

    ort: Any = onnxruntime
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": (x / 255).astype(np.float32)})[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", nargs="+", choices=list(NETS), default=list(NETS))
    parser.add_argument("--size", nargs="+", type=int, default=[32, 224])
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--ticks", type=int, default=16)
    parser.add_argument("--options", default=",compensate=true,correct=true", help="more options of quantize")
    options = parser.parse_args()
    if len(options.net) == 1 and len(options.size) == 1:
        measure(options.net[0], options.size[0], options.bits, options.ticks, options.options)
        return
    for name in options.net:
        for size in options.size:
            print(f"{name} {size}x{size}", flush=True)
            alone = ["--net", name, "--size", str(size), "--bits", str(options.bits), "--ticks", str(options.ticks)]
            subprocess.run([sys.executable, __file__, *alone, "--options", options.options], check=True)


if __name__ == "__main__":
    main()
