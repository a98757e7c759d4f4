"""quantize: free weights onto a grid, trained grids taken over, sums of branches in one unit."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passes.nets import Maker
from tests.passes.quantised import checked, faults, residual, table, weights
from ttfsc.ir import (
    OPEN,
    Add,
    Conv2d,
    Ref,
    run,
)
from ttfsc.ir.linear import synapses
from ttfsc.passes import quantize
from ttfsc.passes.ranges import Method


@given(st.integers(0, 999), st.integers(2, 8), st.sampled_from(["max", "percentile", "mse"]))
@settings(max_examples=30)
def test_free_weights_use_their_bits(seed: int, bits: int, method: str) -> None:
    m = Maker((3, 4, 4), seed=seed)
    net = m.answer(m.conv("d", m.fire("a", m.conv("c", "in", 5), 1.0), 2, 2))
    after = checked(net, bits=bits, method=method, percentile=95.0)
    top = 2 ** (bits - 1) - 1
    w, q = weights(net, "c"), weights(after, "c").astype(float)
    assert np.abs(q).max() <= top
    rows, ints = w.reshape(5, -1), q.reshape(5, -1)
    step = np.array([np.dot(r, i) / np.dot(i, i) for r, i in zip(rows, ints, strict=True)])  # least squares
    left = ((rows - step[:, None] * ints) ** 2).sum() / (rows**2).sum()
    clipped = 0.05 if method == "percentile" else 0.0  # what cutting the largest 5 % costs, at any width
    assert left < clipped + {2: 0.5, 3: 0.15, 4: 0.04, 5: 0.02, 6: 0.02, 7: 0.02, 8: 0.02}[bits]
    if method == "max":
        assert (np.abs(ints).max(1) == top).all(), "the largest weight of each channel gets the largest integer"
    last = weights(after, "d").reshape(2, -1).astype(float)
    one = weights(net, "d").reshape(2, -1)
    if method == "max":
        np.testing.assert_array_equal(last, np.rint(one / np.abs(one).max() * top))


def test_mse_beats_max_on_squared_error() -> None:
    m = Maker((8, 5, 5), seed=5)
    net = m.answer(m.conv("d", m.fire("a", m.conv("c", "in", 8), 1.0), 2))
    w = weights(net, "c").reshape(8, -1)

    def error(method: Method) -> float:
        q = weights(quantize(net, bits=3, method=method), "c").reshape(8, -1).astype(float)
        step = (w * q).sum(1, keepdims=True) / (q * q).sum(1, keepdims=True)
        return float(((w - step * q) ** 2).sum())

    assert error("mse") < error("max")


def test_channels_of_zeros() -> None:
    """They decide by their bias alone: fire at once, or never."""
    m = Maker((2, 4, 4))
    w = m.rng.normal(size=(4, 2, 3, 3))
    w[1:3] = 0
    a = m.fire("a", m.conv("c", "in", 4, w=w, bias=np.array([0, 2.0, -1, 0])), 1.0)
    net = m.answer(m.conv("d", a, 3, 2, w=np.zeros((3, 4, 2, 2)), bias=np.array([1.0, 3, 2])))
    got = run(checked(net, ticks=8), m.pixels())
    assert (got.spikes["a"][:, 1] == 8).all()
    assert (got.spikes["a"][:, 2] == 0).all()
    assert (got.labels == 1).all()


def test_weights_off_their_grid_are_named() -> None:
    m = Maker((1, 2, 2))
    w = np.array([[[[1.0, 2], [3.3, 9]]]])
    net = m.answer(m.conv("c", "in", 1, 2, w=w, step=np.ones(1), bits=4))
    assert faults(net) == [
        "<net>: error[TTFS003]: 'conv2d' %c: @c.w does not lie on its grid step=@c.step bits=4: 2 weights, the first "
        "at [0, 0, 1, 0] is 3.3 steps, must be an integer of -8..7; export the model again"
    ]


def test_shared_weights_may_end_on_different_integers() -> None:
    """One array read by two ops of different units: each gets its own."""
    m = Maker((2, 2, 2))
    a = m.fire("a", m.conv("c", "in", 2, 1), 1.0)
    conv = m.b.ops[-2]
    assert isinstance(conv, Conv2d)
    m.b.add(Conv2d(name="d", type=OPEN, x=Ref(a), w=conv.w))
    net = m.answer("d")
    after = checked(net, method="max", bits=5)
    assert not np.array_equal(weights(after, "c"), weights(after, "d")), "per channel here, per tensor there"


@given(st.integers(0, 999), st.floats(0.05, 3))
@settings(max_examples=25)
def test_branches_of_a_sum_share_a_unit(seed: int, scale: float) -> None:
    """The sum of integers times one unit is the real sum, but for half an integer of each weight."""
    m, net = residual(seed, scale)
    after = checked(net, bits=8, ticks=64, method="max")
    x = m.pixels(6)
    a = run(after, x).spikes["a"].astype(float)
    sources = {"c2": (a, 1 / 64), "k": (a, 1 / 64), "c3": (x.astype(float), 1 / 255)}
    reach = {n: np.abs(weights(net, n)).reshape(3, -1).max(1) * worth for n, (_, worth) in sources.items()}
    finest = np.minimum(reach["c2"], reach["c3"]) / 127  # the skip has one weight per channel and follows
    unit = np.maximum(finest, np.max(list(reach.values()), axis=0) / 127)[:, None, None]
    total, goal, inputs = (np.zeros((6, 3, 5, 5)) for _ in range(3))
    for name, (source, worth) in sources.items():
        op = net.by_name[name]
        assert isinstance(op, Conv2d)
        total += synapses(op, source, weights(after, name), np.float64)
        goal += synapses(op, source * worth, weights(net, name), np.float64)
        inputs += synapses(op, source, np.ones(weights(net, name).shape), np.float64)
    assert (np.abs(total * unit - goal) <= 0.5 * unit * inputs * (1 + 1e-9)).all()


def test_a_branch_takes_more_bits_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    _, net = residual(1)
    with caplog.at_level(logging.WARNING):
        after = checked(net, bits=4, ticks=16)
    skip = after.by_name["k"]
    main = after.by_name["c2"]
    assert isinstance(skip, Conv2d)
    assert isinstance(main, Conv2d)
    assert skip.bits > 4
    assert f"'conv2d' %k: bits={skip.bits} instead of 4, to share a unit" in caplog.text


def test_trained_steps_that_are_whole_multiples_add_exactly() -> None:
    m = Maker((2, 4, 4))
    a = m.fire("a", m.conv("c", "in", 2, 1), 1.0)
    one, two = m.rng.integers(-7, 8, (3, 2, 1, 1)), m.rng.integers(-7, 8, (3, 2, 1, 1))
    v = m.conv("c1", a, 3, 1, w=one * 0.1, step=np.full(3, 0.1), bits=4)
    u = m.conv("c2", a, 3, 1, w=two * 0.3, step=np.full(3, 0.3), bits=4)
    net = m.answer(m.conv("d", m.fire("b", m.plus("s", [v, u]), 1.0), 2, 4))
    after = checked(net)
    np.testing.assert_array_equal(weights(after, "c1"), one)
    np.testing.assert_array_equal(weights(after, "c2"), 3 * two)


def test_trained_steps_without_a_common_unit_are_refused() -> None:
    m = Maker((2, 4, 4))
    a = m.fire("a", m.conv("c", "in", 2, 1), 1.0)
    v = m.conv("c1", a, 3, 1, w=np.full((3, 2, 1, 1), 0.1), step=np.full(3, 0.1), bits=4)
    u = m.conv("c2", a, 3, 1, w=np.full((3, 2, 1, 1), 0.15), step=np.full(3, 0.15), bits=4)
    net = m.answer(m.conv("d", m.fire("b", m.plus("s", [v, u]), 1.0), 2, 4))
    assert faults(net) == [
        "<net>: error[TTFS016]: 'conv2d' %c2: was trained on a grid whose unit is 1.5 times that of a branch it is "
        "added to (channel 0); only whole multiples add up exactly: train both with one step"
    ]


def skip_beside(step: float) -> Maker:
    """An identity skip beside a branch trained on a much finer grid."""
    m = Maker((2, 4, 4))
    a = m.fire("a", m.conv("c", "in", 2, 1), 1.0)
    v = m.conv("c1", a, 2, 1, w=np.full((2, 2, 1, 1), step), step=np.full(2, step), bits=4)
    m.conv("d", m.fire("b", m.plus("s", [v, m.skip("k", a)]), 1.0), 2, 4)
    return m


def test_a_free_branch_too_wide_for_a_trained_one_becomes_several_synapses() -> None:
    m = skip_beside(0.001)
    net = m.answer("d")
    after = checked(net, ticks=64)
    parts = [op for op in after.ops if isinstance(op, Conv2d) and op.name.startswith("k")]
    assert len(parts) == 8 and all(op.x == "a" and op.bits == 8 for op in parts)
    total_weight = np.stack([after.arrays[op.w].astype(np.int64).reshape(-1) for op in parts]).sum(0)
    np.testing.assert_array_equal(total_weight, [1000, 1000])
    (total,) = [op for op in after.ops if isinstance(op, Add)]
    assert set(total.xs) == {"c1", *(op.name for op in parts)}
    x = m.pixels(20)
    ours, real = run(after, x).spikes, run(net, x).spikes
    assert np.abs(ours["b"] - ours["a"]).max() <= 1, "0.001 of the neighbours beside the skip"
    assert np.abs(ours["b"] / 64 - real["b"]).max() < 0.05


def test_a_free_branch_far_too_wide_for_a_trained_one_is_refused() -> None:
    net = skip_beside(0.00001).answer("d")
    assert "%k: its weights reach 100000 in the unit of the sum it adds into; 8 bits hold 127" in faults(net)[0]


def test_flat_and_square_branches_meet() -> None:
    """A flattened map and a dense layer on one membrane: channels of one are neurons of the other."""
    m = Maker((2, 4, 4))
    a = m.fire("a", m.conv("c", "in", 2, 1, bias=np.array([0.1, -0.1])), 1.0)
    v = m.flatten("f1", m.conv("c1", a, 2, 3, bias=np.array([0.2, 0.3])))
    u = m.dense("d1", m.flatten("f2", a), 8)
    net = m.answer(m.dense("e", m.fire("b", m.plus("s", [v, u]), np.linspace(0.5, 2, 8)), 3))
    after = checked(net, bits=8, ticks=64, method="max")
    x = m.pixels(10)
    assert np.abs(run(after, x).spikes["b"] / 64 - run(net, x).spikes["b"]).max() < 0.06
    assert table(after, "b").shape == (8, 64)
