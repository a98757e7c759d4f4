"""Compiling emitted files in tests: which compilers there are, and the flags that a user's build has."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ttfsc.ir import Net, Result, show

STRICT = (
    "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wmissing-prototypes",
    "-Werror",
)  # fmt: skip
UNDEFINED = ("-fsanitize=undefined", "-fno-sanitize-recover=all")


def need(program: str) -> str:
    """The program, or the test is skipped."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return program


def written(files: Mapping[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def make(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need("make"), *args], cwd=folder, capture_output=True, text=True, check=False)


def assert_same(got: Result, want: Result, net: Net) -> None:
    """Every layer, every score, every label; number types too."""
    assert set(got.spikes) == set(want.spikes), show(net)
    for name, x in want.spikes.items():
        assert got.spikes[name].dtype == x.dtype, name
        np.testing.assert_array_equal(got.spikes[name], x, err_msg=f"%{name} in\n{show(net)}")
    assert (got.scores.dtype, got.labels.dtype) == (want.scores.dtype, want.labels.dtype)
    np.testing.assert_array_equal(got.scores, want.scores, err_msg=show(net))
    np.testing.assert_array_equal(got.labels, want.labels, err_msg=show(net))
