"""calibrate: ranges from data, weights that take them in."""

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passes.nets import Maker, scores
from ttfsc.ir import Array, Conv2d, Fire, Net, TtfsError, codes, run
from ttfsc.passes import calibrate
from ttfsc.passes.ranges import Histogram


def theta_of(net: Net, name: str) -> float:
    op = net.by_name[name]
    assert isinstance(op, Fire)
    assert op.theta is not None
    (theta,) = net.arrays[op.theta]
    return float(theta)


def relu_net(seed: int = 0) -> tuple[Maker, Net]:
    """Several readers, a max pool, an average pool and flatten between a layer and its readers."""
    m = Maker((2, 6, 6), seed=seed)
    a = m.fire("a", m.conv("c1", "in", 4, 3, pad=(1,) * 4, bias=m.rng.normal(size=4)))
    b = m.fire("b", m.conv("c2", m.avgpool("p", a), 4, 1))
    total = m.plus("s", [m.conv("c3", m.maxpool("q", a), 4, 1, bias=m.rng.normal(size=4)), m.skip("k", b)])
    c = m.fire("c", total)
    return m, m.answer(m.dense("d", m.flatten("f", c), 3, bias=m.rng.normal(size=3)))


@given(st.integers(0, 999))
@settings(max_examples=20)
def test_max_changes_no_answer_on_its_own_data(seed: int) -> None:
    m, net = relu_net(seed)
    x = m.pixels(20, seed=seed)
    after = calibrate(net, method="max", calibration=x)
    before, got = run(net, x), run(after, x)
    np.testing.assert_allclose(got.scores, before.scores, atol=1e-4)
    for name in "abc":
        largest = float(before.spikes[name].max())
        assert theta_of(after, name) == pytest.approx(largest or 1.0)
        assert got.spikes[name].max() <= 1
        np.testing.assert_allclose(got.spikes[name] * theta_of(after, name), before.spikes[name], atol=1e-4)


def test_batches_do_not_matter() -> None:
    m, net = relu_net()
    x = m.pixels(600)
    whole = calibrate(net, method="mse", calibration=x)
    halves = calibrate(net, method="mse", calibration=np.concatenate([x[300:], x[:300]]))
    for name in "abc":
        assert theta_of(whole, name) == pytest.approx(theta_of(halves, name), rel=0.02)


@given(st.integers(0, 999), st.floats(50, 99.99))
@settings(max_examples=25)
def test_percentile_of_positive_values(seed: int, percentile: float) -> None:
    rng = np.random.default_rng(seed)
    values, seen = rng.normal(size=5000) * np.linspace(0.1, 1, 5000), Histogram()
    for part in np.split(values, 10):
        seen.add(part)
    got = seen.range_of("percentile", percentile, 16)
    below = float((values[values > 0] <= got).mean() * 100)
    assert percentile - 1e-9 <= below <= percentile + 1.0
    assert got <= seen.largest


@given(st.integers(0, 999), st.sampled_from([4, 10, 16, 64]))
@settings(max_examples=25)
def test_mse_is_the_best_of_many_ranges(seed: int, ticks: int) -> None:
    """No other range, tried on the raw values, has a noticeably smaller error."""
    rng = np.random.default_rng(seed)
    values, seen = np.abs(rng.normal(size=4000)) ** rng.uniform(0.5, 3), Histogram()
    seen.add(values)

    def error(theta: float) -> float:
        level = np.clip(np.floor(values * ticks / theta), 0, ticks) * theta / ticks
        return float(((level - values) ** 2).mean())

    best = min(error(seen.largest * f) for f in np.linspace(0.05, 1, 200))
    assert error(seen.range_of("mse", 0, ticks)) <= best * 1.05 + 1e-12


def test_memory_does_not_grow_and_late_large_values_fit() -> None:
    seen = Histogram()
    for scale in (1e-3, 1.0, 1e4):
        seen.add(np.full(1000, scale))
    assert seen.counts.sum() == 3000
    assert seen.counts.size == 4096
    assert seen.largest == 1e4
    assert seen.range_of("percentile", 99, 16) == 1e4


def test_ranges_that_are_known_stay() -> None:
    m = Maker()
    a = m.fire("a", m.conv("c1", "in", 2), np.array([0.7, 0.8]))
    net = m.answer(m.conv("c2", a, 2))
    assert calibrate(net) is net


def test_only_readers_of_calibrated_layers_change() -> None:
    m = Maker()
    a = m.fire("a", m.conv("c1", "in", 2), 2.0)
    b = m.fire("b", m.conv("c2", a, 2))
    net = m.answer(m.plus("s", [m.conv("c3", a, 2, 4), m.conv("c4", b, 2, 2)]))
    after = calibrate(net, method="max", calibration=m.pixels())
    changed = {op.name for op in net.ops if isinstance(op, Conv2d) and not _equal(net, after, op)}
    assert changed == {"c4"}


def _equal(a: Net, b: Net, op: Conv2d) -> bool:
    other = b.by_name[op.name]
    assert isinstance(other, Conv2d)
    return np.array_equal(a.arrays[op.w], b.arrays[other.w])


def test_a_trained_step_takes_the_range_in() -> None:
    m = Maker()
    a = m.fire("a", m.conv("c1", "in", 2))
    w = m.rng.integers(-7, 8, (2, 2, 2, 2)) * 0.5
    net = m.answer(m.conv("c2", a, 2, w=w, step=np.full(2, 0.5), bits=4))
    after = calibrate(net, method="max", calibration=m.pixels())
    op = after.by_name["c2"]
    assert isinstance(op, Conv2d)
    assert op.step is not None
    np.testing.assert_allclose(after.arrays[op.w] / after.arrays[op.step][:, None, None, None], w / 0.5)


def test_a_silent_layer_gets_a_range_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    m = Maker()
    a = m.fire("a", m.conv("c1", "in", 2, bias=np.full(2, -100.0)))
    net = m.answer(m.conv("c2", a, 2))
    with caplog.at_level(logging.WARNING):
        after = calibrate(net, calibration=m.pixels())
    assert theta_of(after, "a") == 1
    assert "%a: never fires on the sample inputs" in caplog.text
    np.testing.assert_array_equal(scores(after, m.pixels()), scores(net, m.pixels()))


def faults(net: Net, **options: Any) -> list[str]:
    with pytest.raises(TtfsError) as e:
        calibrate(net, **options)
    return [str(f) for f in e.value.faults]


def test_missing_samples_name_every_layer() -> None:
    _, net = relu_net()
    lines = faults(net)
    assert len(lines) == 3
    for name, line in zip("abc", lines, strict=True):
        assert line == (
            f"<net>: error[TTFS018]: 'fire' %{name}: its range is unknown and there are no sample inputs: give some "
            "(--calib X.npz, or calibration=x)"
        )


def test_wrong_options_come_at_once() -> None:
    m, net = relu_net()
    lines = faults(net, method="best", percentile=0, ticks=1, calibration=m.pixels())
    assert [line.split(": ", 2)[2] for line in lines] == [
        "method=best must be max, percentile or mse",
        "percentile=0 must lie above 0 and at most at 100",
        "ticks=1 must be 2..64, or 0 for as trained",
    ]


@pytest.mark.parametrize("x", [np.zeros((3, 2, 6, 5)), np.full((3, 2, 6, 6), 300)])
def test_samples_must_fit_the_input(x: Array) -> None:
    with pytest.raises(TtfsError) as e:
        calibrate(relu_net()[1], calibration=x)
    assert e.value.faults[0].code == codes.INPUT


def test_ranges_that_cannot_move_are_refused() -> None:
    m = Maker()
    a = m.fire("a", m.conv("c1", "in", 2))
    b = m.fire("b", m.conv("c2", a, 2, 1, kernel="ramp"), 1.0)
    c = m.fire("c", m.conv("c3", b, 2, 1, kernel="ramp"))
    net = m.answer(m.conv("c4", m.norm("n", c), 2, 1))
    text = "\n".join(faults(net, calibration=m.pixels()))
    assert "%a: its range cannot move into 'conv2d' %c2: kernel=ramp counts spikes; give it theta=" in text
    assert "%c: a neuron with a rising membrane needs the theta it was trained with" in text
    assert "%c: feeds 'batchnorm' %n: run fold-batchnorm first" in text
