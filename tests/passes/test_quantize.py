"""quantize: integers that decide as the real net would, trained grids taken over, one clear message per wrong wish."""

import logging
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passes.nets import Maker
from ttfsc.ir import (
    OPEN,
    Array,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Input,
    Net,
    Ref,
    Spikes,
    TtfsError,
    bounds_of,
    is_integer,
    run,
    verify,
)
from ttfsc.ir.linear import synapses
from ttfsc.passes import calibrate, fold_avgpool, fold_batchnorm, quantize


def checked(net: Net, **options: Any) -> Net:
    """The quantised net, verified, with every array of its declared type."""
    after = verify(quantize(net, **options))
    assert is_integer(after)
    for op in after.ops:
        if isinstance(op, Conv2d | Dense):
            assert after.arrays[op.w].dtype == np.int8
            assert op.step is None
            if op.bias is not None:
                assert after.arrays[op.bias].dtype == np.int32
        if isinstance(op, Fire):
            assert op.theta is not None
            assert after.arrays[op.theta].dtype == np.int32
            assert op.ticks == 0
    return after


def faults(net: Net, **options: Any) -> list[str]:
    with pytest.raises(TtfsError) as e:
        quantize(net, **options)
    return [str(f) for f in e.value.faults]


def table(net: Net, name: str) -> Array:
    op = net.by_name[name]
    assert isinstance(op, Fire)
    assert op.theta is not None
    return net.arrays[op.theta]


def weights(net: Net, name: str) -> Array:
    op = net.by_name[name]
    assert isinstance(op, Conv2d | Dense)
    return net.arrays[op.w]


# Decisions


def first_tick(v: list[Fraction], slope: list[Fraction], theta: Fraction, ticks: int) -> list[int | None]:
    """Value of the spike by the definition, in rationals: None where it is so close that float64 may decide."""
    found = list[int | None]()
    for s, w in zip(v, slope, strict=True):
        x, close = 0, False
        for n in reversed(range(ticks)):
            gap = s + w * Fraction(n, ticks) - theta * Fraction(ticks - n, ticks)
            close |= abs(gap) < theta * Fraction(1, 10**9)
            x = ticks - n if gap >= 0 else x
        found.append(None if close else x)
    return found


@given(st.data())
@settings(max_examples=40)
def test_decisions_are_those_of_the_definition(data: Any) -> None:
    """Every neuron fires at the first tick where unit V + bias + drift >= Theta (T - n)/T, in exact arithmetic."""
    ticks, bits = data.draw(st.integers(2, 20)), data.draw(st.integers(2, 8))
    kernel = data.draw(st.sampled_from(["hold", "ramp"]))
    m = Maker((3, 1, 1), seed=data.draw(st.integers(0, 9999)))
    a = m.fire("a", m.conv("c", "in", 4, 1, bias=m.rng.normal(size=4)), 1.0)
    theta, bias, drift = m.rng.uniform(0.3, 2, 5), m.rng.normal(size=5) * 0.3, m.rng.normal(size=5) * 0.1
    top = 2 ** (bits - 1) - 1
    step, integers = m.rng.uniform(0.01, 0.2, 5), m.rng.integers(-top, top + 1, (5, 4))
    v = m.dense(
        "d",
        m.flatten("f", a),
        5,
        w=integers * step[:, None],
        step=step,
        bits=bits,
        bias=bias,
        drift=drift,
        kernel=kernel,
    )
    b = m.fire("b", v, theta)
    after = checked(m.answer(m.dense("e", b, 2, kernel=kernel)), ticks=ticks)
    assert (weights(after, "d") == integers).all()
    x = run(after, m.pixels(30)).spikes
    fired = x["a"].reshape(30, 4)
    for o in range(5):
        unit = Fraction(step[o]) / ticks
        s = [unit * int(v) + Fraction(bias[o]) for v in fired @ integers[o]]
        rise = [unit * int(v) * ticks if kernel == "ramp" else Fraction(0) for v in (fired > 0) @ integers[o]]
        want = first_tick(s, [r + Fraction(drift[o]) for r in rise], Fraction(theta[o]), ticks)
        for i, expected in enumerate(want):
            assert expected is None or x["b"][i, o] == expected


def test_trained_networks_fire_as_they_did_in_training() -> None:
    """ttfsc.nn in evaluation and the quantised net: every spike of every layer equal, hold and ramp."""
    torch = pytest.importorskip("torch")
    import ttfsc.nn as tnn

    torch.manual_seed(3)
    for kernel in ("hold", "ramp"):
        spikes = kernel == "ramp"
        c1, c2 = tnn.Conv2d(1, 4, 3, padding=1, bits=4), tnn.Conv2d(4, 6, 3, bits=4, kernel=kernel)
        d3, d4 = tnn.Linear(24, 8, bits=3, kernel=kernel), tnn.Linear(8, 5, bits=4, kernel=kernel, per_tensor=True)
        f1, f2, f3 = tnn.Fire(7, 0.8, spikes=spikes), tnn.Fire(7, 1.3), tnn.Fire(7)
        layers = [tnn.Input((1, 8, 8)), c1, f1, tnn.AvgPool2d(2), c2, f2, tnn.Flatten(), d3, f3, d4, tnn.Membrane()]
        for layer in (c1, c2, d3, d4):
            layer.bias.data.normal_(std=0.05)
            layer.fit_step()
        model = torch.nn.Sequential(*layers).eval()
        m = Maker((1, 8, 8))

        def given(layer: Any) -> dict[str, Any]:
            step = layer.weight_step().double().numpy()
            w = layer.weight_int().numpy() * step.reshape(-1, *[1] * (layer.weight.dim() - 1))
            bias = layer.bias.detach().numpy()
            return {"w": w.astype(np.float32), "step": step, "bits": layer.bits, "bias": bias, "kernel": layer.kernel}

        def fire(name: str, v: str, layer: Any) -> str:
            return m.fire(name, v, layer.threshold().numpy(), ticks=layer.ticks)

        a = fire("a", m.conv("c1", "in", 4, 3, pad=(1,) * 4, **given(c1)), f1)
        b = fire("b", m.conv("c2", m.avgpool("p", a), 6, 3, **given(c2)), f2)
        c = fire("c", m.dense("d3", m.flatten("f", b), 8, **given(d3)), f3)
        after = checked(fold_avgpool(m.answer(m.dense("d4", c, 5, **given(d4)))))
        x, seen = m.pixels(64), dict[str, Any]()
        for name, layer in (("a", f1), ("b", f2), ("c", f3)):
            layer.register_forward_hook(lambda _m, _a, out, name=name: seen.__setitem__(name, out))
        got, want = run(after, x), model(torch.tensor(x))
        for name, out in seen.items():
            value = out.value if isinstance(out, tnn.Spikes) else out
            np.testing.assert_array_equal(got.spikes[name], np.rint(value.numpy() * 7), err_msg=f"{kernel} {name}")
        assert got.spikes["c"].any(), "a silent net proves nothing"
        np.testing.assert_array_equal(got.labels, want.argmax(1).numpy())
        ratio = got.scores / want.double().numpy()
        np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-6)


@given(st.integers(0, 9999))
@settings(max_examples=25)
def test_many_levels_approximate_the_real_net(seed: int) -> None:
    """8 bits, 64 ticks: each layer's error stays below what rounding weights and times can cause, layer upon layer."""
    m = Maker((2, 6, 6), seed=seed)
    thetas = m.rng.uniform(0.5, 2, 3)
    a = m.fire("a", m.conv("c1", "in", 4, 3, bias=m.rng.normal(size=4) * 0.2), thetas[0])
    b = m.fire("b", m.conv("c2", a, 6, 3, pad=(1,) * 4, bias=m.rng.normal(size=6) * 0.2), thetas[1])
    net = m.answer(m.conv("c3", b, 3, 4, bias=m.rng.normal(size=3)))
    after = checked(net, bits=8, ticks=64, method="max")
    x = m.pixels(8, seed=seed)
    real, got = run(net, x), run(after, x)
    error = 0.0
    for name, layer, theta in (("c1", "a", thetas[0]), ("c2", "b", thetas[1]), ("c3", "", 1.0)):
        rows = np.abs(weights(net, name)).reshape(len(weights(net, name)), -1)
        step = rows.max(1) / 127 if layer else rows.max() / 127
        worst = float((rows.sum(1) * error + rows.shape[1] * step / 2).max()) / theta
        if layer:
            error = worst + 1 / 64 + 1e-5
            assert np.abs(got.spikes[layer] / 64 - real.spikes[layer]).max() <= error
        else:
            unit = float(rows.max()) / 127 / 64
            assert np.abs(got.scores * unit - real.scores).max() <= worst + unit / 2 + 1e-5


# Weights


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
    assert left < {2: 0.5, 3: 0.15, 4: 0.04, 5: 0.02, 6: 0.02, 7: 0.02, 8: 0.02}[bits]
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

    def error(method: str) -> float:
        q = weights(quantize(net, bits=3, method=method), "c").reshape(8, -1).astype(float)  # type: ignore[arg-type]
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
        "<net>: error[TTFS003]: 'conv2d' %c: @c.w does not lie on its grid step=@c.step bits=4: 2 weights, the first at "
        "[0, 0, 1, 0] is 3.3 steps, must be an integer of -8..7; export the model again"
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


# Sums


def residual(seed: int, scale: float = 1.0, **trained: Any) -> tuple[Maker, Net]:
    m = Maker((3, 5, 5), seed=seed)
    a = m.fire("a", m.conv("c1", "in", 3, 3, pad=(1,) * 4), 0.8)
    v = m.conv("c2", a, 3, 3, pad=(1,) * 4, bias=m.rng.normal(size=3) * 0.2, **trained)
    b = m.fire(
        "b", m.plus("s", [v, m.skip("k", a), m.conv("c3", "in", 3, 1, w=scale * m.rng.normal(size=(3, 3, 1, 1)))]), 1.5
    )
    return m, m.answer(m.conv("d", b, 2, 5))


@given(st.integers(0, 999), st.floats(0.05, 3))
@settings(max_examples=25)
def test_branches_of_a_sum_share_a_unit(seed: int, scale: float) -> None:
    """The sum of integers is the real sum over one unit, to within what rounding its branches' weights can cause."""
    m, net = residual(seed, scale)
    after = checked(net, bits=8, ticks=64, method="max")
    x = m.pixels(6)
    got, real = run(after, x).spikes, run(net, x).spikes
    a, pixels = got["a"].astype(float), x.astype(float)
    parts, want = list[Array](), list[Array]()
    for name, source, worth in (("c2", a, 1 / 64), ("k", a, 1 / 64), ("c3", pixels, 1 / 255)):
        op, before = after.by_name[name], net.by_name[name]
        assert isinstance(op, Conv2d)
        assert isinstance(before, Conv2d)
        parts.append(synapses(op, source, weights(after, name), np.float64))
        want.append(synapses(before, source * worth, weights(net, name), np.float64))
    total, goal = sum(parts), sum(want)
    for channel in range(3):
        t, g = total[:, channel].ravel(), goal[:, channel].ravel()  # type: ignore[index]
        unit = float(t @ g / (t @ t))
        assert np.abs(t * unit - g).max() <= 0.05 * np.abs(g).max() + 1e-9
    assert np.abs(got["b"] / 64 - real["b"]).mean() < 0.08


def test_a_branch_takes_more_bits_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    m, net = residual(1)
    with caplog.at_level(logging.WARNING):
        after = checked(net, bits=4, ticks=16)
    skip = after.by_name["k"]
    main = after.by_name["c2"]
    assert isinstance(skip, Conv2d)
    assert isinstance(main, Conv2d)
    assert skip.bits > 4
    assert f"'conv2d' %k: bits={skip.bits} instead of 4, to share a unit" in caplog.text
    assert m.pixels().size


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
        "<net>: error[TTFS016]: 'conv2d' %c2: was trained on a grid whose unit is 1.5 times that of a branch it is added to "
        "(channel 0); only whole multiples add up exactly: train both with one step"
    ]


def test_a_free_branch_too_wide_for_a_trained_one_is_refused() -> None:
    m = Maker((2, 4, 4))
    a = m.fire("a", m.conv("c", "in", 2, 1), 1.0)
    v = m.conv("c1", a, 2, 1, w=np.full((2, 2, 1, 1), 0.001), step=np.full(2, 0.001), bits=4)
    net = m.answer(m.conv("d", m.fire("b", m.plus("s", [v, m.skip("k", a)]), 1.0), 2, 4))
    assert "%k: its weights reach 1000 in the unit of the sum it adds into; 8 bits hold 127" in faults(net)[0]


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


# Thresholds


def test_equal_channels_share_a_row_and_a_map_has_its_own() -> None:
    m = Maker((2, 5, 5))
    w = np.broadcast_to(m.rng.normal(size=(1, 2, 3, 3)), (3, 2, 3, 3)).copy()
    a = m.fire("a", m.conv("c1", "in", 3, w=w, pad=(1,) * 4), 1.0)
    b = m.fire("b", m.norm("n", m.conv("c2", m.norm("k", a), 3, pad=(1,) * 4)), 1.0)
    after = checked(fold_batchnorm(m.answer(m.conv("d", b, 2, 5))), ticks=6)
    assert table(after, "a").shape == (1, 6)
    assert table(after, "b").shape == (3, 5, 5, 6)


@given(st.integers(0, 999))
@settings(max_examples=20)
def test_tables_stay_within_reach_of_the_membrane(seed: int) -> None:
    m = Maker((2, 4, 4), seed=seed)
    a = m.fire("a", m.conv("c", "in", 4, bias=m.rng.normal(size=4) * 100), m.rng.uniform(1e-3, 1e6, 4))
    after = checked(m.answer(m.conv("d", a, 2, 2)), ticks=5)
    low, high = bounds_of(after)["c"].membrane
    assert table(after, "a").min() >= low
    assert table(after, "a").max() <= high + 1


def test_the_tie_rule_of_first_spike_sees_the_bias() -> None:
    """The membrane that breaks ties holds the rounded bias; the spikes are as if it were absorbed exactly."""
    m = Maker((3, 1, 1))
    a = m.fire("a", m.conv("c", "in", 4, 1), 1.0)
    bias = np.array([0.33, -0.21, 0.05])
    v = m.dense("d", m.flatten("f", a), 3, bias=bias)
    b = m.fire("b", v, 0.7)
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref(b), Ref(v)), rule="first_spike"))
    net = m.b.net()
    after = checked(net, bits=8, ticks=16, method="max")
    op = after.by_name["d"]
    assert isinstance(op, Dense)
    assert op.bias is not None
    unit = float(np.abs(weights(net, "d")).max()) / 127 / 16
    np.testing.assert_array_equal(after.arrays[op.bias], np.rint(bias / unit))
    x = run(after, m.pixels(200)).spikes
    s = x["a"].reshape(200, 4) @ weights(after, "d").T.astype(int) * unit + bias
    np.testing.assert_array_equal(x["b"], np.clip(np.floor(s / 0.7 * 16 + 1e-9), 0, 16))


def test_uneven_steps_before_first_spike_are_said(caplog: pytest.LogCaptureFixture) -> None:
    m = Maker((3, 1, 1))
    v = m.dense("d", m.flatten("f", "in"), 2, w=np.array([[1.0, 2, 3], [2, 4, 6]]), step=np.array([1.0, 2]), bits=4)
    b = m.fire("b", v, 3.0)
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref(b), Ref(v)), rule="first_spike"))
    with caplog.at_level(logging.WARNING):
        checked(m.b.net())
    assert "trained with one step per class; spikes are exact" in caplog.text


def test_uneven_steps_before_a_membrane_read_out_are_refused() -> None:
    m = Maker((3, 1, 1))
    w = np.array([[1.0, 2, 3], [2, 4, 6]])
    net = m.answer(m.dense("d", m.flatten("f", "in"), 2, w=w, step=np.array([1.0, 2]), bits=4))
    assert "step=@d.step reaches from 1 to 2, but its outputs are compared with each other" in faults(net)[0]


# Windows, bits and ticks


def test_windows_become_ticks() -> None:
    m, net = residual(0)
    after = checked(net, ticks=12)
    assert [str(op.type) for op in after.ops if isinstance(op, Fire | Decode)] == [
        "spikes<3x5x5, 0..12>", "spikes<3x5x5, 12..24>", "scores<2, 24..36>",
    ]  # fmt: skip
    assert m.shape("in") == (3, 5, 5)


def test_each_layer_keeps_the_ticks_it_was_trained_for() -> None:
    m = Maker((2, 4, 4))
    a = m.fire("a", m.conv("c", "in", 2, 1), 1.0, ticks=5)
    b = m.fire("b", m.conv("c2", a, 2, 1), 1.0, ticks=9)
    e = m.fire("e", m.conv("c3", b, 2, 1), 1.0)
    net = m.answer(m.conv("d", e, 2, 4))
    after = checked(net)
    assert [op.type.ticks for op in after.ops if isinstance(op, Fire) and isinstance(op.type, Spikes)] == [5, 9, 16]
    x = m.pixels(20)
    got, real = run(after, x).spikes, run(net, x).spikes
    for name, ticks in (("a", 5), ("b", 9), ("e", 16)):
        assert np.abs(got[name] / ticks - real[name]).mean() < 0.25


def test_one_trained_t_is_everybodys() -> None:
    m = Maker((2, 4, 4))
    a = m.fire("a", m.conv("c", "in", 2, 1), 1.0, ticks=7)
    after = checked(m.answer(m.conv("d", m.fire("b", m.conv("c2", a, 2, 1), 1.0), 2, 4)))
    assert [op.type.ticks for op in after.ops if isinstance(op, Fire) and isinstance(op.type, Spikes)] == [7, 7]


def test_defaults_are_four_bits_and_sixteen_ticks() -> None:
    _, net = residual(0)
    after = checked(net)
    c1, a = after.by_name["c1"], after.by_name["a"]
    assert isinstance(c1, Conv2d)
    assert isinstance(a.type, Spikes)
    assert (c1.bits, a.type.ticks) == (4, 16)


def test_other_bits_or_ticks_than_trained_name_every_layer() -> None:
    m = Maker((2, 4, 4))
    a = m.fire("a", m.conv("c", "in", 2, 1, w=np.ones((2, 2, 1, 1)), step=np.ones(2), bits=4), 1.0, ticks=10)
    b = m.fire("b", m.conv("c2", a, 2, 1, w=np.ones((2, 2, 1, 1)), step=np.ones(2), bits=3), 1.0, ticks=8)
    net = m.answer(m.conv("d", b, 2, 4))
    assert [line.split("'", 1)[1] for line in faults(net, bits=4, ticks=10)] == [
        "conv2d' %c2: was trained with 3 bits, but bits=4 is asked for: leave bits out, or start from float weights",
        "fire' %b: has 8 ticks of its own, ticks=10 is asked for: leave ticks out, or train for 10",
    ]


def test_an_integer_net_is_as_it_is() -> None:
    _, net = residual(0)
    after = checked(net, bits=5, ticks=8)
    assert quantize(after) is after
    assert len(faults(after, bits=3, ticks=9)) == sum(isinstance(op, Conv2d | Dense | Fire) for op in after.ops)
    assert "is already quantised to 5 bits" in faults(after, bits=3)[0]


def test_wrong_options_come_at_once() -> None:
    _, net = residual(0)
    lines = faults(net, bits=9, ticks=65, method="median", percentile=101.0)
    assert [line.split(": ", 2)[2].split(" must")[0] for line in lines] == [
        "method=median", "percentile=101", "ticks=65", "bits=9",
    ]  # fmt: skip


def test_only_canonical_nets_are_quantised() -> None:
    m = Maker()
    a = m.avgpool("p", m.fire("a", m.conv("c", "in", 2), 1.0))
    assert "'avgpool' %p: not allowed in a canonical net: run fold-avgpool" in faults(m.answer(m.conv("d", a, 2, 2)))[0]


def test_a_ramp_between_different_windows_is_refused() -> None:
    m = Maker((2, 4, 4))
    a = m.fire("a", m.conv("c", "in", 2, 1), 1.0, ticks=5)
    b = m.fire("b", m.conv("c2", a, 2, 1, kernel="ramp"), 1.0, ticks=9)
    lines = faults(m.answer(m.conv("d", b, 2, 4)))
    assert lines == [
        "<net>: error[TTFS005]: 'conv2d' %c2: kernel=ramp reads 'fire' %a of 5 ticks into 'fire' %b of 9: "
        "a rising membrane needs one T on both sides; train both layers for the same"
    ]


def test_missing_ranges_are_found_on_the_way() -> None:
    m = Maker((2, 6, 6))
    a = m.fire("a", m.conv("c", "in", 3), None)
    net = m.answer(m.conv("d", a, 2, 4))
    assert "error[TTFS018]: 'fire' %a" in faults(net)[0]
    x = m.pixels(20)
    after = checked(net, bits=8, ticks=32, method="max", calibration=x)
    two = checked(calibrate(net, method="max", ticks=32, calibration=x), bits=8, ticks=32, method="max")
    assert after == two


# Other inputs


def test_encoded_pixels_and_spike_inputs() -> None:
    """x = 1/T per tick for both; encode quantises the pixels themselves."""
    m = Maker((2, 4, 4))
    m.b.add(Encode(name="e", type=OPEN, x=Ref("in")))
    a = m.fire("a", m.conv("c", "e", 3, 3), 1.0)
    net = m.answer(m.conv("d", a, 2, 2))
    after = checked(net, bits=8, ticks=64)
    x = m.pixels(20)
    got, real = run(after, x).spikes, run(net, x).spikes
    np.testing.assert_array_equal(got["e"], np.floor(x / 255 * 64 + 0.5))
    assert np.abs(got["a"] / 64 - real["a"]).max() < 0.1


def test_spikes_as_input() -> None:
    m = Maker((2, 4, 4))
    m.b.ops.clear()
    m.b.types.clear()
    m.b.add(Input(name="in", type=Spikes((2, 4, 4), 0, 1)))
    a = m.fire("a", m.conv("c", "in", 3, 3, kernel="ramp"), 1.0)
    net = m.answer(m.conv("d", a, 2, 2, kernel="ramp"))
    after = checked(net, bits=8, ticks=32)
    assert str(after.input.type) == "spikes<2x4x4, 0..32>"
    x = m.rng.integers(0, 33, (20, 2, 4, 4))
    got, real = run(after, x).spikes["a"] / 32, run(net, x / 32).spikes["a"]
    assert np.abs(got - real).mean() < 0.03


@pytest.mark.parametrize("kernel", ["step", "leak"])
def test_streaming_nets_keep_their_ticks(kernel: str) -> None:
    """V >= Theta at every tick, biases in the table (step) or rounded (leak)."""
    m = Maker((1, 4, 4), ticks=8)
    more = {"keep": 30000, "rounding": "nearest"} if kernel == "leak" else {}
    bias, drift = np.array([0.1, -0.1, 0.2]), np.array([0.02, 0.0, -0.03])
    v = m.conv("c", "in", 3, 3, kernel=kernel, every=True, bias=bias, drift=drift, **more)
    a = m.fire("a", v, 0.9)
    b = m.fire("b", m.conv("d", a, 4, 2, kernel=kernel, bias=m.rng.normal(size=4) * 0.1, **more), 0.4)
    net = m.answer(m.conv("e", b, 2, 1, kernel=kernel, **more))
    after = checked(net, bits=8)
    op = after.by_name["c"]
    assert isinstance(op, Conv2d)
    assert (op.bias is None) == (kernel == "step")
    assert table(after, "a").shape == (3, 8)
    if kernel == "leak":
        assert (table(after, "a") == table(after, "a")[:, :1]).all()
    x = m.pixels(40)
    got, real = run(after, x).spikes, run(net, x).spikes
    assert real["a"].any()
    assert (got["a"] == real["a"]).mean() > 0.97
    assert np.abs(got["a"].astype(int) - real["a"]).max() <= 1
    assert (got["b"] == real["b"]).mean() > 0.9
    assert "has 8 ticks of its own, ticks=4 is asked for" in faults(net, ticks=4)[0]
