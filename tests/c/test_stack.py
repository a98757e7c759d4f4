"""The stack that a header promises is enough, as the compilers themselves count it."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from c_build import need, written
from c_nets import NETS

from ttfsc.backends.c import emit

NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes \((?:static|dynamic,bounded)\)')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
CALL = 8  # the return address


def promised(name: str, cpu: str, folder: Path) -> int:
    """What the header says; the files are in the folder then."""
    files = emit(NETS[name](), name="m", cpu=cpu)
    stack = int(json.loads(files["model.json"])["cost"]["stack"])
    assert f"stack at most {stack} bytes" in files["m.h"].decode()
    written(files, folder)
    return stack


def deepest(folder: Path, *flags: str) -> int:
    """Bytes of the deepest chain of calls below the model's functions, by gcc's call graph."""
    command = [need("gcc"), "-std=c99", *flags, "-fcallgraph-info=su", "-c", "m.c"]
    subprocess.run(command, cwd=folder, check=True)
    text = (folder / "m.ci").read_text()
    frames = {name: int(size) for name, size in NODE.findall(text)}
    below = dict[str, set[str]]()
    for caller, callee in EDGE.findall(text):
        below.setdefault(caller, set()).add(callee)

    def depth(name: str) -> int:
        assert name in frames or not name.startswith("m_"), f"{name}: a frame without a bound"
        return frames.get(name, 0) + CALL + max(map(depth, below.get(name, ())), default=0)

    assert {"m_run", "m_run_traced"} <= frames.keys()
    return max(map(depth, frames))


@pytest.mark.parametrize("name", ["residual", "stream", "depthwise", "flat_sum"])
@pytest.mark.parametrize("flags", ["-Os", "-O3"])
def test_compact(name: str, flags: str, tmp_path: Path) -> None:
    stack = promised(name, "cortex-m", tmp_path)
    assert deepest(tmp_path, flags) <= stack == 768


@pytest.mark.parametrize("name", ["tiny", "wide", "one_bit", "residual"])
@pytest.mark.parametrize("flags", ["-Os", "-O2", "-O3", "-O3 -march=x86-64-v3", "-O3 -march=x86-64-v4"])
def test_fast(name: str, flags: str, tmp_path: Path) -> None:
    if "march" in flags and subprocess.run(["uname", "-m"], capture_output=True, check=True).stdout != b"x86_64\n":
        pytest.skip("flags of x86-64")
    stack = promised(name, "generic", tmp_path)
    assert deepest(tmp_path, *flags.split()) <= stack < 4096


@pytest.mark.parametrize("name", ["tiny", "residual"])
@pytest.mark.parametrize("cpu", ["generic", "cortex-m"])
def test_clang(name: str, cpu: str, tmp_path: Path) -> None:
    """clang says what a function takes, not who calls whom: a run, the steps one by one, a kernel, one of its own."""
    stack = promised(name, cpu, tmp_path)
    for flags in ("-Os", "-O3"):
        subprocess.run([need("clang"), "-std=c99", flags, "-fstack-usage", "-c", "m.c"], cwd=tmp_path, check=True)
        rows = [line.split("\t") for line in (tmp_path / "m.su").read_text().splitlines()]
        assert all(kind == "static" for _, _, kind in rows)
        sizes = {name.split(":")[-1]: int(size) for name, size, _ in rows}
        runs = [sizes.pop("m_run"), sizes.pop("m_run_traced")]
        steps = [sizes.pop(name) for name in list(sizes) if name.startswith("m_do_")]
        kernels = sorted([*sizes.values(), 0, 0, 0], reverse=True)[:3]  # m_infer is among them
        assert max(runs) + max(steps, default=0) + sum(kernels) + 5 * CALL <= stack
