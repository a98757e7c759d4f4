"""Trained models to nets. The readers themselves are imported where they are used: they may need torch."""

from typing import NamedTuple


class SupportedOp(NamedTuple):
    """One row of the table of what is understood: a name of the source framework, its kind, and what to know."""

    name: str
    kind: str
    notes: str


def supported_ops() -> list[SupportedOp]:
    """Everything that the frontends understand, sorted by kind and name; needs no torch."""
    from ttfsc.frontends.torch_rules import RULES

    kinds = ("module", "function", "method", "aten")
    rows = [SupportedOp(name, rule.kind_of(name), rule.notes) for name, rule in RULES.items()]
    return sorted(rows, key=lambda row: (kinds.index(row.kind), row.name))
