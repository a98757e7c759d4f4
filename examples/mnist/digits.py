"""Write the first digits of MNIST's test set to an .npz file: x uint8 [count, 1, 28, 28], y uint8 [count].

python -m examples.mnist.digits --data DIR --out examples/mnist/digits.npz [--count 300]
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from examples.training.data import BadDataError, mnist


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four MNIST files, .gz or not")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, choices=range(1, 10_001), metavar="N", default=300)
    args = parser.parse_args()
    try:
        x, y = mnist(args.data, "test")
    except BadDataError as error:
        print(error, file=sys.stderr)
        return 1
    np.savez_compressed(args.out, x=x[: args.count].numpy(), y=y[: args.count].numpy().astype(np.uint8))
    return 0


if __name__ == "__main__":
    sys.exit(main())
