"""Weights on the k-bit grid: the integers, the steps, their gradients."""

import pytest

pytest.importorskip("torch", reason="ttfsc.nn needs torch: pip install 'ttfsc[torch]'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ttfsc.nn as tnn
from tests.nn.common import backward, numbers, seed
from ttfsc.nn.quant import first_step, on_grid, round_through


@settings(max_examples=30)
@given(bits=st.integers(2, 8), number=st.integers(0, 99), per_tensor=st.booleans(), conv=st.booleans())
def test_layer_computes_with_step_times_integer(bits: int, number: int, per_tensor: bool, conv: bool) -> None:
    seed(number)
    if conv:
        layer = tnn.Conv2d(3, 4, 3, bits=bits, per_tensor=per_tensor)
    else:
        layer = tnn.Linear(5, 4, bits=bits, per_tensor=per_tensor)
    integers, step = layer.weight_int(), layer.weight_step()
    assert integers.dtype == torch.int8
    assert integers.abs().max() <= 2 ** (bits - 1) - 1
    assert step.shape == (4,)
    assert step.dtype == torch.float32
    assert bool((step > 0).all())
    assert len(set(numbers(step))) == (1 if per_tensor else 4)
    x = torch.rand(2, 3, 5, 5) if conv else torch.rand(2, 5)
    weight = integers * step.reshape(-1, *[1] * (integers.dim() - 1))
    torch.testing.assert_close(layer(x), layer.apply_weight(x, weight, layer.bias))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_first_step_is_the_best_of_its_neighbours(bits: int) -> None:
    seed(bits)
    weight = torch.randn(6, 40)
    step = first_step(weight, bits, per_tensor=False)

    def error(factor: float) -> torch.Tensor:
        return (on_grid(weight, step * factor, bits) - weight).square().sum(1)

    assert bool((error(1) <= error(0.85)).all())
    assert bool((error(1) <= error(1.2)).all())
    assert first_step(weight, bits, per_tensor=True).shape == (1,)
    assert bool((first_step(torch.zeros(2, 3), bits, per_tensor=False) > 0).all())


def test_gradients_pass_straight_through_inside_the_range() -> None:
    """LSQ: to the step goes round(w/s) - w/s inside, the bound outside, times 1 / sqrt(count * qmax)."""
    weight = torch.tensor([[0.24, -0.9, 3.0, -5.0]], requires_grad=True)
    step = torch.tensor([0.5], requires_grad=True)
    out = on_grid(weight, step, 3)  # integers -3..3
    assert numbers(out) == [[0.0, -1.0, 1.5, -1.5]]
    backward((out * torch.tensor([[1.0, 2.0, 4.0, 8.0]])).sum())
    assert numbers(weight.grad) == [[1.0, 2.0, 0.0, 0.0]]
    want = (0 - 0.48) * 1 + (-2 + 1.8) * 2 + 3 * 4 - 3 * 8
    assert numbers(step.grad)[0] == pytest.approx(want / (4 * 3) ** 0.5, rel=1e-5)


def test_rounding_passes_the_gradient() -> None:
    x = torch.tensor([0.2, 1.7, -2.5], requires_grad=True)
    out = round_through(x)
    backward((out * torch.tensor([1.0, 2.0, 3.0])).sum())
    assert numbers(out) == [0, 2, -2]
    assert numbers(x.grad) == [1, 2, 3]


def test_float_weights_have_no_step() -> None:
    layer = tnn.Linear(3, 2)
    x = torch.rand(4, 3)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    for ask in (layer.weight_step, layer.weight_int):
        with pytest.raises(ValueError, match="float weights"):
            ask()


def test_families_do_not_mix() -> None:
    x = torch.rand(1, 3)
    with pytest.raises(ValueError, match="kernel 'ramp' takes Spikes, but got a Tensor"):
        tnn.Linear(3, 2, kernel="ramp")(x)
    with pytest.raises(ValueError, match="kernel 'hold' takes a Tensor, but got Spikes"):
        tnn.Linear(3, 2)(tnn.Spikes(x, x))


def test_refuses_what_no_layer_is() -> None:
    for bits in (1, 9):
        with pytest.raises(ValueError, match=f"bits is {bits}"):
            tnn.Linear(3, 2, bits=bits)
    with pytest.raises(ValueError, match="kernel is 'step'"):
        tnn.Linear(3, 2, kernel="step")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="2 groups do not divide 3 input"):
        tnn.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ValueError, match="hold nothing"):
        tnn.Linear(0, 2)


def test_grouped_and_dilated_convolutions_are_torchs() -> None:
    layer = tnn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2, dilation=(1, 2))
    x = torch.rand(2, 4, 9, 9)
    want = nn.functional.conv2d(x, layer.weight, layer.bias, (2, 1), (1, 0), (1, 2), 2)
    torch.testing.assert_close(layer(x), want)
