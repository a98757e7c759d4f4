"""The MNIST example: its reader of hostile files, training that can be interrupted, the weights and digits it ships."""

import argparse
import gzip
import importlib
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="ttfsc.nn needs torch: pip install 'ttfsc[torch]'")
pytest.importorskip("safetensors", reason="the example's weights need safetensors: pip install 'ttfsc[torch]'")

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

import ttfsc.nn as tnn
from tests.nn.common import backward, numbers, seed, values
from tests.nn.simulate import fire, hold_membrane, ramp_membrane
from ttfsc.nn.spikes import Lattice

FOLDER = Path(__file__).parents[2] / "examples" / "mnist"
NAMES = ("data", "network", "train")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Import a file of the example, which is no package: its files know each other by bare names."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


def idx(*shape: int, body: bytes | None = None) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return header + (bytes(range(int(np.prod(shape)))) if body is None else body)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_is_read_plain_and_compressed(example: Callable[[str], Any], tmp_path: Path, packed: bool) -> None:
    raw = idx(2, 3, 4)
    (tmp_path / ("x.gz" if packed else "x")).write_bytes(gzip.compress(raw, mtime=0) if packed else raw)
    got = example("data").read_idx(tmp_path / "x", (2, 3, 4))
    assert got.dtype == np.uint8
    assert np.array_equal(got, np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x", b"", "starts with , but an IDX file"),
        ("x", b"PK\x03\x04" + bytes(40), "starts with 504b0304"),
        ("x", idx(2, 3, 5), "starts with 00000803000000020000000300000005"),
        ("x", idx(2, 3, 4)[:-1], "holds 39 bytes"),
        ("x", idx(2, 3, 4) + b"\0", "holds more bytes"),
        ("x.gz", b"not gzip at all", "cannot be read"),
        ("x.gz", gzip.compress(idx(2, 3, 4), mtime=0)[:-12], "cannot be read"),
        ("x.gz", gzip.compress(idx(2, 3, 4, body=bytes(10_000_000)), mtime=0), "holds more bytes"),
        ("y", b"", "no such file"),
    ],
)
def test_hostile_files_are_refused(
    example: Callable[[str], Any], tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    data = example("data")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(data.BadDataError, match=says):
        data.read_idx(tmp_path / "x", (2, 3, 4))


def test_labels_are_digits(example: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = example("data")
    monkeypatch.setitem(data.FILES, "test", ("images", "labels", 2))
    (tmp_path / "images").write_bytes(idx(2, 28, 28, body=bytes(2 * 28 * 28)))
    (tmp_path / "labels").write_bytes(idx(2, body=bytes([9, 3])))
    x, y = data.load(tmp_path, "test")
    assert x.shape == (2, 1, 28, 28)
    assert numbers(y) == [9, 3]
    (tmp_path / "labels").write_bytes(idx(2, body=bytes([9, 10])))
    with pytest.raises(data.BadDataError, match="label 10"):
        data.load(tmp_path, "test")


def test_augmentation_moves_digits_a_little(example: Callable[[str], Any]) -> None:
    with np.load(FOLDER / "digits.npz", allow_pickle=False) as digits:
        x = torch.tensor(digits["x"][:64])
    out = example("data").augment(x, torch.Generator().manual_seed(0))
    assert out.shape == x.shape
    assert bool((out == out.round()).all())
    assert 0 <= out.min() <= out.max() <= 255
    ratio = out.sum() / x.sum()
    assert 0.85 < ratio < 1.15
    assert (out - x).abs().mean() > 5
    assert torch.equal(out, example("data").augment(x, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("family", ["exact_relu", "dta"])
def test_interrupted_training_ends_like_a_whole_one(
    example: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    train = example("train")
    seed(0)
    x, y = torch.randint(0, 256, (96, 1, 28, 28), dtype=torch.uint8), torch.randint(0, 10, (96,))

    def load(_folder: Path, _part: str) -> tuple[torch.Tensor, torch.Tensor]:
        return x, y

    monkeypatch.setattr(train, "load", load)
    monkeypatch.setattr(train, "VALIDATION", 32)
    lines: list[str] = []

    def run(out: str, epochs: int, *flags: str) -> dict[str, torch.Tensor]:
        argv = ["--data", str(tmp_path), "--family", family, "--out", str(tmp_path / out), "--batch", "32", *flags]
        monkeypatch.setattr(sys, "argv", ["train.py", *argv, "--epochs", "2"])
        args: argparse.Namespace = train.arguments()
        if epochs == 1:
            stop_after_one(args)
        else:
            train.train(args, lines.append)
        return load_file((tmp_path / out).with_suffix(".checkpoint.safetensors"))

    def stop_after_one(args: argparse.Namespace) -> None:
        def say(_line: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train.train(args, say)

    whole = run("whole.safetensors", 2)
    half = run("half.safetensors", 1)
    assert int(half["epoch"]) == 1
    resumed = run("half.safetensors", 2, "--resume")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    assert not torch.equal(half["model.conv1.weight"], whole["model.conv1.weight"])
    assert lines[-1].startswith("half.safetensors: validation ")
    assert "spikes per neuron" in lines[-1]
    (tmp_path / "half.checkpoint.safetensors").write_bytes(b"\x80\x04junk")
    with pytest.raises(train.BadDataError, match="cannot be read"):
        run("half.safetensors", 2, "--resume")


def test_lost_channels_are_called_back(example: Callable[[str], Any]) -> None:
    """The penalty is zero for living channels; for a silent one it has the only gradient."""
    train = example("train")
    for family in ("exact_relu", "dta"):
        seed(1)
        net, pixels = getattr(example("network"), family)(), torch.randint(0, 256, (16, 1, 28, 28))
        tnn.calibrate(net, pixels)
        lost = train.Lost(net)
        net(pixels)
        assert lost.take().item() == 0
        conv = net.get_submodule("conv2")
        assert isinstance(conv, tnn.Conv2d)
        assert conv.bias is not None
        with torch.no_grad():
            conv.bias[3] -= 100
        scores = net(pixels)
        backward(scores.square().sum())
        assert numbers(conv.bias.grad)[3] == 0
        net.zero_grad()
        lost.take()
        net[:5](pixels)  # up to the convolution: what it does to the layers behind it is not the matter
        penalty = lost.take()
        assert penalty.item() > 0
        backward(penalty)
        assert [g < 0 for g in numbers(conv.bias.grad)] == [c == 3 for c in range(32)]


def shipped(example: Callable[[str], Any], family: str) -> tuple[torch.nn.Sequential, torch.Tensor, torch.Tensor]:
    net: torch.nn.Sequential = getattr(example("network"), family)().eval()
    net.load_state_dict(load_file(FOLDER / f"{family}.safetensors"))
    with np.load(FOLDER / "digits.npz", allow_pickle=False) as digits:
        x, y = digits["x"], digits["y"]
    assert (x.dtype, x.shape, y.dtype, y.shape) == (np.uint8, (300, 1, 28, 28), np.uint8, (300,))
    return net, torch.tensor(x), torch.tensor(y)


@pytest.mark.parametrize(("family", "rate"), [("exact_relu", 0.20), ("dta", 0.35)])
def test_shipped_weights_know_the_shipped_digits(example: Callable[[str], Any], family: str, rate: float) -> None:
    net, x, y = shipped(example, family)
    train = example("train")
    accuracy, spikes = train.evaluate(net, x, y.long())
    assert accuracy >= 99
    assert 0.05 < spikes <= rate
    fired: list[int] = []
    for m in net.modules():
        if isinstance(m, tnn.Fire):
            m.register_forward_hook(lambda _m, _a, out: fired.append(values(out)[0].numel()))
    net(x[:1])
    assert sum(fired) == example("network").NEURONS == 14_816


@pytest.mark.parametrize("family", ["exact_relu", "dta"])
def test_shipped_dense_layers_are_their_simulation(example: Callable[[str], Any], family: str) -> None:
    """With the trained steps, no binary fractions: 128 neurons and 10 scores on a few digits."""
    net, x, _ = shipped(example, family)
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


def lattice_of(out: Any) -> Lattice:
    value = values(out)
    assert isinstance(value, Lattice)
    return value
