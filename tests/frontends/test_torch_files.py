"""The files a torch model comes in: the spec, the user's Python, weights, archives. Some of them damaged, some hostile."""

import io
import json
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch frontend needs torch")

import torch.nn.functional as F  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from tests.frontends.test_torch_nets import resnet  # noqa: E402
from tests.frontends.torch_helpers import SCALE, pixels, shaken  # noqa: E402
from ttfsc.frontends.tensors import load_tensors  # noqa: E402
from ttfsc.frontends.torch_load import check_torch, load_torch  # noqa: E402
from ttfsc.ir import Array, Net, TtfsError, run, show  # noqa: E402

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
        "conv.weight": torch.ones(2, 1, 3, 3), "conv.bias": torch.zeros(2), "norm.weight": torch.ones(2), "norm.bias": torch.zeros(2),
        "norm.running_mean": torch.zeros(2), "norm.running_var": torch.ones(2), "head.weight": torch.ones(3, 32),
        "head.bias": torch.zeros(3),
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
        ("net.py:nett", "net.py: error[TTFS013]: has no nett; it has Tiny, net, needs, boom, number"),
        ("net.py:SIZE", "net.py: error[TTFS013]: factory SIZE: is int, not a function"),
        ("net.py:number", "net.py: error[TTFS013]: factory number: returned int, not a torch.nn.Module; return the network"),
        ("net.py:boom", "net.py:22: error[TTFS013]: factory boom: failed: RuntimeError: no data"),
        ("net.py:needs", "net.py: error[TTFS016]: factory needs: missing a required argument: 'width'; give them: "
                         "net.py:needs(width=...)"),
        ("net.py:net(bits=4)", "net.py: error[TTFS016]: factory net: got an unexpected keyword argument 'bits'; it takes "
                               "(width=..., note=...)"),
        ("net.pth", "net.pth: error[TTFS013]: is a pickle, which can run any code when it is read, so it is never loaded; name "
                    "the network as file.py:factory with --weights x.safetensors, or export it with torch.export.save as .pt2"),
    ],
)  # fmt: skip
def test_bad_specs(folder: Path, spec: str, message: str) -> None:
    assert faults(spec) == [message]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = (", "bad.py:1: error[TTFS013]: cannot be imported: SyntaxError: '(' was never closed (bad.py, line 1)"),
        ("import torch\nimport nothing_of_this_name", "bad.py:2: error[TTFS013]: cannot be imported: ModuleNotFoundError: No module "
                                                      "named 'nothing_of_this_name'"),
        ("raise SystemExit(3)", "bad.py:1: error[TTFS013]: cannot be imported: SystemExit: 3"),
    ],
)  # fmt: skip
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
        "w.safetensors: error[TTFS008]: tensor norm.weight: holds 1 values that are NaN or infinite, the first at [1]; take a "
        "checkpoint from before that",
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
        "w.safetensors: error[TTFS003]: tensor module.norm.weight: is unexpected: save model.module of the DataParallel wrapper"
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
    net = load_torch("tied.py:net", weights=Path("w.safetensors"), input_shape=(4,), input_range=(0, 9), input_scale=1.0)
    assert run(net, np.array([[1, 2, 3, 4]])).scores.tolist() == [[2, 3, 4, 5]]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin"])
def test_pickled_weights_are_refused_with_the_way_out(folder: Path, suffix: str) -> None:
    path = Path(f"w{suffix}")
    torch.save({"a": torch.zeros(1)}, path)
    assert faults("net.py:net", weights=path) == [
        f"w{suffix}: error[TTFS013]: is a pickle, which can run any code when it is read, so it is never loaded; where you trust "
        f"it, convert it: safetensors.torch.save_file(torch.load('w{suffix}', weights_only=True), 'w.safetensors')"
    ]


def packed(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: object = "F32", shape: object = (2,), span: object = (0, 8)) -> dict[str, object]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": span}}


HOSTILE: list[tuple[bytes, str]] = [
    (b"", "error[TTFS014]: is no .safetensors file: a header of 0 bytes in a file of 0; save it again"),
    (b"\xff" * 8, "error[TTFS014]: is no .safetensors file: a header of 18446744073709551615 bytes in a file of 8; save it again"),
    (packed(entry())[:20], "error[TTFS014]: is no .safetensors file: a header of 60 bytes in a file of 20; save it again"),
    (packed(b"\xff\xfe{}"), "error[TTFS014]: its header is no JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid "
                            "start byte; save it again"),
    (packed(b"[" * 100000), "error[TTFS014]: its header is no JSON: maximum recursion depth exceeded while decoding a JSON array "
                            "from a unicode string; save it again"),
    (packed([]), "error[TTFS014]: its header is no table of tensors; save it again"),
    (packed(b'{"a": 1, "a": 2}'), "error[TTFS014]: its header is no JSON: the key 'a' occurs twice; save it again"),
    (packed({"a": 3}), "error[TTFS014]: tensor a: its entry is no table"),
    (packed(entry("OBJECT")), "error[TTFS014]: tensor a: number type 'OBJECT' is none of F64, F32, F16, BF16, I64, I32, I16, I8, U8, "
                              "U16, U32, U64, BOOL"),
    (packed(entry(shape=[-2])), "error[TTFS014]: tensor a: shape [-2], data_offsets [0, 8] describe no tensor"),
    (packed(entry(shape=[2**60])), f"error[TTFS014]: tensor a: shape [{2**60}], data_offsets [0, 8] describe no tensor"),
    (packed(entry(span=[0])), "error[TTFS014]: tensor a: shape [2], data_offsets [0] describe no tensor"),
    (packed(entry(span=[0, 2**40])), f"error[TTFS014]: tensor a: F32 2 takes 8 bytes, its offsets are 0..{2**40} of 0"),
    (packed(entry(), b"1234"), "error[TTFS014]: tensor a: F32 2 takes 8 bytes, its offsets are 0..8 of 4"),
    (packed(entry(shape=[2**40, 2**40])), f"error[TTFS014]: tensor a: F32 {2**40}x{2**40} takes {2**82} bytes, its offsets are 0..8 of "
                                          "0"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), HOSTILE)
def test_hostile_safetensors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(TtfsError) as e:
        load_tensors(path)
    assert str(e.value) == f"{path}: {message}"


def test_safetensors_of_every_type(tmp_path: Path) -> None:
    whole = torch.tensor([[0, 1, 2], [3, 100, 127]])
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
             torch.uint8, torch.bool]  # fmt: skip
    saved = {str(kind): whole.to(kind) for kind in kinds} | {"empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5)}
    save_file(saved, str(tmp_path / "w.safetensors"), metadata={"format": "pt"})
    read = load_tensors(tmp_path / "w.safetensors")
    assert set(read) == set(saved)
    for name, tensor in saved.items():
        np.testing.assert_array_equal(read[name], tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy())


# -- .pt2 --------------------------------------------------------------------------------------------------------------


class Exported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.skip, self.drop, self.head = nn.Conv2d(4, 4, (3, 1), padding="same", groups=2), nn.Dropout(), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.conv(x)))
        x = F.max_pool2d(x, 3, 1, 1)
        x = F.relu(self.skip(x) + x)
        x = F.avg_pool2d(x.clamp(0, 2), 2) * 0.5
        x = self.head(self.drop(x.view(x.size(0), -1)))
        return F.log_softmax(x, dim=1)


def exported(path: Path, model: nn.Module, shape: tuple[int, ...] = (2, 8, 8), *, dynamic: bool = True, core: bool = False) -> Path:
    batch = ({0: torch.export.Dim("batch")},) if dynamic else None
    program = torch.export.export(model.eval(), (torch.zeros(2, *shape),), dynamic_shapes=batch)
    torch.export.save(program.run_decompositions() if core else program, path)
    return path


def answers(model: nn.Module, net: Net, shape: tuple[int, ...]) -> tuple[Array, Array]:
    x = pixels(shape)
    with torch.no_grad():
        return run(net, x).scores, model(torch.tensor(x, dtype=torch.float32) * SCALE).numpy()


RANGE: Any = {"input_range": (-20, 20), "input_scale": SCALE}


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("core", [True, False])
def test_archives(tmp_path: Path, dynamic: bool, core: bool) -> None:
    model = shaken(Exported())
    net = load_torch(str(exported(tmp_path / "m.pt2", model, dynamic=dynamic, core=core)), **RANGE)
    got, want = answers(model, net, (2, 8, 8))
    np.testing.assert_allclose(torch.log_softmax(torch.tensor(got), 1), want, atol=1e-4)
    assert {"conv", "norm", "skip", "head"} <= {op.name for op in net.ops}
    assert net.by_name["conv"].loc.origin == "conv" and net.by_name["conv"].loc.file == "test_torch_files.py"


@pytest.mark.parametrize("core", [True, False])
def test_an_archive_of_a_resnet(tmp_path: Path, core: bool) -> None:
    model = shaken(resnet())
    net = load_torch(str(exported(tmp_path / "m.pt2", model, (2, 16, 16), core=core)), **RANGE)
    got, want = answers(model, net, (2, 16, 16))
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_an_archive_needs_neither_torch_nor_its_own_sample_inputs(tmp_path: Path) -> None:
    import subprocess

    path = exported(tmp_path / "m.pt2", shaken(Exported()))
    rewritten(path, lambda name, data: None if "sample_inputs" in name else data)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from ttfsc.frontends.torch_load import load_torch\n"
        f"print(len(load_torch({str(path)!r}, input_range=(0, 255), input_scale=1.0).ops))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 10


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            new = change(name, data)
            if new is not None:
                file.writestr(name, new)
    return path


class Bomb:
    """Unpickling it would raise the alarm."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


def bomb() -> bytes:
    return pickle.dumps(Bomb())


def as_pickle(name: str, data: bytes) -> bytes:
    if name.endswith("weights_config.json"):
        return data.replace(b'"use_pickle": false', b'"use_pickle": true').replace(b'"use_pickle":false', b'"use_pickle":true')
    return bomb() if "/weight_" in name else data


def legacy(name: str, data: bytes) -> bytes | None:
    return data


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (as_pickle, "conv.weight is stored as a pickle, which is never loaded; make it a plain dense tensor"),
        (lambda n, d: d[:1] if n.endswith("/weight_0") else d, "conv.weight is 4x2x3x3, but its storage holds 0 numbers"),
        (lambda n, d: None if n.endswith("/weight_0") else d, "m/data/weights/weight_0 is missing"),
        (lambda n, d: d[:-9] if n.endswith("models/model.json") else d, "m/models/model.json is no JSON: "),
        (lambda n, d: b"[1]" if n.endswith("models/model.json") else d, "m/models/model.json holds no table"),
        (lambda n, d: b"{}" if n.endswith("models/model.json") else d, "its graph is not in the form that torch.export.save writes "
         "(KeyError: 'graph_module'); export it again"),
        (lambda n, d: None if n.endswith("models/model.json") else d, "holds 0 models/*.json, must be exactly one"),
        (lambda n, d: d.replace(b"torch.ops.aten.relu6.default", b"torch.ops.aten.gelu.default"), ""),
    ],
)  # fmt: skip
def test_damaged_archives(tmp_path: Path, change: Callable[[str, bytes], bytes | None], fact: str) -> None:
    path = rewritten(exported(tmp_path / "m.pt2", shaken(Exported())), change)
    with pytest.raises(TtfsError) as e:
        load_torch(str(path), **RANGE)
    if fact:
        assert str(e.value).startswith(f"{path}: error[TTFS014]: {fact}")
    else:
        assert "(forward): error[TTFS011]: 'aten.gelu': is curved" in str(e.value)


def test_pickles_in_sample_inputs_are_not_touched(tmp_path: Path) -> None:
    path = exported(tmp_path / "m.pt2", shaken(Exported()))
    rewritten(path, lambda name, data: bomb() if "sample_inputs" in name else data)
    assert len(load_torch(str(path), **RANGE).ops) > 10


def sizes(n: int) -> Callable[[str, bytes], bytes]:
    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return data
        config = json.loads(data)
        config["config"]["conv.weight"]["tensor_meta"]["sizes"][0] = {"as_int": n}
        return json.dumps(config).encode()

    return change


@pytest.mark.parametrize("n", [-1, 2**31, 2**62])
def test_archives_that_promise_absurd_sizes(tmp_path: Path, n: int) -> None:
    path = rewritten(exported(tmp_path / "m.pt2", shaken(Exported())), sizes(n))
    with pytest.raises(TtfsError) as e:
        load_torch(str(path), **RANGE)
    assert [f.code for f in e.value.faults] == [14]


def test_every_truncation_and_flipped_byte_is_one_clean_error(tmp_path: Path) -> None:
    whole = exported(tmp_path / "m.pt2", shaken(Exported())).read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / "d.pt2"
    for i in range(60):
        data = bytearray(whole[: rng.integers(len(whole))] if i % 2 else whole)
        for _ in range(0 if i % 2 else 8):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        for fault in check_torch(str(path), **RANGE):
            assert fault.fact and "\n" not in fault.fact


def test_old_archives_say_so(tmp_path: Path) -> None:
    path = tmp_path / "old.pt2"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("serialized_exported_program.json", "{}")
        file.writestr("serialized_state_dict.pt", bomb())
    assert [f.fact for f in check_torch(str(path))] == [
        "holds 0 models/*.json, must be exactly one; it was written by torch before 2.8: export it again with a newer one"
    ]


def test_archives_and_options(tmp_path: Path) -> None:
    path = str(exported(tmp_path / "m.pt2", shaken(Exported())))
    assert [f.fact for f in check_torch(path, weights=Path("w.safetensors"))] == [
        "a .pt2 archive holds its own weights; leave --weights out"
    ]
    assert [f.fact for f in check_torch(path, input_shape=(2, 9, 9), **RANGE)] == [
        "says 2x9x9, but the archive was exported for 2x8x8"
    ]
    assert "--input-range 0..255, --input-scale 0.0039 (real" in check_torch(path)[0].fact
    assert [f.fact for f in check_torch(str(tmp_path / "none.pt2"))] == ["no such file"]


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.pt2"
    buffer = io.BytesIO()
    torch.save({"a": 1}, buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue())
    assert [f.fact for f in check_torch(str(path))] == [
        "is no readable .pt2 archive: File is not a zip file; export it again"
    ]
