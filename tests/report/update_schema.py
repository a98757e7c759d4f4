"""Rewrite ttfsc/backends/report/report.schema.json from the declarations: python -m tests.report.update_schema."""

from pathlib import Path

from ttfsc.backends import report
from ttfsc.backends.report.report import SCHEMA, made_schema

if __name__ == "__main__":
    Path(report.__file__).with_name(SCHEMA).write_bytes(made_schema())
