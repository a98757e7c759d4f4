"""`method=auto`: several ways to quantise one net, judged by what they answer on sample inputs.

Every candidate is fitted on one half of the samples and judged on the other: by accuracy where labels are known, else
by how often it answers as the source does. The winner is fitted again on all samples. Ties go to the earlier candidate.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ttfsc.ir import Array, Net, run
from ttfsc.passes.ranges import Method

log = logging.getLogger(__name__)
_JUDGED = 1024  # samples at most
_FEW = 64  # samples below which all of them fit and judge


@dataclass(frozen=True)
class Candidate:
    """Options of `quantize`."""

    method: Method
    percentile: float = 99.9
    careful: bool = True  # nearest, compensate, correct

    def __str__(self) -> str:
        ranges = f"percentile {self.percentile:g}" if self.method == "percentile" else self.method
        return f"{ranges}{', nearest, compensate, correct' if self.careful else ''}"


CANDIDATES = (
    Candidate("mse"),
    Candidate("percentile", 99.99),
    Candidate("percentile", 99.9),
    Candidate("max"),
    Candidate("mse", careful=False),
)


def best_of(net: Net, calibration: Array, labels: Array | None, make: Callable[[Candidate, Array], Net]) -> Net:
    """The integer net of the candidate that answers best.

    net: the real-valued source. calibration: x [N, *input shape]. labels: [N], where known. make: the integer net of a
    candidate, fitted on these samples.
    """
    few = len(calibration) < _FEW
    fit, judge = (slice(None), slice(None)) if few else (slice(0, None, 2), slice(1, None, 2))
    x = calibration[judge][:_JUDGED]
    truth = run(net, x, keep=()).labels if labels is None else labels[judge][:_JUDGED]
    results = list[tuple[int, Candidate, Net]]()
    for candidate in CANDIDATES:
        made = make(candidate, calibration[fit])
        right = int(np.count_nonzero(run(made, x, keep=()).labels == truth))
        log.info("%s: %d of %d %s", candidate, right, len(x), "as the source" if labels is None else "right")
        results.append((right, candidate, made))
    right, best, made = max(results, key=lambda result: result[0])
    log.warning("method=auto chose %s: %d of %d sample inputs %s", best, right, len(x), _JUDGED_BY[labels is None])
    return made if few else make(best, calibration)


_JUDGED_BY = {True: "answered as the source does", False: "answered right"}
