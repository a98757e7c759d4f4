"""What the map costs on measured spikes: packets, hops, how full cores and links are."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np

from ttfsc.backends.report import model
from ttfsc.backends.report.measure import Measurement
from ttfsc.hardware import Chip
from ttfsc.ir import (
    Layer,
    LinkLoads,
    Mapped,
    Net,
    Slice,
    delay_bits,
    layers_of,
    link_loads,
    tree_hops,
    waits,
    weights_held,
)
from ttfsc.ir.traffic import Loads
from ttfsc.ir.traffic import Traffic as Maps

Way = Literal["east", "west", "south", "north"]


def flows_of(m: Measurement, maps: Mapping[str, Maps]) -> dict[str, model.Traffic]:
    """Packets and hops per frame that the spikes of each layer cause: dot products of spike counts and traffic maps."""
    found = dict[str, model.Traffic]()
    for name, cost in maps.items():
        spikes = m.layers[name].travelled
        distance = cost.hops_unicast / np.maximum(cost.packets_unicast, 1)
        found[name] = model.Traffic(
            packets_unicast=int((spikes * cost.packets_unicast).sum()) / m.inputs,
            packets_multicast=int((spikes * cost.packets_multicast).sum()) / m.inputs,
            hops_unicast=int((spikes * cost.hops_unicast).sum()) / m.inputs,
            hops_multicast=int((spikes * cost.hops_multicast).sum()) / m.inputs,
            hops_mean_distance=float((spikes * distance).sum()) / m.inputs,
        )
    return found


def sum_of(flows: Iterable[model.Traffic]) -> model.Traffic:
    """Of all layers together."""
    flows = tuple(flows)
    return model.Traffic(
        packets_unicast=sum(f.packets_unicast for f in flows),
        packets_multicast=sum(f.packets_multicast for f in flows),
        hops_unicast=sum(f.hops_unicast for f in flows),
        hops_multicast=sum(f.hops_multicast for f in flows),
        hops_mean_distance=sum(f.hops_mean_distance for f in flows),
    )


def hops_of(flow: model.Traffic | None, delivery: str | None) -> float | None:
    """Hops with the map's own delivery."""
    if flow is None:
        return None
    return flow.hops_unicast if delivery == "unicast" else flow.hops_multicast


def held_of(layers: tuple[Layer, ...], mapped: Mapped, m: Measurement) -> dict[str, float]:
    """Spikes per frame that wait on the cores of each layer; empty without skip connections."""
    found = dict[str, float]()
    for name, links in waits(layers, mapped.cores).items():
        found[name] = sum(int((m.layers[source].travelled * keepers).sum()) for source, keepers in links) / m.inputs
    return found


def layer_mapping(mapped: Mapped, layer: Layer, chip: Chip, held: float | None) -> model.LayerMapping:
    """How many cores a layer takes, and how much of them. held: spikes per frame that wait there, None = not known."""
    own = [[s for s in core.slices if s.layer == layer.name] for core in mapped.cores]
    cores = sum(map(bool, own))
    use = layer.size / (cores * int(chip.neurons_per_core)) if cores else 0.0
    return model.LayerMapping(cores, use, sum(delay_bits(layer, s.box) for part in own for s in part), held)


def mapping_of(
    net: Net,
    mapped: Mapped,
    chip: Chip,
    m: Measurement | None,
    maps: Mapping[str, Maps],
    spikes: float | None,
    flow: model.Traffic | None,
    held: float | None,
) -> model.Mapping:
    """Cores and mesh. spikes, flow, held: per frame, None where nothing was measured."""
    sizes = [core.neurons for core in mapped.cores] or [0]
    links = None
    if m is not None:
        loads = link_loads(net, {name: layer.travelled for name, layer in m.layers.items()})
        mean, each = loads.total / max(loads.used, 1) / m.inputs, tuple(_loads(loads, m.inputs))
        links = model.Links(loads.busiest / m.inputs, mean, loads.used, each)
    cores = _cores({layer.name: layer for layer in layers_of(net)}, mapped, m, maps)
    limit = chip.synapse_bits_per_core
    width, height = mapped.mesh
    return model.Mapping(
        chip=mapped.chip,
        mesh=mapped.mesh,
        partition=mapped.partition,
        placement=mapped.placement,
        delivery=mapped.delivery,
        cores_used=len(mapped.cores),
        cores_available=width * height * mapped.cores_per_router,
        neurons_per_core_limit=int(chip.neurons_per_core),
        neurons_per_core=model.Spread(min(sizes), sum(sizes) / len(sizes), max(sizes)),
        synapse_bits_per_core_limit=None if limit is None else int(limit),
        delay_bits=sum(core.delay_bits for core in cores),
        held=held,
        hops_per_packet=None if m is None else _lengths(mapped, m),
        destinations=None if flow is None else _per(flow.packets_unicast, spikes),
        hops_per_spike_unicast=None if flow is None else _per(flow.hops_unicast, spikes),
        hops_per_spike_multicast=None if flow is None else _per(flow.hops_multicast, spikes),
        links=links,
        cores=cores,
    )


def _loads(loads: LinkLoads, inputs: int) -> Iterator[model.LinkLoad]:
    """Of the links that carry anything, by row, column and direction; per frame."""
    ways: tuple[tuple[Way, Loads], ...] = (
        ("east", loads.east), ("west", loads.west), ("south", loads.south), ("north", loads.north),
    )  # fmt: skip
    height, width = loads.east.shape
    for y in range(height):
        for x in range(width):
            for way, load in ways:
                if load[y, x]:
                    yield model.LinkLoad(x, y, way, float(load[y, x]) / inputs)


def _lengths(mapped: Mapped, m: Measurement) -> tuple[float, ...]:
    """Packets per frame that cross 0, 1, 2... links, with the map's delivery."""
    places, counts = {core.id: core.place for core in mapped.cores}, Counter[int]()
    for route in mapped.routes:
        box = tuple(slice(a, b) for a, b in route.source.box)
        sent, here = int(m.layers[route.source.layer].travelled[box].sum()), places[route.core]
        to = [places[core] for core in route.to]
        for targets in [to] if mapped.delivery == "multicast" else [[target] for target in to]:
            counts[tree_hops(here, targets, mapped.order)] += sent
    return tuple(counts[length] / m.inputs for length in range(max(counts, default=0) + 1))


def _per(count: float, spikes: float | None) -> float | None:
    """None without any spike: a mean over nothing is no figure."""
    return count / spikes if spikes else None


def _cores(
    layers: Mapping[str, Layer], mapped: Mapped, m: Measurement | None, maps: Mapping[str, Maps]
) -> tuple[model.Core, ...]:
    return tuple(
        model.Core(
            id=core.id,
            x=core.place[0],
            y=core.place[1],
            neurons=core.neurons,
            layers=tuple(dict.fromkeys(s.layer for s in core.slices)),
            weight_bits=sum(_weight_bits(layers[s.layer], s) for s in core.slices),
            delay_bits=sum(delay_bits(layers[s.layer], s.box) for s in core.slices),
            packets=None if m is None else sum(_sent(mapped, s, m, maps[s.layer]) for s in core.slices) / m.inputs,
        )
        for core in mapped.cores
    )


def _weight_bits(layer: Layer, part: Slice) -> int:
    return sum(weights_held(link, part.box) * link.synapse.bits for link in layer.links)


def _sent(mapped: Mapped, part: Slice, m: Measurement, cost: Maps) -> int:
    """Packets that some neurons of a core sent, over all inputs."""
    box = tuple(slice(a, b) for a, b in part.box)
    per_spike = cost.packets_unicast if mapped.delivery == "unicast" else cost.packets_multicast
    return int((m.layers[part.layer].travelled[box] * per_spike[box]).sum())
