"""Whole networks: random small CNNs against torch's own forward, and ttfsc.nn nets down to integers."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the torch frontend needs torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

import ttfsc.nn as tnn  # noqa: E402
from tests.frontends.torch_helpers import SCALE, assert_same, pixels, shaken, traced  # noqa: E402
from ttfsc.frontends.torch_trace import trace_module  # noqa: E402
from ttfsc.frontends.value import Declared  # noqa: E402
from ttfsc.ir import Array, Conv2d, Fire, Net, run  # noqa: E402
from ttfsc.passes import fold_avgpool, fold_batchnorm, prove_widths, quantize  # noqa: E402


class Block(nn.Module):
    """conv, maybe batch norm, maybe a skip, an activation before or behind a pool: drawn at random."""

    def __init__(self, draw: st.DrawFn, cin: int) -> None:
        super().__init__()
        groups = draw(st.sampled_from([1, 1, cin]))
        self.cout = cin * draw(st.integers(1, 2))
        kernel, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        self.skip = draw(st.booleans()) and self.cout == cin and kernel % 2 == 1
        stride = 1 if self.skip else draw(st.integers(1, 2))
        pad = dilation * (kernel - 1) // 2 if self.skip else draw(st.integers(0, 1))
        self.conv = nn.Conv2d(cin, self.cout, kernel, stride, pad, dilation, groups, bias=draw(st.booleans()))
        self.norm = draw(st.sampled_from([nn.Identity(), nn.BatchNorm2d(self.cout)]))
        self.act = draw(st.sampled_from([nn.ReLU(), nn.ReLU6(), nn.ReLU(inplace=True), nn.Hardtanh(0, 0.75)]))
        self.pool = draw(
            st.sampled_from(
                [nn.Identity(), nn.MaxPool2d(2, 1), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 2), nn.AvgPool2d(3, 1, 1),
                 nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.Sequential(nn.MaxPool2d(2, 1), nn.AvgPool2d(2, 1)),
                 nn.Sequential(nn.AvgPool2d(2, 1), nn.MaxPool2d(2, 1)), nn.BatchNorm2d(self.cout)]
            )
        )  # fmt: skip
        self.pool_first = draw(st.booleans()) and isinstance(self.pool, (nn.MaxPool2d, nn.Identity))
        self.skip = self.skip and not self.pool_first

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        if self.skip:
            y += x
        return self.act(self.pool(y)) if self.pool_first else self.pool(self.act(y))


class Small(nn.Module):
    def __init__(self, draw: st.DrawFn) -> None:
        super().__init__()
        blocks, channels = list[nn.Module](), 2
        for _ in range(draw(st.integers(1, 3))):
            block = Block(draw, channels)
            blocks.append(block)
            channels = block.cout
        self.blocks = nn.Sequential(*blocks)
        self.end = draw(st.sampled_from([nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Dropout()]))
        try:
            features = self.end(self.blocks.eval()(torch.zeros(1, 2, 14, 14))).flatten(1).shape[1]
        except RuntimeError:  # a window larger than what is left of the image
            reject()
        self.hidden = draw(st.sampled_from([None, 6]))
        self.first = nn.Linear(features, self.hidden) if self.hidden else nn.Identity()
        self.head = nn.Linear(self.hidden or features, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.end(self.blocks(x))
        x = x.view(x.size(0), -1)
        if self.hidden:
            x = F.relu(self.first(x))
        return self.head(x)


@st.composite
def smalls(draw: st.DrawFn) -> Small:
    return Small(draw)


@settings(max_examples=60)
@given(model=smalls(), seed=st.integers(0, 2**16))
def test_random_networks_compute_what_torch_computes(model: Small, seed: int) -> None:
    shape = (2, 14, 14)
    shaken(model, seed)
    net = traced(model, shape)
    x = pixels(shape, seed=seed)
    with torch.no_grad():
        want = model(torch.tensor(x, dtype=torch.float32) * SCALE).numpy()
    np.testing.assert_allclose(run(net, x).scores, want, atol=1e-4, rtol=1e-4)


class BasicBlock(nn.Module):
    """ResNet's, with the in-place activation and the strided projection."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
        BasicBlock(8, 8, 1), BasicBlock(8, 16, 2), BasicBlock(16, 16, 1),
        nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(1), nn.Linear(16, 5),
    )  # fmt: skip


def test_a_resnet() -> None:
    net = assert_same(resnet(), (2, 16, 16))
    assert len([op for op in net.ops if op.mnemonic == "add"]) == 3


def test_the_mnist_example_of_pytorch() -> None:
    class Example(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, 1), nn.Conv2d(8, 16, 3, 1)
            self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
            self.fc1, self.fc2 = nn.Linear(400, 32), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv1(x))
            x = F.relu(F.max_pool2d(self.conv2(x), 2))
            x = torch.flatten(self.dropout1(x), 1)
            x = self.dropout2(F.relu(self.fc1(x)))
            return F.log_softmax(self.fc2(x), dim=1)

    model = shaken(Example())
    x = pixels((1, 14, 14), low=0, high=255)
    net = trace_module(model, "m", Declared((1, 14, 14), (0, 255), 1 / 255))
    with torch.no_grad():
        want = model(torch.tensor(x, dtype=torch.float32) / 255).numpy()
    np.testing.assert_allclose(torch.log_softmax(torch.tensor(run(net, x).scores), 1), want, atol=1e-4)


# -- ttfsc.nn ----------------------------------------------------------------------------------------------------------

SHAPE = (1, 12, 12)


def spiking(
    kernel: str, *, bits: int | None, ticks: int | None, pool: str = "avg", read: str = "membrane"
) -> nn.Module:
    """A small ttfsc.nn net of either family, with weights at which its neurons live."""
    torch.manual_seed(3)
    hold: Any = {"bits": bits}
    deep: Any = {"bits": bits, "kernel": kernel}
    ramp = kernel == "ramp"
    pools = {"avg": tnn.AvgPool2d, "max": tnn.MaxPool2d}
    layers: list[nn.Module] = [
        tnn.Input(SHAPE, 0, 255, 1 / 255),
        tnn.Conv2d(1, 6, 3, padding=1, **hold), tnn.Fire(ticks, theta=0.8, learn_theta=True, channels=6, spikes=ramp),
        pools[pool](2),
        tnn.Conv2d(6, 8, 3, stride=2, groups=2, **deep), tnn.Fire(ticks), tnn.Flatten(),
        tnn.Linear(32, 12, **deep), tnn.Fire(ticks),
        tnn.Linear(12, 4, per_tensor=read == "membrane", **deep),
    ]  # fmt: skip
    layers += [tnn.Membrane()] if read == "membrane" else [tnn.Fire(ticks), tnn.FirstSpike()]
    model = nn.Sequential(*layers)
    tnn.calibrate(model, torch.from_numpy(images(seed=6)))  # others: on these, neurons stand exactly at the edge
    return model.eval()


def images(n: int = 24, seed: int = 5) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (n, *SHAPE)).astype(np.uint8)


def imported(model: nn.Module) -> Net:
    return trace_module(model, "m", Declared())


@pytest.mark.parametrize("read", ["membrane", "first_spike"])
@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("kernel", ["hold", "ramp"])
def test_spiking_nets_in_free_time_are_equal(kernel: str, pool: str, read: str) -> None:
    model = spiking(kernel, bits=None, ticks=None, pool=pool, read=read)
    with torch.no_grad():
        want = model(torch.from_numpy(images())).numpy()
    got = run(imported(model), images())
    assert len(np.unique(want.argmax(1))) > 1
    np.testing.assert_allclose(got.scores - (read == "first_spike"), want, atol=1e-4)


@pytest.mark.parametrize("kernel", ["hold", "ramp"])
def test_what_was_trained_travels_as_data(kernel: str) -> None:
    model = spiking(kernel, bits=3, ticks=7)
    net = imported(model)
    conv, fire = net.by_name["4"], net.by_name["2"]
    assert isinstance(conv, Conv2d) and isinstance(fire, Fire) and conv.step and fire.theta
    layer: Any = cast("Any", model)[4]
    assert (conv.bits, conv.kernel, conv.groups, conv.stride) == (3, kernel, 2, (2, 2))
    step = net.arrays[conv.step]
    np.testing.assert_array_equal(step, layer.weight_step().numpy())
    integers = np.rint(net.arrays[conv.w] / step[:, None, None, None])
    np.testing.assert_array_equal(integers, layer.weight_int().numpy())
    assert fire.ticks == 7
    np.testing.assert_array_equal(net.arrays[fire.theta], np.full(6, 0.8, np.float32))
    assert (net.input.type.shape, net.input.scale) == (SHAPE, 1 / 255)


def quantised(net: Net) -> Net:
    """The way down to integers, with the bits and ticks that were trained."""
    return prove_widths(quantize(fold_avgpool(fold_batchnorm(net))))


@pytest.mark.parametrize("read", ["membrane", "first_spike"])
@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("kernel", ["hold", "ramp"])
def test_the_compiled_integers_answer_as_the_quantised_torch_net(kernel: str, pool: str, read: str) -> None:
    model = spiking(kernel, bits=4, ticks=8, pool=pool, read=read)
    with torch.no_grad():
        want = model(torch.from_numpy(images(100)))
    got = run(quantised(imported(model)), images(100))
    if read == "membrane":
        np.testing.assert_array_equal(got.labels, want.argmax(1))
    else:
        np.testing.assert_array_equal((got.scores.astype(int) - 8) / 8, want.numpy())  # spike times, tick for tick
    assert len(np.unique(got.labels)) > 1


EXAMPLES = Path(__file__).parents[2] / "examples" / "mnist"


@pytest.mark.parametrize("name", ["exact_relu", "dta"])
def test_the_shipped_networks_answer_as_torch_does(name: str) -> None:
    from ttfsc.frontends.torch_load import load_torch
    from ttfsc.frontends.torch_source import build, load_weights, parse_spec

    spec, weights = f"{EXAMPLES / 'network.py'}:{name}", EXAMPLES / f"{name}.safetensors"
    if not weights.is_file() or not (EXAMPLES / "digits.npz").is_file():
        pytest.skip("examples/mnist holds no trained weights or digits")
    net = load_torch(spec, weights=weights)
    with np.load(EXAMPLES / "digits.npz") as file:
        x = file["x"][:200]
    model = build(parse_spec(spec), 0)
    load_weights(model, weights)
    with torch.no_grad():
        want = model(torch.from_numpy(x)).argmax(1).numpy()
    np.testing.assert_array_equal(run(quantised(net), x).labels, want)
