"""fold-batchnorm: the same function wherever a batch norm may stand, a reason where it may not."""

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.passes.nets import Maker, assert_same_function, scores
from ttfsc.ir import OPEN, BatchNorm, Conv2d, Decode, Dense, Encode, Net, Ref, TtfsError, codes
from ttfsc.passes import fold_batchnorm


def folded(net: Net) -> Net:
    after = fold_batchnorm(net)
    assert not any(isinstance(op, BatchNorm) for op in after.ops)
    return after


def refusal(net: Net) -> str:
    with pytest.raises(TtfsError) as e:
        fold_batchnorm(net)
    assert all(f.code == codes.FOLD for f in e.value.faults)
    return str(e.value)


@given(st.data())
@settings(max_examples=50)
def test_behind_a_convolution(data: Any) -> None:
    """Any geometry, any sign, with and without bias, hold and ramp, one batch norm or two in a row."""
    groups, k, pad = data.draw(st.sampled_from([1, 2])), data.draw(st.integers(1, 3)), data.draw(st.integers(0, 1))
    m = Maker((2, 6, 5), seed=data.draw(st.integers(0, 999)))
    x, kernel = "in", "hold"
    if data.draw(st.booleans()):
        x, kernel = m.fire("a", m.conv("c0", "in", 2, 1), 1.0), data.draw(st.sampled_from(["hold", "ramp"]))
    bias = m.rng.normal(size=4) if data.draw(st.booleans()) else None
    drift = m.rng.normal(size=4) if kernel == "ramp" and data.draw(st.booleans()) else None
    v = m.conv("c", x, 4, k, pad=(pad,) * 4, groups=groups, bias=bias, drift=drift, kernel=kernel)
    v = m.norm("n", v)
    v = m.norm("n2", v) if data.draw(st.booleans()) else v
    net = m.answer(m.dense("d", m.flatten("f", m.fire("b", v, 1.0)), 3))
    assert_same_function(net, folded(net), m.pixels())


@given(st.data())
@settings(max_examples=50)
def test_behind_the_activation(data: Any) -> None:
    """Into convolution and dense layer, through pools; padding stays 0 where the shift is not."""
    m = Maker((2, 6, 6), seed=data.draw(st.integers(0, 999)))
    pool = data.draw(st.sampled_from(["", "max", "avg", "avg uncounted"]))
    pixels = data.draw(st.booleans())
    x = "in" if pixels else m.fire("a", m.conv("c0", "in", 2, 1), 1.0)
    scale = np.abs(m.rng.normal(size=2)) if pool == "max" else None
    x = m.norm("n", x, scale=scale)
    if pool == "max":
        x = m.maxpool("p", x, 2, data.draw(st.integers(1, 2)), pad=(1, 0, 1, 0), ceil=data.draw(st.booleans()))
    elif pool:
        x = m.avgpool("p", x, 2, 2, pad=(1, 1, 1, 1), count_pad=pool == "avg")
    k, pad = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2))
    assume(min(m.shape(x)[1:]) + 2 * pad >= k)
    bias = m.rng.normal(size=4) if data.draw(st.booleans()) else None
    if data.draw(st.booleans()):
        v = m.conv("c", x, 4, k, pad=(pad,) * 4, groups=data.draw(st.sampled_from([1, 2])), bias=bias)
    else:
        v = m.dense("c", m.flatten("g", x), 4, bias=bias)
    net = m.answer(v)
    assert_same_function(net, folded(net), m.pixels())


def test_a_bias_map_only_where_the_border_differs() -> None:
    m = Maker((2, 5, 5))
    n = m.norm("n", m.fire("a", m.conv("c0", "in", 2, 1), 1.0))
    total = m.plus("s", [m.conv("c1", n, 3, 3, pad=(1,) * 4), m.conv("c2", n, 3, 1)])
    after = folded(m.answer(total))
    padded, plain = after.by_name["c1"], after.by_name["c2"]
    assert isinstance(padded, Conv2d)
    assert isinstance(plain, Conv2d)
    assert padded.bias is not None
    assert plain.bias is not None
    assert after.arrays[padded.bias].shape == (3, 5, 5)
    assert after.arrays[plain.bias].shape == (3,)


def test_torch_agrees_on_a_residual_block() -> None:
    """Batch norms in front of a sum, behind it, behind the activation and in the classifier, as PyTorch has them."""
    torch: Any = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn: Any = torch.nn
    conv1, conv2, down = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
    norms = [nn.BatchNorm2d(4).eval() for _ in range(4)]
    linear, last = nn.Linear(4 * 6 * 6, 5), nn.BatchNorm1d(5).eval()
    for each in [*norms, last]:
        for tensor in (each.running_mean, each.weight.data, each.bias.data):
            tensor.normal_()
        each.running_var.uniform_(0.5, 2)
    m = Maker((3, 6, 6))

    def norm(name: str, x: str, layer: Any) -> str:
        gain = (layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()).detach().numpy()
        return m.norm(name, x, scale=gain, shift=layer.bias.detach().numpy() - layer.running_mean.numpy() * gain)

    def conv(name: str, x: str, layer: Any, pad: int) -> str:
        w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        return m.conv(name, x, w.shape[0], w.shape[2], w=w, bias=b, pad=(pad,) * 4)

    a = m.fire("a", norm("n1", conv("c1", "in", conv1, 1), norms[0]))
    total = m.plus("s", [norm("n2", conv("c2", a, conv2, 1), norms[1]), conv("c3", "in", down, 0)])
    b = norm("n4", m.fire("b", norm("n3", total, norms[2])), norms[3])
    d = m.dense("d", m.flatten("f", b), 5, w=linear.weight.detach().numpy(), bias=linear.bias.detach().numpy())
    net = m.answer(norm("n5", d, last))
    x = m.pixels(8)
    image = torch.tensor(x / 255, dtype=torch.float32)
    h = torch.relu(norms[0](conv1(image)))
    h = norms[3](torch.relu(norms[2](norms[1](conv2(h)) + down(image))))
    want = last(linear(h.flatten(1))).detach().numpy()
    np.testing.assert_allclose(scores(folded(net), x), want, rtol=1e-4, atol=1e-4)


def test_through_flatten_and_a_full_size_kernel() -> None:
    m = Maker((2, 4, 4))
    net = m.answer(m.norm("n", m.flatten("f", m.conv("c", "in", 6, 4)), scale=np.linspace(-2, 2, 6)))
    assert_same_function(net, folded(net), m.pixels())


def test_a_shift_per_neuron_behind_a_flattened_map() -> None:
    m = Maker((2, 4, 4))
    f = m.flatten("f", m.conv("c", "in", 2, 3))
    scale = np.repeat([2.0, -0.5], 4)
    net = m.answer(m.norm("n", f, scale=scale, shift=np.arange(8.0)))
    assert_same_function(net, folded(net), m.pixels())


def test_a_membrane_that_others_read_is_copied() -> None:
    """The batch norm's own reader gets a synapse of its own; the others keep theirs."""
    m = Maker((2, 4, 4))
    v = m.conv("c", "in", 2, 3)
    total = m.plus("s", [v, m.norm("n1", v), m.norm("n2", v)])
    net = m.answer(m.norm("n3", total))
    after = folded(net)
    assert sum(isinstance(op, Conv2d) for op in after.ops) == 3
    assert_same_function(net, after, m.pixels())


def test_shared_weights_are_not_changed_for_others() -> None:
    m = Maker((2, 4, 4))
    m.conv("c", "in", 2, 1)
    w = m.b.ops[-1]
    assert isinstance(w, Conv2d)
    m.b.add(Conv2d(name="d", type=OPEN, x=Ref("in"), w=w.w))
    net = m.answer(m.plus("s", [m.norm("n", "c"), "d"]))
    assert_same_function(net, folded(net), m.pixels())


@pytest.mark.parametrize("leak", [{"shift": 2}, {"keep": 20000}])
def test_streaming_membranes_keep_their_shift(leak: dict[str, Any]) -> None:
    """A leaking membrane forgets its bias; the fold pays back what is lost every tick."""
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (("step", {}), ("leak", leak))
    for kernel, more in kinds:
        m = Maker((1, 3, 3), ticks=5)
        v = m.norm("n", m.conv("c", "in", 2, 2, kernel=kernel, every=True, bias=np.array([0.1, -0.2]), **more))
        a = m.fire("a", v, 0.8)
        net = m.answer(m.conv("d", a, 2, 2, kernel=kernel, **more))
        assert_same_function(net, folded(net), m.pixels(20))


def test_integers_of_a_trained_grid_stay() -> None:
    m = Maker((2, 5, 5))
    integers = m.rng.integers(-7, 8, (3, 2, 3, 3))
    step, scale = np.array([0.5, 0.25, 0.125]), np.array([1.5, -0.7, 0.0])
    v = m.conv("c", "in", 3, w=integers * step[:, None, None, None], step=step, bits=4)
    net = m.answer(m.norm("n", v, scale=scale))
    after = folded(net)
    conv = after.by_name["c"]
    assert isinstance(conv, Conv2d)
    assert conv.bits == 4
    assert conv.step is not None
    np.testing.assert_array_equal(after.arrays[conv.step], step * [1.5, 0.7, 1.0])
    got = after.arrays[conv.w] / after.arrays[conv.step][:, None, None, None]
    np.testing.assert_allclose(got, integers * np.array([1, -1, 0])[:, None, None, None], atol=1e-12)
    assert_same_function(net, after, m.pixels())


def test_a_flipped_lowest_integer_gets_one_more_bit(caplog: pytest.LogCaptureFixture) -> None:
    m = Maker((1, 2, 2))
    w = np.array([[[[-8.0, 7], [1, 0]]]])
    net = m.answer(m.norm("n", m.conv("c", "in", 1, 2, w=w, step=np.ones(1), bits=4), scale=np.array([-1.0])))
    with caplog.at_level(logging.WARNING):
        conv = folded(net).by_name["c"]
    assert isinstance(conv, Conv2d)
    assert conv.bits == 5
    assert "turns weight -8 into 8: bits=5" in caplog.text


def test_minus_128_cannot_flip() -> None:
    m = Maker((1, 2, 2))
    w = np.array([[[[-128.0, 7], [1, 0]]]])
    net = m.answer(m.norm("n", m.conv("c", "in", 1, 2, w=w, step=np.ones(1), bits=8), scale=np.array([-1.0])))
    assert "turns the weight -128 of 'conv2d' %c into 128, which 8 bits do not hold" in refusal(net)


def test_one_scale_for_all_inputs_keeps_a_trained_grid() -> None:
    """Behind the activation: the same factor everywhere is a factor of the step."""
    m = Maker((2, 4, 4))
    n = m.norm("n", m.fire("a", m.conv("c0", "in", 2, 1), 1.0), scale=np.array([-2.0, -2.0]))
    w = m.rng.integers(-7, 8, (3, 2, 3, 3)) * 0.5
    net = m.answer(m.conv("c", n, 3, w=w, step=np.full(3, 0.5), bits=4))
    after = folded(net)
    conv = after.by_name["c"]
    assert isinstance(conv, Conv2d)
    assert conv.step is not None
    np.testing.assert_array_equal(after.arrays[conv.step], np.full(3, 1.0))
    assert_same_function(net, after, m.pixels())


def test_depthwise_layers_take_any_scale_onto_their_grid() -> None:
    m = Maker((2, 4, 4))
    n = m.norm("n", m.fire("a", m.conv("c0", "in", 2, 1), 1.0), scale=np.array([-2.0, 0.25]))
    w = m.rng.integers(-7, 8, (2, 1, 3, 3)) * 0.5
    net = m.answer(m.conv("c", n, 2, w=w, step=np.full(2, 0.5), bits=4, groups=2))
    after = folded(net)
    conv = after.by_name["c"]
    assert isinstance(conv, Conv2d)
    assert conv.step is not None
    np.testing.assert_array_equal(after.arrays[conv.step], [1.0, 0.125])
    assert_same_function(net, after, m.pixels())


def test_unequal_scales_on_a_trained_grid_are_refused() -> None:
    m = Maker((2, 4, 4))
    n = m.norm("n", m.fire("a", m.conv("c0", "in", 2, 1), 1.0), scale=np.array([2.0, 1.0]))
    net = m.answer(m.conv("c", n, 3, w=np.ones((3, 2, 3, 3)), step=np.ones(3), bits=4))
    assert "%n: scales the inputs of 'conv2d' %c differently, but its weights were trained on one grid" in refusal(net)


def test_a_negative_scale_before_a_max_pool_is_refused() -> None:
    m = Maker()
    n = m.norm("n", m.fire("a", m.conv("c0", "in", 2, 1), 1.0), scale=np.array([1.0, -1.0]))
    net = m.answer(m.conv("c", m.maxpool("p", n), 2, 1))
    assert refusal(net) == (
        "<net>: error[TTFS012]: 'batchnorm' %n: feeds 'maxpool' %p with a negative scale (channel 1): the largest "
        "value would become the smallest; put the batch norm behind the pool or before the activation"
    )


def test_a_shift_map_before_a_max_pool_is_refused() -> None:
    """A padded average pool lowers the shift at its border, so the pool behind it cannot ignore it."""
    m = Maker()
    n = m.norm("n", m.fire("a", m.conv("c0", "in", 2, 1), 1.0), scale=np.ones(2), shift=np.ones(2))
    net = m.answer(m.conv("c", m.maxpool("q", m.avgpool("p", n, 3, 1, pad=(1,) * 4)), 2, 1))
    assert "reaches 'maxpool' %q with a shift that differs from place to place" in refusal(net)


def test_a_ramp_behind_the_activation_is_refused_unless_nothing_changes() -> None:
    for scale, fine in ((np.ones(2), True), (np.array([1.0, 1.5]), False)):
        m = Maker((2, 4, 4))
        n = m.norm("n", m.fire("a", m.conv("c0", "in", 2, 1), 1.0), scale=scale, shift=np.zeros(2))
        net = m.answer(m.conv("c", n, 2, kernel="ramp"))
        if fine:
            assert_same_function(net, folded(net), m.pixels())
        else:
            assert "%n: scales the values of spikes, but kernel=ramp of 'conv2d' %c also counts them" in refusal(net)


def test_streaming_readers_are_refused() -> None:
    m = Maker((2, 4, 4), ticks=4)
    n = m.norm("n", m.fire("a", m.conv("c0", "in", 2, 1, kernel="step", every=True), 1.0))
    net = m.answer(m.conv("c", n, 2, kernel="step"))
    assert "kernel=step of 'conv2d' %c also counts them" in refusal(net)


def test_scales_that_differ_inside_a_channel_are_refused() -> None:
    m = Maker((2, 4, 4))
    f = m.flatten("f", m.conv("c", "in", 2, 3))
    net = m.answer(m.norm("n", f, scale=np.arange(1.0, 9), shift=np.zeros(8)))
    assert "scales the neurons of one channel of %c differently" in refusal(net)


def test_an_answer_cannot_be_normalised() -> None:
    m = Maker((2, 1, 1))
    m.fire("a", m.conv("c", "in", 2, 1), 1.0)
    n = m.norm("n", m.flatten("f", "a"))
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref(n),), rule="weighted", table=m.b.array("t", np.ones(1))))
    assert "%n: feeds 'decode' %out, which is no synapse" in refusal(m.b.net())


def test_an_encoding_cannot_be_normalised() -> None:
    m = Maker((2, 4, 4))
    m.b.add(Encode(name="e", type=OPEN, x=Ref(m.norm("n", "in"))))
    text = refusal(m.answer(m.conv("c", "e", 1, 1)))
    assert "%n: feeds 'encode' %e, which is no synapse: scale the image beforehand" in text


def test_all_refusals_come_at_once() -> None:
    m = Maker()
    a = m.fire("a", m.conv("c0", "in", 2, 1), 1.0)
    p = m.maxpool("p", m.norm("n1", a, scale=-np.ones(2)))
    q = m.maxpool("q", m.norm("n2", a, scale=-np.ones(2)))
    text = refusal(m.answer(m.plus("s", [m.conv("c1", p, 2, 1), m.conv("c2", q, 2, 1)])))
    assert "%n1" in text
    assert "%n2" in text


def test_no_batch_norm_no_change() -> None:
    m = Maker()
    net = m.answer(m.conv("c", "in", 2))
    assert fold_batchnorm(net) is net


def test_dense_layers() -> None:
    m = Maker((6, 1, 1))
    a = m.fire("a", m.norm("n1", m.dense("d1", m.norm("n0", m.flatten("f", "in")), 5)), 1.0)
    net = m.answer(m.norm("n3", m.dense("d2", m.norm("n2", a), 3)))
    after = folded(net)
    assert [type(op) for op in after.ops].count(Dense) == 2
    assert_same_function(net, after, m.pixels())
