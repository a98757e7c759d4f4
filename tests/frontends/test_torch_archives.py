"""Archives of torch.export: what they compute, and that a damaged or hostile one is one clean error."""

import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch frontend needs torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402

from tests.frontends.test_torch_nets import resnet  # noqa: E402
from tests.frontends.torch_helpers import SCALE, pixels, shaken  # noqa: E402
from ttfsc.frontends.torch_load import check_torch, load_torch  # noqa: E402
from ttfsc.ir import Array, Net, TtfsError, run  # noqa: E402


class Exported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.skip, self.drop, self.head = (
            nn.Conv2d(4, 4, (3, 1), padding="same", groups=2),
            nn.Dropout(),
            nn.Linear(64, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.conv(x)))
        x = F.max_pool2d(x, 3, 1, 1)
        x = F.relu(self.skip(x) + x)
        x = F.avg_pool2d(x.clamp(0, 2), 2) * 0.5
        x = self.head(self.drop(x.view(x.size(0), -1)))
        return F.log_softmax(x, dim=1)


def exported(
    path: Path, model: nn.Module, shape: tuple[int, ...] = (2, 8, 8), *, dynamic: bool = True, core: bool = False
) -> Path:
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
    assert net.by_name["conv"].loc.origin == "conv" and net.by_name["conv"].loc.file == Path(__file__).name


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
        return data.replace(b'"use_pickle": false', b'"use_pickle": true').replace(
            b'"use_pickle":false', b'"use_pickle":true'
        )
    return bomb() if "/weight_" in name else data


def member(end: str, change: Callable[[bytes], bytes | None]) -> Callable[[str, bytes], bytes | None]:
    """Change the member whose name ends so, leave the others."""
    return lambda name, data: change(data) if name.endswith(end) else data


GRAPH = "models/model.json"


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (as_pickle, "conv.weight is stored as a pickle, which is never loaded; make it a plain dense tensor"),
        (member("/weight_0", lambda d: d[:1]), "conv.weight is 4x2x3x3, but its storage holds 0 numbers"),
        (member("/weight_0", lambda _: None), "m/data/weights/weight_0 is missing"),
        (member(GRAPH, lambda d: d[:-9]), "m/models/model.json is no JSON: "),
        (member(GRAPH, lambda _: b"[1]"), "m/models/model.json holds no table"),
        (
            member(GRAPH, lambda _: b"{}"),
            "its graph is not in the form that torch.export.save writes (KeyError: 'graph_module'); export it again",
        ),
        (member(GRAPH, lambda _: None), "holds 0 models/*.json, must be exactly one"),
        (member(GRAPH, lambda d: d.replace(b"aten.relu6.default", b"aten.gelu.default")), ""),
    ],
)
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
        "holds 0 models/*.json, must be exactly one; it was written by torch before 2.8: export it again "
        "with a newer one"
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
