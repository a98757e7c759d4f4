"""mnist-8.onnx from the model zoo: imported exactly, quantised with calibration images of the training set only."""

from functools import cache

import numpy as np
import pytest

from tests.onnx.mnist import MODELS, images, labels, needs_shared, vectors
from tests.onnx.onnx_nets import session
from ttfsc.frontends.onnx_load import load_onnx
from ttfsc.ir import Net, run
from ttfsc.passes import drop_identity, fold_avgpool, fold_batchnorm, prove_widths, quantize

pytestmark = needs_shared
CALIBRATION = 2000


@cache
def source(name: str = "mnist-8") -> Net:
    net = load_onnx(MODELS / f"{name}.onnx", input_range=(0, 255))
    return fold_avgpool(fold_batchnorm(drop_identity(net)))


@cache
def compiled(bits: int, ticks: int) -> Net:
    """With every refinement that needs no labels."""
    return prove_widths(
        quantize(
            source(), bits=bits, ticks=ticks, nearest=True, compensate=True, correct=True,
            calibration=images("train", CALIBRATION),
        )
    )  # fmt: skip


def test_the_import_is_exact() -> None:
    import onnx

    x = images("t10k", 300)
    engine = session(onnx.ModelProto.FromString((MODELS / "mnist-8.onnx").read_bytes()))
    want = np.concatenate([engine.run(None, {"Input3": one[None].astype(np.float32)})[0] for one in x])
    got = run(source(), x).scores
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(np.abs(want).max()))


@pytest.mark.parametrize(("bits", "ticks", "least"), [(8, 16, 98.80), (4, 16, 98.60), (4, 8, 98.40)])
def test_accuracy_on_the_test_set(bits: int, ticks: int, least: float) -> None:
    result = run(compiled(bits, ticks), images("t10k"))
    right = int((result.labels == labels("t10k")).sum())
    assert right / 100 >= least, f"{right} of 10000"


@pytest.mark.parametrize(("bits", "ticks"), [(8, 16), (4, 16), (4, 8)])
def test_the_models_own_vectors(bits: int, ticks: int) -> None:
    assert len(vectors()) == 3
    for x, scores in vectors():
        assert np.array_equal(x, np.rint(x)) and x.min() >= 0 and x.max() <= 255
        np.testing.assert_allclose(run(source(), x).scores, scores, rtol=1e-4, atol=0.1)
        assert run(compiled(bits, ticks), x.astype(np.int32)).labels[0] == scores.argmax()


def test_a_pool_on_the_input_and_two_dense_layers() -> None:
    net = source("mnist-maxpool-mlp")
    x = images("train", 500)
    small = prove_widths(quantize(net, bits=8, ticks=16, nearest=True, calibration=x))
    assert (run(net, x).labels == run(small, x).labels).mean() > 0.95
