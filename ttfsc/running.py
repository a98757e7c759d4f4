"""`ttfsc run`: a net or compiled folder on inputs, by the engine of choice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ttfsc.compiler import noc_engine, onnx_engine, onnx_files, part_of
from ttfsc.console import progress
from ttfsc.inputs import Samples, load_samples
from ttfsc.ir import Array, Const, Fire, Loc, Net, Result, Spikes, TtfsError, codes, run_batches, save_npz, ticks_of
from ttfsc.models import Source, load_compiled, load_model, need_integer
from ttfsc.output import options_of
from ttfsc.verification import Engine

COMPACT = "cortex-m"  # kernels made for little memory: not what a host evaluates test sets with
_BATCH = 256
_Batches = Callable[[Array], Iterator[Result]]


def run_inputs(path: Path, *, inputs: Path, output: Path | None, engine: str, spikes: bool) -> None:
    """Evaluate the inputs, store what was asked for, and print accuracy or labels."""
    net, files = load_compiled(path) if path.is_dir() else (need_integer(load_model(Source(str(path))), path), {})
    samples = load_samples(inputs, net)
    names = [op.name for op in net.ops if isinstance(op.type, Spikes) and isinstance(op, Fire)] if spikes else []
    batches = _Asked(net, files, path, tuple(names)).batches(engine)
    parts = list[Result]()
    with progress(f"running ({engine})", len(samples)) as advance:
        for result in batches(samples.x):
            parts.append(Result(result.labels, result.scores, {n: result.spikes[n] for n in names}))
            advance(len(result.labels))
    labels = np.concatenate([p.labels for p in parts])
    if output is not None:
        arrays = dict[Const, Array]()
        arrays[Const("label")] = labels
        arrays[Const("scores")] = np.concatenate([p.scores for p in parts])
        for name in names:
            window = net.type_of(name)
            assert isinstance(window, Spikes)
            arrays[Const(f"ticks.{name}")] = ticks_of(np.concatenate([p.spikes[name] for p in parts]), window)
        save_npz(output, arrays)
    print(f"{len(samples)} inputs, engine {engine}{_accuracy(labels, samples)}")
    if output is None:
        print("labels:", *labels[:20], "..." if len(labels) > 20 else "")


@dataclass(frozen=True)
class _Asked:
    """What is to be run: a net, the files of its compiled folder if it has one, and which layers' spikes to keep."""

    net: Net
    files: dict[str, bytes]
    path: Path
    keep: tuple[str, ...]

    def batches(self, engine: str) -> _Batches:
        """The engine as a function of all inputs that yields a result per batch."""
        part = part_of(self.files, engine)
        match engine:
            case "ir":
                return lambda x: run_batches(self.net, x, batch=_BATCH)
            case "c":
                return self._in_c(part)
            case "onnx":
                return _in_batches(onnx_engine(part or onnx_files(self.net), spikes=bool(self.keep)))
            case _:
                if not part:
                    fact = f"engine {engine} needs a folder compiled with --target {engine}"
                    raise TtfsError.one(codes.OPTION, fact, loc=Loc(str(self.path)))
                return _in_batches(noc_engine(part))

    def _in_c(self, part: dict[str, bytes]) -> _Batches:
        """Fast kernels: the folder's own C, or, where that is the compact variant, C made for this machine."""
        from ttfsc.backends.c import Engine as CEngine
        from ttfsc.backends.c import emit_model

        if not part or options_of(self.path).get("cpu") == COMPACT:
            part = emit_model(self.net, cpu="native")
        engine = CEngine(part)
        return lambda x: engine.run_batches(x, keep=self.keep)


def _in_batches(engine: Engine) -> _Batches:
    def batches(x: Array) -> Iterator[Result]:
        for i in range(0, len(x), _BATCH):
            yield engine(x[i : i + _BATCH])

    return batches


def _accuracy(labels: Array, samples: Samples) -> str:
    if samples.y is None:
        return ""
    return f", accuracy {100 * float((labels == samples.y).mean()):.2f} %"
