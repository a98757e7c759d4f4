"""The hand-written kernels of runtime/, made part of one model: C has no generics, so types are filled in here.

A kernel file is C by itself: its types come from ttfs_types.h, and preprocessor lines, which serve that alone, are
left out here. For a model every identifier `ttfs_x` becomes `<model>_x`, a kernel's own name gets its types behind it
(`mnist_rows_i16_u8`), and its type parameters become them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUNTIME = Path(__file__).parent / "runtime"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One file of runtime/: its type parameters, and the kernels it calls (their parameters are among its own)."""

    types: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()


KERNELS: dict[str, Kernel] = {
    "link": Kernel(),
    "pool": Kernel(),
    "unpack": Kernel(calls=("link",)),
    "add_codes": Kernel(("acc",), ("link",)),
    "add_row": Kernel(("acc",), ("add_codes", "unpack")),
    "rows": Kernel(("acc", "x"), ("add_row",)),
    "depthwise": Kernel(("acc", "x"), ("unpack",)),
    "hits_at": Kernel(calls=("pool",)),
    "rows_at": Kernel(("acc",), ("add_row", "hits_at")),
    "pool_sum": Kernel(("x", "sum"), ("pool",)),
    "max_pool": Kernel(("x",), ("pool",)),
    "start": Kernel(("acc",)),
    "add": Kernel(("acc",)),
    "leak": Kernel(("acc",)),
    "fire_at": Kernel(("acc", "theta")),
    "fire": Kernel(("acc", "theta"), ("add", "fire_at")),
    "silence": Kernel(),
    "force_last": Kernel(),
    "settle": Kernel(("acc",), ("add",)),
    "recall_at": Kernel(("acc",)),
    "encode": Kernel(("x",)),
    "in_range": Kernel(),
    "take": Kernel(),
    "show": Kernel(),
    "best": Kernel(),
    "first": Kernel(),
    "weigh": Kernel(),
}
_SHORT = {"uint8_t": "u8", "int16_t": "i16", "uint16_t": "u16", "int32_t": "i32"}


@dataclass(frozen=True, slots=True)
class Instance:
    """A kernel with its types: what a step calls."""

    kernel: str
    types: tuple[tuple[str, str], ...] = ()  # (parameter, C type), in the kernel's order

    @property
    def name(self) -> str:
        """Without the model's prefix."""
        return "_".join((self.kernel, *(_SHORT[t] for _, t in self.types)))

    def calls(self) -> Iterator["Instance"]:
        """The instances this one calls."""
        given = dict(self.types)
        for other in KERNELS[self.kernel].calls:
            yield instance(other, **{p: given[p] for p in KERNELS[other].types})

    def text(self, prefix: str) -> str:
        """The kernel's C for this model and these types."""
        given = {f"{p}_t": t for p, t in self.types}
        called = {i.kernel: i.name for i in (self, *self.calls())}

        def named(match: re.Match[str]) -> str:
            word = match[1]
            return given.get(word) or f"{prefix}_{called.get(word, word)}"

        source = (RUNTIME / f"{self.kernel}.c").read_text("utf-8")
        own = "".join(line for line in source.splitlines(keepends=True) if not line.startswith("#"))
        own = re.sub(r"\bTTFS_(\w+)\b", lambda m: f"{prefix.upper()}_{m[1]}", own)
        return re.sub(r"\bttfs_(\w+)\b", named, own).strip() + "\n"


def instance(kernel: str, **types: str) -> Instance:
    """An instance; `types` must be exactly the kernel's parameters."""
    want = KERNELS[kernel].types
    assert set(types) == set(want), f"{kernel} takes {want}, not {sorted(types)}"
    return Instance(kernel, tuple((p, types[p]) for p in want))


def with_callees(wanted: list[Instance]) -> list[Instance]:
    """Everything needed, each once, callees first."""
    done = dict[Instance, None]()

    def visit(one: Instance) -> None:
        for other in one.calls():
            visit(other)
        done.setdefault(one)

    for one in wanted:
        visit(one)
    return list(done)
