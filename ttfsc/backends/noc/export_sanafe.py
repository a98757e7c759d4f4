"""One frame as files of SANA-FE (https://github.com/SLAM-Lab/SANA-FE), an independent simulator of core meshes.

Two forms. `sanafe_files`: the network itself; SANA-FE integrates, fires and sends, and its spike times can be compared.
`sanafe_replay`: the frame's packets only, one sink per destination core, for networks too large for explicit synapses
(688 bytes each) or with what its neurons cannot do. Both send unicast, the only delivery it has.

How a time-to-first-spike neuron becomes `leaky_integrate_fire`: `leak_decay=1` and `input_decay=1` give
V = sum w (t - t_i), which is S as the window opens and S + W n after it. `schedule.json` holds what changes from tick
to tick and is applied before each of them (`ttfsc.backends.noc.sanafe.run_sanafe`): the threshold (SANA-FE fires on >,
so 0.5 less than the table; before the window 1e9), the constant current as `bias` of one tick, and `input_decay=0`
after a window has opened for layers that hold. One spike per frame: `reset=-1e6` and an endless `refractory_delay`.

Other pitfalls: a tile's number is x * height + y. Its `spikes` are SOPs and `neurons_fired` our spikes. It has neither
static energy nor multicast. `reset()` keeps refractory counters, so every frame needs a fresh chip. Only synapses of
neurons that fire in this frame are written: the others would send nothing, and if one fired nevertheless, its spike
time differs from ours. Energies: hop e_hop and synapse e_sop, so its total is our line (c) without static.
"""

import json
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from math import prod
from typing import Any

import numpy as np

from ttfsc.backends.noc.cells import LinkCell, SliceCell
from ttfsc.backends.noc.image import Image
from ttfsc.backends.noc.packets import Fabric, Ints
from ttfsc.backends.noc.simulate import Simulator
from ttfsc.ir import EVERY, Array, Box, Conv2d, Dense, Fault, Fire, Loc, TtfsError, codes

NEVER = 1e9  # a threshold that no membrane reaches
COMPARTMENTS = 1024  # of one soma unit of SANA-FE
Table = dict[str, Any]
_SOMA = "leak_decay: 1, input_decay: 1, reset: -1000000.0, refractory_delay: 1000000"
Synapses = tuple[Ints, Ints, Ints]  # source neuron (flat on its layer's grid), target neuron of the slice, weight


def sanafe_files(simulator: Simulator, x: Array) -> dict[str, bytes]:
    """arch.yaml, net.yaml and schedule.json of the frame x [1, *input shape].

    Raises TtfsError naming every layer that SANA-FE's neurons cannot express.
    """
    image, mesh = simulator.image, simulator.mesh
    faults = [Fault(codes.UNSUPPORTED, Loc("noc"), subject, fact) for subject, fact in _obstacles(image)]
    if faults:
        raise TtfsError(faults)
    values = simulator.values(x, mesh.run(x))
    cells = [(name, core, cell) for name, found in mesh.cells.items() for core, cell in found]
    groups = {id(cell): _name(f"{name}.core{core}.{i}") for i, (name, core, cell) in enumerate(cells)}
    tiles = _addresses(image)
    out, edges, maps, schedule = StringIO(), StringIO(), StringIO(), dict[int, dict[str, Table]]()
    out.write(f"network:\n  name: {_name(image.name)}\n  groups:\n")
    for _, core, cell in cells:
        group = groups[id(cell)]
        out.write(
            f"    - name: {group}\n      attributes: [soma: {{threshold: {NEVER}, {_SOMA}}}, log_spikes: true]\n"
            f"      neurons:\n        - 0..{prod(b - a for a, b in cell.box) - 1}: []\n"
        )
        maps.write(f"  - {group}: [core: {tiles[core]}, soma: neurons]\n")
        for tick, change in _changes(cell, values, mesh.analog):
            schedule.setdefault(tick, {})[group] = change
        for link in cell.links:
            source = link.link.source
            if source not in mesh.analog:
                synapses = _synapses(link, np.flatnonzero(values[source][0]))
                for _, home in mesh.cells[source]:
                    _edges(edges, groups[id(home)], group, home.box, synapses, link)
    table = {
        "ticks": simulator.ends,
        "groups": {groups[id(cell)]: [name, *(list(side) for side in cell.box)] for name, _, cell in cells},
        "schedule": {str(tick): schedule[tick] for tick in sorted(schedule)},
    }
    text = out.getvalue() + "  edges:\n" + edges.getvalue() + "mappings:\n" + maps.getvalue()
    return {
        "arch.yaml": architecture(image).encode(),
        "net.yaml": text.encode(),
        "schedule.json": (json.dumps(table) + "\n").encode(),
    }


def _obstacles(image: Image) -> Iterator[tuple[str, str]]:
    """What LIF neurons with explicit synapses cannot do; the way out is the same for all."""
    way = "export the frame's packets instead (--sanafe-replay)"
    layers = {layer.layer.name for layer in image.layers}
    for layer in image.layers:
        subject, kinds = f"layer %{layer.layer.name}", set[str]()
        for stored in layer.links:
            link, kernel = stored.link, stored.link.synapse.kernel
            if kernel not in ("hold", "ramp"):
                yield subject, f"kernel={kernel} is tick by tick, SANA-FE delivers a tick later: {way}"
            if link.source not in layers and link.source != image.input.name:
                yield subject, f"reads %{link.source}, spikes of the host: {way}"
            if link.source in layers:
                kinds.add(kernel)
                if link.pools:
                    yield subject, f"reads %{link.source} through a max pool, which its neurons do not have: {way}"
                if stored.held:
                    yield subject, f"holds the spikes of %{link.source} for {stored.held} ticks: {way}"
        if len(kinds) > 1:
            yield subject, f"adds spikes of kernels {' and '.join(sorted(kinds))}: {way}"
    if any(route.pool != EVERY for core in image.cores for route in core.routes):
        yield "routes", f"pool at the source: {way}"
    largest = max(sum(s.slice.size for s in core.slices) for core in image.cores)
    if largest > COMPARTMENTS:
        yield "cores", f"hold up to {largest} neurons, a soma unit of SANA-FE holds {COMPARTMENTS}: {way}"


def _changes(cell: SliceCell, values: dict[str, Array], analog: frozenset[str]) -> Iterator[tuple[int, Table]]:
    """What to set for a slice before a tick: a number for all its neurons, or one for each, in the order of its box."""
    layer, sides = cell.layer, tuple(b - a for a, b in cell.box)
    constant, drift = np.zeros(sides), np.zeros(sides)
    for link in cell.links:
        constant = (
            constant + link.bias + (link.sums(values[link.link.source])[0, 0] if link.link.source in analog else 0)
        )
        drift = drift + link.drift
    holds = all(link.link.synapse.kernel == "hold" for link in cell.links if link.link.source not in analog)
    for n in range(layer.ticks):
        change: Table = {}
        if n == 0:
            change["bias"] = _plain(constant)
        elif n == 1 or (drift != 0).any():
            change["bias"] = _plain(drift)
        if n == 1 and holds:
            change["input_decay"] = 0.0
        if cell.theta is not None:
            table = np.broadcast_to(cell.theta[..., n], sides) - 0.5
            last = n == layer.ticks - 1 and isinstance(layer.layer.op, Fire) and layer.layer.op.force_last
            change["threshold"] = -NEVER if last else _plain(table)
        yield layer.opens + n, change
    yield layer.closes, {"threshold": NEVER, "bias": 0.0, "input_decay": 0.0}


def _plain(numbers: Array) -> float | list[float]:
    """One number where all are the same."""
    flat: list[float] = numbers.reshape(-1).astype(np.float64).tolist()
    return flat[0] if len(set(flat)) == 1 else flat


def _synapses(link: LinkCell, fired: Ints) -> Synapses:
    """Every synapse from these source neurons (flat) into a slice, one row per addition that a spike causes."""
    grid, sides = link.link.source_grid, [b - a for a, b in link.box]
    if isinstance(link.synapse, Dense):
        size = sides[0] * sides[1] * sides[2]
        weight = link.rows[:, fired].T.astype(np.int64)
        return np.repeat(fired, size), np.tile(np.arange(size), len(fired)), weight.reshape(-1)
    s = link.synapse
    taps = link.rows.reshape(sides[0], *link.link.kernel[1:])
    axes = [_taps(s, a, grid[a + 1], link) for a in (0, 1)]
    per_out, per_in = link.link.kernel[0] // s.groups, link.link.kernel[1]
    parts = list[Synapses]()
    for neuron in fired:
        (c, rest), plane = divmod(int(neuron), grid[1] * grid[2]), grid[2]
        y, x = divmod(rest, plane)
        group = c // per_in
        a, b = (min(max(edge, link.box[0][0]), link.box[0][1]) for edge in (group * per_out, (group + 1) * per_out))
        rows, columns = axes[0][y], axes[1][x]
        if a >= b or not rows or not columns:
            continue
        channel = np.arange(a - link.box[0][0], b - link.box[0][0])
        (oy, ky), (ox, kx) = (np.array(axis, np.int64).T for axis in (rows, columns))
        weight = taps[channel[:, None, None], c - group * per_in, ky[:, None], kx].reshape(-1).astype(np.int64)
        target: Ints = ((channel[:, None, None] * sides[1] + oy[:, None]) * sides[2] + ox).reshape(-1)
        parts.append((np.full_like(target, int(neuron)), target, weight))
    zero = np.zeros(0, np.int64)
    joined = [np.concatenate([zero, *(p[i] for p in parts)]) for i in range(3)]
    return joined[0], joined[1], joined[2]


def _taps(s: Conv2d, axis: int, size: int, link: LinkCell) -> list[list[tuple[int, int]]]:
    """For every source position of one axis: (output within the box, tap) of each addition, folded pools included."""
    found, (low, high) = [list[tuple[int, int]]() for _ in range(size)], link.box[axis + 1]
    inner_size = link.stages[-1].size[axis]
    for out in range(low, high):
        for tap in range(link.link.kernel[axis + 2]):
            inner = out * s.stride[axis] - s.pad[axis] + tap * s.dilation[axis]
            if not 0 <= inner < inner_size:
                continue
            for q in range(s.pool[axis]):
                at = inner * s.pool_stride[axis] - s.pool_pad[axis] + q
                if 0 <= at < size:
                    found[at].append((out - low, tap))
    return found


def _edges(out: StringIO, source: str, to: str, home: Box, synapses: Synapses, link: LinkCell) -> None:
    """Synapses from the neurons of one slice, whose box is `home`."""
    neuron, target, weight = synapses
    at = np.unravel_index(neuron, link.link.source_grid)
    inside = np.ones(len(neuron), np.bool_)
    for axis, (a, b) in enumerate(home):
        inside &= (at[axis] >= a) & (at[axis] < b)
    if inside.any():
        local = np.ravel_multi_index([at[i][inside] - home[i][0] for i in range(3)], [b - a for a, b in home])
        pairs = ", ".join(f"[{a}, {b}]" for a, b in zip(local.tolist(), target[inside].tolist(), strict=True))
        weights = ", ".join(f"{w}.0" for w in weight[inside].tolist())
        out.write(f"    - {source} -> {to}: [type: sparse, source_target_pairs: [{pairs}], weight: [{weights}]]\n")


def sanafe_replay(simulator: Simulator, x: Array) -> dict[str, bytes]:
    """arch.yaml and net.yaml of the packets of the frame x [1, *input shape]; no schedule is needed.

    Every sent spike is a neuron with `bias=1` and a threshold that it passes at the spike's tick. It has one synapse
    into the sink of every destination core, hence one packet to each.
    """
    image = simulator.image
    fabric = Fabric(image, "unicast")
    packets = fabric.packets(simulator.values(x, simulator.mesh.run(x)))
    tiles = _addresses(image)
    out = StringIO()
    out.write(f"network:\n  name: {_name(image.name)}\n  groups:\n")
    sinks = sorted({core for tree in fabric.trees for core in tree.cores})
    for core in sinks:
        out.write(f"    - name: sink{core}\n      attributes: [soma: {{threshold: {NEVER}, leak_decay: 1}}]\n"
                  "      neurons:\n        - 0..0: []\n")  # fmt: skip
    edges, maps = StringIO(), StringIO()
    spikes = _spikes_of(fabric, packets.tick, packets.tree)
    for core in image.cores:
        mine = spikes.get(core.id, [])
        if not mine:
            continue
        out.write(f"    - name: core{core.id}\n      attributes: [soma: {{{_SOMA}, bias: 1}}, log_spikes: true]\n"
                  "      neurons:\n")  # fmt: skip
        for i, (tick, to) in enumerate(mine):
            out.write(f"        - {i}: [soma: {{threshold: {tick}.5}}]\n")
            edges.writelines(f"    - core{core.id}.{i} -> sink{sink}.0: [weight: 0.0]\n" for sink in to)
        maps.write(f"  - core{core.id}: [core: {tiles[core.id]}, soma: neurons]\n")
    maps.writelines(f"  - sink{core}: [core: {tiles[core]}, soma: sinks]\n" for core in sinks)
    text = out.getvalue() + "  edges:\n" + edges.getvalue() + "mappings:\n" + maps.getvalue()
    return {"arch.yaml": architecture(image).encode(), "net.yaml": text.encode()}


def _addresses(image: Image) -> dict[int, str]:
    """By core: its tile, numbered x * height + y, and its number there."""
    found, here = dict[int, str](), Counter[int]()
    for core in image.cores:
        tile = core.place[0] * image.mapped.mesh[1] + core.place[1]
        found[core.id] = f"{tile}.{here[tile]}"
        here[tile] += 1
    return found


def _spikes_of(fabric: Fabric, tick: Ints, tree: Ints) -> dict[int, list[tuple[int, tuple[int, ...]]]]:
    """By core: tick and destinations of every spike it sends. Unicast packets of one spike follow each other."""
    found = dict[int, list[tuple[int, tuple[int, ...]]]]()
    first = {int(f): int(m) for f, m in zip(fabric.first, fabric.many, strict=True)}
    at = 0
    while at < len(tree):
        number = int(tree[at])
        to = tuple(fabric.trees[number + i].cores[0] for i in range(first[number]))
        found.setdefault(fabric.trees[number].core, []).append((int(tick[at]), to))
        at += first[number]
    return found


def architecture(image: Image) -> str:
    """The mesh: a tile with its cores for every router; energies in joules, 0 for what the chip gives no figure of."""
    width, height = image.mapped.mesh
    hop, sop = (0.0 if f is None else f.value * 1e-12 for f in (image.figures.get("e_hop"), image.figures.get("e_sop")))
    hops = "".join(
        f"        energy_{way}_hop: {hop:.6e}\n        latency_{way}_hop: 0.0\n"
        for way in ("north", "east", "south", "west")
    )
    parts = ("access_neuron", "update_neuron", "spike_out")
    soma = "".join(
        f"            - name: {name}\n              attributes: {{model: leaky_integrate_fire, "
        + ", ".join(f"{cost}_{of}: 0.0" for cost in ("energy", "latency") for of in parts)
        + "}\n"
        for name in ("neurons", "sinks")
    )
    return (
        f"architecture:\n  name: {_name(image.chip)}\n  attributes: {{link_buffer_size: 4, width: {width}, "
        f"height: {height}}}\n  tile:\n    - name: tile[0..{width * height - 1}]\n      attributes:\n{hops}"
        f"      core:\n        - name: core[0..{image.mapped.cores_per_router - 1}]\n"
        "          attributes: {buffer_position: soma, "
        f"max_neurons_supported: {2 * COMPARTMENTS}}}\n"
        "          axon_in:\n            - name: in\n              attributes: {energy_message_in: 0.0, "
        "latency_message_in: 0.0}\n          synapse:\n            - name: synapses\n"
        f"              attributes: {{model: current_based, energy_process_spike: {sop:.6e}, "
        "latency_process_spike: 0.0}\n"
        "          dendrite:\n            - name: dendrites\n              attributes: {model: accumulator, "
        "energy_update: 0.0, latency_update: 0.0, update_every_timestep: true}\n"
        f"          soma:\n{soma}"
        "          axon_out:\n            - name: out\n              attributes: {energy_message_out: 0.0, "
        "latency_message_out: 0.0}\n"
    )


def _name(name: str) -> str:
    """A name that neither YAML nor SANA-FE's addresses (group.neuron) misread."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
