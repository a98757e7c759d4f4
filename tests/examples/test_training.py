"""The trainer: runs that were interrupted end like whole ones, all recipes train, and a run ends with compiled C."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch", reason="the examples train with torch: pip install 'ttfsc[torch]'")
pytest.importorskip("safetensors", reason="the examples' weights need safetensors: pip install 'ttfsc[torch]'")

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

import examples.cifar10.train as cifar10
import examples.mnist.train as mnist
import ttfsc.nn as tnn
from examples.training import files, run, trainer
from examples.training.data import BadDataError, Images, Part
from examples.training.recipe import Recipe
from tests.nn.common import seed

Start = Callable[..., list[str]]


def nothing(*_: object) -> None:
    pass


def images(shape: tuple[int, ...], count: int = 80) -> Images:
    made = torch.Generator().manual_seed(4)
    return Images(
        torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=made),
        torch.randint(0, 10, (count,), generator=made),
    )


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    """Run a recipe on a few made images; the lines it says. `stop` interrupts it after that many epochs."""

    def begin(module: ModuleType, name: str, out: str, *flags: str, stop: int = 0) -> list[str]:
        def load(_folder: Path, _part: Part) -> Images:
            return images((1, 28, 28) if module is mnist else (3, 32, 32))

        task = dataclasses.replace(module.TASK, load=load, held=16)
        argv = ["train.py", name, "--data", str(tmp_path), "--out", str(tmp_path / out), "--batch", "32", *flags]
        monkeypatch.setattr(sys, "argv", argv)
        recipe, args = run.arguments(module.RECIPES, task, "")
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if len(said) == stop:
                raise KeyboardInterrupt

        if stop:
            with pytest.raises(KeyboardInterrupt):
                run.train(recipe, task, args, say, module.RECIPES)
        else:
            run.train(recipe, task, args, say, module.RECIPES)
        return said

    return begin


def checkpoint(folder: Path, out: str) -> dict[str, torch.Tensor]:
    return load_file((folder / out).with_suffix(".checkpoint.safetensors"))


@pytest.mark.parametrize(
    ("module", "name", "flags"),
    [
        (mnist, "exact-relu", ("--spikes", "1", "--packets", "1")),
        (mnist, "dta", ()),
        (mnist, "teacher", ()),
        (cifar10, "vgg8", ("--held", "0")),
    ],
    ids=["exact-relu", "dta", "teacher", "vgg8"],
)
def test_interrupted_training_ends_like_a_whole_one(
    monkeypatch: pytest.MonkeyPatch,
    start: Start,
    tmp_path: Path,
    module: ModuleType,
    name: str,
    flags: tuple[str, ...],
) -> None:
    lines = start(module, name, "whole.safetensors", "--epochs", "2", *flags)
    monkeypatch.setattr(run, "finish", nothing)  # once is enough
    start(module, name, "half.safetensors", "--epochs", "2", *flags, stop=1)
    whole, half = checkpoint(tmp_path, "whole.safetensors"), checkpoint(tmp_path, "half.safetensors")
    assert int(half["epoch"]) == 1
    assert not torch.equal(half["model.conv1.weight"], whole["model.conv1.weight"])
    start(module, name, "half.safetensors", "--epochs", "2", "--resume", *flags)
    resumed = checkpoint(tmp_path, "half.safetensors")
    assert whole.keys() == resumed.keys()
    assert [k for k in whole if not torch.equal(whole[k], resumed[k])] == []
    kept = load_file(tmp_path / "whole.safetensors"), load_file(tmp_path / "half.safetensors")
    assert all(torch.equal(kept[0][k], kept[1][k]) for k in kept[0])
    if name == "teacher":
        assert not (tmp_path / "whole.json").exists()
        return
    assert "compiled C" in lines[-1]
    assert "agree on every spike" in lines[-1]
    measured = json.loads((tmp_path / "whole.json").read_text())
    assert measured["compiled"] == measured["quantised"]
    assert (measured["validation"] is None) == ("--held" in flags)
    assert set(measured["energy"]) >= {"a", "b-unicast", "b-multicast", "c"}
    assert measured["sops"] > 0


def test_a_student_follows_its_teacher(monkeypatch: pytest.MonkeyPatch, start: Start, tmp_path: Path) -> None:
    start(mnist, "teacher", "teacher.safetensors", "--epochs", "1")
    flags = ("--epochs", "1", "--distil", "0.9")
    monkeypatch.setattr(run, "finish", nothing)
    start(mnist, "exact-relu", "alone.safetensors", "--epochs", "1")
    start(mnist, "exact-relu", "student.safetensors", *flags, "--teacher", str(tmp_path / "teacher.safetensors"))
    alone, student = checkpoint(tmp_path, "alone.safetensors"), checkpoint(tmp_path, "student.safetensors")
    assert not torch.equal(alone["model.conv1.weight"], student["model.conv1.weight"])
    with pytest.raises(BadDataError, match="--teacher FILE"):
        start(mnist, "exact-relu", "x.safetensors", *flags)
    with pytest.raises(BadDataError, match="holds no teacher"):
        start(mnist, "exact-relu", "x.safetensors", *flags, "--teacher", str(tmp_path / "alone.safetensors"))


def test_fine_tuning_starts_from_weights(monkeypatch: pytest.MonkeyPatch, start: Start, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "finish", nothing)
    start(mnist, "exact-relu", "first.safetensors", "--epochs", "1")
    first = str(tmp_path / "first.safetensors")
    start(mnist, "exact-relu", "second.safetensors", "--epochs", "1", "--lr", "0", "--start", first)
    now, before = load_file(tmp_path / "second.safetensors"), load_file(first)
    assert all(torch.equal(now[k], before[k]) for k in before)


def test_checkpoints_of_other_nets_are_refused(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "x.checkpoint.safetensors"
    place.write_bytes(b"\x80\x04junk")
    with pytest.raises(BadDataError, match="cannot be read"):
        start(mnist, "dta", "x.safetensors", "--resume")
    files.write({"epoch": torch.tensor(1)}, place)
    with pytest.raises(BadDataError, match="is no checkpoint of this net"):
        start(mnist, "dta", "x.safetensors", "--resume")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--epochs", "0"), "--epochs: 0 is below 1"),
        (("--bits", "9"), "--bits: 9 is not in 2..8"),
        (("--ticks", "-1"), "--ticks: -1 is below 0"),
        (("--out", "no/such/folder/x.safetensors"), "--out: there is no folder no/such/folder"),
    ],
)
def test_bad_options(start: Start, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], says: str) -> None:
    with pytest.raises(SystemExit):
        start(mnist, "dta", "x.safetensors", *flags)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", [n for n in cifar10.RECIPES if n != "vgg8"])
def test_big_recipes_train_a_few_steps(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The layers and recipe of VGG11 and VGG16 at an eighth of the width; gradients reach every layer."""
    recipe: Recipe = cifar10.RECIPES[name]
    network = cifar10.network
    for widths in ("VGG11", "VGG16"):
        monkeypatch.setattr(network, widths, tuple(w // 8 for w in getattr(network, widths)))
    monkeypatch.setattr(network, "HIDDEN", 32)
    seed(0)
    recipe = dataclasses.replace(recipe, epochs=2, batch=16)
    training = trainer.Training(recipe, images((3, 32, 32), 48), torch.device("cpu"))
    training.run_epoch()
    unreached = [name for name, p in training.model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert unreached == []
    assert training.run_epoch() < 10
    accuracy, rate = trainer.evaluate(trainer.deployed(training.average, recipe), images((3, 32, 32), 8))
    assert 0 <= accuracy <= 100
    assert 0.02 < rate < 0.9


def test_neurons_of_the_paper() -> None:
    """DTA-TTFS counts 284,682 neurons in VGG16, the ten outputs among them."""
    fired: list[int] = []
    with torch.device("meta"):
        model = cifar10.network.vgg16_dta(bits=None)
    for m in model.modules():
        if isinstance(m, tnn.Fire):
            m.register_forward_hook(lambda _m, _a, out: fired.append(out.value[0].numel()))
    x: Any = torch.empty(1, 3, 32, 32, device="meta")
    model.train()(x)
    assert sum(fired) + 10 == 284_682


def test_the_last_epochs_are_calm() -> None:
    used: list[str] = []

    def record(name: str) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
        def pass_on(pixels: torch.Tensor, _rng: torch.Generator) -> torch.Tensor:
            used.append(name)
            return pixels

        return pass_on

    recipe = dataclasses.replace(
        mnist.RECIPES["exact-relu"], augment=(record("first"), record("strong")), calm=0.5, epochs=2, batch=40
    )
    training = trainer.Training(recipe, images((1, 28, 28)), torch.device("cpu"))
    training.run_epoch()
    assert used == ["first", "strong"] * 2
    training.run_epoch()
    assert used[4:] == ["first"] * 2
