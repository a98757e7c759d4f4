"""Trained models to nets. The readers themselves are imported where they are used: they may need torch."""

from typing import NamedTuple


class SupportedOp(NamedTuple):
    """One row of the table of what is understood: a name of the source framework, its kind, and what to know."""

    name: str
    kind: str
    notes: str


def supported_ops() -> list[SupportedOp]:
    """Everything that the frontends understand, sorted by kind and name; needs no torch."""
    from ttfsc.frontends import onnx_rules, torch_rules

    kinds = ("module", "function", "method", "aten", "onnx")
    rows = [SupportedOp(name, rule.kind_of(name), rule.notes) for name, rule in torch_rules.RULES.items()]
    rows += [SupportedOp(name, "onnx", rule.notes) for name, rule in onnx_rules.RULES.items()]
    rows += [SupportedOp(name, "onnx", onnx_rules.CONSTANTS) for name in onnx_rules.ONLY_FOLDED]
    return sorted(rows, key=lambda row: (kinds.index(row.kind), row.name))
