"""The output folder: written beside its place and renamed, so a failed run leaves the old one whole."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, cast

from ttfsc import __version__
from ttfsc.ir import Fault, Loc, TtfsError, codes

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1


def manifest(files: Mapping[str, bytes], options: Mapping[str, object]) -> bytes:
    """sha256 of every file, the options and versions that made them; no date, path or user."""
    content = {
        "schema_version": MANIFEST_VERSION,
        "made_by": f"ttfsc {__version__}",
        "options": dict(options),
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Raise TtfsError unless `folder` may be written; asked before any work is done."""
    loc = Loc(str(folder))
    if folder.exists() and not overwrite:
        raise TtfsError.one(codes.FILE, "exists already; give --overwrite to replace it", loc=loc)
    if folder.exists() and not (folder / MANIFEST).is_file():
        fact = f"is not a folder that ttfsc made (it has no {MANIFEST}); choose another, or remove it yourself"
        raise TtfsError.one(codes.FILE, fact, loc=loc)


def write_folder(folder: Path, files: Mapping[str, bytes], options: Mapping[str, object], *, overwrite: bool) -> None:
    """Write all files and the manifest, or nothing. Raises TtfsError when the place is taken or cannot be written."""
    check_free(folder, overwrite=overwrite)
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, content in {**files, MANIFEST: manifest(files, options)}.items():
                path = fresh / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            fresh.chmod(0o755)
            if folder.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
                folder.rename(old / folder.name)
                fresh.rename(folder)
                shutil.rmtree(old)
            else:
                fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as e:
        raise TtfsError.one(codes.FILE, f"cannot be written: {e.strerror or e}", loc=Loc(str(folder))) from e


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file named in the manifest, hashes checked. Raises TtfsError naming each that is missing or changed."""
    path = folder / MANIFEST
    loc = Loc(str(path))
    try:
        content: object = json.loads(path.read_bytes())
    except OSError as e:
        raise TtfsError.one(codes.FILE, "no such file: is this a folder made by `ttfsc compile`?", loc=loc) from e
    except ValueError as e:
        raise TtfsError.one(codes.DAMAGED, f"is not JSON: {e}", loc=loc) from e
    hashes = cast("dict[str, Any]", content).get("files") if isinstance(content, dict) else None
    if not isinstance(hashes, dict):
        raise TtfsError.one(codes.DAMAGED, "does not list the files of the folder; compile again", loc=loc)
    files, faults = dict[str, bytes](), list[Fault]()
    for name, digest in cast("dict[str, object]", hashes).items():
        where = Loc(str(folder / name))
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            faults.append(Fault(codes.DAMAGED, loc, name, "points outside of the folder"))
            continue
        try:
            files[name] = (folder / name).read_bytes()
        except OSError:
            faults.append(
                Fault(codes.DAMAGED, where, "", "is listed in the manifest but cannot be read; compile again")
            )
            continue
        if hashlib.sha256(files[name]).hexdigest() != digest:
            faults.append(Fault(codes.DAMAGED, where, "", "has been changed since it was compiled (sha256 differs)"))
    if faults:
        raise TtfsError(faults)
    return files


def options_of(folder: Path) -> dict[str, Any]:
    """The options a folder was compiled with, as its manifest has them."""
    content: object = json.loads((folder / MANIFEST).read_bytes())
    options = cast("dict[str, Any]", content).get("options") if isinstance(content, dict) else None
    return cast("dict[str, Any]", options) if isinstance(options, dict) else {}
