"""Straight threshold tables: what is claimed to be one, is one, for every membrane in its bounds."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttfsc.backends.onnx.lines import Ints, Line, grid_line, holds_exactly, middle_line, rises_exactly, room_of

KINDS = st.sampled_from(["line", "any", "cut"])
TABLES = st.tuples(st.integers(2, 12), st.integers(1, 4), st.integers(0, 2**32 - 1), KINDS)


def table(ticks: int, channels: int, seed: int, kind: str) -> tuple[Ints, Ints, Ints]:
    """theta [C, T] and the ends of membranes [C, 1]."""
    rng = np.random.default_rng(seed)
    least = -rng.integers(0, 200, (channels, 1))
    most = rng.integers(0, 200, (channels, 1))
    rate, bias = rng.uniform(0.2, 30, (channels, 1)), rng.uniform(-90, 90, (channels, 1))
    theta = np.ceil(rate * (ticks - np.arange(ticks)) - bias)
    if kind == "any":
        theta = rng.integers(-250, 250, (channels, ticks)).astype(np.float64)
    if kind == "cut":
        theta = np.clip(theta, least, most + 1)
    return theta.astype(np.int64), least, most


@settings(max_examples=150, deadline=None)
@given(TABLES)
def test_settled(drawn: tuple[int, int, int, str]) -> None:
    theta, least, most = table(*drawn)
    theta = np.minimum.accumulate(theta, axis=-1)
    ticks = theta.shape[1]
    line = middle_line(room_of(theta, least, most))
    if line is None:
        assert drawn[3] != "line", "ceil(A - B n) with B > 0 always has a line"
        return
    offset, slope = line.start - line.slope * ticks, line.slope
    if not holds_exactly(offset, slope, theta, least, most, np.float32):
        return
    for c in range(len(theta)):
        v: Ints = np.arange(least[c, 0], most[c, 0] + 1, dtype=np.int64)
        got = np.clip(np.floor((v.astype(np.float32) - np.float32(offset[c])) / np.float32(slope[c])), 0, ticks)
        np.testing.assert_array_equal(got, (v[:, None] >= theta[c]).sum(1))


def test_settled_lines_are_nearly_always_exact_in_float32() -> None:
    found = 0
    for seed in range(100):
        theta, least, most = table(16, 8, seed, "line")
        line = middle_line(room_of(theta, least, most))
        assert line is not None
        found += holds_exactly(line.start - line.slope * 16, line.slope, theta, least, most, np.float32)
    assert found > 95


def test_a_wrong_line_is_not_exact() -> None:
    theta, least, most = np.array([[30, 20, 10]]), np.array([[-50]]), np.array([[50]])
    assert holds_exactly(np.array([-0.5]), np.array([10.0]), theta, least, most, np.float32)
    for offset, slope in ((0.5, 10.0), (-1.5, 10.0), (-0.5, 10.4), (-0.5, 9.6), (-0.5, -10.0)):
        assert not holds_exactly(np.array([offset]), np.array([slope]), theta, least, most, np.float32)


@settings(max_examples=150, deadline=None)
@given(TABLES)
def test_rising(drawn: tuple[int, int, int, str]) -> None:
    """First tick with S + W n >= theta[n], over all S and W of a small range."""
    theta, least, most = table(*drawn)
    ticks = theta.shape[1]
    line = grid_line(room_of(theta, least, most))
    if line is None:
        assert drawn[3] == "any"
        return
    s, w = np.meshgrid(np.arange(-200, 201, 3), np.arange(-40, 41))
    n: Ints = np.arange(ticks, dtype=np.int64)
    v: Ints = s[..., None] + w[..., None] * n
    assert rises_exactly(line, ticks, 200, 40 + float(line.slope.max()), 24) or line.scale > 8
    for c in range(len(theta)):
        inside: npt.NDArray[np.bool_] = ((v >= least[c, 0]) & (v <= most[c, 0])).all(-1)
        hit: npt.NDArray[np.bool_] = v[inside] >= theta[c]
        want = np.where(hit.any(-1), hit.argmax(-1), np.int64(ticks))
        gap = np.float32(line.start[c]) - s[inside].astype(np.float32)
        never = np.float32(2.0**-line.scale / (2 * ticks))
        rate = np.maximum(w[inside].astype(np.float32) + np.float32(line.slope[c]), never)
        np.testing.assert_array_equal(np.clip(np.ceil(gap / rate), 0, ticks), want)


@pytest.mark.parametrize(
    ("s_most", "r_most", "exact"), [(2**19, 2**15, True), (2**20, 2**15, False), (2**19, 2**16, False)]
)
def test_limits_of_the_proof(s_most: int, r_most: int, exact: bool) -> None:
    """24 bits, 4 of them below the point; ticks up to 31 take another 4."""
    line = Line(np.array([100.0]), np.array([1.0]), 4)
    assert rises_exactly(line, 32, s_most, r_most, 24) == exact


def test_a_quotient_that_would_round_away() -> None:
    """p/r just above n: the bound refuses float32 exactly where numpy's own division loses the difference."""
    n, scale = 15, 6
    for bits in range(8, 24):
        r = np.float32(2**bits)
        p = np.float32(float(r) * n + 2.0**-scale)
        if float(p) != float(r) * n + 2.0**-scale:
            break  # the numerator itself is no float32 any more
        survives = bool(np.ceil(p / r) == n + 1)
        line = Line(np.array([float(p)]), np.array([0.0]), scale)
        assert survives or not rises_exactly(line, n + 1, 0, float(r), 24)
