"""`ttfsc compile` of a randomly weighted VGG16 for CIFAR-10 to C and mapping files: seconds and memory.

    python bench/vgg16.py [--kernel hold|ramp] [--ticks 10] [--bits 4]

The network is that of the DTA-TTFS paper (bench/vgg.py): 284,682 neurons, 33.6 M weights. Compiling ends with the
proof that C and interpreter agree on three inputs, which is part of the time.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np

from bench.vgg import Kernel, vgg16
from ttfsc.ir import save

INPUTS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", choices=["hold", "ramp"], default="ramp")
    parser.add_argument("--ticks", type=int, default=10)
    parser.add_argument("--bits", type=int, default=4)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        save(vgg16(cast("Kernel", options.kernel)), folder / "vgg16.ttfs")
        x = np.random.default_rng(1).integers(0, 256, (INPUTS, 3, 32, 32), dtype=np.uint8)
        np.savez(folder / "x.npz", x=x)
        command = [
            sys.executable, "-m", "ttfsc", "compile", str(folder / "vgg16.ttfs"), "-o", str(folder / "out"),
            "--inputs", str(folder / "x.npz"), "--bits", str(options.bits), "--ticks", str(options.ticks),
        ]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        size = sum(p.stat().st_size for p in (folder / "out").rglob("*") if p.is_file()) / 2**20
        print(
            f"compiled and verified in {seconds:.1f} s, at most {peak:.2f} GiB in one process, {size:.1f} MiB of output"
        )


if __name__ == "__main__":
    main()
