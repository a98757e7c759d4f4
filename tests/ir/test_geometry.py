"""Exact incidence of convolutions, pools and dense layers, by counting every tap of every neuron."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import integer_nets
from ttfsc.ir import Conv2d, Dense, Fire, Link, MaxPool, Net, layers_of, show, tree_hops, xy_tree
from ttfsc.ir.geometry import reads

Index = tuple[int, int, int]


def places(grid: Index) -> Iterator[Index]:
    yield from product(range(grid[0]), range(grid[1]), range(grid[2]))


def synapses_of(net: Net, link: Link) -> list[tuple[Index, Index]]:
    """(output neuron, operand position) of every synaptic addition, one by one."""
    op, (channels, height, width) = link.synapse, link.fan_grid
    outputs = list(places(link.out_grid))
    if isinstance(op, Dense):
        return [(o, i) for o in outputs for i in places(link.fan_grid)]
    found = list[tuple[Index, Index]]()
    spans = (height + op.pool_pad[0] + op.pool_pad[2], width + op.pool_pad[1] + op.pool_pad[3])
    pooled = [(spans[a] - op.pool[a]) // op.pool_stride[a] + 1 for a in (0, 1)]
    per_in, per_out = channels // op.groups, link.out_grid[0] // op.groups
    taps = list(product(range(per_in), *(range(n) for n in net.arrays[op.w].shape[2:])))
    for o, p, q in outputs:
        for c, i, j in taps:
            y = p * op.stride[0] + i * op.dilation[0] - op.pad[0]
            x = q * op.stride[1] + j * op.dilation[1] - op.pad[1]
            if not (0 <= y < pooled[0] and 0 <= x < pooled[1]):
                continue
            for a, b in product(range(op.pool[0]), range(op.pool[1])):
                row, column = y * op.pool_stride[0] + a - op.pool_pad[0], x * op.pool_stride[1] + b - op.pool_pad[1]
                if 0 <= row < height and 0 <= column < width:
                    found.append(((o, p, q), (o // per_out * per_in + c, row, column)))
    return found


def through(pools: tuple[MaxPool, ...], sources: list[Index]) -> dict[Index, set[Index]]:
    """Which position behind the max pools each source neuron can win."""
    reached = {source: {source} for source in sources}
    for pool in pools:
        height, width = pool.type.shape[1:]
        for source, here in reached.items():
            reached[source] = {
                (c, p, q)
                for c, y, x in here
                for p, q in product(range(height), range(width))
                if 0 <= y + pool.pad[0] - p * pool.stride[0] < pool.kernel[0]
                and 0 <= x + pool.pad[1] - q * pool.stride[1] < pool.kernel[1]
            }
    return reached


@settings(max_examples=150)
@given(integer_nets(max_layers=2))
def test_links_count_as_neurons_do(net: Net) -> None:
    for layer in layers_of(net):
        assert np.prod(layer.grid) == layer.size == (net.type_of(layer.name).size)
        for link in layer.links:
            every = synapses_of(net, link)
            fan_out = np.zeros(link.fan_grid, np.int64)
            for _, (c, y, x) in every:
                fan_out[c, y, x] += 1
            assert all(np.array_equal(fan_out[c], link.fan_out) for c in range(link.fan_grid[0])), show(net)
            heights, widths = link.axes
            if isinstance(link.synapse, Conv2d):
                counted = {(o[1], i[1], o[2], i[2]) for o, i in every}
                for p, y, q, x in product(*(range(n) for n in (*heights.shape, *widths.shape))):
                    assert bool(heights[p, y] and widths[q, x]) == ((p, y, q, x) in counted)


@settings(max_examples=150)
@given(integer_nets(max_layers=2, skips=False))
def test_reach_goes_through_max_pools(net: Net) -> None:
    for layer in layers_of(net):
        for link in layer.links:
            sources = list(places(link.source_grid))
            behind = through(link.pools, sources)
            touched: dict[Index, set[tuple[int, int]]] = {}
            for (_, p, q), i in synapses_of(net, link):
                touched.setdefault(i, set()).add((p, q))
            rows, columns = link.reach
            for _, y, x in sources:
                found = {(int(p), int(q)) for p in np.flatnonzero(rows[:, y]) for q in np.flatnonzero(columns[:, x])}
                want = {o for c in range(link.source_grid[0]) for i in behind[c, y, x] for o in touched.get(i, ())}
                if isinstance(link.synapse, Conv2d):
                    assert found == want, f"{show(net)}\n%{layer.name} from {link.source} at {y},{x}"
                else:  # a dense layer hears whoever some pool lets through
                    assert bool(found) == bool(want)


@given(integer_nets(max_layers=3))
def test_layers_are_the_firing_ops_and_the_read_out(net: Net) -> None:
    layers = layers_of(net)
    assert [la.name for la in layers if la.fires] == [op.name for op in net.ops if isinstance(op, Fire)]
    for layer in layers:
        assert layer.links and all(link.out_grid[0] for link in layer.links)
        for link in layer.links:
            assert net.by_name[link.source].type.size == np.prod(link.source_grid)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3))
def test_reads_counts_taps(size: int, out: int, kernel: int, stride: int, before: int, dilation: int) -> None:
    want = np.zeros((out, size), np.int64)
    for o in range(out):
        for k in range(kernel):
            i = o * stride + k * dilation - before
            if 0 <= i < size:
                want[o, i] += 1
    assert np.array_equal(reads(size, out, kernel, stride, before, dilation), want)


PLACES = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(PLACES, st.lists(PLACES, max_size=8))
def test_tree_hops_is_the_size_of_the_tree(source: tuple[int, int], targets: list[tuple[int, int]]) -> None:
    tree = xy_tree(source, targets)
    assert tree_hops(source, targets) == len(tree)
    reached = {source}
    for _ in range(14):
        reached |= {b for a, b in tree if a in reached}
    assert set(targets) <= reached, "every target hangs on the tree"
    assert all(abs(ax - bx) + abs(ay - by) == 1 for (ax, ay), (bx, by) in tree)
    assert len({b for _, b in tree}) == len(tree), "a tree enters every place once"


@given(PLACES, PLACES)
def test_unicast_takes_the_manhattan_distance(a: tuple[int, int], b: tuple[int, int]) -> None:
    assert tree_hops(a, [b]) == abs(a[0] - b[0]) + abs(a[1] - b[1])
