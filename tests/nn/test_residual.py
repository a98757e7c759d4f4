"""Residual blocks: torch, interpreter and generated C see the same spikes; folding, costs, and what cannot be added."""

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("torch", reason="ttfsc.nn needs torch: pip install 'ttfsc[torch]'")

import torch
from torch import nn

import ttfsc
import ttfsc.nn as tnn
from tests.nn.common import backward, seed, values
from ttfsc.ir import TtfsError
from ttfsc.nn import regularize

SIDE = 6


def block(channels: int, width: int, ticks: int, stride: int, kernel: tnn.Kernel, norm: bool) -> nn.Sequential:
    """A residual block and its neurons; the shortcut is a scaled identity where the shape stays."""
    conv = {"bits": 4, "kernel": kernel}
    between: list[nn.Module] = [nn.BatchNorm2d(width)] if norm else []
    main = nn.Sequential(
        tnn.Conv2d(channels, width, 3, stride=stride, padding=1, **conv),  # pyright: ignore[reportArgumentType]
        *between,
        tnn.Fire(ticks),
        tnn.Conv2d(width, width, 3, padding=1, **conv),  # pyright: ignore[reportArgumentType]
    )
    groups = channels if (channels, stride) == (width, 1) else 1
    shortcut = tnn.Conv2d(channels, width, 1, stride=stride, groups=groups, bias=False, **conv)  # pyright: ignore[reportArgumentType]
    return nn.Sequential(tnn.Residual(main, shortcut), *([nn.BatchNorm2d(width)] if norm else []), tnn.Fire(ticks))


def net(ticks: int = 8, kernel: tnn.Kernel = "hold", norm: bool = False) -> nn.Sequential:
    """Two blocks behind a first convolution, an average pool and a read-out."""
    first: list[nn.Module] = [tnn.Conv2d(1, 4, 3, padding=1, bits=4), tnn.Fire(ticks, spikes=kernel == "ramp")]
    layers = [
        tnn.Input((1, SIDE, SIDE)), *first, *block(4, 4, ticks, 1, kernel, norm), *block(4, 6, ticks, 2, kernel, norm),
        tnn.AvgPool2d(3), tnn.Flatten(), tnn.Linear(6, 3, bits=4, kernel=kernel, per_tensor=True), tnn.Membrane(),
    ]  # fmt: skip
    return nn.Sequential(*layers)


def pixels(count: int, number: int = 0) -> torch.Tensor:
    made = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, (count, 1, SIDE, SIDE), generator=made)


@pytest.mark.parametrize("kernel", ["hold", "ramp"])
@pytest.mark.parametrize(("number", "ticks"), [(0, 4), (1, 8), (2, 11)])
def test_torch_interpreter_and_c_agree(kernel: tnn.Kernel, number: int, ticks: int) -> None:
    seed(number)
    model = net(ticks, kernel)
    x = pixels(24, number)
    tnn.calibrate(model, x, 0.5)
    want = model.eval()(x)
    fired = values(model[:5](x)), values(model[:7](x))
    assert all(0 < float((f > 0).float().mean()) < 1 for f in fired)
    out = ttfsc.compile(ttfsc.load(model), targets=["c"], x=x.numpy())
    assert out.report is None or out.report.verification.exact
    got = ttfsc.ir.run(out.net, x.numpy())
    spiking = [op.name for op in out.net.ops if isinstance(op, ttfsc.ir.Fire)]
    for name, value in ((spiking[2], fired[0]), (spiking[4], fired[1])):
        assert np.array_equal(got.spikes[name], (value * ticks).round().int().numpy())
    assert np.array_equal(got.scores.argmax(1), want.argmax(1).numpy())


def test_batch_norm_folds_into_both_branches() -> None:
    seed(3)
    model = net(norm=True)
    for _ in range(20):
        model(pixels(16))
    free = nn.Sequential(*(m for m in model.eval()))
    folded = tnn.fold_batchnorm(free)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    before, after = model[3], folded[3]
    assert isinstance(before, tnn.Residual)
    assert isinstance(after, tnn.Residual)
    assert after.last.step is not before.last.step
    assert torch.equal(after.shortcut.weight_step(), after.last.weight_step())
    norm = model[4]
    assert isinstance(norm, nn.BatchNorm2d)
    x = torch.rand(5, 4, SIDE, SIDE)
    for m in (before, after):
        m.train()
    before.main[1].eval()  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.allclose(norm(before(x)), after(x), atol=1e-5)


def test_one_step_learns_from_both_branches() -> None:
    seed(1)
    model = net()
    sharing = model[3]
    assert isinstance(sharing, tnn.Residual)
    assert [name for name, _ in sharing.named_parameters() if "step" in name] == ["main.0.step", "main.2.step"]
    cost, lost = regularize.SpikeCost(model), regularize.LostChannels(model)
    backward(model(pixels(4)).square().sum() + cost.take().packets_per_frame + lost.take())
    step = sharing.last.step
    assert step is not None
    for silenced in (sharing.last, sharing.shortcut):  # zeros are on any grid: the step hears from the other branch
        step.grad, kept = None, silenced.weight.detach().clone()
        with torch.no_grad():
            silenced.weight.zero_()
        backward(model(pixels(4)).square().sum())
        with torch.no_grad():
            silenced.weight.copy_(kept)
        grad: torch.Tensor | None = step.grad
        assert grad is not None
        assert grad.abs().sum() > 0


def test_fan_out_counts_both_branches() -> None:
    reached = regularize.fan_out(net())
    assert list(reached) == ["2", "3.main.1", "4", "5.main.1", "6"]
    centre = [int(reached[name][0, 2, 2]) for name in ("2", "3.main.1", "4")]
    assert centre == [4 * 9 + 1, 4 * 9, 6 + 6]  # an even pixel stands in one strided window of each kind
    assert int(reached["6"][0, 0, 0]) == 3


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tnn.Residual(nn.Sequential(tnn.Fire(4)), tnn.Conv2d(2, 2, 1, bias=False)), "does not end in a synap"),
        (lambda: tnn.Residual(nn.Sequential(), tnn.Conv2d(2, 2, 1, bias=False)), "does not end in a synapse"),
        (lambda: tnn.Residual(nn.Sequential(tnn.Conv2d(2, 2, 3)), tnn.Conv2d(2, 2, 1)), "has a bias"),
        (
            lambda: tnn.Residual(nn.Sequential(tnn.Conv2d(2, 2, 3, bits=4)), tnn.Conv2d(2, 2, 1, bias=False, bits=3)),
            "bits, per_tensor, kernel and outputs are",
        ),
        (lambda: _twice(), "shares a step already"),
        (lambda: tnn.Add()(torch.zeros(1, 2), torch.zeros(1, 3)), "only equal shapes add"),
        (
            lambda: tnn.Add()(tnn.Potential(torch.zeros(1, 2), torch.zeros(1, 2)), torch.zeros(1, 2)),  # pyright: ignore
            "give both one kernel",
        ),
        (lambda: _units(), "the branches count in different units"),
    ],
)
def test_what_does_not_add(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def _twice() -> None:
    shortcut = tnn.Conv2d(2, 2, 1, bias=False, bits=4)
    for _ in range(2):
        tnn.Residual(nn.Sequential(tnn.Conv2d(2, 2, 3, padding=1, bits=4)), shortcut)


def _units() -> None:
    made = tnn.Input((2, 4, 4)).eval()(torch.zeros(1, 2, 4, 4))
    convs = [tnn.Conv2d(2, 2, 1, bits=4) for _ in range(2)]
    tnn.Add()(convs[0](made), convs[1](made))


class Unweighted(nn.Module):
    """Adds spikes to a membrane."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.conv, self.fire = tnn.Input((1, 4, 4)), tnn.Conv2d(1, 1, 3, padding=1, bits=4), tnn.Fire(4)
        self.second, self.add, self.last = tnn.Conv2d(1, 1, 3, padding=1, bits=4), tnn.Add(), tnn.Membrane()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.fire(self.conv(self.input(x)))
        return self.last(self.add(self.second(spikes), spikes))


def test_spikes_are_no_branch() -> None:
    with pytest.raises(TtfsError, match=r"ttfsc\.nn\.Add reads spikes; end each branch in a synapse"):
        ttfsc.load(Unweighted())
