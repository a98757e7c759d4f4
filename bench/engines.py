"""Interpreter, generated C and exported ONNX on the same images, in turn, in one process: CPU time and ratios.

    OMP_NUM_THREADS=1 python bench/engines.py [--images 10000] [--vgg-images 32] [--threads 1] [--only mnist|vgg]

Every engine sees every image; images go round in blocks (interpreter, C, ONNX, interpreter, ...), so a busy machine
slows all of them. CPU time is that of the whole process, whatever the number of threads. All answers are compared.

MNIST-size: the two trained networks of examples/mnist, images made from examples/mnist/digits.npz by shifts and noise
(spike counts as on real digits, which is what the event-driven C depends on). VGG16: bench/vgg16.py, random weights.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.vgg import vgg16
from ttfsc.backends.c import emit as emit_c
from ttfsc.backends.c.engine import Engine as CEngine
from ttfsc.backends.onnx import emit as emit_onnx
from ttfsc.backends.onnx.engine import OnnxEngine
from ttfsc.ir import Array, Net, Result, run
from ttfsc.models import Source, load_model
from ttfsc.pipeline import Context, Pipeline, default_pipeline

BLOCKS = 4
MNIST = Path(__file__).parents[1] / "examples" / "mnist"
Run = Callable[[Array], Result]


def digits(count: int) -> Array:
    """[count, 1, 28, 28] uint8."""
    rng, base = np.random.default_rng(0), np.load(MNIST / "digits.npz")["x"]
    found = np.empty((count, *base.shape[1:]), np.uint8)
    for i in range(count):
        image: Array = np.roll(base[i % len(base)], rng.integers(-2, 3, 2), axis=(1, 2)).astype(np.int64)
        noise = rng.integers(-20, 21, image.shape)
        found[i] = np.clip(image + np.minimum(image, 1) * noise, 0, 255)
    return found


def engines(net: Net, threads: int) -> tuple[dict[str, Run], dict[str, float]]:
    """Each as a function, and the seconds it took to make it."""
    made, seconds = dict[str, Run](), dict[str, float]()

    def add(name: str, make: Callable[[], Run]) -> None:
        began = time.perf_counter()
        made[name] = make()
        seconds[name] = time.perf_counter() - began

    compiled = list[CEngine]()

    def in_c() -> Run:
        compiled.append(CEngine(emit_c(net), threads=threads))
        return lambda x: compiled[0].run(x, keep=())

    add("interpreter", lambda: lambda x: run(net, x, keep=()))
    add("C", in_c)
    add("onnx", lambda: OnnxEngine(emit_onnx(net), spikes=False, threads=threads).run)
    add("C, every spike", lambda: compiled[0].run)
    add("onnx, every spike", lambda: OnnxEngine(emit_onnx(net), threads=threads).run)
    return made, seconds


def measure(name: str, net: Net, x: Array, threads: int) -> None:
    """One table."""
    runs, made = engines(net, threads)
    cpu, wall = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, 0.0)
    for run_one in runs.values():
        run_one(x[:2])  # first calls allocate
    for block in np.array_split(x, min(BLOCKS, len(x))):
        answers = list[Result]()
        for engine, run_one in runs.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            answers.append(run_one(block))
            cpu[engine] += time.process_time() - began_cpu
            wall[engine] += time.perf_counter() - began
        for other in answers[1:]:
            assert np.array_equal(answers[0].scores, other.scores) and np.array_equal(answers[0].labels, other.labels)
    fired = run(net, x[:64]).spikes.values()
    rate = sum(int((layer > 0).sum()) for layer in fired) / sum(layer.size for layer in fired)
    print(f"{name}: {len(x)} images, {rate:.3f} spikes/neuron, {threads} thread(s), all answers equal")
    print(
        f"  {'engine':18} {'CPU ms/image':>13} {'wall s, all':>12} {'x interpreter':>14} {'x C':>7} {'to make, s':>10}"
    )
    for engine in runs:
        ratios = cpu["interpreter"] / cpu[engine], cpu["C"] / cpu[engine]
        print(
            f"  {engine:18} {1000 * cpu[engine] / len(x):13.3f} {wall[engine]:12.2f} {ratios[0]:14.2f} {ratios[1]:7.2f}"
            f" {made[engine]:10.2f}"
        )


def quantised(net: Net, calibration: Array, bits: int, ticks: int) -> Net:
    """Through the default pipeline, unmapped."""
    pipeline = default_pipeline(bits=bits, ticks=ticks, method="mse", partition=None)
    return Pipeline.parse(pipeline).run(net, Context(calibration=calibration))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--vgg-images", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=["mnist", "vgg"])
    options = parser.parse_args()
    if options.only != "vgg":
        x = digits(options.images)
        for factory in ("dta", "exact_relu"):
            weights = MNIST / f"{factory}.safetensors"
            net = load_model(Source(f"{MNIST / 'network.py'}:{factory}", weights=weights))
            measure(f"MNIST {factory}", quantised(net, x[:64], 0, 0), x, options.threads)
    if options.only != "mnist":
        x = np.random.default_rng(1).integers(0, 256, (options.vgg_images, 3, 32, 32), dtype=np.uint8)
        for kernel in ("ramp", "hold"):
            measure(f"VGG16 {kernel}", quantised(vgg16(kernel), x[:2], 4, 10), x, options.threads)


if __name__ == "__main__":
    main()
