"""onnxruntime on the exported file == the interpreter: every layer's spikes, scores and labels."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from tests.onnx_export.onnx_nets import Maker, assert_equal, check_form
from tests.strategies import inputs_for, integer_nets
from ttfsc.backends.onnx import FILE, emit
from ttfsc.backends.onnx.synapses import EXACT, parts_of
from ttfsc.ir import OPEN, Analog, Conv2d, Decode, Encode, Flatten, Net, Ref, Spikes, bounds_of, run

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@settings(max_examples=80, deadline=None, suppress_health_check=SLOW)
@given(integer_nets(), st.integers(0, 99))
def test_random_nets(net: Net, seed: int) -> None:
    assert_equal(net, inputs_for(net, seed, 5))


@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
@given(integer_nets(), st.integers(0, 99))
def test_a_second_runtime_agrees(net: Net, seed: int) -> None:
    """The ONNX project's own evaluator, in numpy: another order of addition, no graph optimiser, the same integers."""
    x = inputs_for(net, seed, 3)
    model = onnx.load_model_from_string(emit(net, spikes=True)[FILE])
    check_form(model)
    pools = [node for node in model.graph.node if node.op_type == "MaxPool"]
    assume(
        not any(any(a.ints) for node in pools for a in node.attribute if a.name == "pads")
    )  # it fails on padded ones
    kind = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    evaluator: Any = ReferenceEvaluator(model)
    found = dict(zip([o.name for o in model.graph.output], evaluator.run(None, {"in": x.astype(kind)}), strict=True))
    want = run(net, x)
    np.testing.assert_array_equal(found["label"], want.labels)
    np.testing.assert_array_equal(found["scores"], want.scores)
    for name, spikes in want.spikes.items():
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)


def potentials(channels: int, weight: int, kernel: int, pixels: Analog, seed: int, **more: Any) -> Net:
    """A convolution whose membranes are the scores: nothing hides a lost bit."""
    rng = np.random.default_rng(seed)
    w = np.full((3, channels, kernel, kernel), weight)
    w[1] = rng.integers(-128, 128, w[1].shape)
    w[2, ..., 0] -= 1
    m = Maker(pixels)
    m.b.add(Conv2d(name="c", type=OPEN, **m.weights("c", w), **more))
    m.b.add(Flatten(name="v", type=OPEN, x=Ref("c")))
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref("v"),), rule="membrane"))
    return m.b.net()


@pytest.mark.parametrize("channels", [57, 58, 700], ids=["below-24-bits", "above-24-bits", "far-above"])
@pytest.mark.parametrize("stride", [1, 2])
def test_sums_around_24_bits(channels: int, stride: int) -> None:
    """3x3 kernels, where runtimes like to transform: 127 * 255 * 9 * 57 is the last that fits float32."""
    net = potentials(channels, 127, 3, Analog((channels, 9, 10), 0, 255), 1, stride=(stride, stride), pad=(1, 1, 1, 1))
    assert (int(bounds_of(net)["c"].terms.max()) < EXACT) == (channels == 57)
    x = inputs_for(net, 2, 5)
    x[2] = 255 - x[3] % 2  # large and odd
    assert np.abs(run(net, x).scores).max() > EXACT * 0.95
    assert_equal(net, x)


@pytest.mark.parametrize("groups", [1, 2])
def test_one_channel_beyond_24_bits(groups: int) -> None:
    rng = np.random.default_rng(0)
    m = Maker(Analog((2, 12, 12), -32768, 65535 - 32768))
    w = rng.integers(-128, 128, (4, 2 // groups, 6, 6))
    m.b.add(Conv2d(name="c", type=OPEN, groups=groups, pad=(2, 1, 0, 3), **m.weights("c", w)))
    m.b.add(Flatten(name="v", type=OPEN, x=Ref("c")))
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref("v"),), rule="membrane"))
    net = m.b.net()
    assert bounds_of(net)["c"].terms.max() > 3 * EXACT
    assert_equal(net, inputs_for(net, 1, 6))


@pytest.mark.parametrize("kernel", ["hold", "ramp", "step", "leak"])
def test_wide_membranes_fire(kernel: str) -> None:
    """Beyond 24 bits thresholds, slopes and leaks are float64; each table lies where single steps matter."""
    rng = np.random.default_rng(3)
    inputs, ticks = 60000, 12
    m = Maker(Spikes((inputs,), 0, 12), ticks=ticks)
    w = rng.integers(-128, 128, (4, inputs))
    w[0] = 127
    more: dict[str, Any] = {"kernel": kernel}
    if kernel == "leak":
        more |= {"keep": 32767, "rounding": "nearest"}
    if kernel in ("step", "leak"):
        more |= {"drift": m.b.array("d", np.full(4, 2**21, np.int32))}
    v = m.dense("h.v", w, **more)
    x = inputs_for(m.b.unverified(), 5, 6)
    x[3] = 12
    # exact sums of some inputs are thresholds, so that one lost unit shows
    s = x[2].astype(np.int64) @ w.T.astype(np.int64)
    theta = np.stack([np.abs(s) + 2**23 - 2**18 * n for n in range(ticks)], axis=-1)
    theta[:, 0] = s
    m.fire("h", v, theta)
    out = m.dense("o.v", rng.integers(-8, 8, (3, 4)), kernel="hold")
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref(out),), rule="membrane"))
    net = m.b.net()
    assert bounds_of(net)["h.v"].terms.max() >= EXACT
    assert_equal(net, x)


@pytest.mark.parametrize("kernel", ["hold", "ramp"])
@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_falling_tables_at_their_edges(kernel: str, per: str) -> None:
    """Quantised ReLUs with biases, S put exactly on and one below thresholds by a bias input."""
    rng = np.random.default_rng(7)
    ticks, shape = 16, (3, 4, 5)
    m = Maker(Analog((1, 4, 5), 0, 255), ticks=ticks)
    m.b.add(Encode(name="e", type=OPEN, x=Ref("in")))
    m.here = "e"
    more: dict[str, Any] = {"kernel": kernel, **m.weights("c", rng.integers(-8, 8, (3, 1, 3, 3)))}
    m.b.add(Conv2d(name="c", type=OPEN, pad=(1, 1, 1, 1), **more))
    lead = {"layer": (1,), "channel": (3,), "neuron": shape}[per]
    n = np.arange(ticks)
    theta = np.ceil(rng.uniform(3, 9, (*lead, 1)) * (ticks - n) - rng.uniform(-30, 30, (*lead, 1)))
    m.fire("f", "c", theta, last=per == "channel")
    m.flat()
    out = m.dense("o.v", rng.integers(-8, 8, (3, 60)), kernel=kernel)
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref(out),), rule="membrane"))
    net = m.b.net()
    kinds = [n.op_type for n in onnx.load_model_from_string(emit(net)[FILE]).graph.node]
    assert "Div" in kinds and "GreaterOrEqual" not in kinds, "a straight table must fire by one division"
    x = inputs_for(net, 0, 400)
    assert len(np.unique(run(net, x).spikes["f"])) > ticks // 2
    assert_equal(net, x)


HEAVY, LIGHT = 4100, 300  # input neurons of weight 127 and of weight 1


def spikes_for(s: int, w: int, ticks: int) -> npt.NDArray[np.int32]:
    """Values of HEAVY + LIGHT input neurons with `sum w x = s` and `sum w of those that fired = w`."""
    light = 150 + (w - 150) % 127
    heavy = (w - light) // 127
    rest = light + (s - light) % 127
    total = (s - rest) // 127
    x = np.zeros(HEAVY + LIGHT, np.int32)
    for first, count, value in ((0, heavy, total), (HEAVY, light, rest)):
        assert 0 <= count <= value <= count * ticks, "not reachable"
        x[first : first + count] = value // count
        x[first : first + value % count] += 1
    return x


def at_the_limit(kernel: str, theta: npt.NDArray[np.float64], sums: list[tuple[int, int]]) -> None:
    """One neuron, one table, membranes of given (S, W): the division must be float64, and right."""
    ticks = len(theta)
    m = Maker(Spikes((HEAVY + LIGHT,), 0, ticks), ticks=ticks)
    m.fire("f", m.dense("v", np.array([[127] * HEAVY + [1] * LIGHT]), kernel=kernel), theta[None])
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref("f"), Ref("v")), rule="first_spike"))
    net = m.b.net()
    x = np.stack([spikes_for(s, w, ticks) for s, w in sums])
    graph = onnx.load_model_from_string(emit(net)[FILE]).graph
    wide = [n for n in graph.node if n.op_type == "Cast" and n.attribute[0].i == onnx.TensorProto.DOUBLE]
    assert wide and "GreaterOrEqual" not in [n.op_type for n in graph.node], "float32 would not do here"
    assert len(np.unique(run(net, x).spikes["f"])) > 3
    assert_equal(net, x)


def test_rising_membranes_that_miss_by_one() -> None:
    """S + W n = theta[n] - 1: the quotient lies less than half a float32 spacing above n."""
    n = np.arange(16)
    for start, slope in ((1_300_000 + 1 / 64, 1000 + 21 / 64), (1_400_000.3, 777.777)):
        theta = np.ceil(start - slope * n)
        sums = list[tuple[int, int]]()
        for w in range(150_000, 250_000, 4_321):
            sums += [(int(theta[k]) - 1 - w * k + d, w) for k in range(1, 6) for d in (0, 1)]
        reachable = [(s, w) for s, w in sums if w + 3000 < s < 9 * w]
        assert len(reachable) > 60
        at_the_limit("ramp", theta, reachable)


def test_settled_membranes_near_24_bits() -> None:
    """Thresholds 3.3 apart at 8 million: float32 cannot hold the line's offset."""
    theta = np.ceil(8_000_000 + 3.3 * (16 - np.arange(16)))
    at_the_limit("hold", theta, [(8_000_000 + j, 520_100) for j in range(-3, 60)])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 6), st.integers(1, 4),
    st.sampled_from([1, 255, 65535, 131000]), st.booleans(),
)  # fmt: skip
def test_parts_add_up_and_stay_small(seed: int, out: int, cin: int, k: int, largest: int, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    w = rng.integers(-128, 128, (2 * out, cin * 8, k, k)).astype(np.int8)
    parts = parts_of(w, 2 if grouped else 1, largest)
    assert parts is not None
    whole = np.zeros(w.shape, np.int64)
    for part in parts:
        terms: npt.NDArray[np.int64] = np.abs(part.weights.astype(np.int64)).reshape(len(w), -1).sum(1) * largest
        assert terms.max() < EXACT
        whole[:, part.first : part.last] += part.weights
    np.testing.assert_array_equal(whole, w)


def test_one_product_too_large_is_no_part() -> None:
    assert parts_of(np.full((1, 1, 1, 1), -128, np.int8), 1, 2**17) is None
