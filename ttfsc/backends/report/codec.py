"""Frozen dataclasses to JSON and back, and their JSON Schema: one declaration, three uses.

Reading trusts nothing: unknown and missing keys, wrong types, negative counts, NaN and oversized values are all
reported together. Numbers are not negative unless their field says `SIGNED`.
"""

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ttfsc.ir import Fault, Loc, TtfsError, codes

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Complain = Callable[[str, str], None]
T = TypeVar("T")

SIGNED = "signed"
DIGITS = 9  # significant digits of a stored float: more than any figure here deserves, fewer than platforms differ in
MAX_TEXT = 10_000
MAX_ITEMS = 1_000_000
MAX_INT = 2**53  # larger integers do not survive other JSON readers
MAX_FLOAT = 1e300  # leaves the views room to add and scale
MAX_FAULTS = 50


def encode(value: object) -> Json:
    """A dataclass (or a value one may hold) as JSON data; floats rounded to 9 significant digits."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        assert math.isfinite(value), f"{value} is no figure"
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, tuple):
        return [encode(v) for v in cast("tuple[object, ...]", value)]
    if isinstance(value, dict):
        return {key: encode(v) for key, v in cast("dict[str, object]", value).items()}
    assert is_dataclass(value), f"{type(value)} has no JSON form"
    return {f.name: encode(getattr(value, f.name)) for f in fields(value)}


def decode(cls: type[T], value: object, *, source: str) -> T:
    """The dataclass that `value` (from json.loads) describes. Raises TtfsError with everything that does not fit."""
    faults = list[Fault]()

    def complain(where: str, fact: str) -> None:
        if len(faults) < MAX_FAULTS:
            faults.append(Fault(codes.DAMAGED, Loc(source), where, fact))

    made = _read(cls, value, "", complain)
    if faults:
        raise TtfsError(faults)
    return cast("T", made)


def schema_of(cls: type, *, title: str) -> dict[str, Json]:
    """The JSON Schema (draft 2020-12) of what `encode` writes and `decode` accepts."""
    defs = dict[str, Json]()
    top = _schema(cls, "", defs)
    head: dict[str, Json] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    assert isinstance(top, dict)
    return {**head, **top, "$defs": dict(sorted(defs.items()))}


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _bare(hint: Any) -> tuple[Any, tuple[str, ...]]:
    """The type without its notes, and the notes."""
    if get_origin(hint) is Annotated:
        inner, *notes = get_args(hint)
        return inner, tuple(str(n) for n in notes)
    return hint, ()


def _or_none(hint: Any) -> Any | None:
    """X, if the hint is X | None."""
    if get_origin(hint) in (Union, UnionType):
        (member,) = [a for a in get_args(hint) if a is not NoneType]
        return member
    return None


def _read(hint: Any, value: object, where: str, complain: Complain, signed: bool = False) -> object:
    hint, notes = _bare(hint)
    signed = signed or SIGNED in notes
    member = _or_none(hint)
    if member is not None:
        return None if value is None else _read(member, value, where, complain, signed)
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint) or isinstance(value, bool):
            complain(where, f"is {_shown(value)}, must be {' or '.join(map(repr, get_args(hint)))}")
        return value
    if origin is tuple:
        return _read_tuple(get_args(hint), value, where, complain, signed)
    if origin is dict:
        return _read_dict(value, where, complain)
    if is_dataclass(hint):
        return _read_fields(cast("type", hint), value, where, complain)
    return _read_plain(hint, value, where, complain, signed)


def _read_plain(hint: Any, value: object, where: str, complain: Complain, signed: bool) -> object:
    if hint is bool or hint is str:
        if not isinstance(value, hint):
            complain(where, f"is {_shown(value)}, must be {'true or false' if hint is bool else 'a text'}")
        elif isinstance(value, str) and len(value) > MAX_TEXT:
            complain(where, f"has {len(value)} characters, at most {MAX_TEXT} are allowed")
        return value
    kind = "an integer" if hint is int else "a number"
    if isinstance(value, bool) or not isinstance(value, int if hint is int else int | float):
        complain(where, f"is {_shown(value)}, must be {kind}")
        return value
    if not (abs(value) <= MAX_INT if isinstance(value, int) else math.isfinite(value) and abs(value) <= MAX_FLOAT):
        complain(where, f"is {_shown(value)}, must be {kind} of ordinary size")
        return value
    if value < 0 and not signed:
        complain(where, f"is {_shown(value)}, must not be negative")
    return value if hint is int else float(value)


def _read_tuple(args: tuple[Any, ...], value: object, where: str, complain: Complain, signed: bool) -> object:
    if not isinstance(value, list):
        complain(where, f"is {_shown(value)}, must be a list")
        return ()
    items = cast("list[object]", value)
    if args[-1] is Ellipsis:
        if len(items) > MAX_ITEMS:
            complain(where, f"has {len(items)} entries, at most {MAX_ITEMS} are allowed")
            return ()
        args = (args[0],) * len(items)
    elif len(items) != len(args):
        complain(where, f"has {len(items)} entries, must have {len(args)}")
        return ()
    pairs = enumerate(zip(args, items, strict=True))
    return tuple(_read(hint, item, f"{where}[{i}]", complain, signed) for i, (hint, item) in pairs)


def _read_dict(value: object, where: str, complain: Complain) -> object:
    if not isinstance(value, dict):
        complain(where, f"is {_shown(value)}, must be an object of texts")
        return {}
    items = cast("dict[str, object]", value)
    for key, text in items.items():
        _read_plain(str, key, f"{where} key", complain, False)
        _read_plain(str, text, f"{where}.{_shown(key)}", complain, False)
    return dict(items)


def _read_fields(cls: type, value: object, where: str, complain: Complain) -> object:
    if not isinstance(value, dict):
        complain(where, f"is {_shown(value)}, must be an object")
        return None
    found, hints = cast("dict[str, object]", value), _hints(cls)
    lead = f"{where}." if where else ""
    for key in found:
        if key not in hints:
            complain(where, f"has an unknown key {_shown(key)}")
    for key in hints:
        if key not in found:
            complain(where, f"has no key {key!r}")
    read = {key: _read(hints[key], found[key], f"{lead}{key}", complain) for key in hints if key in found}
    return cls(**read) if len(read) == len(hints) else None


def _shown(value: object) -> str:
    """A short, printable picture of something that was not expected."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = ascii(value) if not isinstance(value, int) or abs(value) <= MAX_INT else "a huge integer"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _schema(hint: Any, key: str, defs: dict[str, Json]) -> Json:
    hint, notes = _bare(hint)
    says = " ".join(n for n in notes if n != SIGNED)
    made = _schema_bare(hint, SIGNED in notes, defs)
    assert isinstance(made, dict)
    return {**made, "description": says} if says else made


def _schema_bare(hint: Any, signed: bool, defs: dict[str, Json]) -> Json:
    member = _or_none(hint)
    if member is not None:
        return {"anyOf": [_schema_bare(member, signed, defs), {"type": "null"}]}
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(args)}
    if origin is dict:
        return {"type": "object", "additionalProperties": {"type": "string", "maxLength": MAX_TEXT}}
    if origin is tuple:
        if args[-1] is Ellipsis:
            return {"type": "array", "maxItems": MAX_ITEMS, "items": _schema_bare(args[0], signed, defs)}
        items = [_schema_bare(a, signed, defs) for a in args]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if is_dataclass(hint):
        return _schema_fields(cast("type", hint), defs)
    if hint is str:
        return {"type": "string", "maxLength": MAX_TEXT}
    if hint is bool:
        return {"type": "boolean"}
    number: dict[str, Json] = {"type": "integer", "maximum": MAX_INT} if hint is int else {"type": "number"}
    return {**number, "minimum": -MAX_INT} if signed else {**number, "minimum": 0}


def _schema_fields(cls: type, defs: dict[str, Json]) -> Json:
    if cls.__name__ not in defs:
        defs[cls.__name__] = None  # holds the place: a class may be met again inside
        hints = _hints(cls)
        defs[cls.__name__] = {
            "type": "object",
            "additionalProperties": False,
            "required": list(hints),
            "properties": {key: _schema(hint, key, defs) for key, hint in hints.items()},
        }
    return {"$ref": f"#/$defs/{cls.__name__}"}
