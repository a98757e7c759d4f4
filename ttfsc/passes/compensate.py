"""Rounding weights so that the layer's sums stay, not each weight: every rounding error is paid back by later weights.

Columns are rounded one after the other; what a column lost is spread over those still free, in the proportions that
keep sum w x closest to the source's on the sample inputs (Frantar et al., GPTQ, 2022, after Hassibi & Stork's optimal
brain surgeon, 1993). Steps a little finer and coarser than the given one are tried, and each output keeps its best.
"""

import numpy as np
import numpy.typing as npt

from ttfsc.passes.grid import top_of
from ttfsc.passes.rewrite import Reals

MAX_INPUTS = 2304  # weights per output: the cost grows with the cube
_BLOCK = 64
_DAMPING = 0.01  # of the mean second moment, added to each: inputs that are never seen must not run away
_FRACTIONS = (1.0, 0.7, 0.76, 0.82, 0.88, 0.94, 1.06, 1.12, 1.18, 1.24, 1.3)
_MANY, _WIDE = 512, 5  # weights per output, and bits, beyond which fewer steps are tried

Ints = npt.NDArray[np.int64]


def compensated(
    w: Reals, moments: Reals, step: Reals, bits: int, *, search: bool, per_tensor: bool
) -> tuple[Ints, Reals]:
    """Integers [out, K] and steps [out] for weights w [out, K].

    moments: [groups, K, K] of the inputs, outputs being `groups` equal blocks. step: [out], all positive. search: try
    other steps too; else the given ones are kept. per_tensor: one step for all outputs.
    """
    groups, size = len(moments), w.shape[1]
    blocks = w.reshape(groups, -1, size)
    damped: Reals = moments + np.eye(size) * (_DAMPING * np.einsum("gii->g", moments)[:, None, None] / size + 1e-12)
    inverse = np.asarray(np.linalg.inv(damped), np.float64)
    upper = np.asarray(np.linalg.cholesky(inverse), np.float64).swapaxes(1, 2)
    best = np.full(len(w), np.inf)
    integers, steps = np.zeros(w.shape, np.int64), step.copy()
    few = size > _MANY or bits > _WIDE
    for fraction in ((1.0, 0.88, 1.12) if few else _FRACTIONS) if search else (1.0,):
        tried = step * fraction
        found = _rounded(blocks, upper, tried.reshape(groups, -1), top_of(bits))
        off = found * tried.reshape(groups, -1)[..., None] - blocks
        error = ((off @ moments) * off).sum(2).reshape(-1)
        if per_tensor:
            error = np.full(len(w), error.sum())
        better = error < best
        best[better], steps[better] = error[better], tried[better]
        integers[better] = found.reshape(w.shape)[better]
    return integers, steps


def _rounded(w: Reals, upper: Reals, step: Reals, top: int) -> Reals:
    """Integers for w [groups, out, K] at steps [groups, out]; `upper` [groups, K, K] with U'U the inverse moments."""
    left, found = w.copy(), np.zeros_like(w)
    for start in range(0, w.shape[2], _BLOCK):  # errors reach the weights behind a block in one product
        end = min(start + _BLOCK, w.shape[2])
        block = left[..., start:end]
        errors = np.zeros_like(block)
        for j, k in enumerate(range(start, end)):
            found[..., k] = np.clip(np.rint(block[..., j] / step), -top, top)
            errors[..., j] = (block[..., j] - found[..., k] * step) / upper[:, k, k, None]
            block[..., j + 1 :] -= errors[..., j, None] * upper[:, None, k, k + 1 : end]
        left[..., end:] -= errors @ upper[:, start:end, end:]
    return found
