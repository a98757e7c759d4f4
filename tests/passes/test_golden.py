"""Passes on paper: tests/golden/*.ttfs, each a pipeline, a net and what comes out, text and numbers.

    // RUN fold-avgpool                         the pipeline
    // @c.w = normal 2x1x2x2                    arrays: normal, grid (with the step and bits to lie on), or the values
    // @n.scale = 2: 1.5 -0.5
    net @t { ... }
    // OUT
    net @t { ... }
    // @c.w = f8<2x1x2x2> 0.1 -0.2 ...          arrays of the result, long ones by count, extremes and sum

`--update-golden` rewrites everything behind OUT. Every file is also run: what a pass promises is checked on numbers.
"""

import re
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from tests.passes.nets import assert_same_function
from ttfsc.ir import Analog, Array, Arrays, Const, Net, is_integer, parse, run, show, verify
from ttfsc.pipeline import Context, Pipeline

FOLDER = Path(__file__).parents[1] / "golden"
MINE = ("drop-identity", "fold-", "calibrate", "quantize", "prove-widths", "pipeline-")
CASES = sorted(path for path in FOLDER.glob("*.ttfs") if path.name.startswith(MINE))
_ARRAY = re.compile(r"// @(\S+) = (.+)")


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_golden(case: Path, request: pytest.FixtureRequest) -> None:
    text = case.read_text()
    before, mark, want = text.partition("// OUT\n")
    assert mark, f"{case.name} has no // OUT line"
    (command,) = re.findall(r"^// RUN (.+)$", before, re.MULTILINE)
    net = parse(before, _arrays(before), source=case.name)
    x = _pixels(net)
    after = Pipeline.parse(command).run(net, Context(calibration=x))
    got = _shown(after)
    if request.config.getoption("--update-golden", default=False):
        case.write_text(f"{before}{mark}{got}")
    else:
        assert got == want
    assert parse(show(after), after.arrays) == after
    if is_integer(after):
        labels = run(verify(after), x).labels
        assert is_integer(net) or (labels == run(net, x).labels).mean() >= 0.5
        assert not is_integer(net) or (labels == run(net, x).labels).all()
    elif "calibrate" not in command:
        assert_same_function(net, after, x)
    else:
        np.testing.assert_allclose(run(after, x).scores, run(net, x).scores, atol=1e-5)


def test_every_pass_of_ours_has_a_golden_file() -> None:
    for name in ("drop-identity", "fold-batchnorm", "fold-avgpool", "calibrate", "quantize", "prove-widths"):
        assert any(path.name.startswith(name) for path in CASES), name


def _pixels(net: Net) -> Array:
    t = net.input.type
    assert isinstance(t, Analog)
    return np.random.default_rng(0).integers(t.low, t.high + 1, (16, *t.shape))


def _arrays(text: str) -> Arrays:
    return Arrays({Const(name): _array(name, spec) for name, spec in _ARRAY.findall(text)})


def _array(name: str, spec: str) -> Array:
    """`normal 2x3`, `grid 2x3 step=0.5,0.25 bits=4`, `3: 1 2 3` or `int8 3: 1 2 3`."""
    rng = np.random.default_rng(crc32(name.encode()))
    if spec.startswith("normal "):
        return np.round(rng.normal(size=_shape(spec.split()[1])), 2)
    if spec.startswith("grid "):
        _, shape, step, bits = spec.split()
        top = 2 ** (int(bits.removeprefix("bits=")) - 1) - 1
        steps = np.array([float(s) for s in step.removeprefix("step=").split(",")])
        integers = rng.integers(-top, top + 1, _shape(shape))
        return integers * steps.reshape(-1, *[1] * (integers.ndim - 1))
    head, values = spec.split(":")
    *dtype, shape = head.split()
    return np.array([float(v) for v in values.split()]).reshape(_shape(shape)).astype(dtype[0] if dtype else np.float64)


def _shape(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


def _shown(net: Net) -> str:
    """The net and its arrays, six digits each."""
    lines = [show(net).rstrip("\n")]
    for name in sorted(net.arrays):
        a = net.arrays[name]
        head = f"// @{name} = {a.dtype.str[1:]}<{'x'.join(map(str, a.shape))}>"
        if a.size <= 40:
            lines.append(f"{head} {' '.join(f'{float(v) + 0:.6g}' for v in a.flat)}")
        else:
            lines.append(
                f"{head} {a.size} values, {float(a.min()):.6g}..{float(a.max()):.6g}, sum {float(a.sum()):.6g}"
            )
    return "\n".join(lines) + "\n"
