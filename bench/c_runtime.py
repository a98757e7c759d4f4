"""The generated C against onnxruntime on the plain ReLU network of the same shape, interleaved in one process.

    python bench/c_runtime.py [--shapes vgg16 mnist] [--kernels ramp hold] [--rates 0.27] [--rounds 9] [--json FILE]

One thread, batch 1, thread CPU time; every contender runs in every round, in turn, so that all of them meet the same
machine. Given are the median of each and the ratio of minima to onnxruntime fp32. The C is compared with the
interpreter first. Random weights; thresholds are set so that the given share of neurons fires on the images.
"""

import argparse
import ctypes
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
from c_nets import SHAPES, Shape, relu_onnx, smooth_images, spiking
from onnxruntime.quantization import (  # pyright: ignore[reportMissingTypeStubs]
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,  # pyright: ignore[reportUnknownVariableType]
)

from ttfsc.backends.c import Engine, emit
from ttfsc.ir import Array, run

DIGITS = Path(__file__).parents[1] / "examples" / "mnist" / "digits.npz"
IMAGES = 8
FLAGS = {
    "c native": ("-O3", "-march=native"),
    "c99 native": ("-O3", "-march=native", "-D{}_PLAIN"),
    "c -O3": ("-O3",),
    "c99 -O3": ("-O3", "-D{}_PLAIN"),
}
Contender = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["vgg16", "mnist"], choices=[s.name for s in SHAPES])
    parser.add_argument("--kernels", nargs="+", default=["ramp", "hold"], choices=["ramp", "hold"])
    parser.add_argument("--builds", nargs="+", default=list(FLAGS), choices=list(FLAGS))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.27])
    parser.add_argument("--ticks", type=int, default=10)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-int8", action="store_true", help="leave onnxruntime int8 out")
    parser.add_argument("--no-check", action="store_true", help="do not compare with the interpreter")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = [measure(shape, options) for shape in SHAPES if shape.name in options.shapes]
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def measure(shape: Shape, options: argparse.Namespace) -> dict[str, object]:
    """All contenders on one shape; prints the table and returns it."""
    images = np.load(DIGITS)["x"][:IMAGES] if shape.name == "mnist" else smooth_images(IMAGES, shape.input)
    with tempfile.TemporaryDirectory() as name:
        contenders = references(shape, images, Path(name), int8=not options.no_int8)
        spiked = dict[str, float]()
        for kernel in options.kernels:
            for rate in options.rates:
                net = spiking(shape, kernel, images, rate=rate, ticks=options.ticks, bits=options.bits)
                files = emit(net, samples=images[:1])
                for build in options.builds:
                    flags = tuple(f.format(net.name.upper()) for f in FLAGS[build])
                    key = f"{kernel} {rate:g} {build}"
                    engine = Engine(files, threads=1, flags=flags)
                    got = engine.run(images[:2], keep=None)
                    spiked[key] = float(np.mean(np.concatenate([v.ravel() for v in got.spikes.values()]) > 0))
                    if not options.no_check:
                        want = run(net, images[:2])
                        assert all(np.array_equal(got.spikes[k], v) for k, v in want.spikes.items()), key
                        assert np.array_equal(got.scores, want.scores), key
                    contenders[key] = generated(engine, images)
        times = interleaved(contenders, options.rounds, len(images))
    best = {key: min(t) for key, t in times.items()}
    print(f"\n{shape.name}: ms per image, {options.rounds} rounds of {len(images)} images, batch 1, one thread")
    print(f"{'':32}{'fires':>7}{'median':>10}{'min':>10}{'x fp32':>8}")
    rows = list[dict[str, object]]()
    for key, t in times.items():
        ratio = best["onnxruntime fp32"] / best[key]
        fires = f"{spiked[key]:.3f}" if key in spiked else ""
        print(f"{key:32}{fires:>7}{np.median(t):10.4f}{best[key]:10.4f}{ratio:8.2f}", flush=True)
        rows.append({"name": key, "rate": spiked.get(key), "median_ms": float(np.median(t)), "min_ms": best[key],
                     "ratio": ratio})  # fmt: skip
    return {"shape": shape.name, "ticks": options.ticks, "bits": options.bits, "rows": rows}


def interleaved(contenders: dict[str, Contender], rounds: int, images: int) -> dict[str, list[float]]:
    """Milliseconds per image of every contender in every round."""
    times = {key: list[float]() for key in contenders}
    repeats = dict[str, int]()
    for key, one in contenders.items():
        one()
        began = time.thread_time()
        one()
        repeats[key] = max(1, int(0.03 / max(time.thread_time() - began, 1e-6)))
    for _ in range(rounds):
        for key, one in contenders.items():
            one()
            began = time.thread_time()
            for _ in range(repeats[key]):
                one()
            times[key].append((time.thread_time() - began) * 1e3 / repeats[key] / images)
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

    return call


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

    return call


if __name__ == "__main__":
    sys.exit(main())
