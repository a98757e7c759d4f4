"""The whole MNIST test set through both trained examples: identical spike times in every layer, and the accuracy."""

import json
from pathlib import Path

import numpy as np
import pytest

from ttfsc.compiler import c_engine
from ttfsc.ir import Array
from ttfsc.verification import verify_engines

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "mnist"
DATA = ROOT.parent / "shared" / "data" / "mnist"
FAMILIES = ("dta", "exact_relu")  # at 4-bit weights and 10 ticks

pytest.importorskip("torch", reason="the example's networks are torch modules")
needs_mnist = pytest.mark.skipif(not DATA.is_dir(), reason="the MNIST test set is not here (../shared/data/mnist)")


def mnist_test_set() -> tuple[Array, Array]:
    from examples.training.data import mnist

    pixels, labels = mnist(DATA, "test")
    return pixels.numpy(), labels.numpy()


@needs_mnist
@pytest.mark.parametrize("family", FAMILIES)
def test_ten_thousand_images(family: str) -> None:
    import ttfsc

    x, y = mnist_test_set()
    assert x.shape == (10_000, 1, 28, 28)
    source = ttfsc.load(EXAMPLE / f"network.py:{family}", weights=EXAMPLE / f"{family}.safetensors")
    compiled = ttfsc.compile(source, targets=["c"], x=x[:4])
    weights = [a for a in compiled.net.arrays.values() if a.dtype == np.int8]
    assert max(int(np.abs(w).max()) for w in weights) <= 7
    right = list[int]()
    files = {name.removeprefix("c/"): data for name, data in compiled.files.items() if name.startswith("c/")}
    found = verify_engines(
        compiled.net, x, {"C": (c_engine(files), len(x))},
        each=lambda result, start: right.append(int((result.labels == y[start : start + len(result.labels)]).sum())),
    )  # fmt: skip
    found.raise_if_different()
    assert found.inputs == {"C": 10_000}
    assert found.times == {"C": 10_000 * (16 * 26 * 26 + 32 * 11 * 11 + 128)}
    figures = json.loads((EXAMPLE / f"{family}.json").read_text("utf-8"))
    assert sum(right) / 100 == figures["compiled"]
    assert sum(right) / 100 >= 99.4
