"""onnxruntime on an ONNX source: what its layers hold on sample inputs, for ranges, and what it answers, as judge."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ttfsc.console import progress
from ttfsc.inputs import Samples
from ttfsc.ir import Array, Net, run_batches

Labels = npt.NDArray[np.int64]
_BATCH = 64
_BYTES = 64 << 20  # of the activations of one batch
_AGREE = 1e-3  # rms of the difference over rms of the values: rounding stays far below it, another function does not
_EXTERNAL = "session.model_external_initializers_file_folder_path"
_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}


class NotJudged(Exception):  # noqa: N818  # it is no error: the reason is printed
    """Why the source model could not be run beside the compiled one."""


class Ranges:
    """Activations of an ONNX source on sample inputs, as `ttfsc.passes.calibrate` observes them.

    On the first inputs they are compared with what the imported net makes of the same. Layers that onnxruntime cannot
    show (it is missing, refuses the model, or no tensor of the file is the layer) come from the imported net alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.apart: dict[str, float] = {}  # layer -> rms of the difference between both, over the rms of its values
        self.own: list[str] = []  # layers that only the imported net could show
        self.reason = ""

    def observe(self, net: Net, names: Sequence[str], x: Array) -> Iterator[Mapping[str, Array]]:
        """Values [n, ...] of layers, batch by batch; x [N, *input shape], integers as the net's input declares."""
        from ttfsc.frontends.onnx_probe import places_of

        places, source = places_of(self.path, net, names), None
        try:
            source = Source(self.path, net, tuple(dict.fromkeys(p.tensor for p in places.values())))
        except NotJudged as e:
            self.reason, places = str(e), {}
        batch = max(1, min(_BATCH, _BYTES // (4 * sum(net.type_of(name).size for name in names))))
        self.own = list(names)
        for i in range(0, len(x), batch):
            part, found, mine = x[i : i + batch], dict[str, Array](), dict[str, Array]()
            if source is not None:
                tensors = source.tensors(part)
                whole = {n: np.maximum(tensors[p.tensor], 0) for n, p in places.items()}
                found = {n: whole[n] if p.channels is None else whole[n][:, p.channels] for n, p in places.items()}
            if self.own:
                (result,) = run_batches(net, part, keep=self.own, batch=len(part))
                mine = result.spikes
            if not i:
                found = {name: values for name, values in found.items() if values.size == mine[name].size}
                places = {name: places[name] for name in found}
                self.apart = {name: _apart(values, mine[name]) for name, values in found.items()}
                self.own = [name for name in names if name not in found]
            yield found | {name: mine[name] for name in self.own}

    def sentences(self) -> list[str]:
        """Who measured the ranges, and whether both agree; nothing where none were asked for."""
        found = list[str]()
        if self.apart:
            name, worst = max(self.apart.items(), key=lambda item: item[1])
            who = f"activation ranges of {len(self.apart)} layers: onnxruntime on the source"
            found.append(f"{who}; the imported net's values differ by {100 * worst:.1g} % (rms, at most, {name})")
        if self.own:
            why = f"not onnxruntime: {self.reason}" if self.reason else "no tensor of the file is their value"
            found.append(f"activation ranges of {len(self.own)} layers: the imported net ({why})")
        far = ", ".join(name for name, off in self.apart.items() if off > _AGREE)
        if far:
            found.append(f"warning: {far}: onnxruntime and the imported net differ by more than rounding")
        return found


class Source:
    """The source model in onnxruntime. Raises NotJudged with the reason where that cannot be."""

    def __init__(self, path: Path, net: Net, extra: Sequence[str] = ()) -> None:
        if find_spec("onnxruntime") is None:
            raise NotJudged("it is not installed: pip install 'ttfsc[onnx]'")
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        try:
            model: str | bytes = str(path)
            if extra:
                from ttfsc.frontends.onnx_probe import with_outputs

                model = with_outputs(path, extra)
                options.add_session_config_entry(_EXTERNAL, str(path.parent.absolute()))
            self.session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as e:  # onnxruntime raises classes of its own making for whatever it does not like
            raise NotJudged(f"it cannot load the model: {str(e).splitlines()[0][:120]}") from e
        entry = self.session.get_inputs()[0]
        if entry.type not in _TYPES:
            raise NotJudged(f"the model's input is {entry.type}")
        self.name, self.kind, self.extra = entry.name, _TYPES[entry.type], list(extra)
        self.order = _axes(entry.shape, net.input.type.shape)
        self.fixed = entry.shape[0] if isinstance(entry.shape[0], int) and entry.shape[0] > 0 else 0
        self.scale = net.input.scale if entry.type == "tensor(float)" else 0.0

    def tensors(self, x: Array) -> dict[str, Array]:
        """The extra tensors for integer inputs x [N, *shape] of the net."""
        found = self._run(self.extra, x)
        return dict(zip(self.extra, found, strict=True))

    def labels(self, x: Array) -> Labels:
        """The model's answers [N]."""
        (out,) = self._run([self.session.get_outputs()[0].name], x)
        rows = out.reshape(len(x), -1)
        whole = rows.shape[1] == 1 and np.issubdtype(rows.dtype, np.integer)
        return rows[:, 0].astype(np.int64) if whole else rows.argmax(1).astype(np.int64)

    def _run(self, names: list[str], x: Array) -> list[Array]:
        parts = list[list[Array]]()
        count = self.fixed or len(x)
        for i in range(0, len(x), count):
            part = x[i : i + count]
            short = count - len(part)  # of a batch whose size the file fixes: filled up with its last sample
            filled = np.concatenate([part, part[-1:].repeat(short, 0)]) if short else part
            values: Array = filled * self.scale if self.scale else filled
            given = np.ascontiguousarray(values.transpose(self.order).astype(self.kind))
            parts.append([array.reshape(count, -1)[: len(part)].reshape(len(part), *array.shape[1:])
                          for array in self.session.run(names, {self.name: given})])  # fmt: skip
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def judged(path: Path, net: Net, samples: Samples, answers: Labels) -> str:
    """One sentence: how often the compiled net answers as onnxruntime does on the source, and both accuracies.

    answers [N]: the compiled net's labels for the samples. Where the source cannot be run, the sentence says why.
    """
    try:
        source, found = Source(path, net), list[Labels]()
        with progress("onnxruntime on the source", len(answers)) as advance:
            for i in range(0, len(answers), _BATCH):
                found.append(source.labels(samples.x[i : i + _BATCH]))
                advance(len(found[-1]))
    except NotJudged as e:
        return f"not judged by onnxruntime: {e}"
    theirs = np.concatenate(found)
    share = 100 * float((theirs == answers).mean())
    same = f"same answer as onnxruntime on the source: {share:.2f} % of {len(answers)} inputs"
    if samples.y is None:
        return same
    ours, right = (100 * float((labels == samples.y).mean()) for labels in (answers, theirs))
    return f"{same}; accuracy {ours:.2f} %, source {right:.2f} %"


def _apart(theirs: Array, mine: Array) -> float:
    """rms of the difference over rms; sorted where axes lie in another order, as ranges do not ask where values are."""
    a, b = theirs.astype(np.float64), mine.astype(np.float64)
    if a.shape != b.shape:
        a, b = np.sort(a, axis=None), np.sort(b, axis=None)
    power = float((a * a).mean())
    return float((((a - b) ** 2).mean() / power) ** 0.5) if power else float(np.abs(b).max(initial=0) > 0)


def _axes(dims: list[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    """How [N, *shape] of the net lies in the model: as it is, or with the channels last."""
    fits = [
        all(d == n or not isinstance(d, int) for d, n in zip(dims[1:], s, strict=False)) for s in (shape, _last(shape))
    ]
    if len(dims) == len(shape) + 1 and fits[0]:
        return tuple(range(len(dims)))
    if len(dims) == 4 and len(shape) == 3 and fits[1]:
        return (0, 2, 3, 1)
    raise NotJudged(f"the model's input is {dims}, the net's {list(shape)}")


def _last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[1:], shape[0])
