"""Counts against counting every spike and every synapse one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.nets import additions, pooled, repeats, small_net
from tests.strategies import inputs_for, integer_nets, real_nets
from ttfsc.backends.report import Meter, measure
from ttfsc.backends.report.structure import dense_synapses, nonzero_synapses, synapses_of
from ttfsc.ir import Analog, Encode, Fire, Net, Result, Spikes, TtfsError, grid_of, layers_of, run, ticks_of


@settings(max_examples=40)
@given(integer_nets(max_layers=2), st.integers(0, 2**32 - 1))
def test_operations_one_by_one(net: Net, seed: int) -> None:
    x = inputs_for(net, seed, 3)
    m, result = measure(net, x, batch=2), run(net, x)
    for layer in layers_of(net):
        sops = macs = 0
        for link in layer.links:
            source = net.type_of(link.source)
            analog = isinstance(source, Analog)
            values = x if link.source == net.input.name else result.spikes[link.source]
            adds = list(additions(link, net.arrays[link.synapse.w]))
            for frame in values:
                active = pooled(link, frame.reshape(grid_of(frame.shape))) != 0
                operations = sum(bool(active[operand]) for operand, _, _ in adds)
                sops += 0 if analog else operations
                macs += operations * repeats(link) if analog else 0
        assert (m.layers[layer.name].sops, m.layers[layer.name].macs) == (sops, macs)


@settings(max_examples=40)
@given(integer_nets(max_layers=2))
def test_synapses_one_by_one(net: Net) -> None:
    for layer in layers_of(net):
        fan_in = np.zeros(layer.grid, np.int64)
        total = 0
        for link in layer.links:
            w = net.arrays[link.synapse.w]
            adds = list(additions(link, w))
            assert dense_synapses(link) == len(adds)
            assert nonzero_synapses(link, w) == sum(weight != 0 for _, _, weight in adds)
            here = np.zeros(link.out_grid, np.int64)
            for _, out, _ in adds:
                here[out] += 1
            fan_in += here.reshape(layer.grid)
            total += len(adds)
        made = synapses_of(net, layer)
        assert made.total == total
        assert made.fan_in == fan_in.max()


@settings(max_examples=30)
@given(integer_nets(), st.integers(0, 2**32 - 1))
def test_spikes_one_by_one(net: Net, seed: int) -> None:
    x = inputs_for(net, seed, 5)
    m, result = measure(net, x, batch=2), run(net, x)
    assert m.inputs == 5
    for layer in layers_of(net):
        counts, t = m.layers[layer.name], layer.op.type
        if not isinstance(t, Spikes):
            assert counts.total == 0 and counts.times.size == 0
            continue
        values = result.spikes[layer.name]
        assert np.array_equal(counts.spikes.ravel(), (values > 0).sum(0).ravel())
        ticks = ticks_of(values, t)
        assert counts.times.tolist() == [int((ticks == n).sum()) for n in range(t.opens, t.closes)]
        assert counts.silent == int((values > 0).reshape(5, -1).any(0).__invert__().sum())
    fired = [result.spikes[op.name] for op in net.ops if isinstance(op, Fire)]
    assert m.spikes == sum(int((v > 0).sum()) for v in fired)
    outside = [result.spikes[op.name] for op in net.ops if isinstance(op, Encode)]
    outside += [x] if isinstance(net.input.type, Spikes) else []
    assert m.input_spikes == sum(int((v > 0).sum()) for v in outside)


@settings(max_examples=20)
@given(integer_nets(rules=("first_spike", "weighted"), max_layers=1), st.integers(0, 2**32 - 1))
def test_first_output_spike(net: Net, seed: int) -> None:
    x = inputs_for(net, seed, 6)
    m, values, t = measure(net, x, batch=4), run(net, x).spikes["s"], net.type_of("s")
    assert isinstance(t, Spikes) and m.first_spike is not None
    earliest = [min((int(n) for n in frame[frame >= 0]), default=None) for frame in ticks_of(values, t)]
    assert m.first_spike.tolist() == [earliest.count(n) for n in (*range(t.opens, t.closes), None)]


def test_any_engine_will_do() -> None:
    net = small_net()
    x = np.random.default_rng(1).integers(0, 16, (7, 1, 6, 6)).astype(np.uint8)
    whole, done = run(net, x), list[int]()
    stream = (
        Result(whole.labels[a:b], whole.scores[a:b], {k: v[a:b] for k, v in whole.spikes.items()})
        for a, b in ((0, 1), (1, 5), (5, 7))
    )
    mine = measure(net, x, whole.labels, results=stream, progress=done.append)
    reference = measure(net, x, whole.labels)
    assert done == [1, 4, 2]
    assert mine.correct == reference.correct == 7
    for name, counts in reference.layers.items():
        assert np.array_equal(mine.layers[name].spikes, counts.spikes)
        assert (mine.layers[name].sops, mine.layers[name].macs) == (counts.sops, counts.macs)


def test_accuracy_counts_labels() -> None:
    net = small_net()
    x = np.random.default_rng(2).integers(0, 16, (9, 1, 6, 6)).astype(np.uint8)
    y = run(net, x).labels.copy()
    y[:4] = (y[:4] + 1) % 3
    assert measure(net, x, y).correct == 5
    assert measure(net, x).correct is None


@pytest.mark.parametrize(
    ("y", "fact"),
    [
        (np.zeros(3, np.int64), "is int64 3, must be 2 integers"),
        (np.zeros(2), "is float64 2, must be 2 integers"),
        (np.array([0, 3]), "reaches from 0 to 3, but the net knows classes 0..2"),
        (np.array([-1, 0]), "reaches from -1 to 0"),
    ],
)
def test_labels_that_do_not_fit(y: np.ndarray, fact: str) -> None:
    with pytest.raises(TtfsError, match=fact):
        measure(small_net(), np.zeros((2, 1, 6, 6), np.uint8), y)


@settings(max_examples=5)
@given(real_nets(max_layers=1))
def test_real_nets_have_no_ticks(net: Net) -> None:
    with pytest.raises(TtfsError, match="run quantize"):
        measure(net, inputs_for(net, 0, 2))


def test_an_engine_that_keeps_too_little_or_too_few_is_our_bug() -> None:
    net, x = small_net(), np.zeros((2, 1, 6, 6), np.uint8)
    with pytest.raises(AssertionError, match="did not keep the spikes of %c"):
        Meter(net).add(x, run(net, x, keep=("c1",)))
    with pytest.raises(AssertionError, match="1 results for 2 inputs"):
        measure(net, x, results=[run(net, x[:1])])
    with pytest.raises(AssertionError, match="nothing was measured"):
        Meter(net).finish()
