"""A small quantised net, inputs for it, and the command line as a function."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ttfsc import cli
from ttfsc.ir import OPEN, Analog, Builder, Conv2d, Decode, Dense, Fire, Flatten, Input, Net, Ref, save


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def ttfsc(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in this process: exit code and what it printed."""

    def run(*args: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ttfsc", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        return Outcome(int(str(stop.value.code)), out, err)

    return run


def real_net(seed: int = 0, *, classes: int = 3) -> Net:
    """A trained-looking real net: conv, fire, dense, read-out; ranges known, so that nothing needs calibration."""
    rng = np.random.default_rng(seed)
    b = Builder("tiny")
    b.add(Input(name="in", type=Analog((1, 6, 6), 0, 15), scale=1 / 15))
    w = b.array("c.w", rng.normal(0, 0.5, (4, 1, 3, 3)).astype(np.float32))
    b.add(Conv2d(name="c.v", type=OPEN, x=Ref("in"), w=w, pad=(1, 1, 1, 1)))
    b.add(Fire(name="c", type=OPEN, v=Ref("c.v"), theta=b.array("c.theta", np.ones(1, np.float32))))
    b.add(Flatten(name="f", type=OPEN, x=Ref("c")))
    d = b.array("d.w", rng.normal(0, 0.3, (classes, 144)).astype(np.float32))
    b.add(Dense(name="d.v", type=OPEN, x=Ref("f"), w=d))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("d.v"),), rule="membrane"))
    return b.net()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """tiny.ttfs with its tiny.npz."""
    path = tmp_path / "tiny.ttfs"
    save(real_net(), path)
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """x and y for the tiny net."""
    rng = np.random.default_rng(1)
    path = tmp_path / "x.npz"
    np.savez(path, x=rng.integers(0, 16, (20, 1, 6, 6), dtype=np.uint8), y=rng.integers(0, 3, 20))
    return path
