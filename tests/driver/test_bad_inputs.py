"""What users get wrong: one clear message each, all of one input at once, exit code 1, nothing written."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.driver.conftest import Cli, Outcome, real_net
from ttfsc.ir import OPEN, Analog, Builder, Decode, Dense, Fire, Flatten, Input, Ref, save

TEN_MISTAKES = """\
net @ten {
  %in  = input scale=0.5 : analog<1x4x4, 0..3>
  %a   = convv2d %in w=@w : potential<2x4x4, 0..>
  %b   = conv2d %in w=@w strid=1 : potential<2x2x2, 0..>
  %c   = conv2d %in w=@missing : potential<2x2x2, 0..>
  %d   = conv2d %in w=@w : potential<2x3x3, 0..>
  %e   = fire %nowhere theta=@t : spikes<2x2x2, 0..1>
  %f   = conv2d %in w=@w kernel=fast : potential<2x2x2, 0..>
  %g   = flatten %in %in : analog<16, 0..3>
  %c   = flatten %in : analog<16, 0..3>
  %h   = flatten %in : analog<16 0..3>
  %i   = conv2d %in w=@w pad=1x1 : potential<2x2x2, 0..>
  %j   = flatten %d : potential<18, 0..>
  %out = decode %j rule=membrane : scores<18, 0..1>
}
"""


def refused(done: Outcome, *parts: str) -> None:
    assert done.code == 1, (done.out, done.err)
    for part in parts:
        assert part in done.err
    assert "Traceback" not in done.err


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """As a user would, objects included."""
    np.savez(path, allow_pickle=True, **dict(arrays))  # pyright: ignore[reportArgumentType]


def test_ten_mistakes_at_once(ttfsc: Cli, tmp_path: Path) -> None:
    path = tmp_path / "ten.ttfs"
    path.write_text(TEN_MISTAKES)
    np.savez(path.with_suffix(".npz"), w=np.zeros((2, 1, 3, 3), np.float32), t=np.ones(1, np.float32))
    done = ttfsc("compile", path, "-o", tmp_path / "out")
    refused(done)
    lines = [line.split(":")[1] for line in done.err.splitlines() if "error[" in line]
    assert lines == ["3", "4", "5", "6", "7", "8", "9", "10", "11", "12"], done.err
    assert not (tmp_path / "out").exists()


def test_missing_files(ttfsc: Cli, inputs: Path, model: Path, tmp_path: Path) -> None:
    refused(ttfsc("compile", tmp_path / "none.ttfs", "-o", tmp_path / "out"), "none.ttfs", "no such file")
    refused(ttfsc("compile", model, "-o", tmp_path / "out", "--inputs", tmp_path / "no.npz"), "no.npz", "no such file")
    refused(ttfsc("compile", model, "-o", tmp_path / "out", "--arch", "moon"), "moon")
    refused(ttfsc("verify", tmp_path / "none", "--inputs", inputs), "manifest.json", "ttfsc compile")
    refused(ttfsc("compile", tmp_path / "x.pth", "-o", tmp_path / "out"), "pickles", "safetensors")
    refused(ttfsc("compile", "thing.xyz", "-o", tmp_path / "out"), "thing.xyz")
    assert not (tmp_path / "out").exists()


def test_wrong_inputs(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    cases = [
        ({"x": np.zeros((3, 1, 6, 5), np.uint8)}, "x is 3x1x6x5, must be N x 1x6x6"),
        ({"x": np.full((3, 1, 6, 6), 16, np.uint8)}, "declared are 0..15"),
        ({"x": np.full((3, 1, 6, 6), np.nan)}, "NaN"),
        ({"x": np.zeros((3, 1, 6, 6), np.uint8), "y": np.zeros(4, int)}, "x has 3 samples, y has 4 labels"),
        ({"x": np.zeros((3, 1, 6, 6), np.uint8), "y": np.full(3, 3)}, "the net knows classes 0..2"),
        ({"images": np.zeros(3)}, "no array x"),
        ({"x": np.zeros((0, 1, 6, 6), np.uint8)}, "no samples"),
    ]
    for arrays, message in cases:
        path = tmp_path / "bad.npz"
        save_arrays(path, arrays)
        refused(ttfsc("compile", model, "-o", tmp_path / "out", "--inputs", path), "bad.npz", message)
        assert not (tmp_path / "out").exists()


def test_nan_weight(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    weights = dict(np.load(model.with_suffix(".npz")))
    weights["c.w"][1, 0, 2, 2] = np.nan
    save_arrays(model.with_suffix(".npz"), weights)
    text = "\n".join(line for line in model.read_text().splitlines() if "sha256" not in line)
    model.write_text(text)
    done = ttfsc("compile", model, "-o", tmp_path / "out")
    refused(done, "TTFS008", "@c.w holds 1 values that are NaN or infinite, the first at [1, 0, 2, 2]")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["truncated", "swapped", "garbage", "pickle"])
def test_damaged_npz(ttfsc: Cli, model: Path, tmp_path: Path, damage: str) -> None:
    path = model.with_suffix(".npz")
    content = path.read_bytes()
    match damage:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "swapped":
            save_arrays(path, dict(np.load(path)) | {"d.w": np.zeros((3, 144), np.float32)})
        case "garbage":
            path.write_bytes(b"PK\x03\x04" + bytes(200))
        case _:
            save_arrays(path, dict(np.load(path)) | {"c.w": np.array([{"a": 1}], dtype=object)})
    refused(ttfsc("compile", model, "-o", tmp_path / "out"), "TTFS014")
    assert not (tmp_path / "out").exists()


def test_layer_larger_than_the_chip(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    chip = tmp_path / "small.toml"
    figure = '[{}]\nvalue = {}\nunit = "{}"\nsource = "this test"\n'
    chip.write_text(
        'name = "small"\ntitle = "two cores"\ndelivery = "multicast"\n'
        + figure.format("neurons_per_core", 64, "neurons")
        + figure.format("mesh_width", 2, "cores")
        + figure.format("mesh_height", 1, "cores")
    )
    done = ttfsc("compile", model, "-o", tmp_path / "out", "--arch", chip)
    refused(done, "TTFS010")
    assert "4" in done.err
    assert not (tmp_path / "out").exists()


def test_layer_beyond_32_bits(ttfsc: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    b = Builder("wide")
    b.add(Input(name="in", type=Analog((1, 400, 400), 0, 65535)))
    b.add(Flatten(name="f", type=OPEN, x=Ref("in")))
    b.add(Dense(name="v", type=OPEN, x=Ref("f"), w=b.array("w", rng.normal(0, 1, (2, 160000)).astype(np.float32))))
    b.add(Fire(name="s", type=OPEN, v=Ref("v"), theta=b.array("t", np.full(1, 1e5, np.float32))))
    b.add(Dense(name="o", type=OPEN, x=Ref("s"), w=b.array("ow", np.ones((2, 2), np.float32))))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("o"),), rule="membrane"))
    save(b.net(), tmp_path / "wide.ttfs")
    refused(ttfsc("compile", tmp_path / "wide.ttfs", "-o", tmp_path / "out", "--bits", "8"), "TTFS009", "%s")


def test_calibration_missing(ttfsc: Cli, tmp_path: Path) -> None:
    net = real_net()
    plain = net.with_ops(replace(op, theta=None) if isinstance(op, Fire) else op for op in net.ops)
    save(plain, tmp_path / "plain.ttfs")
    refused(ttfsc("compile", tmp_path / "plain.ttfs", "-o", tmp_path / "out"), "TTFS018", "--calib")


def test_wrong_options_all_at_once(ttfsc: Cli, model: Path, tmp_path: Path) -> None:
    done = ttfsc("compile", model, "-o", tmp_path / "out", "--bits", 9, "--ticks", 1, "--target", "c,gpu")
    refused(done, "--bits 9: must be 2..8", "--ticks 1: must be 2..64", "no such target")
    done = ttfsc("compile", model, "-o", tmp_path / "out", "--pipeline", "quantise{bits=4},prove-widths{x=1}")
    refused(done, "unknown pass: quantise; did you mean quantize?", "unknown option of prove-widths: x")
