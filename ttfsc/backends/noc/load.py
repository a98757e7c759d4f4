"""Mapping files back into an image. Files are hostile until proven otherwise; what is wrong is named."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from ttfsc.backends.noc.check import image_faults
from ttfsc.backends.noc.document import core_hash, head_hash, image_from, tree_of
from ttfsc.backends.noc.image import BINARY, MAPPING, Image
from ttfsc.backends.noc.schema import form_faults
from ttfsc.hardware import UNITS
from ttfsc.ir import Fault, Loc, TtfsError, codes

MAX_JSON = 512 << 20
MAX_BINARY = 8 << 30
_MOST = 50
Table = dict[str, Any]


def read(folder: Path) -> Image:
    """The image in a folder of mapping files; raises TtfsError with what is wrong."""
    files, faults = dict[str, bytes](), list[Fault]()
    for name, limit in ((MAPPING, MAX_JSON), (BINARY, MAX_BINARY)):
        path = folder / name
        try:
            size = path.stat().st_size
            if size > limit:
                faults.append(Fault(codes.DAMAGED, Loc(str(path)), "", f"has {size} bytes, at most {limit} are read"))
            else:
                files[name] = path.read_bytes()
        except OSError as e:
            fact = "no such file" if isinstance(e, FileNotFoundError) else f"cannot be read: {e.strerror}"
            faults.append(Fault(codes.FILE, Loc(str(path)), "", fact))
    if faults:
        raise TtfsError(faults)
    return load(files)


def load(files: Mapping[str, bytes]) -> Image:
    """The image in these files, by the paths that `emit` gives. Raises TtfsError with all that can be told to be wrong.

    In this order: form of the document (schema), hashes of head, binary and every core, places and trees, and last
    everything that follows from the layers' shapes: memory layout, one place per neuron, exact delivery.
    """
    missing = [name for name in (MAPPING, BINARY) if name not in files]
    if missing:
        raise TtfsError(Fault(codes.FILE, Loc(f"noc/{name}"), "", "is missing") for name in missing)
    loc = Loc(f"noc/{MAPPING}")
    document = _parsed(files[MAPPING], loc)
    faults = form_faults(document, loc)
    if faults:
        raise TtfsError(faults)
    table = cast(Table, document)
    faults = [*_hash_faults(table, files[BINARY], loc), *_head_faults(table, loc), *_tree_faults(table, loc)]
    image = image_from(table, files[BINARY])
    faults += image_faults(image, loc)
    if faults:
        raise TtfsError(faults)
    return image


def _parsed(data: bytes, loc: Loc) -> object:
    if len(data) > MAX_JSON:
        raise TtfsError.one(codes.DAMAGED, f"has {len(data)} bytes, at most {MAX_JSON} are read", loc=loc)
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:
        what = str(e) or "nested too deeply"
        raise TtfsError.one(codes.DAMAGED, f"not JSON: {what}; truncated or changed", loc=loc) from e


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} occurs twice in one object")
    return table


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is not a number")


def _hash_faults(document: Table, binary: bytes, loc: Loc) -> Iterator[Fault]:
    """What differs from what was written, down to the core."""
    changed = "was changed after it was written"
    if head_hash(document) != document["sha256"]["head"]:
        yield Fault(codes.DAMAGED, loc, "head (everything but the cores)", changed)
    intact = sha256(binary).hexdigest() == document["sha256"]["cores.bin"]
    view, known, named = memoryview(binary), loc if intact else Loc(f"noc/{BINARY}"), 0
    cores: list[Table] = document["cores"]
    for core in cores:
        end = core["offset"] + core["bytes"]
        if end > len(binary):
            fact = f"its block ends at byte {end}, the file has {len(binary)}: truncated"
        elif core_hash(core, view[core["offset"] : end]) != core["sha256"]:
            what = "" if intact else f" or its weights, biases or thresholds (bytes {core['offset']}..{end})"
            fact = f"its record{what} {changed}"
        else:
            continue
        named += 1
        if named <= _MOST:
            yield Fault(codes.DAMAGED, known, f"core {core['id']}", fact)
    if named > _MOST:
        yield Fault(codes.DAMAGED, known, "", f"{named - _MOST} more cores are damaged")
    if not intact:
        yield Fault(codes.DAMAGED, known, "", changed)


def _head_faults(document: Table, loc: Loc) -> Iterator[Fault]:
    """What the image does not keep: that figures are those of a chip, and that an input's range and window agree."""
    figures: dict[str, Table | None] = document["chip"]["figures"]
    for key in sorted(figures.keys() | UNITS.keys()):
        figure = figures.get(key)
        if key not in UNITS or key not in figures:
            fact = f"is {'no figure of a chip' if key in figures else 'missing; write null where it is not known'}"
            yield Fault(codes.MAPPING, loc, f"chip.figures.{key}", fact)
        elif figure is not None and figure["unit"] != UNITS[key]:
            yield Fault(codes.MAPPING, loc, f"chip.figures.{key}", f"is in {figure['unit']!r}, must be {UNITS[key]!r}")
    given: Table = document["input"]
    opens, closes = given["opens"], given["closes"]
    if given["type"] == "analog" and (opens, closes) != (None, None):
        yield Fault(
            codes.MAPPING, loc, f"input %{given['name']}", "is analog and has no window: opens and closes are null"
        )
    elif given["type"] == "spikes" and (
        opens is None or closes is None or (given["low"], given["high"]) != (0, closes - opens)
    ):
        fact = f"has values {given['low']}..{given['high']}, spikes of the window {opens}..{closes} have others"
        yield Fault(codes.MAPPING, loc, f"input %{given['name']}", fact)


def _tree_faults(document: Table, loc: Loc) -> Iterator[Fault]:
    """Trees must be the XY (or YX) trees of the places: a core that was moved shows up in the trees that reach it."""
    cores: list[Table] = document["cores"]
    places: dict[int, tuple[int, int]] = {core["id"]: (core["place"][0], core["place"][1]) for core in cores}
    order: str = document["mesh"]["routing"]
    multicast, named = document["mesh"]["delivery"] == "multicast", 0
    for core in cores:
        for i, route in enumerate(core["routes"]):
            targets = [places[to] for to in route["to"] if to in places]
            if route["tree"] == (tree_of(places[core["id"]], targets, order) if multicast else None):
                continue
            named += 1
            if named <= _MOST:
                fact = f"route {i}: its tree does not lead from {places[core['id']]} to the places of its destinations"
                yield Fault(codes.MAPPING, loc, f"core {core['id']}", fact)
    if named > _MOST:
        yield Fault(codes.MAPPING, loc, "", f"{named - _MOST} more routes have wrong trees")
