"""quantize: integers that decide as the real net would, and as the trained one did."""

import logging
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passes.nets import Maker
from tests.passes.quantised import checked, faults, table, weights
from ttfsc.ir import (
    OPEN,
    Decode,
    Dense,
    Ref,
    bounds_of,
    run,
)
from ttfsc.passes import fold_avgpool, fold_batchnorm


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


@pytest.mark.parametrize("kernel", ["hold", "ramp"])
def test_trained_networks_fire_as_they_did_in_training(kernel: Literal["hold", "ramp"]) -> None:
    """ttfsc.nn in evaluation and the quantised net: every spike of every layer equal, and the scores up to one unit."""
    torch: Any = pytest.importorskip("torch")
    import ttfsc.nn as tnn

    torch.manual_seed(3)
    c1, c2 = tnn.Conv2d(1, 4, 3, padding=1, bits=4), tnn.Conv2d(4, 6, 3, bits=4, kernel=kernel)
    d3, d4 = tnn.Linear(24, 8, bits=3, kernel=kernel), tnn.Linear(8, 5, bits=4, kernel=kernel, per_tensor=True)
    f1, f2, f3 = tnn.Fire(7, 0.8, spikes=kernel == "ramp"), tnn.Fire(7, 1.3), tnn.Fire(7)
    layers = [tnn.Input((1, 8, 8)), c1, f1, tnn.AvgPool2d(2), c2, f2, tnn.Flatten(), d3, f3, d4, tnn.Membrane()]
    for layer in (c1, c2, d3, d4):
        assert layer.bias is not None
        torch.nn.init.normal_(layer.bias, std=0.05)
        layer.fit_step()
    model: Any = torch.nn.Sequential(*layers).eval()
    m = Maker((1, 8, 8))

    def given_by(layer: Any) -> dict[str, Any]:
        step = layer.weight_step().double().numpy()
        w = layer.weight_int().numpy() * step.reshape(-1, *[1] * (layer.weight.dim() - 1))
        bias = layer.bias.detach().numpy()
        return {"w": w.astype(np.float32), "step": step, "bits": layer.bits, "bias": bias, "kernel": layer.kernel}

    def fire(name: str, v: str, layer: Any) -> str:
        return m.fire(name, v, layer.threshold().numpy(), ticks=layer.ticks)

    a = fire("a", m.conv("c1", "in", 4, 3, pad=(1,) * 4, **given_by(c1)), f1)
    b = fire("b", m.conv("c2", m.avgpool("p", a), 6, 3, **given_by(c2)), f2)
    c = fire("c", m.dense("d3", m.flatten("f", b), 8, **given_by(d3)), f3)
    after = checked(fold_avgpool(m.answer(m.dense("d4", c, 5, **given_by(d4)))))
    x, seen = m.pixels(64), dict[str, Any]()

    def watch(name: str, layer: Any) -> None:
        def note(_module: Any, _args: Any, out: Any) -> None:
            seen[name] = out

        layer.register_forward_hook(note)

    for name, layer in (("a", f1), ("b", f2), ("c", f3)):
        watch(name, layer)
    got, want = run(after, x), model(torch.tensor(x))
    for name, out in seen.items():
        value = out.value if isinstance(out, tnn.Spikes) else out
        np.testing.assert_array_equal(got.spikes[name], np.rint(value.numpy() * 7), err_msg=name)
    assert got.spikes["c"].any(), "a silent net proves nothing"
    np.testing.assert_array_equal(got.labels, want.argmax(1).numpy())
    ratio = got.scores[got.scores != 0] / want.double().numpy()[got.scores != 0]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


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


@given(st.integers(0, 999), st.integers(2, 30))
@settings(max_examples=25)
def test_nearest_rounds_where_training_left_it_free(seed: int, ticks: int) -> None:
    """x = clip(floor(T S / Theta + 1/2), 0, T), and half the error; trained layers and rising membranes stay."""
    m = Maker((3, 1, 1), seed=seed)
    step = np.full(4, 0.01)
    grid = m.rng.integers(-100, 101, (4, 3, 1, 1))
    a = m.fire("a", m.conv("c", "in", 4, 1, w=grid * 0.01, step=step, bits=8), 1.3)
    b = m.fire("b", m.conv("c2", "in", 4, 1, w=grid * 0.01, step=step, bits=8), 1.3, ticks=ticks)
    total = m.plus("s", [m.conv("d", a, 2, 1, kernel="ramp"), m.conv("e", b, 2, 1)])
    net = m.answer(m.conv("r", m.fire("g", total, 1.0), 2, 1))
    plain, near = checked(net, ticks=ticks), checked(net, ticks=ticks, nearest=True)
    x = m.pixels(50)
    s = np.einsum("oi,ni->no", grid[:, :, 0, 0], x[:, :, 0, 0]) * (0.01 / 255) / 1.3 * ticks
    got = run(near, x).spikes
    free = np.abs(s + 0.5 - np.rint(s + 0.5)) > 1e-9
    np.testing.assert_array_equal(got["a"][..., 0, 0][free], np.clip(np.floor(s + 0.5), 0, ticks)[free])
    np.testing.assert_array_equal(got["b"], run(plain, x).spikes["b"])
    np.testing.assert_array_equal(table(near, "g"), table(plain, "g"))
    assert np.abs(got["a"] / ticks - run(net, x).spikes["a"]).max() <= 0.5 / ticks + 1e-6


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
