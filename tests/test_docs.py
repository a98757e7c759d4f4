"""The documents say what is so: generated tables are up to date, and their Python examples run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OWN_TEST = {"report.md"}  # tests/report runs its example on a net made for it
EXAMPLES = [
    pytest.param(path, code, id=f"{path.stem}-{i}")
    for path in DOCS
    if path.name not in OWN_TEST
    for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE))
]


def test_generated_tables_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}; run make docs"


@pytest.mark.parametrize(("path", "code"), EXAMPLES)
def test_examples_run(path: Path, code: str, tmp_path: Path) -> None:
    """Each example runs as it stands, from the repository's root, with `digits` (the shipped inputs) at hand."""
    pytest.importorskip("torch", reason="the examples read torch models")
    start = "import numpy as np\ndigits = np.load('examples/mnist/digits.npz')['x'][:20]\n"
    script = tmp_path / "example.py"
    script.write_text(start + code)
    done = subprocess.run([sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{path.name}: {done.stderr}"


def test_links_lead_somewhere() -> None:
    broken = [
        f"{path.name}: {target}"
        for path in DOCS
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text("utf-8"))
        if not (path.parent / target).exists()
    ]
    assert broken == []
