"""Fire against a simulation tick by tick, and its gradients against differences and the paper's formulas."""

from fractions import Fraction

import pytest

pytest.importorskip("torch", reason="ttfsc.nn needs torch: pip install 'ttfsc[torch]'")

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ttfsc.nn as tnn
from tests.nn.common import backward, numbers, values
from tests.nn.simulate import fire, hold_membrane, ramp_membrane
from ttfsc.nn.spikes import Lattice, lattice

Neuron = tuple[int, list[int], list[int], Fraction, Fraction, Fraction]
EIGHTHS = st.integers(-24, 24).map(lambda n: n / 8)
DYADIC_TICKS = st.sampled_from([1, 2, 4, 8, 16])


@st.composite
def neurons(draw: st.DrawFn) -> Neuron:
    """Window length, weight integers, input values, step, bias and theta of one neuron; all binary fractions.

    Sums and quotients of these are exact in floating point, ties included, and ties come often.
    """
    ticks = draw(DYADIC_TICKS)
    fan_in = draw(st.integers(1, 6))
    weights = draw(st.lists(st.integers(-7, 7), min_size=fan_in, max_size=fan_in))
    inputs = draw(st.lists(st.integers(0, ticks), min_size=fan_in, max_size=fan_in))
    step = Fraction(draw(st.integers(1, 16)), 16)
    bias = Fraction(draw(st.integers(-16, 16)), 8)
    theta = Fraction(draw(st.integers(1, 24)), 8)
    return ticks, weights, inputs, step, bias, theta


def layer(weights: list[int], step: Fraction, bias: Fraction, *, ramp: bool) -> tnn.Linear:
    linear = tnn.Linear(len(weights), 1, bits=4, kernel="ramp" if ramp else "hold")
    assert linear.step is not None
    assert linear.bias is not None
    with torch.no_grad():
        linear.step.fill_(float(step))
        linear.weight.copy_(torch.tensor([weights]) * float(step))
        linear.bias.fill_(float(bias))
    assert numbers(linear.weight_int()) == [weights]
    return linear


@given(neurons())
def test_ramp_neuron_fires_at_the_simulated_tick(case: Neuron) -> None:
    ticks, weights, inputs, step, bias, theta = case
    want = fire([ramp_membrane(weights, inputs, ticks, n) for n in range(ticks)], step / ticks, bias, theta)
    linear, neuron = layer(weights, step, bias, ramp=True), tnn.Fire(ticks, theta=float(theta))
    x = torch.tensor([inputs], dtype=torch.float64)
    unit = torch.tensor([1 / ticks], dtype=torch.float64)
    exact = neuron(linear(tnn.Spikes(lattice(x, unit), lattice((x > 0).double(), torch.ones_like(unit)))))
    assert isinstance(exact, tnn.Spikes)
    assert isinstance(exact.value, Lattice)
    assert exact.value.ints.item() == want
    assert exact.fired.item() == float(want > 0)
    trained = neuron(linear(tnn.Spikes((x / ticks).float(), (x > 0).float())))
    assert values(trained).item() * ticks == want


@given(neurons())
def test_hold_neuron_fires_at_the_simulated_tick(case: Neuron) -> None:
    ticks, weights, inputs, step, bias, theta = case
    want = fire([hold_membrane(weights, inputs)] * ticks, step / ticks, bias, theta)
    linear, neuron = layer(weights, step, bias, ramp=False), tnn.Fire(ticks, theta=float(theta))
    x = torch.tensor([inputs], dtype=torch.float64)
    exact = neuron(linear(lattice(x, torch.tensor([1 / ticks], dtype=torch.float64))))
    assert isinstance(exact, Lattice)
    assert exact.ints.item() == want
    assert values(neuron(linear((x / ticks).float()))).item() * ticks == want


@given(s=EIGHTHS, w=EIGHTHS, theta=st.integers(1, 16).map(lambda n: n / 8), ticks=DYADIC_TICKS)
def test_closed_form_is_the_first_tick_for_any_slope(s: float, w: float, theta: float, ticks: int) -> None:
    """V(n) = S + W n/T straight from the definition, slopes with theta + W <= 0 among them."""
    fires = (n for n in range(ticks) if s + w * n / ticks >= theta * (ticks - n) / ticks)  # exact: binary fractions
    tick = next(fires, ticks)
    out = tnn.Fire(ticks, theta=theta)(tnn.Potential(torch.tensor([[s]]), torch.tensor([[w]])))
    assert values(out).item() * ticks == ticks - tick
    if w == 0:
        held = tnn.Fire(ticks, theta=theta)(torch.tensor([[s]]))
        assert torch.equal(values(held), values(out))


def test_threshold_outrun_by_the_membrane() -> None:
    """theta + W <= 0: the root of the line is no spike; only a membrane above theta at once fires."""
    s, w = torch.tensor([[0.99, 1.0, 3.0, -2.0, 0.5]]), torch.tensor([[-1.0, -1.0, -4.0, -4.0, -9.0]])
    assert numbers(values(tnn.Fire()(tnn.Potential(s, w)))) == [[0, 1, 1, 0, 0]]


def run(s: Tensor, w: Tensor, theta: Tensor, ticks: int | None) -> Tensor:
    neuron = tnn.Fire(ticks, learn_theta=True, channels=3)
    del neuron.theta
    neuron.theta = theta
    return values(neuron(tnn.Potential(s, w)))


@pytest.mark.parametrize("ticks", [None, 10])
def test_gradients_equal_differences_inside_the_open_window(ticks: int | None) -> None:
    """With ticks the rounding passes the gradient on unchanged."""
    points = ([[0.3, -0.2, 0.6]], [[0.2, 1.5, -0.5]], [1.0, 1.2, 0.9])
    at = [torch.tensor(v, dtype=torch.float64) for v in points]
    x = run(at[0], at[1], at[2], None)
    assert bool(((x > 0) & (x < 1)).all())
    leaves = [t.clone().requires_grad_() for t in at]
    backward(run(leaves[0], leaves[1], leaves[2], ticks).sum())
    for i, leaf in enumerate(leaves):
        for j in range(3):
            ends: list[float] = []
            for shift in (1e-6, -1e-6):
                moved = [t.clone() for t in at]
                moved[i].view(-1)[j] += shift
                ends.append(run(moved[0], moved[1], moved[2], None).sum().item())
            assert leaf.grad is not None
            assert leaf.grad.view(-1)[j].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize(
    ("s", "w"),
    [(1.0, 0.3), (2.0, 0.3), (-0.5, 0.5), (-3.0, 0.5), (0.5, -1.0), (4.0, -3.0), (-1.0, -3.0)],
    ids=["saturates-now", "saturated", "silent-at-the-end", "silent", "parallel", "outrun-fired", "outrun-silent"],
)
def test_no_gradient_outside_the_open_window(s: float, w: float) -> None:
    neuron = tnn.Fire(learn_theta=True)
    leaves = [torch.tensor([[v]], requires_grad=True) for v in (s, w)]
    backward(values(neuron(tnn.Potential(leaves[0], leaves[1]))).sum())
    assert [numbers(leaf.grad) for leaf in (*leaves, neuron.theta)] == [[[0.0]], [[0.0]], [0.0]]


def test_gradients_through_a_layer_are_the_papers() -> None:
    """DTA-TTFS, Eq. 9 and 10: dx/dw_i = (x_i + 1 - x) / D for inputs that fired, dx/dx_i = w_i / D."""
    linear = tnn.Linear(4, 1, bias=False, kernel="ramp")
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.5, -0.25, 0.75, 0.3]]))
    x = torch.tensor([[0.5, 0.25, 0.0, 0.75]], requires_grad=True)
    fired = (x.detach() > 0).float()
    out = values(tnn.Fire()(linear(tnn.Spikes(x, fired))))
    backward(out.sum())
    d = 1 + (linear.weight.detach() * fired).sum()
    assert 0 < out.item() < 1
    torch.testing.assert_close(linear.weight.grad, (x.detach() + 1 - out.detach()) * fired / d)
    torch.testing.assert_close(x.grad, linear.weight.detach() / d)


def test_theta_is_learned_per_channel_and_stays_positive() -> None:
    neuron = tnn.Fire(8, theta=0.5, learn_theta=True, channels=3)
    backward(values(neuron(torch.rand(2, 3, 4, 4))).sum())
    assert neuron.theta.grad is not None
    assert neuron.theta.grad.shape == (3,)
    with torch.no_grad():
        neuron.theta.fill_(-1)
    assert bool((neuron.threshold() > 0).all())
    assert dict(tnn.Fire().named_parameters()) == {}


def test_family_of_the_result() -> None:
    v = torch.tensor([[0.25, 2.0]])
    assert isinstance(tnn.Fire(4)(v), Tensor)
    first = tnn.Fire(4, spikes=True)(v)
    assert isinstance(first, tnn.Spikes)
    assert numbers(first.value) == [[0.25, 1.0]]
    assert numbers(first.fired) == [[1, 1]]
    assert isinstance(tnn.Fire(4)(tnn.Potential(v, v)), tnn.Spikes)


def test_windows_of_a_ramp_layer_have_one_length() -> None:
    linear = tnn.Linear(2, 1, bits=4, kernel="ramp")
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    unit = torch.tensor([1 / 4], dtype=torch.float64)
    membrane = linear(tnn.Spikes(lattice(x, unit), lattice(torch.ones_like(x), torch.ones_like(unit))))
    with pytest.raises(ValueError, match="windows have one length"):
        tnn.Fire(8)(membrane)


@pytest.mark.parametrize(
    ("ticks", "theta", "says"),
    [(0, 1.0, "at least one tick"), (4, 0.0, "at least 0.0001"), (4, float("nan"), "theta is nan")],
)
def test_refuses(ticks: int, theta: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        tnn.Fire(ticks, theta=theta)
