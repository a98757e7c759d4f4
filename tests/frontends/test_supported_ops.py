"""The table of what is understood: readable without torch, and the one that the docs show."""

import subprocess
import sys
from pathlib import Path

from ttfsc.frontends import supported_ops

DOCS = Path(__file__).parents[2] / "docs" / "torch.md"


def test_the_table_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from ttfsc.frontends import supported_ops\n"
        "print(len(supported_ops()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(supported_ops()) > 100


def test_rows_are_sorted_and_none_is_there_twice() -> None:
    rows = supported_ops()
    assert len({row.name for row in rows}) == len(rows)
    kinds = ["module", "function", "method", "aten", "onnx"]
    assert [(kinds.index(r.kind), r.name) for r in rows] == sorted((kinds.index(r.kind), r.name) for r in rows)


def test_the_docs_show_every_module_with_its_notes() -> None:
    text = DOCS.read_text()
    for row in supported_ops():
        if row.kind == "module":
            assert f"| `{row.name}` | {row.notes} |" in text, f"docs/torch.md lacks or misquotes {row.name}"
