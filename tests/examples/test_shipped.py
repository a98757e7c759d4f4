"""The weights the examples ship: they know the shipped digits, and dense layers are their tick-by-tick simulation."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the examples' networks are torch modules: pip install 'ttfsc[torch]'")
pytest.importorskip("safetensors", reason="the example's weights need safetensors: pip install 'ttfsc[torch]'")

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

import ttfsc
import ttfsc.nn as tnn
from examples.cifar10 import network as cifar10
from examples.mnist import network
from examples.training.data import Images
from examples.training.trainer import evaluate
from tests.nn.common import numbers, values
from tests.nn.simulate import fire, hold_membrane, ramp_membrane
from ttfsc.ir import Conv2d, Dense
from ttfsc.nn.spikes import Lattice

FOLDER = Path(__file__).parents[2] / "examples" / "mnist"


def shipped(family: str) -> tuple[torch.nn.Sequential, torch.Tensor, torch.Tensor]:
    net: torch.nn.Sequential = getattr(network, family)().eval()
    net.load_state_dict(load_file(FOLDER / f"{family}.safetensors"))
    with np.load(FOLDER / "digits.npz", allow_pickle=False) as digits:
        x, y = digits["x"], digits["y"]
    assert (x.dtype, x.shape, y.dtype, y.shape) == (np.uint8, (300, 1, 28, 28), np.uint8, (300,))
    return net, torch.tensor(x), torch.tensor(y)


@pytest.mark.parametrize(("family", "rate"), [("exact_relu", 0.20), ("dta", 0.35)])
def test_shipped_weights_know_the_shipped_digits(family: str, rate: float) -> None:
    net, x, y = shipped(family)
    accuracy, spikes = evaluate(net, Images(x, y.long()))
    assert accuracy >= 99
    assert 0.05 < spikes <= rate
    fired: list[int] = []
    for m in net.modules():
        if isinstance(m, tnn.Fire):
            m.register_forward_hook(lambda _m, _a, out: fired.append(values(out)[0].numel()))
    net(x[:1])
    assert sum(fired) == network.NEURONS == 14_816


@pytest.mark.parametrize("family", ["exact_relu", "dta"])
def test_shipped_dense_layers_are_their_simulation(family: str) -> None:
    """With the trained steps, no binary fractions: 128 neurons and 10 scores on a few digits."""
    net, x, _ = shipped(family)
    h: Any = x[:3]
    states: dict[str, Any] = {}
    for name, module in net.named_children():
        h = module(h)
        states[name] = h
    dense, last = net.get_submodule("dense3"), net.get_submodule("dense4")
    assert isinstance(dense, tnn.Linear)
    assert isinstance(last, tnn.Linear)
    ramp = family == "dta"
    for digit in range(3):
        summed = lattice_of(states["flatten"]).ints[digit].long()
        hidden = lattice_of(states["fire3"]).ints[digit].long()
        assert summed.shape == (800,)
        fired = states["flatten"].fired.ints[digit].long() if ramp else summed
        steps, biases = numbers(dense.weight_step()), numbers(dense.bias)
        for neuron, weights in enumerate(numbers(dense.weight_int())):
            s, w = hold_membrane(weights, numbers(summed)), hold_membrane(weights, numbers(fired))
            membranes = [s + n * w if ramp else s for n in range(10)]
            unit = Fraction(steps[neuron]) / 40
            assert fire(membranes, unit, Fraction(biases[neuron]), Fraction(1)) == int(hidden[neuron])
        unit = numbers(last.weight_step())[0] / 10
        for label, weights in enumerate(numbers(last.weight_int())):
            values_in = numbers(hidden)
            end = ramp_membrane(weights, values_in, 10, 10) if ramp else hold_membrane(weights, values_in)
            score = (end + round(numbers(last.bias)[label] / unit)) * unit
            assert h[digit, label].item() == pytest.approx(score, rel=1e-12)


SHIPPED = sorted(p for p in FOLDER.parent.glob("*/*.json") if "compiled" in p.read_text("utf-8"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_figures_belong_to_the_weights_beside_them(path: Path) -> None:
    """The sha256 is that of the file, and the builder that the figures name takes the weights."""
    figures = json.loads(path.read_text("utf-8"))
    weights = path.with_name(figures["weights"])
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == figures["sha256"]
    net = ttfsc.load(f"{path.parent / 'network.py'}:{figures['builder']}", weights=weights)
    assert {op.bits for op in net.ops if isinstance(op, (Conv2d, Dense))} == {figures["bits"]}
    assert figures["compiled"] == figures["quantised"]


def test_every_weight_file_has_its_figures() -> None:
    weights = {p.with_suffix(".json") for p in FOLDER.parent.glob("*/*.safetensors")}
    assert weights == set(SHIPPED)


def lattice_of(out: Any) -> Lattice:
    value = values(out)
    assert isinstance(value, Lattice)
    return value


def test_shipped_cifar10_weights_are_the_compiled_network() -> None:
    folder = FOLDER.parent / "cifar10"
    net = ttfsc.load(f"{folder / 'network.py'}:vgg8", weights=folder / "vgg8.safetensors")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    model = cifar10.vgg8().eval()
    model.load_state_dict(load_file(folder / "vgg8.safetensors"))
    compiled = ttfsc.compile(net, targets=["c"])
    assert np.array_equal(ttfsc.ir.run(compiled.net, x).scores.argmax(1), model(torch.tensor(x)).argmax(1).numpy())
    figures = json.loads((folder / "vgg8.json").read_text("utf-8"))
    assert figures["quantised"] == figures["compiled"] >= 88
