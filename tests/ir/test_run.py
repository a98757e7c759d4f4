"""Running nets: what inputs are taken, batches, what is kept, and how long it takes."""

import time

import numpy as np
import pytest
from hypothesis import given, settings

from tests.ir.test_text import small
from tests.strategies import inputs_for, integer_nets
from ttfsc.ir import (
    OPEN,
    Analog,
    Array,
    Builder,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Input,
    MaxPool,
    Net,
    Ref,
    Spikes,
    TtfsError,
    check_input,
    falling_table,
    is_integer,
    run,
    run_batches,
    ticks_of,
)


@settings(max_examples=40)
@given(integer_nets())
def test_batches_are_the_whole_in_parts(net: Net) -> None:
    x = inputs_for(net, 1, 7)
    whole, done = run(net, x), list[int]()
    parts = list(run_batches(net, x, batch=3))
    assert [len(p.labels) for p in parts] == [3, 3, 1]
    again = run(net, x, batch=2, progress=done.append)
    assert sum(done) == 7
    for part in (again, *parts[:1]):
        n = len(part.labels)
        assert np.array_equal(part.scores, whole.scores[:n]) and np.array_equal(part.labels, whole.labels[:n])
        assert all(np.array_equal(part.spikes[k], whole.spikes[k][:n]) for k in whole.spikes)
    assert set(whole.spikes) == {op.name for op in net.ops if isinstance(op, Fire | Encode)}
    for name, values in whole.spikes.items():
        t = net.type_of(name)
        assert isinstance(t, Spikes) and values.shape == (7, *t.shape) and values.max(initial=0) <= t.ticks
        ticks = ticks_of(values, t)
        assert ((ticks == -1) | ((ticks >= t.opens) & (ticks < t.closes))).all()


def test_only_what_is_asked_for_is_kept() -> None:
    x = np.zeros((2, 4), np.int8)
    assert run(small(), x, keep=()).spikes == {}
    assert list(run(small(), x, keep=["s"]).spikes) == ["s"]


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (np.zeros((2, 5), np.int8), "x is 2x5, must be N x 4"),
        (np.zeros(4, np.int8), "x is 4, must be N x 4"),
        (np.zeros((0, 4), np.int8), "x holds no samples"),
        (np.zeros((2, 4)), "x is float64; a quantised net takes integers, the source value divided by scale=0.1"),
        (np.full((2, 4), 4), "x reaches from 4 to 4, declared are -3..3"),
        (np.full((2, 4), -4), "x reaches from -4 to -4, declared are -3..3"),
        (np.full((2, 4), 2**64 - 1, np.uint64), "declared are -3..3"),
        (np.array([["a"] * 4]), "x is <U1, must be numbers"),
        (np.array([[None] * 4]), "x is object, must be numbers"),
        (np.zeros((1, 4), np.complex64), "x is complex64, must be numbers"),
    ],
)
def test_inputs_that_do_not_fit(x: Array, why: str) -> None:
    with pytest.raises(TtfsError, match="error\\[TTFS015\\]: input %in: ") as caught:
        run(small(), x)
    assert why in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_real_inputs_are_finite(bad: float) -> None:
    b = Builder("real")
    b.add(Input(name="in", type=Analog((1,), 0, 9)))
    b.add(Dense(name="v", type=OPEN, x=Ref("in"), w=b.array("w", np.ones((1, 1), np.float32))))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("v"),), rule="membrane"))
    assert not is_integer(b.net())
    check_input(b.net(), np.array([[0.5]]))
    with pytest.raises(TtfsError, match="x holds NaN or infinity"):
        check_input(b.net(), np.array([[bad]]))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.uint64, np.int64])
def test_the_number_type_of_the_input_makes_no_difference(dtype: type[np.generic]) -> None:
    """Padding of a pool of pixels never wins, whatever the least number of the type is."""
    b = Builder("pixels", ticks=2)
    b.add(Input(name="in", type=Analog((1, 3, 3), 0, 1)))
    b.add(MaxPool(name="p", type=OPEN, x=Ref("in"), kernel=(2, 2), stride=(2, 2), pad=(1, 1, 0, 0)))
    w = b.array("w", np.ones((1, 1, 1, 1), np.int8))
    b.add(Conv2d(name="c", type=OPEN, x=Ref("p"), w=w, bits=2))
    b.add(Flatten(name="f", type=OPEN, x=Ref("c")))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("f"),), rule="membrane"))
    x = np.array([[[[0, 0, 1], [0, 0, 0], [0, 1, 0]]]]).astype(dtype)
    assert run(b.net(), x).scores.tolist() == [[0, 1, 0, 1]]


def mnist() -> Net:
    """16C5-P2-32C5-P2-800-128-10 with the DTA kernel; random 4-bit weights."""
    b, rng = Builder("mnist", ticks=10), np.random.default_rng(0)
    b.add(Input(name="in", type=Analog((1, 28, 28), 0, 255), scale=1 / 255))

    def fire(name: str, v: str, theta: float) -> None:
        table = falling_table([theta], 0.0, 0.0, 1.0, 10)
        b.add(Fire(name=name, type=OPEN, v=Ref(v), theta=b.array(f"{name}.theta", table.astype(np.int32))))

    pad, two = (1, 1, 1, 1), (2, 2)
    w = b.array("w1", rng.integers(-7, 8, (16, 1, 5, 5)).astype(np.int8))
    b.add(Conv2d(name="v1", type=OPEN, x=Ref("in"), w=w, bits=4, pad=pad))
    fire("c1", "v1", 5000)
    w = b.array("w2", rng.integers(-7, 8, (32, 16, 5, 5)).astype(np.int8))
    b.add(Conv2d(name="v2", type=OPEN, x=Ref("c1"), w=w, bits=4, pad=pad, pool=two, pool_stride=two, kernel="ramp"))
    fire("c2", "v2", 400)
    w = b.array("w3", rng.integers(-7, 8, (128, 32, 5, 5)).astype(np.int8))
    b.add(Conv2d(name="v3", type=OPEN, x=Ref("c2"), w=w, bits=4, pool=two, pool_stride=two, kernel="ramp"))
    b.add(Flatten(name="f3", type=OPEN, x=Ref("v3")))
    fire("d3", "f3", 300)
    w = b.array("w4", rng.integers(-7, 8, (10, 128)).astype(np.int8))
    b.add(Dense(name="v4", type=OPEN, x=Ref("d3"), w=w, bits=4, kernel="ramp"))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("v4"),), rule="membrane"))
    return b.net()


def test_ten_thousand_digits_take_less_than_a_minute() -> None:
    """500 of them, of a second's work, may take a twentieth of that minute, and half as much again on a busy core."""
    x = np.random.default_rng(1).integers(0, 256, (500, 1, 28, 28)).astype(np.uint8)
    net = mnist()
    run(net, x[:8])
    start = time.process_time()
    result = run(net, x)
    assert time.process_time() - start < 4.5
    assert all(0.02 < (v > 0).mean() < 0.98 for v in result.spikes.values())
