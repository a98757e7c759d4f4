from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.vgg import vgg
from tests.mapping.nets import chip_of, joined, mapped, mnist
from tests.strategies import integer_nets
from ttfsc.hardware import Chip, Figure, load_chip
from ttfsc.ir import (
    OPEN,
    Analog,
    BatchNorm,
    Box,
    Builder,
    Decode,
    Dense,
    Grid,
    Input,
    Net,
    Ref,
    TtfsError,
    codes,
    layers_of,
    parse,
    show,
    traffic,
    verify,
)
from ttfsc.passes.limits import demand_of, traffic_of
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route
from ttfsc.passes.tiles import SCHEMES, boxes_of, split

GRIDS = st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))


@settings(max_examples=200)
@given(GRIDS, st.integers(1, 60), st.sampled_from(sorted(SCHEMES)))
def test_boxes_cover_once_and_fit(grid: Grid, limit: int, scheme: str) -> None:
    count = np.zeros(grid, np.int64)
    for box in boxes_of(grid, limit, scheme):
        assert prod(b - a for a, b in box) <= limit
        count[tuple(slice(a, b) for a, b in box)] += 1
    assert (count == 1).all()


@settings(max_examples=100)
@given(GRIDS, st.integers(1, 60))
def test_tiles_are_as_few_as_any_even_cut(grid: Grid, limit: int) -> None:
    channels, height, width = grid
    groups = -(-channels // limit)
    per_group = -(-channels // groups)
    fewest = min(
        down * across
        for down, across in product(range(1, height + 1), range(1, width + 1))
        if -(-height // down) * -(-width // across) * per_group <= limit
    )
    assert len(boxes_of(grid, limit, "tile")) == groups * fewest


@pytest.mark.parametrize(
    ("grid", "shape"),
    [((64, 32, 32), (64, 4, 4)), ((128, 16, 16), (128, 2, 4)), ((256, 8, 8), (256, 2, 2)), ((512, 4, 4), (512, 1, 2)),
     ((4096, 1, 1), (1024, 1, 1)), ((1536, 3, 3), (768, 1, 1))],
)  # fmt: skip
def test_tiles_of_a_thousand_neurons(grid: Grid, shape: Grid) -> None:
    assert {tuple(b - a for a, b in box) for box in boxes_of(grid, 1024, "tile")} == {shape}


@pytest.mark.parametrize(
    ("grid", "shape"),
    [((64, 32, 32), (1, 32, 32)), ((128, 16, 16), (4, 16, 16)), ((512, 2, 2), (256, 2, 2)), ((2, 64, 64), (1, 32, 32))],
)
def test_feature_groups_of_a_thousand_neurons(grid: Grid, shape: Grid) -> None:
    assert {tuple(b - a for a, b in box) for box in boxes_of(grid, 1024, "feature")} == {shape}


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_vgg16_takes_279_cores(scheme: str) -> None:
    net = partition(vgg(), scheme=scheme, chip=load_chip("canmore-22nm"))
    assert net.mapped is not None
    cores = net.mapped.cores
    assert (len(cores), net.mapped.mesh) == (279, (17, 17))
    assert [core.id for core in cores] == list(range(279))
    assert max(core.neurons for core in cores) <= 1024
    assert sum(core.neurons for core in cores) == 284_682
    order = [core.slices[0].layer for core in cores]
    assert list(dict.fromkeys(order)) == [layer.name for layer in layers_of(net)]
    assert list(Counter(order).values()) == [64, 64, 32, 32, 16, 16, 16, 8, 8, 8, 2, 2, 2, 4, 4, 1]
    assert [core.slices[0].box for core in cores] == [
        box
        for layer in layers_of(net)
        for box in sorted(c.slices[0].box for c in cores if c.slices[0].layer == layer.name)
    ]  # layer by layer, channel groups outermost, then raster order


def test_places_are_row_major() -> None:
    net = mapped(mnist(), chip_of(300))
    assert net.mapped is not None
    width = net.mapped.mesh[0]
    assert [core.place for core in net.mapped.cores] == [(i % width, i // width) for i in range(len(net.mapped.cores))]


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_text_round_trip(scheme: str) -> None:
    net = mapped(mnist(), chip_of(300), scheme)
    assert verify(net) is net
    assert parse(show(net), net.arrays) == net


def _faults(net: Net, scheme: str = "tile", **limits: object) -> list[str]:
    with pytest.raises(TtfsError) as e:
        partition(net, scheme=scheme, chip=chip_of(1024, **limits))  # pyright: ignore[reportArgumentType]
    return [str(f) for f in e.value.faults]


def test_too_few_cores() -> None:
    (fault,) = _faults(mnist(), mesh=(4, 3))
    assert "needs 20 cores with scheme=tile, the 4x3 mesh of small has 12: 8 too few" in fault
    assert fault.startswith("mnist: error[TTFS010]: net @mnist:")


def test_layers_larger_than_the_chip_are_named_with_the_net() -> None:
    faults = _faults(mnist(), mesh=(2, 1))
    assert [f.split(": ")[2] for f in faults] == ["'fire' %c1", "'fire' %c2", "net @mnist"]
    assert (
        "10,816 neurons need 12 cores of 1,024 neurons, the 2x1 mesh of small has 2: make the layer smaller"
        in faults[0]
    )


def test_the_other_scheme_is_offered_where_it_fits() -> None:
    (fault,) = _faults(mnist(), "feature", mesh=(5, 4))
    assert "needs 22 cores with scheme=feature" in fault
    assert fault.endswith("2 too few; choose a larger chip (--arch) or partition{scheme=tile}, which needs 20")


def test_synapse_memory() -> None:
    faults = _faults(mnist(), bits=40_000)
    assert [f.split(": ")[2] for f in faults] == ["'fire' %c2", "'fire' %f3"]
    assert faults[0].endswith(
        "needs 51,200 bits of synapse memory on one core with scheme=tile, small has 40,000: 11,200 too few; choose "
        "partition{scheme=hybrid}, which needs 25,600, or fewer bits per weight, or a chip with more (--arch)"
    )
    assert faults[1].endswith(
        "needs 409,600 bits of synapse memory on one core with scheme=tile, small has 40,000: 369,600 too few; choose "
        "partition{scheme=hybrid}, which needs 35,200, or fewer bits per weight, or a chip with more (--arch)"
    )
    assert _faults(mnist(), "hybrid", bits=3_000)[-1].endswith(
        "200 too few; choose fewer bits per weight, or a chip with more (--arch)"
    )


def test_options() -> None:
    net = mnist()
    for call in (
        lambda: partition(net, scheme="random", chip=chip_of(9)),
        lambda: place(mapped(net, chip_of(900)), scheme="spiral"),
        lambda: route(mapped(net, chip_of(900)), delivery="pigeon"),
    ):
        with pytest.raises(TtfsError, match=r"must be ") as e:
            call()
        assert [f.code for f in e.value.faults] == [codes.OPTION]


@pytest.mark.parametrize("step", [place, route])
def test_no_map(step: Callable[[Net], Net]) -> None:
    with pytest.raises(TtfsError, match="has no map section: run partition first"):
        step(mnist())


def test_nets_that_are_not_canonical_yet() -> None:
    b = Builder("early")
    b.add(Input(name="in", type=Analog((4,), 0, 9)))
    b.add(Dense(name="v", type=OPEN, x=Ref("in"), w=b.array("w", np.ones((3, 4), np.float32))))
    one = b.array("one", np.ones(3, np.float32))
    b.add(BatchNorm(name="n", type=OPEN, x=Ref("v"), scale=one, shift=one))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("n"),), rule="membrane"))
    with pytest.raises(TtfsError, match="run fold-batchnorm"):
        partition(b.net(), chip=chip_of(9))


def test_a_dense_branch_shares_the_grid_of_a_convolution() -> None:
    net = joined((8, 9))
    assert layers_of(net)[0].grid == (2, 2, 2)
    assert verify(mapped(net, chip_of(3)))


def test_two_flattened_convolutions_of_different_grids_are_refused() -> None:
    with pytest.raises(TtfsError) as e:
        partition(joined((8, 1, 3, 3)), chip=chip_of(3))
    assert [(f.code, f.subject) for f in e.value.faults] == [(codes.UNSUPPORTED, "'conv2d' %b")]
    assert "adds a flattened membrane of 8x1x1 to one of 2x2x2" in str(e.value)


def test_hybrid_takes_as_few_groups_of_channels_as_the_memory_asks_for() -> None:
    """c2 has 32 kernels of 16x5x5 4-bit weights, 51,200 bits; f3 128 of 32x5x5, 409,600."""
    free, tight = (partition(mnist(), scheme="hybrid", chip=chip_of(1024, bits=bits)) for bits in (None, 30_000))
    assert free.mapped is not None
    assert tight.mapped is not None
    tile = partition(mnist(), scheme="tile", chip=chip_of(1024)).mapped
    assert tile is not None
    assert free.mapped.cores == tile.cores
    groups = {
        name: {s.box[0] for c in tight.mapped.cores for s in c.slices if s.layer == name} for name in ("c2", "f3")
    }
    assert len(groups["c2"]) == 2
    assert len(groups["f3"]) == 16
    assert verify(mapped(mnist(), chip_of(1024, bits=30_000), "hybrid"))


def _remote(net: Net) -> int:
    maps = traffic(route(place(net)))
    return sum(int(m.packets_unicast.sum()) for m in maps.values())


@settings(max_examples=40, deadline=None)
@given(integer_nets(), st.integers(2, 30))
def test_auto_has_the_least_traffic_of_all(net: Net, limit: int) -> None:
    chip = chip_of(limit)
    found = {scheme: _remote(partition(net, scheme=scheme, chip=chip)) for scheme in (*SCHEMES, "hybrid", "auto")}
    assert found["auto"] == min(found.values())


def _even_cuts(grid: Grid) -> Iterator[list[Box]]:
    """Every even cut of a layer into channel groups, rows and columns."""
    for parts in product(*(range(1, size + 1) for size in grid)):
        yield list(product(*(split(size, n) for size, n in zip(grid, parts, strict=True))))


@settings(max_examples=40, deadline=None)
@given(integer_nets(), st.integers(2, 30), st.sampled_from([None, 64, 256]), st.sampled_from([None, 9, 40]))
def test_auto_is_the_best_of_all_even_cuts(net: Net, neurons: int, bits: int | None, axons: int | None) -> None:
    """By brute force, layer by layer: nothing that fits the limits of a core has less traffic."""
    chip = chip_of(neurons, bits=bits)
    chip = replace(chip, axons_in=Figure(axons, "axons", "test") if axons else None)
    layers = layers_of(net)
    hosts = frozenset(link.source for layer in layers for link in layer.links) - {layer.name for layer in layers}
    best = dict[str, int]()
    for layer in layers:
        fits = [traffic_of(layer, b, hosts) for b in _even_cuts(layer.grid) if not demand_of(layer, b).over(chip)]
        if fits:
            best[layer.name] = min(fits)
    if len(best) < len(layers):
        with pytest.raises(TtfsError) as e:
            partition(net, scheme="auto", chip=chip)
        assert {f.code for f in e.value.faults} == {codes.CAPACITY}
        return
    done = partition(net, scheme="auto", chip=chip)
    assert done.mapped is not None
    for layer in layers:
        boxes = [s.box for core in done.mapped.cores for s in core.slices if s.layer == layer.name]
        assert traffic_of(layer, boxes, hosts) == best[layer.name], layer.name


def test_auto_gives_way_where_the_mesh_is_small() -> None:
    wide, bits = partition(mnist(), scheme="auto", chip=chip_of(300, bits=30_000)), 30_000
    assert wide.mapped is not None
    least = len(partition(mnist(), scheme="hybrid", chip=chip_of(300, bits=bits)).mapped.cores)  # pyright: ignore[reportOptionalMemberAccess]
    chip = chip_of(300, bits=bits, mesh=(least, 1))
    narrow = partition(mnist(), scheme="auto", chip=chip)
    assert narrow.mapped is not None
    assert len(narrow.mapped.cores) <= least
    assert _remote(wide) <= _remote(narrow)


def test_the_estimate_of_traffic_is_the_traffic_of_the_routes() -> None:
    net = partition(mnist(maxpool=True), chip=chip_of(200))
    assert net.mapped is not None
    total = 0
    for layer in layers_of(net):
        boxes = [s.box for core in net.mapped.cores for s in core.slices if s.layer == layer.name]
        total += traffic_of(layer, boxes, frozenset(["in"]))
    assert total == _remote(net)


def _limited(**limits: int) -> Chip:
    units = {"axons_in": "axons", "axons_out": "packets", "potential_bits": "bit", "accumulator_bits": "bit"}
    figures = {key: Figure(value, units[key], "test") for key, value in limits.items()}
    return replace(chip_of(1024), delivery="unicast", **figures)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("limits", "layer", "message"),
    [
        ({"axons_in": 700}, "c2", "axons into one core with scheme=tile, small has 700:"),
        ({"axons_out": 3}, "c1", "each spike goes to 4 cores, small sends 3 packets: 1 too few"),
        ({"potential_bits": 12}, "c1", "bits, small has 12 bit:"),
        ({"accumulator_bits": 12}, "c1", "its sum can reach"),
    ],
)
def test_every_limit_names_layer_and_excess(limits: dict[str, int], layer: str, message: str) -> None:
    with pytest.raises(TtfsError) as e:
        partition(mnist(), chip=_limited(**limits))
    told = [f for f in e.value.faults if f"%{layer}" in f.subject]
    assert [f.code for f in told] == [codes.CAPACITY] * len(told)
    assert any(message in str(f) for f in told), [str(f) for f in e.value.faults]
    assert all("choose" in str(f) for f in told)


def test_routing_entries_are_a_limit() -> None:
    net = place(partition(mnist(), chip=chip_of(100)))
    tight = replace(chip_of(100), routing_entries=Figure(9, "entries", "test"))
    with pytest.raises(TtfsError, match=r"needs \d+ routing entries in router \d+,\d+ and too many in \d+ routers"):
        route(net, chip=tight)
    assert route(net, chip=tight, delivery="unicast") == route(net, delivery="unicast")
    assert route(net, chip=replace(tight, routing_entries=Figure(10_000, "entries", "test"))) == route(net)


@pytest.mark.parametrize("name", ["truenorth", "spinnaker", "loihi-like", "anp-i-like"])
def test_shipped_chips_take_mnist_or_say_what_is_missing(name: str) -> None:
    chip = load_chip(name)
    try:
        net = verify(route(place(partition(mnist(), scheme="auto", chip=chip), chip=chip), chip=chip))
    except TtfsError as e:
        assert name == "truenorth"  # 256 axons into a core, one destination for a spike
        assert {f.code for f in e.faults} == {codes.CAPACITY}
        assert "axons into one core" in str(e)
    else:
        assert name != "truenorth"
        assert net.mapped is not None
        assert net.mapped.delivery == chip.delivery
