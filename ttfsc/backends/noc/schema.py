"""Checks parsed JSON against the shipped schema: the few keywords of JSON Schema that our schemas use.

Users need no validator installed, and the schema in the package is the only description of the format's form; the
tests hold this reader against a full implementation.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, cast

from ttfsc.ir import Fault, Loc, codes

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_MOST = 50  # faults of form after which a file is simply not one of ours


@cache
def mapping_schema() -> dict[str, Any]:
    """The schema of mapping.json."""
    return json.loads(schema_bytes())


def schema_bytes() -> bytes:
    """The schema file as it ships."""
    return files("ttfsc.backends.noc").joinpath("mapping.schema.json").read_bytes()


def form_faults(document: object, loc: Loc) -> list[Fault]:
    """Where a document departs from the schema, with the path of each place."""
    schema = mapping_schema()
    found = list[Fault]()
    for path, fact in _facts(document, schema, schema, ""):
        found.append(Fault(codes.DAMAGED, loc, path or "the document", fact))
        if len(found) == _MOST:
            found.append(Fault(codes.DAMAGED, loc, "", f"more than {_MOST} faults of form; the rest is not listed"))
            break
    return found


def _facts(value: object, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, _TYPES[k]) and isinstance(value, bool) == (k == "boolean") for k in kinds):
        yield path, f"is {_shown(value)}, must be {' or '.join(kinds)}"
        return
    if "const" in schema and value != schema["const"]:
        yield path, f"is {_shown(value)}, must be {_shown(schema['const'])}"
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"is {_shown(value)}, must be one of {', '.join(map(_shown, schema['enum']))}"
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield path, f"is {_shown(value)}, must match {schema['pattern']}"
        if len(value) > schema.get("maxLength", len(value)):
            yield path, f"is longer than {schema['maxLength']} characters"
    elif isinstance(value, int | float):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high:
            yield path, f"is {value}, must lie in {low}..{high}"
    elif isinstance(value, list):
        items = cast(list[object], value)
        low, high = schema.get("minItems", 0), schema.get("maxItems", len(items))
        if not low <= len(items) <= high:
            yield path, f"has {len(items)} items, must have {low if low == high else f'{low}..{high}'}"
        elif "items" in schema:
            for i, item in enumerate(items):
                yield from _facts(item, schema["items"], root, f"{path}[{i}]")
    elif isinstance(value, dict):
        yield from _members(cast(dict[str, object], value), schema, root, f"{path}." if path else "")


def _members(
    table: dict[str, object], schema: dict[str, Any], root: dict[str, Any], path: str
) -> Iterator[tuple[str, str]]:
    known, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key in schema.get("required", ()):
        if key not in table:
            yield f"{path}{key}", "is missing"
    for key, item in table.items():
        if key in known:
            yield from _facts(item, known[key], root, f"{path}{key}")
        elif isinstance(extra, dict):
            yield from _facts(item, cast(dict[str, Any], extra), root, f"{path}{key}")
        elif not extra:
            yield f"{path}{key}", "is not part of the format"


def _shown(value: object) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case _:
            text = json.dumps(value)
            return text if len(text) <= 60 else text[:57] + "..."
