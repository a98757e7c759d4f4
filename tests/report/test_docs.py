"""The example of docs/report.md runs as it stands."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.report.nets import mapped, small_chip, small_net
from ttfsc.backends.report.model import DEFINITIONS

DOC = (Path(__file__).parents[2] / "docs" / "report.md").read_text("utf-8")


def test_example() -> None:
    code = DOC.split("```python\n")[1].split("```")[0]
    chip, x = small_chip(), np.full((3, 1, 6, 6), 7, np.uint8)
    names: dict[str, Any] = {"net": mapped(small_net(), chip), "chip": chip, "x": x, "y": np.zeros(3, np.int64)}
    exec(compile(code, "docs/report.md", "exec"), names)
    assert set(names["files"]) == {"report.json", "report.txt", "report.html"}


def test_words_of_a_report_are_explained() -> None:
    explained = {line.split("|")[1].strip() for line in DOC.splitlines() if line.startswith("| ")}
    words = {d.term for d in DEFINITIONS}
    assert words - explained == {"tick", "modelled", "(a)", "(b)", "(c)"}  # these have text of their own
