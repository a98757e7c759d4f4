"""ttfsc.nn.regularize: counts are the spikes, gradients the stated triangle, penalties reach lost channels."""

from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("torch", reason="ttfsc.nn needs torch: pip install 'ttfsc[torch]'")

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import ttfsc.nn as tnn
from tests.nn.common import backward, numbers, seed, values
from ttfsc.nn import regularize

EIGHTHS = st.integers(-24, 24).map(lambda n: n / 8)
TICKS = st.sampled_from([None, 1, 2, 4, 8, 16])  # with binary fractions everything is exact, ties included


def net(family: str = "exact_relu") -> nn.Sequential:
    """Two convolutions, an average and a max pool, a hidden dense layer."""
    ramp: tnn.Kernel = "ramp" if family == "dta" else "hold"
    return nn.Sequential(
        tnn.Input((1, 8, 8)),
        tnn.Conv2d(1, 3, 3, padding=1),
        tnn.Fire(8, spikes=family == "dta"),
        tnn.AvgPool2d(3, stride=2, padding=1),
        tnn.Conv2d(3, 4, 3, stride=2, kernel=ramp),
        tnn.Fire(8),
        tnn.Flatten(),
        tnn.Linear(4, 5, kernel=ramp),
        tnn.Fire(8),
        tnn.Linear(5, 2, kernel=ramp),
        tnn.Membrane(),
    )


@given(s=EIGHTHS, w=EIGHTHS, theta=st.integers(1, 16).map(lambda n: n / 8), ticks=TICKS)
def test_margin_tells_who_fires(s: float, w: float, theta: float, ticks: int | None) -> None:
    """On ticks straight from the definition, V(n/T) >= theta (1 - n/T) at some n; in free time what Fire says."""
    v = tnn.Potential(torch.tensor([[s]]), torch.tensor([[w]]))
    margin = regularize.margin(v, torch.tensor([theta]), ticks).item()
    if ticks is not None:
        tick_by_tick = max(s + w * n / ticks - theta * (ticks - n) / ticks for n in range(ticks))
        assert margin == tick_by_tick
        assert (margin >= 0) == bool(values(tnn.Fire(ticks, theta=theta)(v)) > 0)
    elif margin != 0:
        assert (margin > 0) == bool(values(tnn.Fire(None, theta=theta)(v)) > 0)


@pytest.mark.parametrize("family", ["exact_relu", "dta"])
@pytest.mark.parametrize("training", [True, False])
def test_counts_are_the_spikes(family: str, training: bool) -> None:
    seed(3)
    model = net(family).train(training)
    pixels = torch.randint(0, 256, (6, 1, 8, 8))
    tnn.calibrate(model, pixels)
    fired: list[Tensor] = []
    for m in model:
        if isinstance(m, tnn.Fire):
            m.register_forward_hook(lambda _m, _a, out: fired.append((values(out) > 0).float()))
    send: dict[str, float | Tensor] = {"2": 2.0, "5": torch.arange(4.0).reshape(4, 1, 1)}
    cost = regularize.SpikeCost(model, send)
    model(pixels)
    got = cost.take()
    neurons = sum(f[0].numel() for f in fired)
    assert got.spikes_per_neuron.item() == pytest.approx(sum(f.sum().item() for f in fired) / 6 / neurons)
    want = (2 * fired[0].sum() + (fired[1] * torch.arange(4.0).reshape(4, 1, 1)).sum()) / 6
    assert got.packets_per_frame.item() == pytest.approx(want.item())


def test_gradient_is_the_triangle() -> None:
    """On 4 ticks with theta 2 a hold neuron's margin is S - 0.5; width 0.5 reaches 1 to both sides."""
    model = nn.Sequential(tnn.Fire(4, theta=2.0))
    cost = regularize.SpikeCost(model, {}, width=0.5)
    s = torch.tensor([[-0.6, -0.5, 0.25, 0.5, 1.0, 1.5, 1.9]], requires_grad=True)
    model(s)
    rate = cost.take().spikes_per_neuron
    assert rate.item() == pytest.approx(4 / 7)
    backward(rate * 7)
    assert numbers(s.grad) == [pytest.approx([0, 0, 0.75, 1, 0.5, 0, 0])]


@pytest.mark.parametrize("family", ["exact_relu", "dta"])
def test_a_step_down_the_gradient_costs_fewer_spikes(family: str) -> None:
    seed(5)
    model, pixels = net(family), torch.randint(0, 256, (32, 1, 8, 8))
    tnn.calibrate(model, pixels, fraction=0.6)
    cost = regularize.SpikeCost(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    seen: list[regularize.Cost] = []
    for _ in range(12):
        model(pixels)
        seen.append(cost.take())
        optimizer.zero_grad()
        backward(seen[-1].spikes_per_neuron + seen[-1].packets_per_frame / 1000)
        optimizer.step()  # pyright: ignore[reportUnknownMemberType]
    assert seen[-1].spikes_per_neuron.item() < 0.8 * seen[0].spikes_per_neuron.item()
    assert seen[-1].packets_per_frame.item() < 0.8 * seen[0].packets_per_frame.item()


def test_fan_out_is_the_additions_of_one_spike() -> None:
    """Against the definition: one neuron's value alone, through layers whose weights are all one."""
    model = net()
    cost = regularize.SpikeCost(model)
    found = regularize.fan_out(model)
    with pytest.raises(ValueError, match="no forward pass"):  # it leaves no trace in what is being counted
        cost.take()
    assert sorted(found) == ["2", "5", "8"]
    assert found["2"].shape == (3, 8, 8)
    layers = list(model)
    for place, (y, x) in {(0, 0): (0, 0), (3, 4): (3, 4), (7, 7): (7, 7)}.items():
        one = torch.zeros(1, 3, 8, 8)
        one[0, 1, y, x] = 1
        pooled = nn.functional.avg_pool2d(one, 3, 2, 1, divisor_override=1)
        summed = nn.functional.conv2d(pooled, torch.ones(4, 3, 3, 3), stride=2)
        assert found["2"][1][place].item() == summed.sum().item()
    assert bool((found["5"] == 5).all())
    assert bool((found["8"] == 2).all())
    assert len(layers) == 11


def test_a_read_out_by_spikes_sends_nothing() -> None:
    model = nn.Sequential(tnn.Input((4,)), tnn.Linear(4, 3), tnn.Fire(4), tnn.FirstSpike())
    assert numbers(regularize.fan_out(model)["2"]) == [0, 0, 0]


def test_closed_counters_count_no_more() -> None:
    model = net()
    cost = regularize.SpikeCost(model)
    cost.close()
    model(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="no forward pass"):
        cost.take()


@pytest.mark.parametrize(
    ("destinations", "width", "model", "says"),
    [
        ({"3": 1.0}, 1.0, net(), "no Fire layer is called 3; it has 2, 5, 8"),
        ({}, 0.0, net(), "width is 0"),
        ({}, 1.0, nn.Sequential(nn.ReLU()), "has no Fire layer"),
        (None, 1.0, nn.Sequential(tnn.Fire(4)), "does not start with an Input"),
    ],
    ids=["name", "width", "no neurons", "no input"],
)
def test_refuses(destinations: Any, width: float, model: nn.Module, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        regularize.SpikeCost(model, destinations, width)


@pytest.mark.parametrize("family", ["exact_relu", "dta"])
def test_lost_channels_are_called_back(family: str) -> None:
    """The penalty is zero for living channels; for a silent one it has the only gradient."""
    seed(1)
    model, pixels = net(family), torch.randint(0, 256, (16, 1, 8, 8))
    tnn.calibrate(model, pixels)
    lost = regularize.LostChannels(model)
    model(pixels)
    assert lost.take().item() == 0
    conv = model[4]
    assert isinstance(conv, tnn.Conv2d)
    assert conv.bias is not None
    with torch.no_grad():
        conv.bias[3] -= 100
    scores = model(pixels)
    backward(scores.square().sum())
    assert numbers(conv.bias.grad)[3] == 0
    model.zero_grad()
    lost.take()
    model[:5](pixels)  # up to the convolution: what it does to the layers behind it is not the matter
    penalty = lost.take()
    assert penalty.item() > 0
    backward(penalty)
    assert [g < 0 for g in numbers(conv.bias.grad)] == [False, False, False, True]
    assert any(isinstance(a, tnn.Synapse) and isinstance(b, tnn.Fire) for a, b in pairwise(model))
    assert regularize.LostChannels(nn.Sequential(nn.ReLU())).take().item() == 0
