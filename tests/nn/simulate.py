"""An independent meaning of the trained nets: one neuron, one spike, one tick at a time, in whole numbers.

Nothing here knows closed forms, threshold tables, tensors or the package under test. A value is x = T - tick, 0 never.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def ramp_membrane(weights: Sequence[int], values: Sequence[int], ticks: int, now: int) -> int:
    """Membrane at tick `now` of the neuron's window, which opens as its inputs' window of `ticks` closes.

    Every spike adds its weight at every tick after it came, on through the neuron's own window.
    """
    arrivals = [(w, ticks - x) for w, x in zip(weights, values, strict=True) if x]
    membrane = 0
    for clock in range(ticks + now + 1):
        for weight, tick in arrivals:
            if clock > tick:
                membrane += weight
    return membrane


def hold_membrane(weights: Sequence[int], values: Sequence[int]) -> int:
    """Membrane of a `hold` neuron, the same at all ticks of its window."""
    return sum(w * x for w, x in zip(weights, values, strict=True))


def fire(membranes: Sequence[int], unit: Fraction, bias: Fraction, theta: Fraction) -> int:
    """Value of the spike at the first tick where unit * membrane + bias reaches a threshold falling from theta to 0."""
    ticks = len(membranes)
    for n, membrane in enumerate(membranes):
        if unit * membrane + bias >= theta * Fraction(ticks - n, ticks):
            return ticks - n
    return 0


def patches(x: Ints, kernel: int, stride: int, padding: int) -> dict[tuple[int, int], Ints]:
    """What every output position of a convolution or pool over x [C, H, W] sees: [C, kernel, kernel]."""
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    rows = range(0, padded.shape[1] - kernel + 1, stride)
    columns = range(0, padded.shape[2] - kernel + 1, stride)
    return {
        (i, j): padded[:, r : r + kernel, c : c + kernel] for i, r in enumerate(rows) for j, c in enumerate(columns)
    }
