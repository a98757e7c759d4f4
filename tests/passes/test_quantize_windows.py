"""quantize: windows, bits and ticks, other inputs, one clear message per wrong wish."""

from typing import Any

import numpy as np
import pytest

from tests.passes.nets import Maker
from tests.passes.quantised import checked, faults, residual, table
from ttfsc.ir import (
    OPEN,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Input,
    Ref,
    Spikes,
    run,
)
from ttfsc.passes import calibrate, quantize


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
    more: dict[str, Any] = {"keep": 30000, "rounding": "nearest"} if kernel == "leak" else {}
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
