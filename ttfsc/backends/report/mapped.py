"""What the map costs on measured spikes: packets, hops, how full cores and links are."""

from collections.abc import Iterable, Mapping

import numpy as np

from ttfsc.backends.report import model
from ttfsc.backends.report.measure import Measurement
from ttfsc.hardware import Chip
from ttfsc.ir import Layer, Mapped, Net, Slice
from ttfsc.ir.traffic import Traffic as Maps
from ttfsc.ir.traffic import link_loads


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


def layer_mapping(mapped: Mapped, layer: Layer, chip: Chip) -> model.LayerMapping:
    """How many cores a layer takes, and how much of them."""
    cores = sum(any(s.layer == layer.name for s in core.slices) for core in mapped.cores)
    return model.LayerMapping(cores, layer.size / (cores * int(chip.neurons_per_core)) if cores else 0.0)


def mapping_of(
    net: Net,
    mapped: Mapped,
    chip: Chip,
    m: Measurement | None,
    maps: Mapping[str, Maps],
    spikes: float | None,
    flow: model.Traffic | None,
) -> model.Mapping:
    """Cores and mesh. spikes, flow: per frame, None where nothing was measured."""
    sizes = [core.neurons for core in mapped.cores] or [0]
    links = None
    if m is not None:
        loads = link_loads(net, {name: layer.travelled for name, layer in m.layers.items()})
        links = model.Links(loads.busiest / m.inputs, loads.total / max(loads.used, 1) / m.inputs, loads.used)
    width, height = mapped.mesh
    return model.Mapping(
        chip=mapped.chip,
        mesh=mapped.mesh,
        partition=mapped.partition,
        placement=mapped.placement,
        delivery=mapped.delivery,
        cores_used=len(mapped.cores),
        cores_available=width * height,
        neurons_per_core_limit=int(chip.neurons_per_core),
        neurons_per_core=model.Spread(min(sizes), sum(sizes) / len(sizes), max(sizes)),
        destinations=None if flow is None else _per(flow.packets_unicast, spikes),
        hops_per_spike_unicast=None if flow is None else _per(flow.hops_unicast, spikes),
        hops_per_spike_multicast=None if flow is None else _per(flow.hops_multicast, spikes),
        links=links,
        cores=_cores(mapped, m, maps),
    )


def _per(count: float, spikes: float | None) -> float | None:
    """None without any spike: a mean over nothing is no figure."""
    return count / spikes if spikes else None


def _cores(mapped: Mapped, m: Measurement | None, maps: Mapping[str, Maps]) -> tuple[model.Core, ...]:
    return tuple(
        model.Core(
            id=core.id,
            x=core.place[0],
            y=core.place[1],
            neurons=core.neurons,
            layers=tuple(dict.fromkeys(s.layer for s in core.slices)),
            packets=None if m is None else sum(_sent(mapped, s, m, maps[s.layer]) for s in core.slices) / m.inputs,
        )
        for core in mapped.cores
    )


def _sent(mapped: Mapped, part: Slice, m: Measurement, cost: Maps) -> int:
    """Packets that some neurons of a core sent, over all inputs."""
    box = tuple(slice(a, b) for a, b in part.box)
    per_spike = cost.packets_unicast if mapped.delivery == "unicast" else cost.packets_multicast
    return int((m.layers[part.layer].travelled[box] * per_spike[box]).sum())
