"""Rewrite the generated tables of the documents; with --check, fail when one is out of date.

python docs/generate.py [--check]
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import MISSING
from pathlib import Path

from ttfsc.frontends import supported_ops
from ttfsc.ir import OPS, STAGES
from ttfsc.ir.codes import CODES
from ttfsc.ir.fields import Field, fields_of
from ttfsc.pipeline import list_passes

HERE = Path(__file__).parent


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, tuple("---" for _ in head), *rows)]
    return "\n".join(lines)


def _field(f: Field) -> str:
    if f.kind in ("ref", "refs"):
        return "`%x`" if f.kind == "ref" else "`%x ...`"
    if f.required:
        return f"`{f.name}`"
    default = "x".join(map(str, f.default)) if f.kind == "sizes" else f.default
    return f"`{f.name}`" if default is None or default is MISSING else f"`{f.name}={str(default).lower()}`"


def _ops() -> str:
    rows = [
        (f"`{name}`", " ".join(map(_field, fields_of(op))), (op.__doc__ or "").split("\n")[0].replace("|", "\\|"))
        for name, op in OPS.items()
    ]
    return _table(("op", "operands and attributes", "meaning"), rows)


def _stages() -> str:
    rows = [(stage, " ".join(f"`{m}`" for m, op in OPS.items() if op in ops)) for stage, ops in STAGES.items()]
    return _table(("stage", "ops allowed"), rows)


def _codes() -> str:
    return _table(("code", "meaning"), [(f"TTFS{n:03d}", code.title) for n, code in CODES.items()])


def _passes() -> str:
    rows = [(f"`{p.usage}`".replace("|", "\\|"), p.summary) for p in list_passes()]
    return _table(("pass", "what it does"), rows)


def _supported() -> str:
    return _table(("name", "where", "what becomes of it"), [(f"`{r.name}`", r.kind, r.notes) for r in supported_ops()])


def _onnx() -> str:
    rows = [(f"`{r.name}`", r.notes) for r in supported_ops() if r.kind == "onnx"]
    return _table(("op type", "what is understood"), rows)


def _trained() -> str:
    rows: list[tuple[str, ...]] = []
    for path in sorted((HERE.parent / "examples").glob("*/*.json")):
        found = json.loads(path.read_text("utf-8"))
        if "compiled" not in found:
            continue
        weights = path.with_name(found["weights"])
        if hashlib.sha256(weights.read_bytes()).hexdigest() != found["sha256"]:
            raise SystemExit(
                f"{path.name}: is not about the present {weights.name}; measure it anew (docs/training.md)"
            )
        energy = found["energy"]
        beside = path.with_name(f"{found['builder'].partition('(')[0]}_float.json")  # of the network, however quantised
        floating = f"{json.loads(beside.read_text('utf-8'))['floating']:.2f}" if beside.is_file() else "not trained"
        rows.append((
            f"`{path.parent.name}/{weights.name}`", f"{found['bits']} / {found['ticks']}", floating,
            "none held out" if found["validation"] is None else f"{found['validation']:.2f}",
            f"{found['quantised']:.2f}", f"{found['compiled']:.2f}", f"{found['spikes_per_neuron']:.4f}",
            f"{found['sops']:,.0f}", f"{energy['a']:.2f}",
            f"{energy['b-unicast']:.2f} / {energy['b-multicast']:.2f}", f"{energy['c']:.2f}", f"`{found['sha256']}`",
        ))  # fmt: skip
    head = (
        "weights",
        "bits / ticks",
        "float",
        "validation",
        "quantised",
        "compiled",
        "spikes/neuron",
        "SOPs",
        "(a)",
        "(b)",
    )
    return _table((*head, "(c)", "sha256"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "ops": _ops,
    "stages": _stages,
    "codes": _codes,
    "passes": _passes,
    "supported": _supported,
    "onnx": _onnx,
    "trained": _trained,
}


def rewritten(text: str) -> str:
    """The document with every generated block made anew."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- generated: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def main() -> int:
    """Rewrite or check all documents; the number of stale ones with --check."""
    stale = 0
    for path in sorted(HERE.glob("*.md")):
        old = path.read_text("utf-8")
        new = rewritten(old)
        if new != old:
            stale += 1
            print(f"{path.name}: {'is out of date, run make docs' if '--check' in sys.argv else 'rewritten'}")
            if "--check" not in sys.argv:
                path.write_text(new, "utf-8")
    return stale if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
