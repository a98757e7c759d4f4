"""Jinja, set up once and imported nowhere else here. Templates fill in names and numbers; kernels are C files."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ttfsc.backends.c.cgen import comment, integer, string, table

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    autoescape=False,  # C, not HTML
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters.update({"comment": comment, "string": string, "table": table, "integer": integer})  # pyright: ignore[reportUnknownMemberType]


def render(template: str, **context: object) -> bytes:
    """One file, as bytes with Unix line ends."""
    return _ENVIRONMENT.get_template(template).render(**context).encode()
