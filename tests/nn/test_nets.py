"""Read-outs, initialisation from data, folding of batch norm."""

import copy
from collections import OrderedDict
from typing import Any

import pytest

pytest.importorskip("torch", reason="ttfsc.nn needs torch: pip install 'ttfsc[torch]'")

import torch
from torch import nn

import ttfsc.nn as tnn
from tests.nn.common import backward, numbers, seed, values


def test_first_spike_scores_and_loss() -> None:
    """Eq. 8: cross-entropy of minus the spike times."""
    spikes = tnn.Spikes(torch.tensor([[0.75, 0.0, 1.0]], requires_grad=True), torch.tensor([[1.0, 0.0, 1.0]]))
    assert numbers(tnn.FirstSpike()(spikes)) == [[-0.25, -1.0, 0.0]]
    times = torch.tensor([0.25, 1.0, 0.0])
    loss = tnn.first_spike_loss(spikes, torch.tensor([0]), temperature=0.1)
    want = -torch.log(torch.exp(-times[0] / 0.1) / torch.exp(-times / 0.1).sum())
    torch.testing.assert_close(loss, want)
    backward(loss)
    assert [g < 0 for g in numbers(spikes.value.grad)[0]] == [True, False, False]  # only the target shall come earlier
    with pytest.raises(ValueError, match="temperature is 0"):
        tnn.first_spike_loss(spikes, torch.tensor([0]), temperature=0)


def test_membrane_scores() -> None:
    s, w = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 4.0]])
    assert numbers(tnn.Membrane()(s)) == [[1.0, -2.0]]
    assert numbers(tnn.Membrane()(tnn.Potential(s, w))) == [[1.5, 2.0]]


def test_membrane_scores_need_one_step() -> None:
    net = nn.Sequential(tnn.Input((3,)), tnn.Linear(3, 2, bits=4), tnn.Membrane()).eval()
    with pytest.raises(ValueError, match="per_tensor=True"):
        net(torch.zeros(1, 3))


def small(kernel: tnn.Kernel) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            input=tnn.Input((1, 12, 12)),
            conv1=tnn.Conv2d(1, 8, 3, bits=8),
            fire1=tnn.Fire(spikes=kernel == "ramp"),
            conv2=tnn.Conv2d(8, 8, 3, bits=8, kernel=kernel),
            fire2=tnn.Fire(),
            flatten=tnn.Flatten(),
            dense3=tnn.Linear(512, 4, bits=8, kernel=kernel, per_tensor=True),
            scores=tnn.Membrane(),
        )
    )


@pytest.mark.parametrize("kernel", ["hold", "ramp"])
def test_calibration_wakes_every_channel(kernel: tnn.Kernel) -> None:
    seed(3)
    net, pixels = small(kernel), torch.randint(0, 256, (64, 1, 12, 12))
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, tnn.Synapse):
                m.weight.mul_(20).sub_(1)  # nothing sensible: most neurons are lost
    rates: dict[nn.Module, torch.Tensor] = {}

    def note(module: nn.Module, _args: Any, out: torch.Tensor | tnn.Spikes) -> None:
        rates[module] = (values(out) > 0).float().transpose(0, 1).flatten(1).mean(1)

    for m in net.modules():
        if isinstance(m, tnn.Fire):
            m.register_forward_hook(note)
    net(pixels)
    assert rates[net.get_submodule("fire2")].min() < 0.01
    tnn.calibrate(net, pixels, fraction=0.4, spread=0.5)
    assert net.training
    scores = net(pixels)
    assert len(rates) == 2
    for rate in rates.values():
        assert bool(((rate - 0.4).abs() < 0.05).all())
    assert 0.4 < scores.std() < 0.6
    backward(scores.square().sum())
    conv = net.get_submodule("conv1")
    assert isinstance(conv, tnn.Synapse)
    assert conv.weight.grad is not None
    assert bool((conv.weight.grad.abs().amax((1, 2, 3)) > 0).all())


@pytest.mark.parametrize("affine", [True, False])
def test_folding_batch_norm_keeps_function_integers_and_names(affine: bool) -> None:
    seed(4)
    net = nn.Sequential(
        OrderedDict[str, nn.Module](
            conv=tnn.Conv2d(1, 6, 3, bits=4, bias=affine),
            norm=nn.BatchNorm2d(6, affine=affine),
            fire=tnn.Fire(10),
            flatten=tnn.Flatten(),
            dense=tnn.Linear(6 * 36, 5, bits=4),
            norm1=nn.BatchNorm1d(5),
        )
    )
    norm = net.get_submodule("norm")
    if affine:
        with torch.no_grad():
            norm.get_parameter("weight").copy_(torch.tensor([1.0, -2.0, 0.5, 3.0, -0.1, 1.0]))
            norm.get_parameter("bias").normal_()
    x = torch.rand(32, 1, 8, 8)
    for _ in range(30):
        net(x)
    before = copy.deepcopy(net.state_dict())
    folded = tnn.fold_batchnorm(net.eval())
    assert [name for name, _ in folded.named_children()] == ["conv", "fire", "flatten", "dense"]
    torch.testing.assert_close(folded[0](x), norm(net[0](x)))
    torch.testing.assert_close(folded(x), net(x))
    for now, then in ((folded[0], net[0]), (folded[3], net[4])):
        assert isinstance(now, tnn.Synapse)
        assert isinstance(then, tnn.Synapse)
        assert torch.equal(now.weight_int().abs(), then.weight_int().abs())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_folding_says_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"layer 1: .* there is none"):
        tnn.fold_batchnorm(nn.Sequential(tnn.Fire(), nn.BatchNorm2d(3)))
    with pytest.raises(ValueError, match="layer 1: one step per tensor"):
        tnn.fold_batchnorm(nn.Sequential(tnn.Linear(3, 2, bits=4, per_tensor=True), nn.BatchNorm1d(2)))
    with pytest.raises(ValueError, match=r"layer 1: .* running statistics"):
        tnn.fold_batchnorm(nn.Sequential(tnn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False)))


def test_layers_print_what_they_are() -> None:
    assert str(tnn.Fire(8, spikes=True)) == "Fire(ticks=8, learn_theta=False, channels=None, spikes=True)"
    assert "bits=4, kernel=ramp, per_tensor=False" in str(tnn.Conv2d(1, 2, 3, bits=4, kernel="ramp"))


def test_ranges_are_annealed_to_their_own_value() -> None:
    net = nn.Sequential(tnn.Fire(8), tnn.Fire(8, theta=0.3), tnn.Fire(8, theta=2.0, learn_theta=True))
    ranges = tnn.RangeAnnealing(net, start=3.0, until=0.5)
    seen: list[list[float]] = []
    for done in (0.0, 0.25, 0.5, 1.0):
        ranges.set(done)
        seen.append([float(numbers(m.threshold())[0]) for m in net if isinstance(m, tnn.Fire)])
    assert seen[0] == pytest.approx([3, 0.9, 2])
    assert seen[1] == pytest.approx([2, 0.6, 2])
    own = torch.tensor(0.3).item()
    assert seen[2] == seen[3] == [1, own, 2]
    for start, until in ((0.5, 0.5), (2.0, 0.0), (2.0, 1.5)):
        with pytest.raises(ValueError, match="ranges start at 1 or more"):
            tnn.RangeAnnealing(net, start, until)
