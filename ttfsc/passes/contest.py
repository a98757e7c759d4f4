"""`method=auto`: several ways to quantise one net, judged by what they answer on sample inputs.

Every candidate is fitted on each half of the samples and judged on the other: by accuracy where labels are known, else
by how often it answers as the source does. The winner is fitted again on all samples. Ties go to the earlier candidate.
Halves are drawn at random, since files have an order (MNIST's training images come from two kinds of writers in turn).
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ttfsc.ir import Array, Net, run
from ttfsc.passes.ranges import Method

log = logging.getLogger(__name__)
_JUDGED = 1024  # samples of a half at most
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
    truth = run(net, calibration, keep=()).labels if labels is None else labels
    order = np.random.default_rng(0).permutation(len(calibration))
    few = len(calibration) < _FEW
    halves = [(order, order)] if few else [(order[::2], order[1::2]), (order[1::2], order[::2])]
    results, judged = list[tuple[int, Candidate, Net]](), 0
    for candidate in CANDIDATES:
        right = judged = 0
        made = net
        for fit, judge in halves:
            made, at = make(candidate, calibration[np.sort(fit)]), judge[:_JUDGED]
            right += int(np.count_nonzero(run(made, calibration[at], keep=()).labels == truth[at]))
            judged += len(at)
        results.append((right, candidate, made))
    _, best, made = max(results, key=lambda result: result[0])
    log.warning("%s", "\n".join(_table(results, best, judged, few=few, labelled=labels is not None)))
    return made if few else make(best, calibration)


def _table(
    results: list[tuple[int, Candidate, Net]], best: Candidate, judged: int, *, few: bool, labelled: bool
) -> Iterator[str]:
    """What was compared, for people."""
    fitted = "fitted on the same" if few else "each half fitted on the other"
    what = "answered right" if labelled else "answered as the source does"
    yield f"calibration methods compared on {judged} samples, {fitted}; {what}:"
    for right, candidate, _ in results:
        yield f"  {100 * right / judged:6.2f} %  {candidate}{'  <- chosen' if candidate == best else ''}"
