"""report.json, report.txt and report.html from a report, and a report back from report.json."""

import json
from importlib.resources import files
from typing import cast

from ttfsc.backends.report.codec import decode, encode, schema_of
from ttfsc.backends.report.html import html_of
from ttfsc.backends.report.model import SCHEMA_VERSION, Report
from ttfsc.backends.report.text import text_of
from ttfsc.ir import Loc, TtfsError, codes

JSON, TEXT, HTML, SCHEMA = "report.json", "report.txt", "report.html", "report.schema.json"
MAX_BYTES = 256 << 20


def emit(report: Report) -> dict[str, bytes]:
    """The report's files: JSON, and its text and HTML views, made from what the JSON says."""
    stored = decode(Report, encode(report), source=JSON)  # views show rounded figures, now and when rendered again
    return {
        JSON: (json.dumps(encode(stored), indent=1, allow_nan=False) + "\n").encode(),
        TEXT: text_of(stored).encode(),
        HTML: html_of(stored).encode(),
    }


def from_json(data: object, *, source: str = JSON) -> Report:
    """A report from what json.loads gave. Raises TtfsError with everything that is wrong; nothing in it is trusted."""
    if isinstance(data, dict):
        version = cast("dict[str, object]", data).get("schema_version")
        if version != SCHEMA_VERSION or isinstance(version, bool):
            plain = isinstance(version, int) and not isinstance(version, bool) and abs(version) < 2**31
            shown = version if plain else "missing or no version"
            fact = f"schema_version is {shown}, this ttfsc reads {SCHEMA_VERSION}: use the ttfsc that wrote the report"
            raise TtfsError.one(codes.DAMAGED, fact, loc=Loc(source))
    return decode(Report, cast("object", data), source=source)


def read_json(content: bytes, *, source: str = JSON) -> Report:
    """A report from the bytes of a report.json. Raises TtfsError like `from_json`, and for what is no JSON."""
    if len(content) > MAX_BYTES:
        fact = f"holds {len(content)} bytes, a report has at most {MAX_BYTES}"
        raise TtfsError.one(codes.DAMAGED, fact, loc=Loc(source))
    try:
        data: object = json.loads(content)
    except (ValueError, RecursionError) as e:
        why = "nested too deeply" if isinstance(e, RecursionError) else str(e)
        raise TtfsError.one(codes.DAMAGED, f"is not JSON: {why}", loc=Loc(source)) from e
    return from_json(data, source=source)


def schema() -> bytes:
    """The JSON Schema of report.json, as shipped with ttfsc."""
    return files("ttfsc.backends.report").joinpath(SCHEMA).read_bytes()


def made_schema() -> bytes:
    """The schema as the declarations in `model` give it; the shipped file is this."""
    title = f"ttfsc report, version {SCHEMA_VERSION}"
    return (json.dumps(schema_of(Report, title=title), indent=1) + "\n").encode()
