"""The executor, from the files alone, against the reference meaning."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapping.nets import chip_of, joined, mapped, mnist, proven
from tests.strategies import inputs_for, integer_nets
from ttfsc.backends import noc
from ttfsc.backends.noc.check import image_faults
from ttfsc.hardware import load_chip
from ttfsc.ir import (
    OPEN,
    Analog,
    Array,
    Builder,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Input,
    Loc,
    MaxPool,
    Net,
    Ref,
    Result,
    TtfsError,
    codes,
    run,
)

LIMITS = st.integers(1, 20)
SCHEMES, DELIVERIES = st.sampled_from(("feature", "tile")), st.sampled_from(("multicast", "unicast"))


def assert_equal(got: Result, want: Result) -> None:
    assert list(got.spikes) == list(want.spikes)
    for name, spikes in want.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes, err_msg=name, strict=True)
    np.testing.assert_array_equal(got.scores, want.scores, strict=True)
    np.testing.assert_array_equal(got.labels, want.labels, strict=True)


def through_files(net: Net, neurons: int, scheme: str = "tile", delivery: str = "") -> noc.Image:
    chip = chip_of(neurons)
    return noc.load(noc.emit(mapped(proven(net), chip, scheme, delivery), chip))


@settings(max_examples=150)
@given(integer_nets(), LIMITS, SCHEMES, DELIVERIES, st.integers(0, 9))
def test_equals_the_reference_meaning(net: Net, limit: int, scheme: str, delivery: str, seed: int) -> None:
    x = inputs_for(net, seed)
    assert_equal(noc.run(through_files(net, limit, scheme, delivery), x), run(net, x))


@pytest.mark.parametrize("maxpool", [False, True])
@pytest.mark.parametrize("scheme", ["feature", "tile"])
def test_mnist(scheme: str, maxpool: bool) -> None:
    net, x = mnist(maxpool=maxpool), np.random.default_rng(1).integers(0, 256, (20, 1, 28, 28)).astype(np.uint8)
    want, chip = run(net, x), load_chip("canmore-22nm")
    assert 0.05 < np.mean([(s > 0).mean() for s in want.spikes.values()]) < 0.95
    image = noc.load(noc.emit(mapped(net, chip, scheme), chip))
    assert_equal(noc.run(image, x), want)
    assert_equal(noc.run(image, x, batch=7), want)


def test_only_what_is_kept_comes_back() -> None:
    net = mnist()
    x = np.zeros((2, 1, 28, 28), np.uint8)
    assert list(noc.run(through_files(net, 900), x, keep=["c2"]).spikes) == ["c2"]


def test_a_flattened_membrane_and_a_dense_branch() -> None:
    net = joined((8, 9))
    x = inputs_for(net, 0, 30)
    want = run(net, x)
    assert 0 < (want.spikes["s"] > 0).mean() < 1
    for limit in (1, 3, 8):
        assert_equal(noc.run(through_files(net, limit), x), want)


def _one_bit(weights: tuple[int, ...]) -> Net:
    rng, b = np.random.default_rng(0), Builder("bits", ticks=5)
    b.add(Input(name="in", type=Analog((1, 4, 4), -3, 8)))
    b.add(MaxPool(name="p", type=OPEN, x=Ref("in"), kernel=(2, 2), stride=(1, 1), pad=(1, 0, 0, 1)))
    b.add(Encode(name="e", type=OPEN, x=Ref("p")))
    b.add(Flatten(name="flat", type=OPEN, x=Ref("e")))
    w = b.array("w", rng.choice(weights, (7, 16)).astype(np.int8))
    b.add(Dense(name="v", type=OPEN, x=Ref("flat"), w=w, bits=1))
    b.add(Fire(name="s", type=OPEN, v=Ref("v"), theta=b.array("t", np.full((1, 5), 3, np.int32))))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("s"), Ref("v")), rule="first_spike"))
    return b.net()


@pytest.mark.parametrize(("weights", "bits", "sign"), [((-1, 1), 1, True), ((-1, 0), 1, False), ((-1, 0, 1), 2, False)])
def test_weights_of_one_bit(weights: tuple[int, ...], bits: int, sign: bool) -> None:
    net = _one_bit(weights)
    image, x = through_files(net, 3), inputs_for(_one_bit(weights), 1, 20)
    stored = image.layers[0].links[0]
    assert (stored.bits, stored.sign) == (bits, sign)
    assert_equal(noc.run(image, x), run(net, x))


def _without_route(image: noc.Image, core: int, number: int) -> noc.Image:
    def cut(routes: tuple[object, ...]) -> tuple[object, ...]:
        return routes[:number] + routes[number + 1 :]

    cores = tuple(replace(c, routes=cut(c.routes)) if c.id == core else c for c in image.cores)
    return replace(image, cores=cores)


def test_a_missing_route_changes_the_answer_and_is_named() -> None:
    """Spikes reach a core by routes only: whichever is taken away, some membrane is not what it was."""
    net, x = mnist(maxpool=True), np.random.default_rng(1).integers(0, 256, (4, 1, 28, 28)).astype(np.uint8)
    image, want = through_files(net, 400), run(net, x)
    silent = {name for name, s in want.spikes.items() if not s.any()}
    assert not silent
    tried = 0
    for core in image.cores[:: max(1, len(image.cores) // 8)]:
        for number, route in enumerate(core.routes):
            sent = want.spikes[route.source.layer][:, *(slice(a, b) for a, b in route.source.box)]
            if not sent.any():
                continue
            broken, tried = _without_route(image, core.id, number), tried + 1
            got = noc.run(broken, x)
            same = all(np.array_equal(got.spikes[n], s) for n, s in want.spikes.items())
            assert not same or not np.array_equal(got.scores, want.scores)
            facts = [str(f) for f in image_faults(broken, Loc("noc"))]
            assert len(facts) == len(route.to)
            assert all("has synapses from, but is not sent," in fact for fact in facts)
            assert {fact.split("core ")[1].split(":")[0] for fact in facts} == {str(to) for to in route.to}
    assert tried >= 5


def _inputs() -> list[tuple[Array, str]]:
    good = np.zeros((2, 1, 28, 28), np.int32)
    return [
        (good[:, 0], "x is 2x28x28, must be N x 1x28x28"),
        (good[:0], "x holds no samples"),
        (good / 2, "x is float64; a mapped net takes integers, the source value divided by scale=0.00392"),
        (good - 1, "x reaches from -1 to -1, declared are 0..255"),
        (good + 256, "x reaches from 256 to 256, declared are 0..255"),
    ]


@pytest.mark.parametrize(("x", "message"), _inputs(), ids=["shape", "empty", "real", "low", "high"])
def test_wrong_inputs(x: Array, message: str) -> None:
    with pytest.raises(TtfsError, match=message) as e:
        noc.run(through_files(mnist(), 900), x)
    assert [f.code for f in e.value.faults] == [codes.INPUT]
