"""The reference meaning against semantics.md: by hand, by closed form, by torch, and where numbers get large."""

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ir.by_hand import simulate
from tests.strategies import inputs_for, integer_nets, real_nets
from ttfsc.ir import (
    OPEN,
    Add,
    Analog,
    Array,
    AvgPool,
    Builder,
    Const,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Input,
    Net,
    Ref,
    Spikes,
    TtfsError,
    falling_table,
    run,
    show,
    ticks_of,
)
from ttfsc.ir.geometry import pool_out
from ttfsc.ir.values import mean

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=250)
@given(integer_nets(), SEEDS)
def test_run_is_semantics_md(net: Net, seed: int) -> None:
    x = inputs_for(net, seed, 3)
    got = run(net, x)
    for n in range(len(x)):
        want = simulate(net, x[n].tolist())
        for name, ticks in want.ticks.items():
            t = net.type_of(name)
            assert isinstance(t, Spikes)
            found = ticks_of(got.spikes[name][n], t).ravel().tolist()
            assert found == [-1 if t is None else t for _, t in sorted(ticks.items())], (
                f"{show(net)}\n%{name} of {x[n]}"
            )
        assert got.scores[n].tolist() == want.scores, show(net)
        assert got.labels[n] == want.label, show(net)


def hold_net(w: Array, theta: Array, *, high: int = 255, bias: Array | None = None) -> Net:
    """Analog pixels, one dense layer that fires, a read-out that passes its values on."""
    b = Builder("hold", ticks=theta.shape[1])
    b.add(Input(name="in", type=Analog((w.shape[1],), 0, high)))
    constant = None if bias is None else b.array("bias", bias)
    b.add(Dense(name="v", type=OPEN, x=Ref("in"), w=b.array("w", w), bias=constant, bits=8))
    b.add(Fire(name="s", type=OPEN, v=Ref("v"), theta=b.array("theta", theta)))
    eye = np.eye(len(w), dtype=np.int8)
    b.add(Dense(name="o", type=OPEN, x=Ref("s"), w=b.array("eye", eye), bits=2))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("o"),), rule="membrane"))
    return b.net()


@given(SEEDS, st.integers(1, 40), st.integers(1, 4000), st.sampled_from([1, 2, 8, 64]))
def test_hold_with_the_falling_table_is_a_quantised_relu(seed: int, ticks: int, top: int, parts: int) -> None:
    """semantics.md, Firing: x = clip(floor(S / Theta), 0, T), for any Theta; here fractions that floats can hold."""
    rng, theta = np.random.default_rng(seed), Fraction(top, parts)
    w = rng.integers(-128, 128, (5, 7)).astype(np.int8)
    table = falling_table(float(theta) * ticks, 0.0, 0.0, 1.0, ticks)[None]
    x = rng.integers(0, 256, (20, 7))
    got = run(hold_net(w, table), x).spikes["s"]
    sums = x @ w.T.astype(np.int64)
    want = [[min(max(floor(Fraction(int(s)) / theta), 0), ticks) for s in row] for row in sums]
    assert got.tolist() == want


def test_a_bias_in_the_table_rounds_nothing() -> None:
    """falling_table(bias=b) decides as exact rational arithmetic does."""
    rng = np.random.default_rng(3)
    theta, bias, unit = Fraction(5, 4), Fraction(-3, 8), Fraction(1, 64)
    table = falling_table(float(theta), float(bias), 0.0, float(unit), 8)
    for s in rng.integers(-50, 150, 200):
        fires = [n for n in range(8) if s >= table[n]]
        want = [n for n in range(8) if int(s) * unit + bias >= theta * (8 - n) / 8]
        assert fires == want


def test_sums_beyond_float32_are_exact() -> None:
    """3000 * 127 * 65535 = 2.5e10: odd sums that float32 cannot hold decide by one unit."""
    rng = np.random.default_rng(0)
    w = np.full((2, 3000), 127, np.int8)
    w[1] = rng.integers(-128, 128, 3000)
    x = rng.integers(0, 65536, (4, 3000)).astype(np.uint16)
    sums = x.astype(np.int64) @ w.T.astype(np.int64)
    assert sums.max() > 2**33
    for n in range(4):
        for theta, fires in ((sums[n], 1), (sums[n] + 1, 0)):
            net = hold_net(w, theta[:, None], high=65535)
            assert run(net, x[n : n + 1]).spikes["s"].tolist() == [[fires, fires]]


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_a_bias_that_hides_large_sums_costs_nothing(offset: int) -> None:
    """Terms reach 2^24 + 3 although, with the bias, V never leaves +-2^23: the terms decide the float type."""
    w, high = np.full((1, 129), -128, np.int8), 1017
    w[0, 128] = -1
    bias = np.array([2**23], np.int32)
    x = np.full((1, 129), high, np.int32)
    x[0, 128] = offset
    s = int(x[0].astype(np.int64) @ w[0].astype(np.int64)) + 2**23
    for theta, fires in ((s, 1), (s + 1, 0)):
        net = hold_net(w, np.array([[theta]], np.int32), high=high, bias=bias)
        assert run(net, x).spikes["s"].tolist() == [[fires]]


def test_branches_that_only_together_leave_float32() -> None:
    b = Builder("two", ticks=1)
    b.add(Input(name="in", type=Analog((129,), 0, 1023)))
    w = np.full((1, 129), 127, np.int8)
    for v in ("v1", "v2"):
        b.add(Dense(name=v, type=OPEN, x=Ref("in"), w=b.array(v, w), bits=8))
    b.add(Add(name="v", type=OPEN, xs=(Ref("v1"), Ref("v2"))))
    x = np.full((1, 129), 1023, np.int32)
    x[0, 0] = 1022
    half = int(x.sum()) * 127
    assert half < 2**24 < 2 * half
    third = b.add(Dense(name="v3", type=OPEN, x=Ref("in"), w=b.array("v3", np.eye(1, 129, dtype=np.int8)), bits=2))
    b.add(Add(name="all", type=OPEN, xs=(Ref("v"), Ref(third.name))))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("all"),), rule="membrane"))
    x[0, 0] = 1021  # 2 * half + 1021 is odd
    half = int(x.sum()) * 127
    assert run(b.net(), x).scores.tolist() == [[2 * half + 1021]]


def test_thresholds_beyond_every_membrane_are_never_and_always() -> None:
    w = np.ones((2, 3), np.int8)
    table = np.array([[2**62, 2**62], [-(2**62), 2**62]], np.int64)
    x = np.full((1, 3), 255)
    assert run(hold_net(w, table), x).spikes["s"].tolist() == [[0, 2]]


def test_a_net_beyond_47_bits_is_refused_not_rounded() -> None:
    net = hold_net(np.ones((1, 2), np.int8), np.zeros((1, 3), np.int32), bias=np.array([2**50], np.int64))
    with pytest.raises(TtfsError, match=r"error\[TTFS009\]: 'dense' %v: its terms can add up to 1125899906843134"):
        run(net, np.zeros((1, 2), np.uint8))


@given(SEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.booleans())
def test_pool_is_the_spread_kernel(seed: int, size: int, step: int, stride: int, k: int, ramp: bool) -> None:
    """semantics.md, Pooling: a folded average pool is a kernel of size (k-1) s' + K with stride s s'."""
    rng = np.random.default_rng(seed)
    w = rng.integers(-8, 8, (3, 2, k, k)).astype(np.int8)
    spread = np.zeros((3, 2, (k - 1) * step + size, (k - 1) * step + size), np.int64)
    for i in range(k):
        for j in range(k):
            spread[:, :, i * step : i * step + size, j * step : j * step + size] += w[:, :, i, j][:, :, None, None]
    pad = int(rng.integers(0, 2)) if size <= step else 0  # padding of sums is padding of inputs if they do not overlap
    side = size + 3 * step
    here = Conv2d(name="c", type=OPEN, x=Ref("in"), w=Const("w"), bits=8, kernel="ramp" if ramp else "hold")
    pooled = replace(
        here, stride=(stride, stride), pad=(pad, pad, pad, pad), pool=(size, size), pool_stride=(step, step)
    )
    outer = pad * step
    wide = replace(here, stride=(stride * step, stride * step), pad=(outer, outer, outer, outer))
    scores = list[Array]()
    for op, field in ((pooled, w), (wide, spread.astype(np.int8))):
        b = Builder("pool", ticks=5)
        b.add(Input(name="in", type=Spikes((2, side, side), 0, 5)))
        b.array("w", field)
        b.add(op)
        b.add(Flatten(name="f", type=OPEN, x=Ref("c")))
        b.add(Decode(name="out", type=OPEN, xs=(Ref("f"),), rule="membrane"))
        scores.append(run(b.net(), inputs_for(b.net(), seed)).scores)
    assert scores[0].size and np.array_equal(scores[0], scores[1])


@given(
    st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.booleans(), st.booleans(), SEEDS
)  # fmt: skip
def test_average_pools_divide_as_torch_does(
    n: int, kernel: int, stride: int, pad: int, ceil: bool, count_pad: bool, seed: int
) -> None:
    torch = pytest.importorskip("torch")
    pad = min(pad, kernel // 2)  # torch allows no more
    size = pool_out((n, n), (kernel, kernel), (stride, stride), (pad,) * 4, ceil)
    if min(size) < 1:
        return
    k, s, p = (kernel, kernel), (stride, stride), (pad, pad, pad, pad)
    t = Spikes((2, *size), 0, 1)
    op = AvgPool(name="p", type=t, x=Ref("in"), kernel=k, stride=s, pad=p, ceil=ceil, count_pad=count_pad)
    x = np.random.default_rng(seed).random((1, 2, n, n)).astype(np.float32)
    want = torch.nn.functional.avg_pool2d(torch.from_numpy(x), kernel, stride, pad, ceil, count_pad).numpy()
    assert want.shape == (1, *op.type.shape)
    np.testing.assert_allclose(mean(op, x), want, rtol=1e-5, atol=1e-6)


@settings(max_examples=60)
@given(real_nets(sources=("analog", "encode", "spikes"), rules=("membrane", "first_spike", "weighted")), SEEDS)
def test_real_nets_stay_in_their_windows(net: Net, seed: int) -> None:
    x = inputs_for(net, seed) if isinstance(net.input.type, Analog) else np.random.default_rng(seed).random(
        (4, *net.input.type.shape))  # fmt: skip
    result = run(net, x)
    assert np.isfinite(result.scores).all() and result.labels.shape == (4,)
    for op in net.ops:
        if isinstance(op, Fire):
            values = result.spikes[op.name]
            assert values.min() >= 0 and (op.theta is None or values.max() <= 1)


def test_real_encode_is_the_scaled_input() -> None:
    b = Builder("real")
    b.add(Input(name="in", type=Analog((4,), -10, 10), scale=0.1))
    b.add(Encode(name="e", type=OPEN, x=Ref("in")))
    b.add(Dense(name="v", type=OPEN, x=Ref("e"), w=b.array("w", np.eye(4, dtype=np.float32))))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("v"),), rule="membrane"))
    x = np.array([[-10, 0, 5, 10]])
    np.testing.assert_allclose(run(b.net(), x).scores, [[0, 0.5, 0.75, 1]], atol=1e-6)
