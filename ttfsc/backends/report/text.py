"""A report as plain text in fixed-width columns."""

import textwrap

from ttfsc.backends.report.model import Report
from ttfsc.backends.report.views import Table, clean, energy_table, facts, tables

_WIDTH = 140  # of running text; tables take what they need


def summary_of(r: Report) -> str:
    """What a compilation prints: the facts, and the energy lines with how each was computed."""
    lines = _facts(r)
    for table in (energy_table(r),) if r.energy else ():
        lines += ["", *_lines(table)]
    return "\n".join(lines) + "\n"


def text_of(r: Report) -> str:
    """The report for a terminal: facts first, then tables."""
    title = f"{clean(r.model.name)}: {clean(r.provenance.tool)} {clean(r.provenance.version)} report"
    lines = [title, "=" * len(title), "", *_facts(r)]
    for table in tables(r):
        lines += ["", *_lines(table)]
    if r.provenance.options:
        lines += ["", "Options", "-------"]
        lines += [f"{clean(key)} = {clean(value)}" for key, value in r.provenance.options.items()]
    return "\n".join(lines) + "\n"


def _facts(r: Report) -> list[str]:
    lines = list[str]()
    for label, value in facts(r):
        lines += textwrap.wrap(value, _WIDTH, initial_indent=f"{label:<10}", subsequent_indent=" " * 10)
    return lines


def _lines(table: Table) -> list[str]:
    left = [h.startswith("<") for h in table.headings]
    names = [h.removeprefix("<") for h in table.headings]
    widths = [max(len(row[i]) for row in (names, *table.rows)) for i in range(len(names))]
    lines = [table.title, "-" * len(table.title)]
    for row in [names, *table.rows] if any(names) else table.rows:
        cells = (c.ljust(w) if flush else c.rjust(w) for c, w, flush in zip(row, widths, left, strict=True))
        lines.append("  ".join(cells).rstrip())
    for note in table.notes:
        lines += textwrap.wrap(note, _WIDTH)
    return lines
