"""No input exceeds the bounds, and some reach them: what proves the widths of accumulators must be trustworthy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ir.by_hand import Traces, simulate
from tests.strategies import inputs_for, integer_nets
from ttfsc.ir import (
    OPEN,
    Add,
    Analog,
    Array,
    Builder,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Input,
    Net,
    Potential,
    Ref,
    Scores,
    Spikes,
    bounds_of,
    show,
)
from ttfsc.ir.bounds import LIMIT


def traces_of(net: Net, x: Any) -> dict[str, Traces]:
    """Every membrane at every tick, by hand."""
    values = simulate(net, x).values
    return {op.name: values[op.name] for op in net.ops if isinstance(op, Conv2d | Dense | Add)}


def last_look(net: Net, name: str) -> int:
    """The last n at which a neuron or the read-out looks at this membrane, directly or behind sums."""
    latest = 0
    for user in net.users[name]:
        t = user.type
        if isinstance(user, Fire) and isinstance(t, Spikes):
            latest = max(latest, t.ticks - 1)
        elif isinstance(user, Decode) and isinstance(t, Scores):
            latest = max(latest, t.ticks)
        else:
            latest = max(latest, last_look(net, user.name))
    return latest


@settings(max_examples=100)
@given(integer_nets(max_layers=2), st.integers(0, 2**32 - 1))
def test_no_input_exceeds_them(net: Net, seed: int) -> None:
    bounds = bounds_of(net)
    for x in inputs_for(net, seed, 4):
        for name, traces in traces_of(net, x.tolist()).items():
            latest = last_look(net, name)
            for index, trace in traces.items():
                c = index[0]
                seen = trace[: latest + 1]
                low, high = bounds[name].v[0][c], bounds[name].v[1][c]
                assert low <= min(seen) and max(seen) <= high, f"{show(net)}\n%{name}{index}: {seen}"
                assert max(map(abs, seen)) <= bounds[name].terms[c]


def dense(w: Array, *, x: Analog | Spikes, kernel: str = "hold", ticks: int = 5, **constants: Array) -> Net:
    """One firing layer."""
    b = Builder("worst", ticks=ticks)
    b.add(Input(name="in", type=x))
    named = {key: b.array(key, a) for key, a in constants.items()}
    every = kernel == "leak" and isinstance(x, Analog)
    shift = 1 if kernel == "leak" else 0
    fields: dict[str, Any] = {"kernel": kernel, "every": every, "shift": shift, **named}
    op = Dense(name="v", type=OPEN, x=Ref("in"), w=b.array("w", w), bits=8, **fields)
    t = b.add(op).type
    assert isinstance(t, Potential)
    closed = ticks if t.closes is None else t.closes - t.opens
    b.add(Fire(name="s", type=OPEN, v=Ref("v"), theta=b.array("theta", np.zeros((1, closed), np.int32))))
    b.add(Dense(name="o", type=OPEN, x=Ref("s"), w=b.array("o", np.ones((2, len(w)), np.int8)), bits=2))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("o"),), rule="membrane"))
    return b.net()


@given(st.integers(0, 2**32 - 1), st.sampled_from(["hold", "ramp", "step"]))
def test_inputs_chosen_by_the_weights_reach_them(seed: int, kernel: str) -> None:
    """All pushing neurons as early as can be, all others silent: equality, for every channel and both ends."""
    rng = np.random.default_rng(seed)
    w = rng.integers(-128, 128, (3, 6)).astype(np.int8)
    bias, drift = (rng.integers(-99, 99, 3).astype(np.int32) for _ in range(2))
    drift = np.abs(drift)  # a slope that helps the upper end only
    net = dense(w, x=Spikes((6,), 0, 5), kernel=kernel, bias=bias, drift=drift)
    bound = bounds_of(net)["v"]
    for c in range(3):
        top = traces_of(net, (np.where(w[c] > 0, 5, 0)).tolist())["v"][c,]
        assert max(top[:5]) == bound.v[1][c]
        bottom = traces_of(net, (np.where(w[c] < 0, 5, 0)).tolist())["v"][c,]
        assert min(bottom[:5]) == bound.v[0][c]


def test_pixels_below_zero_count_for_both_ends() -> None:
    w = np.array([[3, -2]], np.int8)
    bound = bounds_of(dense(w, x=Analog((2,), -10, 20)))["v"]
    assert (bound.s[0][0], bound.s[1][0]) == (-30 - 40, 60 + 20)
    padded = bounds_of(dense(w, x=Analog((2,), 5, 20)))["v"]  # 0 is always possible: padding
    assert (padded.s[0][0], padded.s[1][0]) == (-40, 60)


def test_a_fading_bias_holds_nobody_back() -> None:
    """A leak forgets the bias of -100 before the last spike comes: the upper bound must not count on it."""
    net = dense(np.array([[50]], np.int8), x=Spikes((1,), 0, 16), kernel="leak", bias=np.array([-100], np.int32))
    late = traces_of(net, [1])["v"][0,]
    assert max(late) > -50
    assert bounds_of(net)["v"].v[1][0] >= max(late)


def test_a_current_that_flows_at_every_tick() -> None:
    net = dense(np.array([[2, -1]], np.int8), x=Analog((2,), 0, 7), kernel="leak", ticks=6)
    assert bounds_of(net)["v"].v[1][0] == 2 * 7 * 6


def test_pools_multiply() -> None:
    b = Builder("pool", ticks=4)
    b.add(Input(name="in", type=Spikes((1, 4, 4), 0, 4)))
    w = b.array("w", np.array([[[[1, -3]]]], np.int8))
    b.add(Conv2d(name="v", type=OPEN, x=Ref("in"), w=w, bits=4, pool=(2, 2), pool_stride=(2, 2), kernel="ramp"))
    b.add(Flatten(name="f", type=OPEN, x=Ref("v")))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("f"),), rule="membrane"))
    bounds = bounds_of(b.net())
    assert (bounds["v"].s[0][0], bounds["v"].s[1][0]) == (-3 * 4 * 4, 1 * 4 * 4)
    assert bounds["v"].membrane == (-3 * 4 * (4 + 4), 4 * (4 + 4))  # a read-out looks at V(T)
    assert len(bounds["f"].v[0]) == 2 and bounds["f"].largest == bounds["v"].largest


@pytest.mark.parametrize("huge", [2**62, 2**63 - 1, -(2**63)])
def test_numbers_beyond_64_bits_saturate(huge: int) -> None:
    """No wrap anywhere: int64's least number has no absolute value in int64, and 65535 ticks of it are 2^79."""
    extreme = np.array([huge], np.int64)
    net = dense(np.ones((1, 2), np.int8), x=Spikes((2,), 0, 5), ticks=1000, bias=extreme, drift=extreme)
    bound = bounds_of(net)["v"]
    assert bound.largest == LIMIT == bound.terms[0]
    assert bound.v[0][0] <= bound.v[1][0]
    twice = bound + bound
    assert twice.largest == LIMIT and twice.v[0][0] <= twice.v[1][0]


def test_windows_of_65535_ticks_are_bounded_exactly() -> None:
    t = 65535
    net = dense(np.full((1, 3), -128, np.int8), x=Spikes((3,), 0, t), kernel="ramp", ticks=t)
    assert bounds_of(net)["v"].v[0][0] == -128 * 3 * (t + t - 1)
