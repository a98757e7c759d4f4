"""fold-avgpool: the same function for every geometry that folds, a reason for every one that does not."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.passes.nets import Maker, assert_same_function, scores
from ttfsc.ir import AvgPool, Conv2d, Net, TtfsError, codes, run
from ttfsc.passes import fold_avgpool


@st.composite
def pools(draw: Any) -> dict[str, Any]:
    """Kernel, stride and padding as PyTorch allows them, each axis its own."""
    k = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    s = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    p = (draw(st.integers(0, k[0] // 2)), draw(st.integers(0, k[1] // 2)))
    return {"k": k, "s": s, "pad": (*p, *p), "ceil": draw(st.booleans()), "count_pad": draw(st.booleans())}


def folded(net: Net) -> Net | None:
    """The folded net, or None where it is refused as unfoldable."""
    try:
        after = fold_avgpool(net)
    except TtfsError as e:
        assert {f.code for f in e.faults} == {codes.FOLD}
        return None
    assert not any(isinstance(op, AvgPool) for op in after.ops)
    return after


def refusal(net: Net) -> str:
    with pytest.raises(TtfsError) as e:
        fold_avgpool(net)
    assert all(f.code == codes.FOLD for f in e.value.faults)
    return str(e.value)


@given(pools(), st.integers(4, 8), st.integers(4, 8), st.integers(1, 3), st.integers(0, 2), st.booleans(), st.data())
@settings(max_examples=60)
def test_into_a_convolution(pool: dict[str, Any], h: int, w: int, k: int, pad: int, spikes: bool, data: Any) -> None:
    m = Maker((2, h, w), seed=h * 10 + w)
    x = m.fire("a", m.conv("c0", "in", 2, 1), 1.0) if spikes else "in"
    kernel = data.draw(st.sampled_from(["hold", "ramp"])) if spikes else "hold"
    m.avgpool("p", x, **pool)
    assume(min(m.shape("p")[1:]) + 2 * pad >= k)
    stride, groups = data.draw(st.integers(1, 2)), data.draw(st.sampled_from([1, 2]))
    net = m.answer(m.conv("c", "p", 4, k, pad=(pad,) * 4, stride=(stride, stride), groups=groups, kernel=kernel))
    op = cast("AvgPool", net.by_name["p"])
    same = _one_divisor(op, (h, w))
    single = net.by_name["c"].type.shape[1:] == (1, 1)
    after = folded(net)
    assert (after is not None) == (same or single)
    if after is not None:
        assert_same_function(net, after, m.pixels())


def _one_divisor(op: AvgPool, size: tuple[int, ...]) -> bool:
    """Whether all windows divide by one number, counted tap by tap."""
    counts = set[int]()
    for y in range(op.type.shape[1]):
        for x in range(op.type.shape[2]):
            taps = 0
            for i in range(op.kernel[0]):
                for j in range(op.kernel[1]):
                    r, c = y * op.stride[0] + i - op.pad[0], x * op.stride[1] + j - op.pad[1]
                    inside = 0 <= r < size[0] and 0 <= c < size[1]
                    padded = r < size[0] + op.pad[2] and c < size[1] + op.pad[3]
                    taps += padded if op.count_pad else inside
            counts.add(taps)
    return len(counts) == 1


@given(pools(), st.integers(3, 7), st.integers(3, 7))
@settings(max_examples=40)
def test_into_a_dense_layer_through_flatten(pool: dict[str, Any], h: int, w: int) -> None:
    """Any divisor folds: each weight reads one window."""
    m = Maker((2, h, w), seed=h + w)
    m.fire("a", m.conv("c", "in", 3, 1), 1.0)
    net = m.answer(m.dense("d", m.flatten("f", m.avgpool("p", "a", **pool)), 5, bias=m.rng.normal(size=5)))
    after = fold_avgpool(net)
    assert_same_function(net, after, m.pixels())
    assert after.by_name["d.map"].type.shape == (5, 1, 1)


@given(pools(), st.integers(3, 7), st.integers(3, 7))
@settings(max_examples=40)
def test_torch_agrees(pool: dict[str, Any], h: int, w: int) -> None:
    """The folded net against PyTorch's own average pool, padding and ceil mode and all."""
    torch: Any = pytest.importorskip("torch")
    m = Maker((2, h, w), seed=h * w)
    weights = m.rng.normal(size=(3, 2 * 1))
    p = m.avgpool("p", "in", **pool)
    area = int(np.prod(m.shape(p)[1:]))
    weights = m.rng.normal(size=(3, 2 * area))
    after = fold_avgpool(m.answer(m.dense("d", m.flatten("f", p), 3, w=weights)))
    x = m.pixels()
    mean = torch.nn.functional.avg_pool2d(
        torch.tensor(x / 255), pool["k"], pool["s"], pool["pad"][:2], pool["ceil"], pool["count_pad"]
    )
    np.testing.assert_allclose(scores(after, x), mean.flatten(1).numpy() @ weights.T, atol=1e-4)


@given(pools(), pools(), st.integers(4, 8))
@settings(max_examples=60)
def test_a_pool_of_a_pool(first: dict[str, Any], second: dict[str, Any], size: int) -> None:
    m = Maker((1, size, size), seed=size)
    m.avgpool("p", "in", **first)
    assume(all(n + 2 * p >= k for n, p, k in zip(m.shape("p")[1:], second["pad"][:2], second["k"], strict=True)))
    m.avgpool("q", "p", **second)
    net = m.answer(m.conv("c", "q", 2, 1))
    after = folded(net)
    if after is not None:
        assert_same_function(net, after, m.pixels())
    disjoint = first["k"] == first["s"] and not any(first["pad"]) and size % first["k"][0] == 0 == size % first["k"][1]
    if disjoint and _one_divisor(cast("AvgPool", net.by_name["q"]), m.shape("p")[1:]):
        assert after is not None, "windows side by side always make one average"


def test_disjoint_pools_become_one() -> None:
    m = Maker((1, 8, 8))
    net = m.answer(m.conv("c", m.avgpool("q", m.avgpool("p", "in")), 2, 2))
    conv = fold_avgpool(net).by_name["c"]
    assert isinstance(conv, Conv2d)
    assert (conv.pool, conv.pool_stride) == ((4, 4), (4, 4))


def test_every_reader_takes_the_pool() -> None:
    m = Maker((2, 6, 6))
    p = m.avgpool("p", m.fire("a", m.conv("c", "in", 2), 1.0), pad=(0, 0, 0, 0))
    total = m.plus("s", [m.conv("c1", p, 3, 3, pad=(1,) * 4), m.conv("c2", p, 3, 1)])
    net = m.answer(m.dense("d", m.flatten("f", m.fire("b", total, 1.0)), 4))
    assert_same_function(net, fold_avgpool(net), m.pixels())


def test_global_average_before_the_classifier() -> None:
    m = Maker((2, 5, 7))
    a = m.fire("a", m.conv("c", "in", 6, 3, pad=(1,) * 4), 1.0)
    net = m.answer(m.dense("d", m.flatten("f", m.avgpool("p", a, (5, 7), (1, 1))), 4))
    after = fold_avgpool(net)
    conv = after.by_name["d.map"]
    assert isinstance(conv, Conv2d)
    assert conv.pool == (5, 7)
    assert after.arrays[conv.w].shape == (4, 6, 1, 1), "no weight is repeated for the positions"
    assert_same_function(net, after, m.pixels())


def test_the_divisor_goes_into_the_trained_step() -> None:
    """Integers of the grid stay: w = step * integer before and after, step divided by 4."""
    m = Maker((2, 6, 6))
    step = np.array([0.5, 0.25, 0.125])
    integers = m.rng.integers(-7, 8, (3, 2, 3, 3))
    w = integers * step[:, None, None, None]
    net = m.answer(m.conv("c", m.avgpool("p", "in"), 3, w=w, step=step, bits=4))
    after = fold_avgpool(net)
    conv = after.by_name["c"]
    assert isinstance(conv, Conv2d)
    assert conv.step is not None
    np.testing.assert_array_equal(after.arrays[conv.step], step / 4)
    np.testing.assert_array_equal(after.arrays[conv.w] / after.arrays[conv.step][:, None, None, None], integers)
    assert_same_function(net, after, m.pixels())


def test_a_streaming_neuron_sees_the_mean_of_spike_trains() -> None:
    """One spike of four in a window adds a quarter of the weight, whenever it comes."""
    m = Maker((1, 2, 2), ticks=4)
    a = m.fire("a", m.conv("c", "in", 1, 1, w=np.ones((1, 1, 1, 1)), kernel="step", every=True), 1.5)
    p = m.avgpool("p", a)
    v = m.conv("v", p, 1, 1, w=np.full((1, 1, 1, 1), 4.0), kernel="step")
    b = m.fire("b", v, 2.0)
    net = m.answer(m.conv("r", b, 1, 1, kernel="step"))
    after = fold_avgpool(net)
    x = np.array([[[[255, 200], [100, 0]]]])
    # 255: 1.0 per tick, past 1.5 at tick 1; 200: 0.78, tick 1; 100: 0.39, tick 3; two spikes reach 2.0 at tick 1
    assert run(net, x).spikes["a"].ravel().tolist() == [3, 3, 1, 0]
    assert run(after, x).spikes["b"].ravel().tolist() == [3]
    assert_same_function(net, after, m.pixels(20))


def test_a_rising_membrane_counts_who_fired_in_each_window() -> None:
    """V(u) = S + W u with S the mean of values and W the mean of flags, times the weight."""
    m = Maker((1, 2, 2))
    a = m.fire("a", m.conv("c", "in", 1, 1, w=np.ones((1, 1, 1, 1))), 1.0)
    net = m.answer(m.conv("v", m.avgpool("p", a), 1, 1, w=np.full((1, 1, 1, 1), 8.0), kernel="ramp"))
    x = np.array([[[[51, 0], [102, 0]]]])  # values 0.2 and 0.4; two of four fired
    for each in (net, fold_avgpool(net)):
        np.testing.assert_allclose(scores(each, x), [[8 * 0.6 / 4 + 8 * 2 / 4]], rtol=1e-6)


def test_a_max_of_means_is_refused() -> None:
    m = Maker()
    net = m.answer(m.conv("c", m.maxpool("q", m.avgpool("p", "in", 2, 1), 2, 1), 2, 1))
    assert refusal(net) == (
        "<net>: error[TTFS012]: 'avgpool' %p: feeds 'maxpool' %q, but the largest of several means is no spike's time; "
        "put the max pool first or use one of them alone"
    )


def test_overlapping_pools_are_refused() -> None:
    m = Maker((1, 8, 8))
    net = m.answer(m.conv("c", m.avgpool("q", m.avgpool("p", "in", 3, 1), 3, 1), 2, 1))
    assert "%q: pools %p, and windows that overlap or were cut off do not make one average" in refusal(net)


def test_a_batch_norm_must_go_first() -> None:
    m = Maker()
    net = m.answer(m.conv("c", m.norm("n", m.avgpool("p", "in")), 2, 1))
    assert "feeds 'batchnorm' %n, which must be folded first" in refusal(net)


def test_unequal_divisors_before_a_convolution_are_refused_all_at_once() -> None:
    m = Maker((2, 7, 7))
    p = m.avgpool("p", "in", 3, 2, pad=(1,) * 4, count_pad=False)
    q = m.avgpool("q", "in", 2, 2, ceil=True)
    net = m.answer(m.plus("s", [m.conv("c", p, 2, 1), m.conv("d", q, 2, 1)]))
    text = refusal(net)
    assert "%p: divides its windows by 4, 6, 9, but 'conv2d' %c uses each weight at 4x4 places" in text
    assert "%q: divides its windows by 1, 2, 4, but 'conv2d' %d uses each weight at 4x4 places" in text


def test_unequal_divisors_of_a_trained_grid_are_refused() -> None:
    m = Maker((1, 3, 3))
    f = m.flatten("f", m.avgpool("p", "in", 2, 2, ceil=True))
    net = m.answer(m.dense("d", f, 2, w=np.ones((2, 4)), step=np.ones(2), bits=4))
    assert "the weights of 'dense' %d were trained on one grid, which that would break" in refusal(net)


def test_a_pool_in_front_of_unequal_ones_is_refused() -> None:
    m = Maker((1, 5, 5))
    net = m.answer(m.conv("c", m.avgpool("q", m.avgpool("p", "in", ceil=True), 3, 3), 1, 1))
    assert "%q: pools %p, whose windows have different divisors" in refusal(net)


def test_a_mean_cannot_be_an_answer() -> None:
    from ttfsc.ir import OPEN, Decode, Ref

    m = Maker((2, 2, 2))
    m.fire("a", m.conv("c", "in", 2, 1), 1.0)
    m.flatten("f", m.avgpool("p", "a"))
    table = m.b.array("t", np.ones(1))
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref("f"),), rule="weighted", table=table))
    assert "feeds 'decode' %out, but a mean of spikes is no spike" in refusal(m.b.net())


def test_means_of_pixels_cannot_be_encoded() -> None:
    from ttfsc.ir import OPEN, Encode, Ref

    m = Maker((2, 4, 4))
    m.avgpool("p", "in")
    m.b.add(Encode(name="e", type=OPEN, x=Ref("p")))
    assert "feeds 'encode' %e, but means of pixels are no longer integers" in refusal(m.answer(m.conv("c", "e", 1, 1)))


def test_a_convolution_holds_one_pool() -> None:
    m = Maker((1, 8, 8))
    p = m.avgpool("p", "in")
    net = m.answer(m.conv("c", p, 1, 1, pool=(2, 2), pool_stride=(2, 2)))
    assert "which already has a pool of its own" in refusal(net)


def test_a_net_without_pools_is_left_alone() -> None:
    m = Maker()
    net = m.answer(m.conv("c", m.fire("a", m.conv("b", "in", 2), 1.0), 2))
    after = fold_avgpool(net)
    assert after.ops == net.ops
    assert after.arrays == net.arrays
