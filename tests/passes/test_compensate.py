"""Rounding with more care: sums that stay, means that stay, and trained layers that stay as they are."""

import numpy as np
import pytest

from ttfsc.ir import (
    OPEN,
    Analog,
    Array,
    Builder,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Input,
    MaxPool,
    Net,
    Ref,
    TtfsError,
    run,
)
from ttfsc.passes import prove_widths, quantize
from ttfsc.passes.compensate import compensated
from ttfsc.passes.contest import CANDIDATES, best_of
from ttfsc.passes.grid import free_steps
from ttfsc.passes.twin import moments


def network(rng: np.random.Generator, *, step: bool = False) -> Net:
    """conv 6 - pool - depthwise - flatten - dense 12 - dense 5 on 1x12x12 pixels, smooth ones in mind."""
    b = Builder("net")

    def weights(name: str, *shape: int) -> dict[str, object]:
        w = rng.standard_normal(shape) * np.prod(shape[1:]) ** -0.5
        given: dict[str, object] = {"bias": b.array(f"{name}.b", rng.standard_normal(shape[0]) * 0.05)}
        if step:
            size = np.abs(w).reshape(len(w), -1).max(1) / 7
            size = np.full(len(w), size.max()) if name == "f2" else size
            w = np.rint(w / size.reshape(-1, *[1] * (w.ndim - 1))) * size.reshape(-1, *[1] * (w.ndim - 1))
            given |= {"step": b.array(f"{name}.s", size), "bits": 4}
        return given | {"w": b.array(f"{name}.w", w)}

    b.add(Input(name="in", type=Analog((1, 12, 12), 0, 255), scale=1 / 255))
    b.add(Conv2d(name="c1.v", type=OPEN, x=Ref("in"), pad=(1, 1, 1, 1), **weights("c1", 6, 1, 3, 3)))  # pyright: ignore
    b.add(Fire(name="c1", type=OPEN, v=Ref("c1.v")))
    b.add(MaxPool(name="p1", type=OPEN, x=Ref("c1"), kernel=(2, 2), stride=(2, 2)))
    b.add(Conv2d(name="c2.v", type=OPEN, x=Ref("p1"), groups=6, **weights("c2", 6, 1, 3, 3)))  # pyright: ignore
    b.add(Fire(name="c2", type=OPEN, v=Ref("c2.v")))
    b.add(Flatten(name="flat", type=OPEN, x=Ref("c2")))
    b.add(Dense(name="f1.v", type=OPEN, x=Ref("flat"), **weights("f1", 12, 96)))  # pyright: ignore
    b.add(Fire(name="f1", type=OPEN, v=Ref("f1.v")))
    b.add(Dense(name="f2.v", type=OPEN, x=Ref("f1"), **weights("f2", 5, 12)))  # pyright: ignore
    b.add(Decode(name="out", type=OPEN, xs=(Ref("f2.v"),), rule="membrane"))
    return b.net()


def pictures(rng: np.random.Generator, count: int) -> Array:
    """Smooth images, whose neighbouring pixels go together as those of real ones do."""
    coarse = rng.uniform(0, 255, (count, 1, 4, 4))
    return np.clip(np.kron(coarse, np.ones((3, 3))) + rng.normal(0, 10, (count, 1, 12, 12)), 0, 255).astype(np.uint8)


def error(net: Net, small: Net, x: Array) -> float:
    """What the scores lack of being the source's times a factor, relative."""
    want = run(net, x).scores.astype(np.float64)
    got = run(small, x).scores.astype(np.float64)
    want, got = want - want.mean(0), got - got.mean(0)
    factor = (want * got).sum() / (got * got).sum()
    return float(((want - factor * got) ** 2).sum() / (want * want).sum())


def test_sums_stay_closer_than_with_weights_rounded_one_by_one() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((24, 24)) * 0.3 + np.ones((24, 24))
    x = np.abs(rng.standard_normal((4000, 24))) @ mixing
    w = rng.standard_normal((10, 24))
    seen = (x.T @ x / len(x))[None]
    step = free_steps(w, 4, "mse", 99.9, per_tensor=False)
    plain = np.clip(np.rint(w / step[:, None]), -7, 7) * step[:, None]
    rows, steps = compensated(w, seen, step, 4, search=True, per_tensor=False)
    before, after = (((x @ (v - w).T) ** 2).mean() for v in (plain, rows * steps[:, None]))
    assert after < 0.2 * before
    assert np.abs(rows).max() <= 7
    fixed, same = compensated(w, seen, step, 4, search=False, per_tensor=False)
    np.testing.assert_array_equal(same, step)
    assert ((x @ (fixed * step[:, None] - w).T) ** 2).mean() < before
    _, shared = compensated(w, seen, np.full(10, step.max()), 4, search=True, per_tensor=True)
    assert len(set(shared)) == 1


def test_a_grid_that_needs_no_rounding_is_kept() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (500, 9))
    integers = rng.integers(-7, 8, (6, 9))
    step = rng.uniform(0.01, 0.1, 6)
    rows, steps = compensated(integers * step[:, None], (x.T @ x / 500)[None], step, 4, search=True, per_tensor=False)
    np.testing.assert_array_equal(rows, integers)
    np.testing.assert_array_equal(steps, step)


def test_moments_are_those_of_what_the_weights_read() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, (3, 4, 7, 6)).astype(np.float32)
    op = Conv2d(
        name="c", type=OPEN, x=Ref("x"), w=None, groups=2, stride=(2, 1), pad=(1, 0, 0, 1), dilation=(1, 2),  # pyright: ignore
    )  # fmt: skip
    found = moments(op, x, (2, 2, 3, 2))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 1))).astype(np.float64)
    windows = [
        padded[n, g * 2 : g * 2 + 2, i : i + 3, j : j + 3 : 2].reshape(-1)
        for g in range(2)
        for n in range(3)
        for i in range(0, 6, 2)
        for j in range(5)
    ]
    want = [np.mean([np.outer(v, v) for v in part], axis=0) for part in (windows[:45], windows[45:])]
    np.testing.assert_allclose(found, want, rtol=1e-10)


@pytest.mark.parametrize("bits", [3, 4])
def test_the_whole_net_gains(bits: int) -> None:
    rng = np.random.default_rng(3)
    net, x, fresh = network(rng), pictures(rng, 600), pictures(rng, 300)
    plain = quantize(net, bits=bits, ticks=16, calibration=x)
    best = quantize(net, bits=bits, ticks=16, nearest=True, compensate=True, correct=True, calibration=x)
    assert error(net, prove_widths(best), fresh) < 0.85 * error(net, plain, fresh)


def test_mean_membranes_of_the_read_out_are_the_sources() -> None:
    rng = np.random.default_rng(4)
    net, x = network(rng), pictures(rng, 400)
    want = run(net, x).scores.astype(np.float64)
    off = list[float]()
    for correct in (False, True):
        small = quantize(net, bits=3, ticks=4, method="max", correct=correct, calibration=x)
        got = run(small, x).scores.astype(np.float64)
        unit = (want * got).sum() / (got * got).sum()
        off.append(float(np.abs(want.mean(0) - unit * got.mean(0)).mean()))
    assert off[1] < 0.6 * off[0]  # what is left: biases of the read-out are whole numbers


def test_layers_on_a_trained_grid_stay_as_they_are() -> None:
    rng = np.random.default_rng(5)
    net, x = network(rng, step=True), pictures(rng, 100)
    plain = quantize(net, ticks=16, calibration=x)
    careful = quantize(net, ticks=16, compensate=True, correct=True, calibration=x)
    assert plain.ops == careful.ops and plain.arrays == careful.arrays


def test_sample_inputs_are_needed() -> None:
    net = network(np.random.default_rng(6))
    ranged = quantize(net, calibration=pictures(np.random.default_rng(7), 20))
    assert ranged.ops
    from ttfsc.passes import calibrate

    with pytest.raises(TtfsError, match="compensate and correct need sample inputs"):
        quantize(calibrate(net, calibration=pictures(np.random.default_rng(7), 20)), correct=True)


@pytest.mark.parametrize("known", [False, True])
def test_auto_keeps_what_answers_best(known: bool) -> None:
    rng = np.random.default_rng(8)
    net, x, fresh = network(rng), pictures(rng, 400), pictures(rng, 400)
    labels = run(net, x).labels if known else None
    small = quantize(net, bits=3, ticks=8, method="auto", calibration=x, labels=labels)
    worst = quantize(net, bits=3, ticks=8, method="max", calibration=x)
    agree = [(run(one, fresh).labels == run(net, fresh).labels).mean() for one in (small, worst)]
    assert agree[0] >= agree[1] and agree[0] > 0.7


def test_auto_judges_by_the_labels_it_is_given() -> None:
    """Labels that only one candidate gets right: the judge must follow them, not the source."""
    rng = np.random.default_rng(9)
    x = pictures(rng, 30)
    made = [network(np.random.default_rng(seed)) for seed in range(len(CANDIDATES))]
    small = [quantize(net, bits=4, ticks=8, calibration=x) for net in made]
    labels = run(small[2], x).labels
    best = best_of(made[0], x, labels, lambda candidate, _: small[CANDIDATES.index(candidate)])
    assert best is small[2]
    source = best_of(made[0], x, None, lambda candidate, _: small[CANDIDATES.index(candidate)])
    assert source is small[0]


def test_auto_needs_samples() -> None:
    with pytest.raises(TtfsError, match="method=auto needs sample inputs"):
        quantize(network(np.random.default_rng(10)), method="auto")
