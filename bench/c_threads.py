"""One inference of the generated C by one thread and by several: wall time, in turn, on the OpenMP adapter.

    python -m bench.c_threads [--shapes vgg16 ...] [--kernels ramp hold] [--threads 2] [--rounds 30] [--json FILE]

OpenMP's threads wait asleep (OMP_WAIT_POLICY=passive), so every layer that is cut costs waking them. After that, the
same with a thread that never sleeps (spin.c), which shows what the cut itself is worth. A machine where other programs
run has no second processor to give: the figures then say so, not what the C can do.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # read by OpenMP when it is loaded

import numpy as np

from bench.c_nets import SHAPES, Shape, smooth_images, spiking
from ttfsc.backends.c import emit
from ttfsc.ir import Array

IMAGES = 8
Call = Callable[[Array], int]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["vgg16"], choices=[s.name for s in SHAPES])
    parser.add_argument("--kernels", nargs="+", default=["ramp", "hold"], choices=["ramp", "hold"])
    parser.add_argument("--rate", type=float, default=0.27)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print("ms of wall time, mean of each image's minimum")
    print(f"{'':24}{'1 thread':>12}{f'{options.threads} threads':>12}{'gain':>8}{'spinning':>12}{'gain':>8}")
    found = [
        measure(shape, kernel, options)
        for shape in SHAPES
        for kernel in options.kernels
        if shape.name in options.shapes
    ]
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    return 0


def measure(shape: Shape, kernel: str, options: argparse.Namespace) -> dict[str, object]:
    """One network, every way; prints a line and returns it."""
    images = smooth_images(IMAGES, shape.input)
    net = spiking(shape, "ramp" if kernel == "ramp" else "hold", images, rate=options.rate, ticks=10, bits=4)
    files = emit(net, samples=images[:1], name="m", cpu="native", threads=options.threads)
    with tempfile.TemporaryDirectory() as folder:
        built = Compiled(files, Path(folder), options.threads)
        one, more = in_turn([built.way(None), built.way("m_openmp")], images, options.rounds)
        (spinning,) = in_turn([built.way("bench_spin")], images, options.rounds)
        built.end()
    print(
        f"{shape.name + ' ' + kernel:24}{one:12.3f}{more:12.3f}{one / more:8.2f}{spinning:12.3f}{one / spinning:8.2f}"
    )
    found = {"one_ms": one, "openmp_ms": more, "spinning_ms": spinning}
    return {"shape": shape.name, "kernel": kernel, "threads": options.threads, **found}


def in_turn(ways: list[Call], images: Array, rounds: int) -> list[float]:
    """Milliseconds of each way: the mean of every image's minimum."""
    answers = [[way(x) for x in images] for way in ways]
    assert all(answers[0] == others for others in answers), "the label depends on the number of threads"
    times = np.empty((len(ways), rounds, len(images)))
    for n in range(rounds):
        for way, spent in zip(ways, times, strict=True):
            for i, x in enumerate(images):
                began = time.perf_counter()
                way(x)
                spent[n, i] = (time.perf_counter() - began) * 1e3
    return [float(t) for t in times.min(axis=1).mean(axis=1)]


class Compiled:
    """The files, with OpenMP."""

    def __init__(self, files: dict[str, bytes], folder: Path, threads: int) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / "spin.c").write_bytes((Path(__file__).parent / "spin.c").read_bytes())
        weights = ["m_weights.S"] if "m_weights.S" in files else []
        command = ["cc", "-std=c99", "-O3", "-march=native", "-fopenmp", "-pthread", "-shared", "-fPIC"]
        subprocess.run([*command, "m.c", "m_openmp.c", "spin.c", *weights, "-o", "m.so"], cwd=folder, check=True)
        self.library = ctypes.CDLL(str(folder / "m.so"))
        ctypes.CDLL("libgomp.so.1").omp_set_num_threads(threads)
        where = [ctypes.addressof(ctypes.c_uint8.in_dll(self.library, "m_weights"))] if weights else []
        self.weights = [ctypes.c_void_p(address) for address in where]
        facts = json.loads(files["model.json"])
        self.state = np.zeros(int(facts["cost"]["state"]) // 4 + 1, np.int32)
        self.scores, self.label = np.zeros(int(facts["classes"]), np.int32), np.zeros(1, np.uint16)

    def way(self, pool: str | None) -> Call:
        """An image in, its label out; pool: the function that gives the threads, None: without any."""
        more = list[ctypes.c_void_p]()
        if pool is not None:
            made = self.library[pool]
            made.restype = ctypes.c_void_p
            more = [ctypes.c_void_p(made())]
            assert more[0].value is not None, "OMP_WAIT_POLICY=passive is not in the environment"
        run = self.library["m_run" if pool is None else "m_run_threads"]

        def call(x: Array) -> int:
            given = [ctypes.c_void_p(a.ctypes.data) for a in (x, self.scores, self.label)]
            assert run(ctypes.c_void_p(self.state.ctypes.data), *self.weights, *more, *given) == 0
            return int(self.label[0])

        return call

    def end(self) -> None:
        """Ends the thread that spins."""
        self.library.bench_end()


if __name__ == "__main__":
    sys.exit(main())
