"""Threshold tables: where the real thresholds of training become integers, once and for all.

semantics.md, Firing: "Rounding is decided once, by the pass that makes the integer table". This is that place; the
quantiser and the evaluation mode of `ttfsc.nn` both call it, which is why they cannot disagree.
"""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
RealArray = npt.NDArray[np.floating]


def falling_table(
    theta: npt.ArrayLike, bias: npt.ArrayLike, drift: npt.ArrayLike, unit: npt.ArrayLike, ticks: int
) -> IntArray:
    """Integer table of the falling threshold Theta (1 - n/T), with the neuron's constant input moved into it.

    The neuron fires at the first tick n with `unit V(n) + bias + drift n/T >= theta (T - n)/T`, V the integer
    membrane without constants. Dividing by `unit` and rounding up gives the same decision on integers:

        table[..., n] = ceil((theta (T - n)/T - bias - drift n/T) / unit)

    so a bias costs no rounding at all. With bias = drift = 0 this is semantics.md's ceil(Theta (T - n)).

    Args:
        theta: real range, the potential at which the value reaches 1; any shape broadcastable with the others ([C]).
        bias: real constant present from the window's opening; same units as theta.
        drift: real constant added evenly over the window (a ramp's own slope); same units as theta.
        unit: real potential of one integer step, > 0.
        ticks: T, length of the window.

    Returns:
        int64 [..., T]; values beyond +-2^62 are clipped there.
    """
    theta64, bias64, drift64, unit64 = (np.asarray(a, np.float64)[..., None] for a in (theta, bias, drift, unit))
    n = np.arange(ticks, dtype=np.float64)
    real = theta64 * (ticks - n) / ticks - bias64 - drift64 * n / ticks
    with np.errstate(over="ignore"):
        table = np.ceil(real / unit64)
    return np.clip(table, -(2.0**62), 2.0**62).astype(np.int64)
