"""One bad net per rule: every file here must give exactly the messages it ends in, word for word.

    // ARRAY @w i1 2x4 = 1 -2 3      an array of the pool: number type, shape, values repeated to fill it
    // STAGE quantized               the stage the net is checked against
    // ERR 3: error[TTFS005]: ...    expected message and its line; 0 where it has none

`pytest tests/errors --update-golden` rewrites the ERR lines: read the difference before you commit it.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast, get_args

import numpy as np
import pytest

import ttfsc.ir
from ttfsc.ir import Arrays, Const, Fault, Stage, TtfsError, stage_faults
from ttfsc.ir.parse import _parser, parse_faults  # pyright: ignore[reportPrivateUsage]

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.ttfs"))
IR = Path(ttfsc.ir.__file__).parent
RULES = ("ops.py", "synapse.py", "verify.py", "verify_map.py", "parse.py", "stages.py")
ELSEWHERE = {  # rules that no text can break, with the test that does
    "no name:": "test_text.py: names that text cannot hold",
    "pad and pool_pad must not be negative": "test_text.py: sizes in text carry no sign",
    "characters, more than": "test_text.py: hostile sizes",
    "mistakes up to here": "test_text.py: hostile sizes",
}


def arrays_of(text: str) -> Arrays:
    found = dict[Const, Any]()
    for name, dtype, shape, values in re.findall(r"^// ARRAY @(\S+) (\S+) (\S+) = (.*)$", text, re.M):
        sizes = () if shape == "scalar" else tuple(int(n) for n in shape.split("x"))
        given = (
            values.split() if dtype[0] == "U" else [complex(v) if dtype[0] == "c" else float(v) for v in values.split()]
        )
        found[Const(name)] = np.resize(np.array(given), sizes).astype(dtype)
    return Arrays(found)


def faults_in(text: str, source: str) -> list[Fault]:
    net, faults = parse_faults(text, arrays_of(text), source=source)
    stage = re.search(r"^// STAGE (\w+)$", text, re.M)
    if faults or stage is None:
        return faults
    return stage_faults(net, next(s for s in get_args(Stage) if s == stage[1]))


def as_comment(fault: Fault) -> str:
    message = str(fault).removeprefix(str(fault.loc)).removeprefix(": ")
    return f"// ERR {fault.loc.line}: {message}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_messages_word_for_word(path: Path, update_golden: bool) -> None:
    text = path.read_text()
    given = [line for line in text.split("\n") if not line.startswith("// ERR ")]
    got = [as_comment(f) for f in faults_in(text, path.name)]
    if update_golden:
        path.write_text("\n".join([*given[:-1], *got, ""]))
    assert got, "this net breaks no rule"
    assert got == [line for line in text.split("\n") if line.startswith("// ERR ")] or update_golden
    assert all(str(f).startswith(path.name) or not f.loc.line for f in faults_in(text, path.name))


def test_ten_mistakes_come_out_at_once() -> None:
    faults = faults_in((HERE / "ten-mistakes.ttfs").read_text(), "ten-mistakes.ttfs")
    assert len(faults) == 10
    assert len({f.loc.line for f in faults}) == 10
    assert len({f.code for f in faults}) >= 6
    assert len(str(TtfsError(faults)).splitlines()) == 10


def sites(path: Path) -> Iterator[tuple[int, int, str]]:
    """First and last line, and source, of every statement that reports a broken rule."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        match node:
            case (
                ast.Expr(value=ast.Yield()) | ast.Raise(exc=ast.Call(func=ast.Name(id="ShapeError" | "_BadLineError")))
            ):
                pass
            case ast.Return(value=ast.List(elts=[_, *_]) | ast.Tuple(elts=[ast.Attribute(), *_])):
                pass
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr="append"))) if ast.unparse(
                owner
            ).endswith(("faults", "facts")):
                pass  # to faults or facts
            case _:
                continue
        yield node.lineno, node.end_lineno or node.lineno, ast.get_source_segment(source, node) or ""


def test_every_rule_has_a_net_that_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs all files under a tracer: a rule whose line none of them reaches has no test."""
    seen: dict[str, set[int]] = {str(IR / name): set() for name in RULES}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        lines = seen.get(frame.f_code.co_filename)
        if lines is None:
            return None
        lines.add(frame.f_lineno)
        return trace

    before, lark = sys.gettrace(), _parser()
    untraced = cast(Callable[[str], Any], lark.parse)  # pyright: ignore[reportUnknownMemberType]

    def quietly(line: str) -> Any:
        """Lark calls a thousand functions a line; none of them holds a rule."""
        sys.settrace(None)
        try:
            return untraced(line)
        finally:
            sys.settrace(trace)

    monkeypatch.setattr(lark, "parse", quietly)
    sys.settrace(trace)
    try:
        for path in FILES:
            faults_in(path.read_text(), path.name)
    finally:
        sys.settrace(before)
    count, silent = 0, list[str]()
    for name in RULES:
        for first, last, text in sites(IR / name):
            count += 1
            if seen[str(IR / name)].isdisjoint(range(first, last + 1)) and not any(e in text for e in ELSEWHERE):
                silent.append(f"{name}:{first}: {text}")
    assert count > 100, "the search for rules finds too few of them"
    assert not silent, "\n" + "\n".join(silent)
