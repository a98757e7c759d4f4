"""The generated C as the fast evaluator: compiled once into a shared library, called on whole test sets."""

import ctypes
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttfsc.backends.c.build import build
from ttfsc.ir import Array, Result, TtfsError, codes, show_shape
from ttfsc.ir.faults import Loc

_DTYPES = {"uint8_t": np.uint8, "int16_t": np.int16, "uint16_t": np.uint16, "int32_t": np.int32}
_BATCH_BYTES = 64 << 20  # of traced spikes at a time, where no batch size is asked for


@dataclass(frozen=True, slots=True)
class TracedLayer:
    """Where a layer's spikes lie in a trace."""

    name: str
    shape: tuple[int, ...]
    opens: int
    closes: int
    offset: int

    @property
    def size(self) -> int:
        """Neurons."""
        return int(np.prod(self.shape, dtype=np.int64))


class Engine:
    """A model's emitted C files, compiled and ready to run; gives what `ttfsc.ir.run` gives.

    files: as `emit` returns them, or the folder that holds them. threads: inputs evaluated at once, None: as many as
    there are processors (the C keeps all state with its caller, and ctypes lets go of the interpreter lock).
    flags, cache: see `build`.
    Raises TtfsError: no C compiler, files missing or damaged, or the compiler's own message.
    """

    def __init__(
        self, files: Mapping[str, bytes] | Path, *, threads: int | None = None, flags: tuple[str, ...] | None = None,
        cache: Path | None = None,
    ) -> None:  # fmt: skip
        where = Loc(str(files)) if isinstance(files, Path) else Loc("<emitted C>")
        sources = _read(files) if isinstance(files, Path) else dict(files)
        try:
            facts: dict[str, Any] = json.loads(sources["model.json"])
            given = facts["input"]
            self.name: str = facts["name"]
            self.shape = tuple(int(n) for n in given["shape"])
            self.low, self.high, self.scale = int(given["low"]), int(given["high"]), float(given["scale"])
            self._in = np.dtype(_DTYPES[given["type"]])
            self._spike = np.dtype(_DTYPES[facts["spike_type"]])
            self.classes = int(facts["classes"])
            small = facts["rule"] == "first_spike"
            self._scores = np.dtype((np.uint8 if facts["ticks"] < 256 else np.int32) if small else np.int64)
            self.layers = tuple(
                TracedLayer(d["name"], tuple(d["shape"]), d["opens"], d["closes"], d["offset"]) for d in facts["layers"]
            )
            self._blob = bool(facts["blob"])
        except (KeyError, TypeError, ValueError) as e:
            fact = f"model.json is missing or not what ttfsc writes ({type(e).__name__}: {e}); compile again"
            raise TtfsError.one(codes.DAMAGED, fact, loc=where) from e
        self.threads = max(1, threads or _processors())
        self.trace_len = max(1, sum(layer.size for layer in self.layers))
        self.library = build(sources, self.name, blob=self._blob, flags=flags, cache=cache, loc=where)
        library = ctypes.CDLL(str(self.library))
        self._batch: Callable[..., int] = library.ttfsc_host_batch
        library.ttfsc_host_batch.restype = library.ttfsc_host_state_bytes.restype = ctypes.c_int64
        library.ttfsc_host_batch.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64] + [ctypes.c_void_p] * 3
        # int32_t words, so that every array of the struct is aligned
        words = -(-int(library.ttfsc_host_state_bytes()) // 4)
        self._states = [np.zeros(words, np.int32) for _ in range(self.threads)]

    def run(
        self, x: Array, *, keep: Collection[str] | None = None, batch: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Result:  # fmt: skip
        """Evaluate x [N, *input shape]; arguments, result and errors as `ttfsc.ir.run`."""
        parts = list[Result]()
        for part in self.run_batches(x, keep=keep, batch=batch):
            parts.append(part)
            if progress is not None:
                progress(len(part.labels))
        return Result(
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.scores for p in parts]),
            {name: np.concatenate([p.spikes[name] for p in parts]) for name in parts[0].spikes},
        )

    def run_batches(
        self, x: Array, *, keep: Collection[str] | None = None, batch: int | None = None
    ) -> Iterator[Result]:
        """`run`, a batch at a time."""
        self._check(x)
        kept = tuple(layer for layer in self.layers if keep is None or layer.name in keep)
        if batch is None:
            batch = max(self.threads, min(4096, _BATCH_BYTES // (self.trace_len * self._spike.itemsize)))
        with ThreadPoolExecutor(self.threads) as pool:
            for i in range(0, len(x), batch):
                yield self._evaluate(pool, x[i : i + batch], kept)

    def _evaluate(self, pool: ThreadPoolExecutor, x: Array, kept: tuple[TracedLayer, ...]) -> Result:
        n = len(x)
        given = np.ascontiguousarray(x, self._in).reshape(n, -1)
        scores, labels = np.empty((n, self.classes), np.int32), np.empty(n, np.uint16)
        trace = np.empty((n, self.trace_len), self._spike) if kept else None

        def part(k: int) -> None:
            a, b = k * n // self.threads, (k + 1) * n // self.threads
            done = self._batch(
                self._states[k].ctypes.data, given[a:b].ctypes.data, b - a, scores[a:b].ctypes.data,
                labels[a:b].ctypes.data, None if trace is None else trace[a:b].ctypes.data,
            )  # fmt: skip
            assert done == b - a, f"the C refused input {a + done}, which was checked before"

        list(pool.map(part, range(self.threads)))
        spikes = dict[str, Array]()
        for layer in kept:
            assert trace is not None
            values = trace[:, layer.offset : layer.offset + layer.size].reshape(n, *layer.shape)
            spikes[layer.name] = values.astype(np.uint8 if layer.closes - layer.opens < 256 else np.int32)
        return Result(labels.astype(np.int64), scores.astype(self._scores), spikes)

    def _check(self, x: Array) -> None:
        """The rules of `ttfsc.ir.check_input`, from what the emitted files say."""
        fact = ""
        if x.ndim != len(self.shape) + 1 or x.shape[1:] != self.shape:
            fact = f"x is {show_shape(x.shape)}, must be N x {show_shape(self.shape)}"
        elif len(x) == 0:
            fact = "x holds no samples"
        elif x.dtype.kind not in "iub":
            fact = f"x is {x.dtype}; a quantised net takes integers, the source value divided by scale={self.scale}"
        elif x.min() < self.low or x.max() > self.high:
            fact = f"x reaches from {x.min()} to {x.max()}, declared are {self.low}..{self.high}"
        if fact:
            raise TtfsError.one(codes.INPUT, fact, subject="input")


def _processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(folder: Path) -> dict[str, bytes]:
    """The files of an emitted folder that a build needs."""
    endings = {".c", ".h", ".S", ".bin", ".json"}
    try:
        return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix in endings and p.is_file()}
    except OSError as e:
        raise TtfsError.one(codes.FILE, f"cannot be read: {e.strerror}", loc=Loc(str(folder))) from e
