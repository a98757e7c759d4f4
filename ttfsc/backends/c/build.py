"""Emitted C -> shared library on this host, kept in a cache keyed by everything that went into it."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache as once
from pathlib import Path

from ttfsc.backends.c.render import render
from ttfsc.ir import Loc, TtfsError, codes

NATIVE = ("-O3", "-march=native")
PORTABLE = ("-O3",)
_COMPILERS = ("cc", "gcc", "clang")
_SHARED = ("-std=c99", "-fPIC", "-shared", "-fvisibility=hidden")


def compiler() -> str:
    """The host's C compiler: $CC, or the first of cc, gcc, clang on PATH. Raises TtfsError where there is none."""
    wanted = os.environ.get("CC", "")
    for candidate in (wanted,) if wanted else _COMPILERS:
        found = shutil.which(candidate)
        if found:
            return found
    fact = f"no C compiler: {f'CC={wanted}' if wanted else ', '.join(_COMPILERS)} not found; install gcc or clang"
    raise TtfsError.one(codes.TOOL, fact, subject="engine c")


def build(
    files: Mapping[str, bytes], name: str, *, blob: bool, flags: tuple[str, ...] | None, cache: Path | None, loc: Loc
) -> Path:
    """The shared library of a model, from the cache if it has been built before.

    flags: optimisation flags; None: -O3 -march=native, and -O3 alone where the compiler refuses that.
    cache: folder for libraries; None: ttfsc/c below $XDG_CACHE_HOME or ~/.cache.
    Raises TtfsError: no compiler, a source file missing, or what the compiler said.
    """
    sources = {f"{name}.h", f"{name}.c"}
    if blob:
        sources |= {f"{name}_weights.S", f"{name}_weights.bin"}
    missing = sorted(sources - set(files))
    if missing or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        fact = f"misses {', '.join(missing)}; compile again" if missing else f"{name!r} is no C prefix"
        raise TtfsError.one(codes.DAMAGED, fact, loc=loc)
    program = compiler()
    parts = {n: files[n] for n in sorted(sources)}
    parts["host.c"] = render("host.c.j2", p=name, P=name.upper(), weights=f"{name}_weights, " if blob else "")
    tries = (flags,) if flags is not None else (NATIVE, PORTABLE)
    folder = _folder(cache)
    message = ""
    for options in tries:
        target = folder / f"{name}-{_key(program, options, parts)}.so"
        if target.is_file():
            return target
        message = _compile(program, options, parts, target)
        if not message:
            return target
    raise TtfsError.one(codes.TOOL, f"{Path(program).name} refused the generated C:\n{message}", loc=loc)


def _key(program: str, options: tuple[str, ...], parts: Mapping[str, bytes]) -> str:
    """Content, flags, compiler and machine: -march=native code of one host may not run on another."""
    h = hashlib.sha256()
    for part in (program.encode(), _version(program), " ".join((*_SHARED, *options)).encode(), _machine()):
        h.update(hashlib.sha256(part).digest())
    for name, content in parts.items():
        h.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(content).digest())
    return h.hexdigest()[:32]


@once
def _version(program: str) -> bytes:
    return subprocess.run([program, "--version"], capture_output=True, check=False).stdout


@once
def _machine() -> bytes:
    """What -march=native looks at."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.node()}".encode()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})).encode()


def _folder(cache: Path | None) -> Path:
    """The cache folder, made; a private temporary one where the usual place cannot be written."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    folder = cache or (Path(base) if base else Path.home() / ".cache") / "ttfsc" / "c"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="ttfsc-c-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="ttfsc-c-"))


def _compile(program: str, options: tuple[str, ...], parts: Mapping[str, bytes], target: Path) -> str:
    """Compile and put in place; the compiler's complaint, empty if there was none."""
    with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as work:
        for name, content in parts.items():
            (Path(work) / name).write_bytes(content)
        inputs = [name for name in parts if name.endswith((".c", ".S"))]
        command = [program, *_SHARED, *options, "-o", "model.so", *inputs]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip() or f"exit code {done.returncode}")[:4000]
        (Path(work) / "model.so").replace(target)  # at once: another process sees the whole file or none
    return ""
