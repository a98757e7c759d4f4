"""MNIST and the model zoo's networks for it, where they lie beside the project."""

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ttfsc.ir import Array

SHARED = Path(__file__).resolve().parents[3] / "shared"
DATA, MODELS = SHARED / "data" / "mnist", SHARED / "models"
needs_shared = pytest.mark.skipif(
    not (DATA.is_dir() and MODELS.is_dir()),
    reason="MNIST and mnist-8.onnx are not part of the project: ../shared is absent",
)


def images(part: str, count: int | None = None) -> Array:
    """[N, 1, 28, 28], pixels 0..255; part is train or t10k."""
    data = gzip.decompress((DATA / f"{part}-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 1, 28, 28)[:count]


def labels(part: str, count: int | None = None) -> Array:
    """[N], digits 0..9."""
    data = gzip.decompress((DATA / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=8)[:count]


def vectors() -> list[tuple[Array, Array]]:
    """The model's own test vectors: input [1, 1, 28, 28], scores [1, 10]."""
    found = list[tuple[Array, Array]]()
    for folder in sorted(MODELS.glob("test_data_set_*")):
        pair = [onnx.TensorProto.FromString((folder / f"{name}_0.pb").read_bytes()) for name in ("input", "output")]
        found.append((numpy_helper.to_array(pair[0]), numpy_helper.to_array(pair[1])))
    return found
