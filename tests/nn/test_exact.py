"""Whole nets in evaluation mode against the simulation: every spike, every score; pools, strides, padding."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="ttfsc.nn needs torch: pip install 'ttfsc[torch]'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import ttfsc.nn as tnn
from tests.nn.common import numbers, seed, values
from tests.nn.simulate import Ints, fire, hold_membrane, patches, ramp_membrane
from ttfsc.nn.spikes import Lattice

SCALE = Fraction(1, 256)


@torch.no_grad()
def randomise(synapse: tnn.Synapse, rng: np.random.Generator) -> None:
    """Weights from the whole 4-bit range, steps and biases that are binary fractions."""
    assert synapse.step is not None
    assert synapse.bias is not None
    synapse.step.copy_(torch.tensor(rng.integers(2, 10, len(synapse.step)) / 32))
    steps = synapse.weight_step().reshape(-1, *[1] * (synapse.weight.dim() - 1))
    synapse.weight.copy_(torch.tensor(rng.integers(-7, 8, synapse.weight.shape)) * steps)
    synapse.bias.copy_(torch.tensor(rng.integers(-8, 9, len(synapse.bias)) / 16))


def layer(synapse: tnn.Synapse, x: Ints, in_unit: Fraction, ticks: int, theta: float, *, ramp: bool) -> Ints:
    """Spike values of one layer: x [C, H, W] for a convolution, flat [F] for a dense layer."""
    weight: Ints = synapse.weight_int().numpy(force=True).astype(np.int64)
    seen = {(): x}
    shape: tuple[int, ...] = ()
    if isinstance(synapse, tnn.Conv2d):
        seen = patches(x, synapse.kernel_size[0], synapse.stride[0], synapse.padding[0])
        shape = tuple(n + 1 for n in max(seen))
    out = np.zeros((len(weight), *shape), np.int64)
    steps, biases = numbers(synapse.weight_step()), numbers(synapse.bias)
    for c, kernel in enumerate(weight):
        unit = Fraction(steps[c]) * in_unit
        for at, patch in seen.items():
            wires = kernel.ravel().tolist(), patch.ravel().tolist()
            now = [ramp_membrane(*wires, ticks, n) if ramp else hold_membrane(*wires) for n in range(ticks)]
            out[c, *at] = fire(now, unit, Fraction(biases[c]), Fraction(theta))
    return out


def pool(x: Ints, *, average: bool) -> Ints:
    """2 x 2 pool of x [C, H, W]: the earliest spike, or the sum (the divisor 4 is the next unit's)."""
    seen = patches(x, 2, 2, 0)
    rows, columns = max(seen)
    out = np.zeros((len(x), rows + 1, columns + 1), np.int64)
    for at, patch in seen.items():
        out[:, *at] = patch.sum((1, 2)) if average else patch.max((1, 2))
    return out


def ints(out: Any) -> Ints:
    value = values(out)
    assert isinstance(value, Lattice)
    return value.ints[0].numpy(force=True).astype(np.int64)


@settings(max_examples=25)
@given(
    draw=st.integers(0, 2**32 - 1),
    ticks=st.sampled_from([1, 2, 4, 8]),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    ramp=st.booleans(),
    average=st.booleans(),
)
def test_net_is_its_simulation(draw: int, ticks: int, stride: int, padding: int, ramp: bool, average: bool) -> None:
    """conv (direct coded) - pool - conv - dense - read-out; behind an average pool every spike counts by itself."""
    rng = np.random.default_rng(draw)
    kernel = "ramp" if ramp else "hold"
    theta = float(rng.integers(4, 12)) / 8
    net = nn.Sequential(
        tnn.Input((1, 9, 9), 0, 255, float(SCALE)),
        tnn.Conv2d(1, 2, 3, stride=stride, padding=padding, bits=4),
        tnn.Fire(ticks, theta=theta, spikes=ramp),
        tnn.AvgPool2d(2) if average else tnn.MaxPool2d(2),
        tnn.Conv2d(2, 3, 2, padding=padding, bits=4, kernel=kernel),
        tnn.Fire(ticks, theta=theta),
        tnn.Flatten(),
        tnn.Linear(_flat(stride, padding), 4, bits=4, kernel=kernel, per_tensor=True),
        tnn.Membrane(),
    ).eval()
    first, second, last = (m for m in net if isinstance(m, tnn.Synapse))
    for synapse in (first, second, last):
        randomise(synapse, rng)
    pixels = rng.integers(0, 256, (1, 9, 9))
    states: list[Any] = []
    h: Any = torch.tensor(pixels[None])
    for module in net:
        h = module(h)
        states.append(h)

    x1 = layer(first, pixels, SCALE, ticks, theta, ramp=False)
    assert np.array_equal(ints(states[2]), x1)
    pooled = pool(x1, average=average)
    assert np.array_equal(ints(states[3]), pooled)
    if average:
        x2 = layer_behind_average(second, x1, ticks, theta, ramp=ramp)
    else:
        x2 = layer(second, pooled, Fraction(1, ticks), ticks, theta, ramp=ramp)
    assert np.array_equal(ints(states[5]), x2)
    assert numbers(h)[0] == scores(last, x2.ravel(), ticks, ramp=ramp)


def _flat(stride: int, padding: int) -> int:
    side = ((9 + 2 * padding - 3) // stride + 1) // 2 + 2 * padding - 1
    return 3 * side * side


def layer_behind_average(synapse: tnn.Synapse, x: Ints, ticks: int, theta: float, *, ramp: bool) -> Ints:
    """Every spike of a 2 x 2 pool reaches the neuron by itself with a quarter of the pool's weight.

    A last odd row or column, which no pool window covers, is left out.
    """
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    assert isinstance(synapse, tnn.Conv2d)
    spread = tnn.Conv2d(synapse.in_channels, synapse.out_channels, 4, stride=2, padding=2 * synapse.padding[0], bits=4)
    assert spread.step is not None
    assert synapse.bias is not None
    assert spread.bias is not None
    with torch.no_grad():
        spread.step.copy_(synapse.weight_step())
        spread.weight.copy_(synapse.weight.repeat_interleave(2, 2).repeat_interleave(2, 3))
        spread.bias.copy_(synapse.bias)
    return layer(spread, x, Fraction(1, 4 * ticks), ticks, theta, ramp=ramp)


def scores(synapse: tnn.Synapse, x: Ints, ticks: int, *, ramp: bool) -> list[float]:
    """Membranes at the end of the last window, with biases rounded to whole units; exact as binary fractions."""
    unit = Fraction(numbers(synapse.weight_step())[0]) / ticks
    out: list[float] = []
    for weights, bias in zip(numbers(synapse.weight_int()), numbers(synapse.bias), strict=True):
        membrane = ramp_membrane(weights, x.tolist(), ticks, ticks) if ramp else hold_membrane(weights, x.tolist())
        out.append(float((membrane + round(Fraction(bias) / unit)) * unit))
    return out


def test_average_pool_is_the_spread_kernel() -> None:
    """conv k behind pool K with stride s: kernel k + (K - 1) s', weights spread and divided, in both families."""
    pool, conv = tnn.AvgPool2d(3, stride=2), tnn.Conv2d(2, 4, 3, bias=False, kernel="ramp")
    spread = torch.zeros(4, 2, 7, 7)
    for i in range(3):
        for j in range(3):
            for di in range(3):
                for dj in range(3):
                    spread[:, :, 2 * i + di, 2 * j + dj] += conv.weight.detach()[:, :, i, j] / 9
    x = torch.rand(2, 2, 15, 15) * (torch.rand(2, 2, 15, 15) > 0.5)
    fired = (x > 0).float()
    s, w = conv(pool(tnn.Spikes(x, fired)))
    torch.testing.assert_close(s, nn.functional.conv2d(x, spread, stride=2))
    torch.testing.assert_close(w, nn.functional.conv2d(fired, spread, stride=2))


def test_max_pool_keeps_the_earliest_spike() -> None:
    x = torch.tensor([[[[0.0, 0.3, 0.0, 0.0], [0.7, 0.1, 0.0, 0.0]]]])
    out = tnn.MaxPool2d(2)(tnn.Spikes(x, (x > 0).float()))
    assert numbers(out.value) == [[[[pytest.approx(0.7), 0.0]]]]
    assert numbers(out.fired) == [[[[1.0, 0.0]]]]


@pytest.mark.parametrize("make", [tnn.Flatten, lambda: tnn.AvgPool2d(2), lambda: tnn.MaxPool2d(2)])
def test_layers_without_neurons_carry_the_integers(make: Any) -> None:
    pixels = torch.randint(0, 256, (2, 1, 4, 4))
    exact = make()(tnn.Input((1, 4, 4)).eval()(pixels))
    assert isinstance(exact, Lattice)
    torch.testing.assert_close(exact + 0, make()(tnn.Input((1, 4, 4))(pixels)))


def test_an_average_with_several_divisors_goes_on_in_floating_point() -> None:
    x = tnn.Input((1, 5, 5)).eval()(torch.randint(0, 256, (1, 1, 5, 5)))
    for pool in (tnn.AvgPool2d(2, ceil_mode=True), tnn.AvgPool2d(3, padding=1, count_include_pad=False)):
        out = pool(x)
        assert not isinstance(out, Lattice)
        want = nn.functional.avg_pool2d(
            x + 0, pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, pool.count_include_pad
        )
        torch.testing.assert_close(out, want)


def test_other_torch_layers_see_the_real_tensor() -> None:
    """Batch norm between synapse and Fire: float from there on, the same function up to rounding."""
    seed(0)
    norm = nn.BatchNorm2d(3)
    net = nn.Sequential(tnn.Input((1, 6, 6)), tnn.Conv2d(1, 3, 3, bits=4), norm, tnn.Fire(8))
    pixels = torch.randint(0, 256, (16, 1, 6, 6))
    for _ in range(50):
        net(pixels)
    out = net.eval()(pixels)
    assert isinstance(out, Tensor)
    assert not isinstance(out, Lattice)
    assert out.dtype == torch.float32
    assert not bool(((out * 8) != (out * 8).round()).any())
    assert 0 < (out > 0).float().mean() < 1


def test_training_and_evaluation_agree_within_a_tick() -> None:
    """float32 sums may fall on the other side of a threshold, never further."""
    seed(1)
    pixels = torch.randint(0, 256, (8, 1, 12, 12))
    net = nn.Sequential(
        tnn.Input((1, 12, 12)), tnn.Conv2d(1, 4, 5, bits=4), tnn.Fire(10), tnn.Conv2d(4, 4, 3, bits=4), tnn.Fire(10)
    )
    tnn.calibrate(net, pixels)
    trained, exact = net.train()(pixels), net.eval()(pixels)
    off = (trained - exact).abs() * 10
    assert off.max() <= 1.001
    assert (off > 0.5).float().mean() < 0.01
    assert (exact > 0).float().mean() > 0.2


def test_input_refuses_what_is_no_image() -> None:
    layer = tnn.Input((1, 2, 2), 0, 255)
    with pytest.raises(ValueError, match=r"input is \[1, 2, 2\], but the net takes \[N, 1, 2, 2\]"):
        layer(torch.zeros(1, 2, 2))
    layer.eval()
    for pixel in (256, -1, 0.5):
        with pytest.raises(ValueError, match=r"integers of 0\.\.255"):
            layer(torch.full((1, 1, 2, 2), pixel))
    with pytest.raises(ValueError, match="low lies below high"):
        tnn.Input((1,), 5, 5)


@pytest.mark.parametrize("kernel", ["hold", "ramp"])
def test_exact_membranes_are_the_real_ones(kernel: tnn.Kernel) -> None:
    """What a user sees of an exact potential is S, with the bias, and W, without."""
    seed(5)
    net = nn.Sequential(
        tnn.Input((1, 6, 6)),
        tnn.Conv2d(1, 3, 3, bits=4),
        tnn.Fire(8, spikes=kernel == "ramp"),
        tnn.AvgPool2d(2),
        tnn.Conv2d(3, 2, 2, bits=4, kernel=kernel),
    )
    last = net[4]
    assert isinstance(last, tnn.Conv2d)
    assert last.bias is not None
    with torch.no_grad():
        last.bias.copy_(torch.tensor([0.5, -0.25]))
    x = net[:4].eval()(torch.randint(0, 256, (4, 1, 6, 6)))
    exact = last(x)
    plain = last(tnn.Spikes(x.value + 0, x.fired + 0) if isinstance(x, tnn.Spikes) else x + 0)
    pairs = [(exact.s, plain.s), (exact.w, plain.w)] if kernel == "ramp" else [(exact, plain)]
    for made, want in pairs:
        assert isinstance(made, Lattice)
        assert not isinstance(want, Lattice)
        torch.testing.assert_close(made + 0, want)


def test_synapses_in_a_row_have_no_common_unit() -> None:
    """A potential is no sum of spikes: the second synapse goes on in floating point."""
    seed(6)
    net = nn.Sequential(tnn.Input((1, 6, 6)), tnn.Conv2d(1, 3, 3, bits=4), tnn.Conv2d(3, 2, 2, bits=4))
    pixels = torch.randint(0, 256, (2, 1, 6, 6))
    want = net.train()(pixels)
    got = net.eval()(pixels)
    assert not isinstance(got, Lattice)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("fan_in", [500, 530, 40_000])
def test_large_sums_are_exact(fan_in: int) -> None:
    """Around 2^24, where float32 stops counting by ones: 127 * 255 * 518 is the last sum below it."""
    layer = tnn.Linear(fan_in, 2, bits=8, bias=False)
    assert layer.step is not None
    seed(fan_in)
    with torch.no_grad():
        layer.step.fill_(1)
        layer.weight.copy_(torch.randint(100, 128, layer.weight.shape))
    pixels = torch.randint(200, 256, (3, fan_in))
    out = layer(tnn.Input((fan_in,), scale=1.0).eval()(pixels))
    assert isinstance(out, Lattice)
    assert torch.equal(out.ints.long(), pixels @ layer.weight_int().long().T)
