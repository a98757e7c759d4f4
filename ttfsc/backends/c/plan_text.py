"""The kernel plan of emitted C as lines to read: which kernel computes a layer, why, at what predicted cost."""

import json
from dataclasses import fields

from ttfsc.backends.c.plan import Choice
from ttfsc.ir import Loc, TtfsError, codes


def choices_of(model: bytes, loc: Loc) -> list[Choice]:
    """The plan in a model.json. Raises TtfsError (DAMAGED) where there is none as this version writes it."""
    try:
        rows = json.loads(model)["plan"]
        return [Choice(**{f.name: row[f.name] for f in fields(Choice)}) for row in rows]
    except (KeyError, TypeError, ValueError) as e:
        fact = f"model.json holds no kernel plan ({type(e).__name__}: {e}); compile again"
        raise TtfsError.one(codes.DAMAGED, fact, loc=loc) from e


def plan_lines(choices: list[Choice]) -> list[str]:
    r"""A line for each layer: name, kernel, predicted kilocycles per input and their share, reason; then the sum.

    >>> choices = [Choice("a", "packed rows", "least memory", 30.0), Choice("out", "events", "x", 10.0)]
    >>> print(*plan_lines(choices), sep="\n")
    layer  kernel       kilocycles  share  reason
    a      packed rows        30.0   75 %  least memory
    out    events             10.0   25 %  x
    all                       40.0  100 %  predicted, per input, where three in ten inputs fire
    """
    total = sum(choice.kilocycles for choice in choices)
    name = max(len("layer"), *(len(choice.layer) for choice in choices))
    kernel = max(len("kernel"), *(len(choice.kernel) for choice in choices))

    def line(a: str, b: str, cycles: str, share: str, reason: str) -> str:
        return f"{a:{name}}  {b:{kernel}}  {cycles:>10}  {share:>5}  {reason}"

    rows = [
        line(c.layer, c.kernel, f"{c.kilocycles:.1f}", f"{100 * c.kilocycles / max(total, 0.1):.0f} %", c.reason)
        for c in choices
    ]
    end = line("all", "", f"{total:.1f}", "100 %", "predicted, per input, where three in ten inputs fire")
    return [line("layer", "kernel", "kilocycles", "share", "reason"), *rows, end]
