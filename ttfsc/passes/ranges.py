"""Ranges from data: how large values get, in memory that does not grow with them."""

from typing import Literal, get_args

import numpy as np

from ttfsc.ir import Array, Fault, Loc, codes

Method = Literal["max", "percentile", "mse"]
_BINS = 4096
_CANDIDATES = 96  # ranges tried by `mse`, down to a twentieth of the largest value


class Histogram:
    """Positive values in equal bins; when larger ones arrive, pairs of bins merge until they fit."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)
        self.top = 0.0  # upper edge of the last bin
        self.largest = 0.0

    def add(self, values: Array) -> None:
        """Count the positive ones of `values`."""
        positive = values[values > 0].astype(np.float64)
        if not positive.size:
            return
        self.largest = max(self.largest, float(positive.max()))
        self.top = self.top or self.largest
        while self.largest > self.top:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2, np.int64)])
            self.top *= 2
        bins = np.minimum((positive * (_BINS / self.top)).astype(np.int64), _BINS - 1)
        self.counts += np.bincount(bins, minlength=_BINS)

    def range_of(self, method: Method, percentile: float, ticks: int, *, nearest: bool = False) -> float:
        """The range Theta > 0 at which a value saturates. A layer without a positive value gets 1.

        max: the largest value. percentile: that of the positive values. mse: the range with the smallest mean squared
        error of the quantiser x -> Theta/T clip(floor(T x / Theta), 0, T), T = ticks (rounding to nearest if told so).
        """
        if not self.largest:
            return 1.0
        match method:
            case "max":
                return self.largest
            case "percentile":
                reached = np.cumsum(self.counts) >= self.counts.sum() * (percentile / 100)
                return min((int(np.argmax(reached)) + 1) * self.top / _BINS, self.largest)
            case "mse":
                ranges = self.largest * np.linspace(0.05, 1, _CANDIDATES)
                return float(ranges[np.argmin([self._error(r, ticks, nearest) for r in ranges])])

    def _error(self, theta: float, ticks: int, nearest: bool) -> float:
        filled = np.flatnonzero(self.counts)
        x = (filled + 0.5) * (self.top / _BINS)
        level = np.clip(np.floor(x * (ticks / theta) + 0.5 * nearest), 0, ticks) * (theta / ticks)
        return float((self.counts[filled] * (level - x) ** 2).sum())


def option_faults(where: str, method: str, percentile: float, ticks: int, bits: int = 0) -> list[Fault]:
    """What is wrong with the options that calibrate and quantize share."""
    wrong = list[str]()
    if method not in get_args(Method):
        wrong.append(f"method={method} must be {', '.join(get_args(Method)[:-1])} or {get_args(Method)[-1]}")
    if not 0 < percentile <= 100:
        wrong.append(f"percentile={percentile:g} must lie above 0 and at most at 100")
    if ticks and not 2 <= ticks <= 64:
        wrong.append(f"ticks={ticks} must be 2..64, or 0 for as trained")
    if bits and not 2 <= bits <= 8:
        wrong.append(f"bits={bits} must be 2..8, or 0 for as trained")
    return [Fault(codes.OPTION, Loc(where), "", fact) for fact in wrong]
