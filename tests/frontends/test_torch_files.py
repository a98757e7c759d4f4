"""The files a torch model comes in: the spec, the user's Python, weights. Some of them damaged, some hostile."""

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch frontend needs torch")

from safetensors.torch import save_file  # noqa: E402  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor  # noqa: E402

from ttfsc.frontends.tensors import load_tensors  # noqa: E402
from ttfsc.frontends.torch_load import check_torch, load_torch  # noqa: E402
from ttfsc.ir import TtfsError, run, show  # noqa: E402

CODE = """\
import torch
from torch import nn
from helper import WIDTH

class Tiny(nn.Module):
    def __init__(self, width: int = WIDTH):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width * 16, 3)
    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))

def net(width=2, note="x"):
    return Tiny(width)

def needs(width):
    return Tiny(width)

def boom():
    raise RuntimeError("no data\\nat all")

def number():
    return 3

READY = Tiny(2)
SIZE = 4
"""
OPTIONS: Any = {"input_shape": (1, 6, 6), "input_range": (0, 255), "input_scale": 1 / 255}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "helper.py").write_text("WIDTH = 2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    return tmp_path


def faults(spec: str, **more: Any) -> list[str]:
    return [str(f) for f in check_torch(spec, **{**OPTIONS, **more})]


def weights(folder: Path, change: Callable[[dict[str, Tensor]], object] = lambda _: None) -> Path:
    state = {
        "conv.weight": torch.ones(2, 1, 3, 3), "conv.bias": torch.zeros(2), "norm.weight": torch.ones(2),
        "norm.bias": torch.zeros(2), "norm.running_mean": torch.zeros(2), "norm.running_var": torch.ones(2),
        "head.weight": torch.ones(3, 32), "head.bias": torch.zeros(3),
    }  # fmt: skip
    change(state)
    save_file(state, str(folder / "w.safetensors"))
    return Path("w.safetensors")


# -- the spec and the user's file --------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["net.py:net", "net.py:net(width=5, note='a:b.py')", "net.py:Tiny", "net.py:READY"])
def test_specs(folder: Path, spec: str) -> None:
    net = load_torch(spec, **OPTIONS)
    assert net.name == spec.split(":")[1].split("(")[0]
    assert net.type_of("conv").shape[0] == (5 if "5" in spec else 2)


def test_without_weights_the_same_seed_gives_the_same_net(folder: Path) -> None:
    first, second = (show(load_torch("net.py:net", **OPTIONS), hashes=True) for _ in range(2))
    assert first == second != show(load_torch("net.py:net", seed=1, **OPTIONS), hashes=True)


def test_the_callers_random_numbers_are_left_alone(folder: Path) -> None:
    torch.manual_seed(7)
    want = torch.rand(1)
    torch.manual_seed(7)
    load_torch("net.py:net", **OPTIONS)
    assert torch.rand(1) == want


FORM = "must be file.py:factory or file.py:factory(bits=4, ...) with literal values"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("net.py", f"net.py: error[TTFS013]: {FORM}"),
        ("net.py:", f"net.py:: error[TTFS013]: {FORM}"),
        ("net.py:net(3)", f"net.py:net(3): error[TTFS013]: {FORM}"),
        ("net.py:net(width=open('x'))", f"net.py:net(width=open('x')): error[TTFS013]: {FORM}"),
        ("net.py:net(**{})", f"net.py:net(**{{}}): error[TTFS013]: {FORM}"),
        ("net.py:a.b", f"net.py:a.b: error[TTFS013]: {FORM}"),
        ("none.py:net", "none.py: error[TTFS013]: no such file"),
        ("net.py:nett", "net.py: error[TTFS013]: has no nett; it has Tiny, net, needs, boom, number, READY"),
        ("net.py:SIZE", "net.py: error[TTFS013]: factory SIZE: is int, not a function"),
        (
            "net.py:number",
            "net.py: error[TTFS013]: factory number: returned int, not a torch.nn.Module; return the network",
        ),
        ("net.py:boom", "net.py:21: error[TTFS013]: factory boom: failed: RuntimeError: no data"),
        (
            "net.py:needs",
            "net.py: error[TTFS016]: factory needs: missing a required argument: 'width'; give them: "
            "net.py:needs(width=...)",
        ),
        (
            "net.py:net(bits=4)",
            "net.py: error[TTFS016]: factory net: got an unexpected keyword argument 'bits'; it takes "
            "(width=..., note=...)",
        ),
        (
            "net.pth",
            "net.pth: error[TTFS013]: is a pickle, which can run any code when it is read, so it is never loaded; name "
            "the network as file.py:factory with --weights x.safetensors, or export it with torch.export.save as .pt2",
        ),
    ],
)
def test_bad_specs(folder: Path, spec: str, message: str) -> None:
    assert faults(spec) == [message]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = (", "bad.py:1: error[TTFS013]: cannot be imported: SyntaxError: '(' was never closed (bad.py, line 1)"),
        (
            "import torch\nimport nothing_of_this_name",
            "bad.py:2: error[TTFS013]: cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'",
        ),
        ("raise SystemExit(3)", "bad.py:1: error[TTFS013]: cannot be imported: SystemExit: 3"),
    ],
)
def test_files_that_cannot_be_imported(folder: Path, code: str, message: str) -> None:
    (folder / "bad.py").write_text(code)
    assert faults("bad.py:net") == [message]


def test_importing_leaves_the_search_path_alone(folder: Path) -> None:
    before = list(sys.path)
    load_torch("net.py:net", **OPTIONS)
    faults("net.py:boom")
    assert sys.path == before


# -- weights -----------------------------------------------------------------------------------------------------------


def test_weights_are_loaded(folder: Path) -> None:
    net = load_torch("net.py:net", weights=weights(folder), **OPTIONS)
    assert (net.arrays["conv.weight"] == 1).all()  # pyright: ignore[reportArgumentType]


def test_every_fault_of_the_weights_at_once(folder: Path) -> None:
    def spoil(state: dict[str, Tensor]) -> None:
        del state["head.bias"]
        state["head.weigth"] = torch.zeros(3)
        state["conv.weight"] = torch.zeros(2, 1, 5, 5)
        state["norm.weight"][1] = float("nan")
        state["conv.bias"] = torch.zeros(2, dtype=torch.int32)

    assert faults("net.py:net", weights=weights(folder, spoil)) == [
        "w.safetensors: error[TTFS003]: tensor conv.weight: is 2x1x5x5, the model wants 2x1x3x3",
        "w.safetensors: error[TTFS003]: tensor conv.bias: holds int32, the model wants real numbers",
        "w.safetensors: error[TTFS008]: tensor norm.weight: holds 1 values that are NaN or infinite, the "
        "first at [1]; take a checkpoint from before that",
        "w.safetensors: error[TTFS003]: tensor head.bias: is missing; the model wants 3",
        "w.safetensors: error[TTFS003]: tensor head.weigth: is unexpected: the model has no such tensor",
    ]


def test_weights_of_a_wrapper(folder: Path) -> None:
    def wrap(state: dict[str, Tensor]) -> None:
        for name in list(state):
            state[f"module.{name}"] = state.pop(name)

    messages = faults("net.py:net", weights=weights(folder, wrap))
    assert len(messages) == 16
    assert messages[-1] == (
        "w.safetensors: error[TTFS003]: tensor module.norm.weight: is unexpected: save model.module of the "
        "DataParallel wrapper"
    )


def test_tied_weights_may_be_saved_once(folder: Path) -> None:
    (folder / "tied.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    a, b = nn.Linear(4, 4), nn.Linear(4, 4)\n"
        "    b.weight = a.weight\n"
        "    return nn.Sequential(a, nn.ReLU(), b)\n"
    )
    save_file({"0.weight": torch.eye(4), "0.bias": torch.zeros(4), "2.bias": torch.ones(4)}, "w.safetensors")
    net = load_torch(
        "tied.py:net", weights=Path("w.safetensors"), input_shape=(4,), input_range=(0, 9), input_scale=1.0
    )
    assert run(net, np.array([[1, 2, 3, 4]])).scores.tolist() == [[2, 3, 4, 5]]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin"])
def test_pickled_weights_are_refused_with_the_way_out(folder: Path, suffix: str) -> None:
    path = Path(f"w{suffix}")
    torch.save({"a": torch.zeros(1)}, path)
    assert faults("net.py:net", weights=path) == [
        f"w{suffix}: error[TTFS013]: is a pickle, which can run any code when it is read, so it is never loaded; where "
        f"you trust it, convert it: safetensors.torch.save_file(torch.load('w{suffix}', weights_only=True), "
        "'w.safetensors')"
    ]


def packed(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: object = "F32", shape: object = (2,), span: object = (0, 8)) -> dict[str, object]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": span}}


HOSTILE: list[tuple[bytes, str]] = [
    (b"", "error[TTFS014]: is no .safetensors file: a header of 0 bytes in a file of 0; save it again"),
    (
        b"\xff" * 8,
        "error[TTFS014]: is no .safetensors file: a header of 18446744073709551615 bytes in a file of 8; save it again",
    ),
    (
        packed(entry())[:20],
        "error[TTFS014]: is no .safetensors file: a header of 61 bytes in a file of 20; save it again",
    ),
    (
        packed(b"\xff\xfe{}"),
        "error[TTFS014]: its header is no JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid "
        "start byte; save it again",
    ),
    (
        packed(b"[" * 100000),
        "error[TTFS014]: its header is no JSON: maximum recursion depth exceeded while decoding a JSON array "
        "from a unicode string; save it again",
    ),
    (packed([]), "error[TTFS014]: its header is no table of tensors; save it again"),
    (packed(b'{"a": 1, "a": 2}'), "error[TTFS014]: its header is no JSON: the key 'a' occurs twice; save it again"),
    (packed({"a": 3}), "error[TTFS014]: tensor a: its entry is no table"),
    (
        packed(entry("OBJECT")),
        "error[TTFS014]: tensor a: number type 'OBJECT' is none of F64, F32, F16, BF16, I64, I32, I16, I8, U8, "
        "U16, U32, U64, BOOL",
    ),
    (packed(entry(shape=[-2])), "error[TTFS014]: tensor a: shape [-2], data_offsets [0, 8] describe no tensor"),
    (
        packed(entry(shape=[2**60])),
        f"error[TTFS014]: tensor a: shape [{2**60}], data_offsets [0, 8] describe no tensor",
    ),
    (packed(entry(span=[0])), "error[TTFS014]: tensor a: shape [2], data_offsets [0] describe no tensor"),
    (packed(entry(span=[0, 2**40])), f"error[TTFS014]: tensor a: F32 2 takes 8 bytes, its offsets are 0..{2**40} of 0"),
    (packed(entry(), b"1234"), "error[TTFS014]: tensor a: F32 2 takes 8 bytes, its offsets are 0..8 of 4"),
    (
        packed(entry(shape=[2**40, 2**40])),
        f"error[TTFS014]: tensor a: F32 {2**40}x{2**40} takes {2**82} bytes, its offsets are 0..8 of 0",
    ),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE)
def test_hostile_safetensors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(TtfsError) as e:
        load_tensors(path)
    assert str(e.value) == f"{path}: {message}"


def test_safetensors_of_every_type(tmp_path: Path) -> None:
    whole = torch.tensor([[0, 1, 2], [3, 100, 127]])
    kinds = [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    ]
    saved = {str(kind): whole.to(kind) for kind in kinds} | {"empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5)}
    save_file(saved, str(tmp_path / "w.safetensors"), metadata={"format": "pt"})
    read = load_tensors(tmp_path / "w.safetensors")
    assert set(read) == set(saved)
    for name, tensor in saved.items():
        np.testing.assert_array_equal(
            read[name], tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
        )


def test_faults_of_weights_and_of_the_network_come_together(folder: Path) -> None:
    (folder / "both.py").write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.GELU())\n"
    )
    save_file({"1.weight": torch.zeros(3, 36)}, "w.safetensors")
    first, second = faults("both.py:net", weights=Path("w.safetensors"))
    assert first == "w.safetensors: error[TTFS003]: tensor 1.bias: is missing; the model wants 3"
    assert second.startswith("2: error[TTFS011]: 'torch.nn.GELU': is curved")
