"""The hand-written kernels of runtime/, made part of one model: C has no generics, so types are filled in here.

A kernel file is C by itself: its types come from ttfs_types.h, and preprocessor lines, which serve that alone, are
left out here. For a model every identifier `ttfs_x` becomes `<model>_x`, a kernel's own name gets its types behind it
(`mnist_rows_i16_u8`), and its type parameters become them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

RUNTIME = Path(__file__).parent / "runtime"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One file of runtime/: its type parameters, and the kernels it calls (their parameters are among its own)."""

    types: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    vector: bool = False  # <kernel>_vector.c does the same in GNU vectors
    compress: bool = False  # <kernel>_compress.c where the processor picks lanes out of a vector
    wide: bool = False  # made for WIDE as well, with the kernels in vectors that it calls; never inlined there
    dots: bool = False  # only where compilers can make code for processors that multiply and add bytes
    role: str = ""  # the name that its file and its callers know it by, if another
    file: str = ""  # the file's name, if another


KERNELS: dict[str, Kernel] = {
    "link": Kernel(),
    "pool": Kernel(),
    "unpack": Kernel(calls=("link",)),
    "add_codes": Kernel(("acc",), ("link",)),
    "add_row": Kernel(("acc",), ("add_codes", "unpack")),
    "rows": Kernel(("acc", "x", "hits"), ("add_row",)),
    "depthwise": Kernel(("acc", "x", "hits"), ("unpack",)),
    "hits_at": Kernel(calls=("pool",)),
    "rows_at": Kernel(("acc",), ("add_row", "hits_at")),
    "pool_sum": Kernel(("x", "sum", "hits"), ("pool",)),
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
    "bundle": Kernel(),
    "sort": Kernel(("long",), ("bundle",)),
    "move8": Kernel(("bytes",), vector=True),
    "window": Kernel(("bytes", "taps"), ("bundle", "move8")),
    "gather": Kernel(("uacc", "block", "flush"), vector=True),
    "gather_half": Kernel(("uacc", "block"), vector=True, role="gather"),
    "bundle_tile": Kernel(("uacc", "block", "bytes", "flush", "taps"), ("gather", "window"), wide=True),
    "bundle_tile_half": Kernel(
        ("uacc", "block", "bytes", "taps"), ("gather_half", "window"), wide=True, role="bundle_tile", file="bundle_tile"
    ),
    "pixels_tile": Kernel(("uacc", "x", "block"), ("bundle",), vector=True),
    "lists": Kernel(calls=("bundle",)),
    "list_cell": Kernel(("x", "hits", "bytes"), ("lists",), vector=True),
    "list_ends": Kernel(calls=("lists",)),
    "list": Kernel(("x", "hits", "bytes"), ("list_cell", "list_ends")),
    "pool_cell": Kernel(("x", "hits"), vector=True),
    "list_pooled": Kernel(("x", "hits", "bytes"), ("list_cell", "list_ends", "pool_cell")),
    "add_group": Kernel(("block",), ("lists",), vector=True),
    "add_rows": Kernel(("block", "budget"), ("add_group",), vector=True),
    "unload": Kernel(("uacc", "block"), vector=True),
    "walk": Kernel(("uacc", "block", "budget"), ("add_rows", "unload")),
    "walk_tile": Kernel(("uacc", "block", "budget"), ("walk",)),
    "buckets": Kernel(calls=("bundle",)),
    "bucket_row": Kernel(("long", "block"), ("buckets",), vector=True, compress=True),
    "bucket": Kernel(("long", "block"), ("bucket_row",), wide=True),
    "pile": Kernel(("block", "piled", "long", "budget"), ("buckets",), vector=True),
    "pile_out": Kernel(("block",), ("bundle",), vector=True),
    "slide_tile": Kernel(("block", "piled", "long", "budget"), ("pile", "pile_out"), vector=True, wide=True),
    "stride_tile": Kernel(("block", "piled", "long", "budget"), ("pile", "pile_out"), vector=True, wide=True),
    "spread_row": Kernel(("uacc",), vector=True),
    "spread": Kernel(("uacc", "x", "block"), ("bundle", "spread_row")),
    "depth": Kernel(),
    "own_inputs": Kernel(("x",), ("depth",)),
    "depth_row": Kernel(("uacc", "x")),
    "depth_rest": Kernel(("uacc", "x"), ("depth", "depth_row")),
    "depth_cell": Kernel(("uacc", "x", "block"), ("depth_rest",), vector=True),
    "depth_tile": Kernel(("uacc", "x", "block"), ("depth_cell", "depth_rest")),
    "dot": Kernel(),
    "dot_seen": Kernel(calls=("dot",)),
    "dot_lay": Kernel(("x", "hits"), ("dot_seen", "pool_cell")),
    "dot_copy": Kernel(calls=("dot_seen",)),
    "dot_vnni": Kernel(("uacc", "planes", "places", "vectors", "step"), ("dot",), dots=True),
    "dot_list": Kernel(("vectors",), ("dot",), dots=True),
    "dot_listed": Kernel(
        ("uacc", "planes", "places", "vectors", "step", "most", "few", "across"), ("dot_list", "dot_vnni"), dots=True
    ),
    "dot_avx2": Kernel(("places", "vectors", "step"), ("dot",), dots=True),
    "begin": Kernel(("uacc", "const")),
    "fire_few": Kernel(("uacc", "theta")),
    "fire_wide": Kernel(("theta",)),
    "fire_back": Kernel(("uacc", "theta", "block")),
    "settle_back": Kernel(("uacc",)),
}
WIDE = {"avx512": 64, "avx2": 32}  # bytes of a vector
_VECTORS = ("lanes", "bytes_t", "loads_t", "words_t", "doubles_t")
_SHORT = {"uint8_t": "u8", "int16_t": "i16", "uint16_t": "u16", "int32_t": "i32", "uint32_t": "u32"}


@dataclass(frozen=True, slots=True)
class Instance:
    """A kernel with its types and sizes: what a step calls."""

    kernel: str
    types: tuple[tuple[str, str], ...] = ()  # (parameter, C type or number), in the kernel's order

    @property
    def name(self) -> str:
        """Without the model's prefix."""
        return "_".join((self.kernel, *(_SHORT.get(t, t) for _, t in self.types)))

    @property
    def vector(self) -> bool:
        """Whether there is a variant in GNU vectors; pixels times weights are only for 16 bits."""
        narrow = self.kernel not in ("pixels_tile", "spread_row") or ("uacc", "uint16_t") in self.types
        if self.kernel == "depth_cell":
            narrow = {("uacc", "uint16_t"), ("x", "uint8_t")} <= set(self.types)
        return KERNELS[self.kernel].vector and narrow

    def calls(self) -> Iterator["Instance"]:
        """The instances this one calls."""
        given = dict(self.types)
        for other in KERNELS[self.kernel].calls:
            yield instance(other, **{p: given[p] for p in KERNELS[other].types})

    def text(self, prefix: str, *, vectors: bool = True) -> str:
        """The kernel's C for this model and these types; vectors: with its variants in these, if it has any."""
        file = KERNELS[self.kernel].file or self.kernel
        plain, macro = self._file(f"{file}.c", prefix), prefix.upper()
        if KERNELS[self.kernel].dots:
            return f"#if {macro}_DOTS > 0\n{plain}#endif\n"
        if not (self.vector and vectors):
            return plain
        vector = self._file(f"{file}_vector.c", prefix)
        first = f"#if defined({macro}_VECTORS)\n{vector}"
        if KERNELS[self.kernel].compress:
            special = self._file(f"{file}_compress.c", prefix)
            first = f"#if defined({macro}_COMPRESS)\n{special}#elif defined({macro}_VECTORS)\n{vector}"
        return f"{first}#else\n{plain}#endif\n"

    @property
    def in_vectors(self) -> bool:
        """Whether it, or a kernel it calls, has a variant in GNU vectors."""
        return self.vector or any(one.in_vectors for one in self.calls())

    def made_for(self, level: str, prefix: str) -> str:
        """Its variant in the vectors of a level of WIDE, under a name of its own."""
        file, kernel = KERNELS[self.kernel].file or self.kernel, KERNELS[self.kernel]
        if self.vector:
            file += "_compress" if kernel.compress and level == "avx512" else "_vector"
        return self._file(f"{file}.c", prefix, level)

    def _file(self, file: str, prefix: str, level: str = "") -> str:
        given = {(p if t.isdigit() else f"{p}_t"): t for p, t in self.types}
        called = {KERNELS[i.kernel].role or i.kernel: i.name for i in (self, *self.calls())}
        if level:
            also = {KERNELS[i.kernel].role or i.kernel for i in (self, *self.calls()) if i.in_vectors}
            called |= {role: f"{called[role]}_{level}" for role in also}
        if "block" in given:  # vectors are never wider than a row
            end = f"{given['block']}_{level}" if level else given["block"]
            given |= {word: f"{prefix}_{word}_{end}" for word in _VECTORS}

        def named(match: re.Match[str]) -> str:
            word = match[1]
            return given.get(word) or f"{prefix}_{called.get(word, word)}"

        source = (RUNTIME / file).read_text("utf-8")
        own = "".join(line for line in source.splitlines(keepends=True) if not line.startswith("#"))
        if level:
            how = "static" if KERNELS[self.kernel].wide else "TTFS_INLINE"
            own = own.replace("TTFS_INLINE", f"TTFS_ON_{level.upper()} {how}")
        own = re.sub(r"\bTTFS_(\w+)\b", lambda m: f"{prefix.upper()}_{m[1]}", own)
        return re.sub(r"\bttfs_(\w+)\b", named, own).strip() + "\n"


def instance(kernel: str, **types: str | int) -> Instance:
    """An instance; `types` (C types, sizes) must be exactly the kernel's parameters."""
    want = KERNELS[kernel].types
    assert set(types) == set(want), f"{kernel} takes {want}, not {sorted(types)}"
    return Instance(kernel, tuple((p, str(types[p])) for p in want))


def sources(one: Instance) -> list[str]:
    """Its kernel's file and its variants, as they are."""
    file = KERNELS[one.kernel].file or one.kernel
    names = [f"{file}.c", *([f"{file}_vector.c"] if one.vector else [])]
    names += [f"{file}_compress.c"] if KERNELS[one.kernel].compress else []
    return [(RUNTIME / name).read_text("utf-8") for name in names]


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


def texts(instances: Sequence[Instance], prefix: str, *, vectors: bool) -> list[str]:
    """The C of all kernels of a model, callees first; vectors: with the variants in these, and those for WIDE."""
    found = [one.text(prefix, vectors=vectors) for one in instances]
    again = with_callees([one for one in instances if KERNELS[one.kernel].wide]) if vectors else []
    wide = [one.made_for(level, prefix) for level in WIDE for one in again if one.in_vectors]
    return [*found, f"#if {prefix.upper()}_WIDE > 0\n", *wide, "#endif\n"] if wide else found
