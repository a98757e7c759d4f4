"""onnxruntime as the judge of an ONNX source: what the model itself answers, beside what was compiled from it."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ttfsc.console import progress
from ttfsc.inputs import Samples
from ttfsc.ir import Array, Net

Labels = npt.NDArray[np.int64]
_BATCH = 64


class NotJudged(Exception):  # noqa: N818  # it is no error: the reason is printed
    """Why the source model could not be run beside the compiled one."""


def judged(path: Path, net: Net, samples: Samples, answers: Labels) -> str:
    """One sentence: how often the compiled net answers as onnxruntime does on the source, and both accuracies.

    answers [N]: the compiled net's labels for the samples. Where the source cannot be run, the sentence says why.
    """
    try:
        theirs = source_labels(path, net, samples.x)
    except NotJudged as e:
        return f"not judged by onnxruntime: {e}"
    share = 100 * float((theirs == answers).mean())
    same = f"same answer as onnxruntime on the source: {share:.2f} % of {len(answers)} inputs"
    if samples.y is None:
        return same
    ours, source = (100 * float((labels == samples.y).mean()) for labels in (answers, theirs))
    return f"{same}; accuracy {ours:.2f} %, source {source:.2f} %"


def source_labels(path: Path, net: Net, x: Array) -> Labels:
    """The source model's answers [N] to integer inputs x [N, *shape] of the net. Raises NotJudged with the reason."""
    if find_spec("onnxruntime") is None:
        raise NotJudged("it is not installed: pip install 'ttfsc[onnx]'")
    runtime = import_module("onnxruntime")
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises classes of its own making for whatever it does not like
        raise NotJudged(f"it cannot load the model: {str(e).splitlines()[0][:120]}") from e
    entry, kinds = (
        session.get_inputs()[0],
        {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8},
    )
    if entry.type not in kinds:
        raise NotJudged(f"the model's input is {entry.type}")
    order = _axes(entry.shape, net.input.type.shape)
    fixed = entry.shape[0] if isinstance(entry.shape[0], int) and entry.shape[0] > 0 else 0
    if fixed > 1:
        raise NotJudged(f"the model takes batches of exactly {fixed}")
    real = entry.type == "tensor(float)"
    found = list[Labels]()
    with progress("onnxruntime on the source", len(x)) as advance:
        for i in range(0, len(x), fixed or _BATCH):
            part = x[i : i + (fixed or _BATCH)]
            values: Array = part * net.input.scale if real else part
            given = np.ascontiguousarray(values.transpose(order).astype(kinds[entry.type]))
            found.append(_labels(session.run(None, {entry.name: given})[0], len(part)))
            advance(len(part))
    return np.concatenate(found)


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


def _labels(out: Array, count: int) -> Labels:
    rows = out.reshape(count, -1)
    whole = rows.shape[1] == 1 and np.issubdtype(rows.dtype, np.integer)
    return rows[:, 0].astype(np.int64) if whole else rows.argmax(1).astype(np.int64)
