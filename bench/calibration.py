"""Which default after `--calib`: every way to quantise without training, on training images that no step has seen.

    python bench/calibration.py MODEL.onnx... --mnist FOLDER [--fit 1000] [--judge 10000] [--draws 3]

Ranges, steps and biases are fitted on `--fit` images of the training set (a different part in every draw), answers are
judged on the last `--judge` training images. FOLDER holds MNIST's IDX files; its test set is not opened.
"""

import argparse
import gzip
from itertools import product
from pathlib import Path

import numpy as np

from ttfsc.frontends.onnx_load import load_onnx
from ttfsc.ir import Array, Net, run_batches
from ttfsc.passes import drop_identity, fold_avgpool, fold_batchnorm, prove_widths, quantize
from ttfsc.passes.ranges import Method

Ranges = tuple[Method, float]
SETTINGS = ((8, 16), (4, 16), (4, 8))  # bits, ticks
RANGES: tuple[Ranges, ...] = (("mse", 99.9), ("percentile", 99.99), ("percentile", 99.9), ("max", 99.9))
CARE = ("", "nearest", "nearest,correct", "nearest,compensate", "compensate,correct", "nearest,compensate,correct")


def training_images(folder: Path) -> tuple[Array, Array]:
    """MNIST's 60,000 training images [N, 1, 28, 28] and their digits [N]."""
    images, labels = (
        gzip.decompress((folder / f"train-{name}-ubyte.gz").read_bytes()) for name in ("images-idx3", "labels-idx1")
    )
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


def answers(net: Net, x: Array) -> Array:
    """Labels [N]."""
    return np.concatenate([part.labels for part in run_batches(net, x, batch=500, keep=())])


def quantised(net: Net, x: Array, bits: int, ticks: int, ranges: Ranges, care: str) -> Net:
    """One way to do it."""
    method, percentile = ranges
    nearest, compensate, correct = (name in care.split(",") for name in ("nearest", "compensate", "correct"))
    return prove_widths(
        quantize(
            net, bits=bits, ticks=ticks, method=method, percentile=percentile, nearest=nearest, compensate=compensate,
            correct=correct, calibration=x,
        )
    )  # fmt: skip


def study(path: Path, x: Array, y: Array, fit: int, judge: int, draws: int) -> None:
    """Accuracy of every way, mean and smallest of the draws, in percent."""
    net = fold_avgpool(fold_batchnorm(drop_identity(load_onnx(path, input_range=(0, 255)))))
    seen, truth = x[-judge:], y[-judge:]
    source = answers(net, seen)
    print(f"{path.stem}: source {100 * (source == truth).mean():.2f} % of {judge} training images", flush=True)
    print(f"{'ranges':17}{'options':28}" + "".join(f"{f'{b} bits, {t} ticks':>24}" for b, t in SETTINGS))
    for ranges, care in product(RANGES, CARE):
        cells = list[str]()
        for bits, ticks in SETTINGS:
            found = [
                answers(quantised(net, x[i * fit : (i + 1) * fit], bits, ticks, ranges, care), seen)
                for i in range(draws)
            ]
            right = [100 * float((labels == truth).mean()) for labels in found]
            same = [100 * float((labels == source).mean()) for labels in found]
            cells.append(f"{np.mean(right):8.2f} ({min(right):.2f}) {np.mean(same):6.2f}")
        name = f"percentile {ranges[1]:g}" if ranges[0] == "percentile" else ranges[0]
        print(f"{name:17}{care or 'none':28}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--fit", type=int, default=1000)
    parser.add_argument("--judge", type=int, default=10000)
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    x, y = training_images(options.mnist)
    for path in options.models:
        study(path, x, y, options.fit, options.judge, options.draws)


if __name__ == "__main__":
    main()
