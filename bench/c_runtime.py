"""The generated C against onnxruntime on the plain ReLU network of the same shape, interleaved in one process.

    python -m bench.c_runtime [--shapes vgg16 mnist resnet18 vgg11 mobilenet] [--kernels ramp hold]
        [--rates 0.12 0.27 0.45] [--images X.npz] [--rounds 9] [--json FILE]

One thread, batch 1, thread CPU time; every contender runs in every round, in turn, so that all of them meet the same
machine. Given are the median of each and the ratio of minima to onnxruntime fp32. The C is compared with the
interpreter first, spike for spike. Random weights; thresholds are set so that the given share of neurons fires on the
images, real ones where --images has them; and the trained MNIST networks as they are. All builds are measured at the
rate of 0.27 (or the first one given), the others with the first build. Beside them torch, in the form of two
convolutions that gives the same spikes, and SpikingJelly's simulation of the same shape, where it is installed: what
they cost does not depend on the rate. Of the first build at that rate the layers are timed one by one. C99 is planned
with --cpu c99 and holds no GNU vectors; "c native" is planned with --cpu native, "c -O3" with --cpu generic.
"""

import argparse
import ctypes
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import torch
from onnxruntime.quantization import (  # pyright: ignore[reportMissingTypeStubs]
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,  # pyright: ignore[reportUnknownVariableType]
)

from bench.c_nets import SHAPES, Shape, relu_onnx, smooth_images, spiking
from bench.layer_times import layer_times
from bench.torch_nets import STEPS, TwoConvolutions, agreement, simulated, tensor
from ttfsc.backends.c import Engine, emit_model
from ttfsc.ir import Array, Net, run
from ttfsc.models import Source, load_model
from ttfsc.pipeline import Context, Pipeline, default_pipeline

DIGITS = Path(__file__).parents[1] / "examples" / "mnist" / "digits.npz"
IMAGES = 8
SLOW = 2  # images of a contender that takes long
CHECKED = 2  # images that are compared with the interpreter
SMALL = 0.03  # share of the time below which a layer cannot be the worst
RATE = 0.27  # at which all builds are measured
FLAGS = {
    "c native": ("-O3", "-march=native"),
    "c99 native": ("-O3", "-march=native"),
    "c -O3": ("-O3",),
    "c99 -O3": ("-O3",),
}
CPU = {"c native": "native", "c99 native": "c99", "c -O3": "generic", "c99 -O3": "c99"}  # what the C is planned for
Facts = dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to compute `images` images."""

    call: Callable[[], None]
    images: int


@dataclass(frozen=True, slots=True)
class Case:
    """A spiking net to measure; full: by every build, its layers one by one, and in torch."""

    label: str
    net: Net
    full: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["vgg16", "mnist"], choices=[s.name for s in SHAPES])
    parser.add_argument("--kernels", nargs="+", default=["ramp", "hold"], choices=["ramp", "hold"])
    parser.add_argument("--builds", nargs="+", default=list(FLAGS), choices=list(FLAGS))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.12, RATE, 0.45])
    parser.add_argument("--ticks", type=int, default=10)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=Path, help="X.npz with x [N, 3, 32, 32] uint8: real images for these shapes")
    parser.add_argument("--no-torch", action="store_true", help="leave torch and SpikingJelly out")
    parser.add_argument("--no-trained", action="store_true", help="leave the trained examples out")
    parser.add_argument("--no-int8", action="store_true", help="leave onnxruntime int8 out")
    parser.add_argument("--no-check", action="store_true", help="do not compare with the interpreter")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # onnxruntime's advice on quantising
    found = list[dict[str, object]]()
    for shape in SHAPES:
        if shape.name in options.shapes:
            found.append(measure(shape, options))
            if options.json:  # what is done is kept, whatever becomes of the rest
                options.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    return 0


def measure(shape: Shape, options: argparse.Namespace) -> dict[str, object]:
    """All contenders on one shape; prints the table and returns it."""
    images, began = images_for(shape, options), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        contenders = references(shape, images, Path(name), int8=not options.no_int8)
        facts: Facts = {}
        for case in cases(shape, images, options):
            contenders |= in_c(case, images, options, facts)
            print(f"{shape.name}: {case.label} built, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        times = interleaved(contenders, options.rounds)
    return table(shape, times, facts, options)


def in_c(case: Case, images: Array, options: argparse.Namespace, facts: Facts) -> dict[str, Contender]:
    """One net by every build, and in torch; each compared with the interpreter first."""
    net, found = case.net, dict[str, Contender]()
    want = None if options.no_check else run(net, images[:CHECKED])
    builds = options.builds if case.full else options.builds[:1]
    planned = {cpu: emit_model(net, cpu=cpu) for cpu in {CPU[build] for build in builds}}
    for build in builds:
        files, key = planned[CPU[build]], f"{case.label} {build}"
        flags = FLAGS[build]
        engine = Engine(files, threads=1, flags=flags)
        got = engine.run(images, keep=None)
        facts[key] = {"rate": float(np.mean(np.concatenate([v.ravel() for v in got.spikes.values()]) > 0))}
        if want is not None:
            wrong = [name for name, v in want.spikes.items() if not np.array_equal(got.spikes[name][:CHECKED], v)]
            assert not wrong and np.array_equal(got.scores[:CHECKED], want.scores), f"{key}: {wrong or 'scores'} differ"
        found[key] = generated(engine, images)
        if case.full and build == builds[0]:
            facts[key]["layers"] = efficiency(net, files, images, flags)
    if case.full and not options.no_torch:
        found |= others(case, images, None if want is None else want.spikes, facts)
    return found


def others(case: Case, images: Array, want: dict[str, Array] | None, facts: Facts) -> dict[str, Contender]:
    """The same net in torch, and as SpikingJelly simulates its shape."""
    form, few = TwoConvolutions(case.net), images[:SLOW]
    key = f"{case.label} torch, two convolutions"
    found = {key: in_torch(form, few)}
    if want is not None:
        facts[key] = {"same_spikes": agreement(case.net, form, images[:CHECKED], want)}
    jelly = simulated(case.net)
    if jelly is None:
        print("SpikingJelly is left out: pip install spikingjelly")
    else:
        found[f"{case.label} SpikingJelly, {STEPS} steps"] = in_torch(jelly, few)
    return found


def images_for(shape: Shape, options: argparse.Namespace) -> Array:
    """Digits; from --images, real ones; else random ones that are as smooth."""
    if shape.name == "mnist":
        return np.load(DIGITS)["x"][:IMAGES]
    if options.images is not None:
        found = np.load(options.images)["x"][:IMAGES]
        if found.shape[1:] == shape.input and found.dtype == np.uint8:
            return found
        print(
            f"{options.images}: {found.dtype} {found.shape[1:]} does not fit {shape.name}: smooth random images instead"
        )
    return smooth_images(IMAGES, shape.input)


def cases(shape: Shape, images: Array, options: argparse.Namespace) -> Iterator[Case]:
    """Random nets of every kernel and firing rate, then the trained ones of this shape as they are."""
    main_rate = RATE if RATE in options.rates else options.rates[0]
    for kernel in options.kernels:
        for rate in options.rates:
            net = spiking(shape, kernel, images, rate=rate, ticks=options.ticks, bits=options.bits)
            yield Case(f"{kernel} {rate:g}", net, rate == main_rate)
    if shape.name == "mnist" and not options.no_trained:
        for factory in ("exact_relu", "dta"):
            example = DIGITS.parent
            net = load_model(Source(f"{example / 'network.py'}:{factory}", weights=example / f"{factory}.safetensors"))
            pipeline = default_pipeline(bits=0, ticks=0, method="mse", partition=None)
            yield Case(f"trained {factory}", Pipeline.parse(pipeline).run(net, Context()), True)


def efficiency(net: Net, files: dict[str, bytes], images: Array, flags: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Per layer: microseconds, its share, and how many weights spikes (or pixels) add, in 10^9 a second."""
    rows, per_image = dict[str, float](), dict[str, float]()
    form = TwoConvolutions(net, rows=rows)
    for x in images:
        form(tensor(x[None]))
        for layer, count in rows.items():
            per_image[layer] = per_image.get(layer, 0.0) + count / len(images)
    times = layer_times(net, files, images, flags, rounds=5)
    total = sum(times.values())
    return {
        layer: {"us": ns / 1e3, "share": ns / total, "gadds": per_image.get(layer, 0.0) / ns}
        for layer, ns in times.items()
    }


def table(shape: Shape, times: dict[str, list[float]], facts: Facts, options: argparse.Namespace) -> dict[str, object]:
    """Print what was measured; the same as a JSON object."""
    best = {key: min(t) for key, t in times.items()}
    print(f"\n{shape.name}: ms per image, {options.rounds} rounds of {IMAGES} images, batch 1, one thread")
    print(f"{'':40}{'fires':>7}{'median':>10}{'min':>10}{'x fp32':>8}")
    rows = list[dict[str, object]]()
    for key, t in times.items():
        ratio, known = best["onnxruntime fp32"] / best[key], facts.get(key, {})
        fires = f"{known['rate']:.3f}" if "rate" in known else ""
        print(f"{key:40}{fires:>7}{np.median(t):10.4f}{best[key]:10.4f}{ratio:8.2f}", flush=True)
        rows.append({"name": key, "median_ms": float(np.median(t)), "min_ms": best[key], "ratio": ratio, **known})
    for key, known in facts.items():
        layers = cast("dict[str, dict[str, float]]", known.get("layers", {}))
        counted = {name: row for name, row in layers.items() if row["share"] >= SMALL}
        if counted:
            worst = min(counted, key=lambda name: counted[name]["gadds"])
            mean = sum(row["gadds"] * row["us"] for row in layers.values()) / sum(row["us"] for row in layers.values())
            print(
                f"{key}: {mean:.1f} G weights added a second; worst layer with at least {SMALL:.0%} of the time: "
                f"{worst}, {counted[worst]['gadds']:.1f} ({counted[worst]['share']:.0%} of the time)"
            )
    return {"shape": shape.name, "ticks": options.ticks, "bits": options.bits, "rows": rows}


def in_torch(forward: Callable[[torch.Tensor], torch.Tensor], images: Array) -> Contender:
    """These images through torch, one by one, one thread."""
    given = [tensor(x[None]) for x in images]

    def call() -> None:
        for x in given:
            forward(x)

    return Contender(call, len(given))


def interleaved(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Milliseconds per image of every contender in every round."""
    times = {key: list[float]() for key in contenders}
    repeats = dict[str, int]()
    for key, one in contenders.items():
        one.call()
        began = time.thread_time()
        one.call()
        repeats[key] = max(1, int(0.03 / max(time.thread_time() - began, 1e-6)))
    for _ in range(rounds):
        for key, one in contenders.items():
            for _ in range(repeats[key] // 4 + 1):
                one.call()  # caches are warm again
            began = time.thread_time()
            for _ in range(repeats[key]):
                one.call()
            times[key].append((time.thread_time() - began) * 1e3 / repeats[key] / one.images)
    return times


def generated(engine: Engine, images: Array) -> Contender:
    """All images through the compiled C, one after the other in one call."""
    library = ctypes.CDLL(str(engine.library))
    library.ttfsc_host_state_bytes.restype = ctypes.c_int64
    state = np.zeros(int(library.ttfsc_host_state_bytes()) // 4 + 1, np.int32)
    x, n = np.ascontiguousarray(images), len(images)
    scores, labels = np.empty((n, engine.classes), np.int32), np.empty(n, np.uint16)
    given = [ctypes.c_void_p(a.ctypes.data) for a in (state, x, scores, labels)]

    def call() -> None:
        library.ttfsc_host_batch(given[0], given[1], ctypes.c_int64(n), given[2], given[3], None)
        assert len(x) and len(state) and len(scores) and len(labels)  # kept alive: C has only their addresses

    return Contender(call, n)


def references(shape: Shape, images: Array, folder: Path, *, int8: bool) -> dict[str, Contender]:
    """onnxruntime, float32 and int8 QDQ, one thread that does not spin."""
    plain = folder / "fp32.onnx"
    plain.write_bytes(relu_onnx(shape).SerializeToString())
    real = [(x[None] / np.float32(255)).astype(np.float32) for x in images]
    found = {"onnxruntime fp32": session(plain, real)}
    if int8:
        quantized = folder / "int8.onnx"
        quantize_static(
            plain, quantized, _Images(real), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, per_channel=True,
        )  # fmt: skip
        found["onnxruntime int8"] = session(quantized, real)
    return found


class _Images(CalibrationDataReader):
    def __init__(self, images: list[Array]) -> None:
        self.left = iter(images)

    def get_next(self) -> dict[str, Array] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        one = next(self.left, None)
        return None if one is None else {"in": one}


def session(path: Path, images: list[Array]) -> Contender:
    """All images through onnxruntime, one by one."""
    runtime: Any = ort
    options: Any = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model: Any = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def call() -> None:
        for x in images:
            model.run(None, {"in": x})

    return Contender(call, len(images))


if __name__ == "__main__":
    sys.exit(main())
