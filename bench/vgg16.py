"""`ttfsc compile` of a randomly weighted VGG16 for CIFAR-10 to C and mapping files: seconds and memory.

    python bench/vgg16.py [--kernel hold|ramp] [--ticks 10] [--bits 4]

The network is that of the DTA-TTFS paper (Wei et al., ICCV 2023): 64 64 M 128 128 M 256x3 M 512x3 M 512x3 M, fully
connected 512-4096-4096-10, no bias, no batch norm: 284,682 neurons, 33.6 M weights. Compiling ends with the proof that
C and interpreter agree on three inputs, which is part of the time.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, cast

import numpy as np

from ttfsc.ir import OPEN, Analog, Builder, Conv2d, Decode, Dense, Fire, Flatten, Input, MaxPool, Net, Ref, save

PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: max pool
INPUTS = 3


def vgg16(kernel: Literal["hold", "ramp"], seed: int = 0) -> Net:
    """Random real weights, scaled so that about a third of the neurons of a layer fire on random pixels."""
    rng = np.random.default_rng(seed)
    b = Builder("vgg16")
    x = b.add(Input(name="in", type=Analog((3, 32, 32), 0, 255), scale=1 / 255)).name
    one = b.array("theta", np.ones(1, np.float32))
    channels, first = 3, True
    for i, width in enumerate(PLAN):
        if not width:
            x = b.add(MaxPool(name=f"p{i}", type=OPEN, x=Ref(x), kernel=(2, 2), stride=(2, 2))).name
            continue
        w = b.array(f"c{i}.w", _weights(rng, (width, channels, 3, 3), channels * 9))
        b.add(Conv2d(name=f"c{i}.v", type=OPEN, x=Ref(x), w=w, pad=(1, 1, 1, 1), kernel="hold" if first else kernel))
        x, channels, first = b.add(Fire(name=f"c{i}", type=OPEN, v=Ref(f"c{i}.v"), theta=one)).name, width, False
    x = b.add(Flatten(name="flat", type=OPEN, x=Ref(x))).name
    for i, (fan_in, width) in enumerate(((512, 4096), (4096, 4096), (4096, 10))):
        w = b.array(f"f{i}.w", _weights(rng, (width, fan_in), fan_in))
        x = b.add(Dense(name=f"f{i}.v", type=OPEN, x=Ref(x), w=w, kernel=kernel)).name
        if width > 10:
            x = b.add(Fire(name=f"f{i}", type=OPEN, v=Ref(x), theta=one)).name
    b.add(Decode(name="out", type=OPEN, xs=(Ref(x),), rule="membrane"))
    return b.net()


def _weights(
    rng: np.random.Generator, shape: tuple[int, ...], fan_in: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return (rng.standard_normal(shape, np.float32) * np.float32((2 / fan_in) ** 0.5)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", choices=["hold", "ramp"], default="ramp")
    parser.add_argument("--ticks", type=int, default=10)
    parser.add_argument("--bits", type=int, default=4)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        save(vgg16(cast("Literal['hold', 'ramp']", options.kernel)), folder / "vgg16.ttfs")
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
