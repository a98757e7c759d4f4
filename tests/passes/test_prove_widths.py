"""prove-widths: 16 bits exactly where no input can leave them, refusal with the numbers beyond 32."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passes.nets import Maker
from tests.strategies import integer_nets
from ttfsc.ir import OPEN, Array, Decode, Dense, Fire, Net, Ref, TtfsError, bounds_of, codes, verify
from ttfsc.passes import prove_widths
from ttfsc.passes.rewrite import read_potential


def width_of(net: Net, name: str = "out") -> int:
    op = net.by_name[name]
    assert isinstance(op, Fire | Decode)
    return op.width


def readout(w: Array, *, bias: Array | None = None, high: int = 255, low: int = 0, **more: Any) -> Net:
    """One dense layer on pixels; w is reached only through analog values, so |S| <= high |w|."""
    m = Maker((w.shape[1], 1, 1), low=low, high=high)
    return m.answer(m.dense("d", m.flatten("f", "in"), len(w), w=w, bits=8, bias=bias, **more))


@pytest.mark.parametrize(
    ("w", "high", "bias", "width"),
    [
        ([[127, 1, 0]], 255, None, 16),  # 32640
        ([[127, 1, 1]], 255, None, 32),  # 32895
        ([[1]], 32767, None, 16),
        ([[1]], 32767, [1], 32),
        ([[1]], 32767, [-1], 16),  # 32767 on the way, 32766 in the end
        ([[2]], 16384, [-1], 32),  # 32768 on the way, 32767 in the end
        ([[1]], 32766, [1], 16),
        ([[0]], 255, [32767], 16),
        ([[0]], 255, [32768], 32),
        ([[0]], 255, [-32768], 32),  # -32768 would fit int16, its negation would not
    ],
)
def test_the_border_of_16_bits(w: Any, high: int, bias: Any, width: int) -> None:
    constants = None if bias is None else np.array(bias, np.int32)
    net = readout(np.array(w, np.int8), high=high, bias=constants)
    assert width_of(verify(prove_widths(net))) == width


def test_partial_sums_count() -> None:
    """The end is small, the way there is not: +40000 and a bias of -40000."""
    net = readout(np.array([[100]], np.int8), high=400, bias=np.array([-40000], np.int32))
    assert width_of(prove_widths(net)) == 32
    net = readout(np.array([[100]], np.int8), high=300, bias=np.array([-5000], np.int32))
    assert width_of(prove_widths(net)) == 16


@given(integer_nets())
@settings(max_examples=40)
def test_every_fire_and_decode_gets_the_smallest_width_that_holds(net: Net) -> None:
    after = verify(prove_widths(net))
    bounds = bounds_of(net)
    for op in after.ops:
        if not isinstance(op, Fire | Decode):
            continue
        assert op.width in (16, 32)
        potential = read_potential(op)
        if potential is not None and op.width == 16:
            assert bounds[potential].largest < 2**15
        if isinstance(op, Fire) and op.width == 16:
            assert op.theta is not None
            assert np.abs(net.arrays[op.theta].astype(np.int64)).max() < 2**15
    assert all(type(a) is type(b) and a.name == b.name for a, b in zip(net.ops, after.ops, strict=True))
    assert after.arrays == net.arrays


@given(st.data())
@settings(max_examples=30)
def test_no_order_of_adding_leaves_the_width(data: Any) -> None:
    """All orders of all inputs at their extremes, bias anywhere: every partial sum stays inside."""
    n = data.draw(st.integers(1, 4))
    w = np.array([data.draw(st.lists(st.integers(-127, 127), min_size=n, max_size=n))], np.int8)
    bias = data.draw(st.integers(-40000, 40000))
    net = readout(w, high=90, bias=np.array([bias], np.int32))
    limit = 2 ** (width_of(prove_widths(net)) - 1)
    for chosen in itertools.product((0, 90), repeat=n):
        terms = [bias, *(int(v) * x for v, x in zip(w[0], chosen, strict=True))]
        for order in itertools.permutations(terms):
            assert all(abs(s) < limit for s in itertools.accumulate(order))


def test_thresholds_count() -> None:
    m = Maker((1, 1, 1), high=10)
    v = m.dense("d", m.flatten("f", "in"), 1, w=np.array([[1]], np.int8), bits=2)
    m.fire("a", v)
    m.b.ops[-1] = Fire(name="a", type=m.b.types["a"], v=Ref("d"), theta=m.b.array("t", np.array([[40000]], np.int32)))
    net = m.answer(m.dense("e", "a", 1, w=np.array([[1]], np.int8), bits=2))
    after = prove_widths(net)
    assert width_of(after, "a") == 32
    assert width_of(after) == 16


def test_more_than_32_bits_are_refused_with_numbers_all_at_once() -> None:
    m = Maker((1, 1, 1), high=10)
    f = m.flatten("f", "in")
    for name in "de":
        w, b = np.array([[1]], np.int8), np.array([2**31 - 1], np.int32)
        m.b.add(
            Dense(name=name, type=OPEN, x=Ref(f), w=m.b.array(f"{name}.w", w), bits=2, bias=m.b.array(f"{name}.b", b))
        )
    m.fire("a", "d")
    m.b.ops[-1] = Fire(name="a", type=m.b.types["a"], v=Ref("d"), theta=m.b.array("t", np.array([[1]], np.int32)))
    m.dense("g", "a", 1, w=np.array([[1]], np.int8), bits=2)
    net = m.answer(m.plus("s", ["e", "g"]))
    with pytest.raises(TtfsError) as e:
        prove_widths(net)
    assert [f.code for f in e.value.faults] == [codes.WIDTH, codes.WIDTH]
    assert str(e.value.faults[0]) == (
        "<net>: error[TTFS009]: 'fire' %a: |S| reaches 2147483657, |W| 0, |V| 2147483657: needs 33 bits of at most 32; "
        "use fewer bits, fewer ticks or a smaller fan-in"
    )
    assert "'decode' %out" in str(e.value.faults[1])


def test_real_nets_are_refused() -> None:
    m = Maker()
    with pytest.raises(TtfsError) as e:
        prove_widths(m.answer(m.conv("c", "in", 2)))
    assert str(e.value) == "<net>: error[TTFS006]: net @t: holds real weights: run quantize first"
