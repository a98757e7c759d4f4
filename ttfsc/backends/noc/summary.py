"""What a simulation found, as figures per frame with their definitions: the content of `ttfsc simulate -o`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ttfsc.backends.noc.image import CoreImage, Image
from ttfsc.backends.noc.packets import DIRECTIONS, Ints
from ttfsc.backends.noc.simulate import LayerCounts, Simulation, Timing
from ttfsc.hardware import Figure

SUMMARY_VERSION = 1
Table = dict[str, Any]
KINDS = {  # energy kind: the chip's figure, and which count of a layer it is charged for
    "spikes": ("e_sop", "spikes"), "hops": ("e_hop", "hops"), "sops": ("e_sop", "sops"),
    "held": ("e_sop", "held"), "updates": ("e_update", "updates"), "memory": ("e_memory", "accesses"),
}  # fmt: skip
DEFINITIONS = {
    "spike": "a neuron fired; at most once per frame",
    "packet": "unicast: one sent spike to one destination core; multicast: one sent spike's tree",
    "hop": "one link between neighbouring routers; injection and ejection are not hops",
    "sop": "one synaptic addition: a spike's fan-out within real borders, behind max pools",
    "mac": "one multiply-accumulate of an analog input that is not 0",
    "energy": "modelled from counts, never measured; uJ per frame; null = not modelled, the chip gives no figure",
    "held": "a spike of a skip connection that a core kept until the window of the layer that adds it; once per core",
    "energy b": "e_sop * (spikes + held) + e_hop * hops + static: Eq. 12 of Wei et al., ICCV 2023 (DTA-TTFS), with "
    "real delivery; a held spike is charged like a relay on the spot: once more, without hops",
    "energy c": "e_sop * (SOPs + held) + e_hop * hops + static: e_sop charged per synaptic addition, as its name says",
    "energy memory": "e_memory * (SOPs + 2 * held): a weight read per addition, a held spike written and read",
    "serial": "router cycles of a frame alone: per tick until its last packet has arrived, at least 1; "
    "neuron updates take no time",
    "interval": "router cycles between frames when all layers work at once, each on its own frame, and share the mesh",
    "waited": "cycles that deliveries took longer than on an empty mesh",
}


def summary(found: Simulation, labels: Ints | None = None) -> Table:
    """The figures per frame; JSON-ready. labels [N]: for the accuracy."""
    image, n = found.image, found.inputs
    layers = [_layer(layer, found) for layer in found.layers.values()]
    table: Table = {
        "schema_version": SUMMARY_VERSION,
        "net": image.name,
        "chip": image.chip,
        "mesh": list(image.mapped.mesh),
        "routing": image.mapped.order,
        "delivery": image.mapped.delivery,
        "partition": image.mapped.partition,
        "placement": image.mapped.placement,
        "inputs": n,
        "correct": None if labels is None else int((found.result.labels == labels).sum()),
        "per_frame": {kind: _spread(counts) for kind, counts in found.frames.items()}
        | {"input_spikes": found.input_spikes / n, "macs": sum(x.macs for x in found.layers.values()) / n},
        "hops_by_direction": _directions(sum((x.hops for x in found.layers.values()), np.zeros(4, np.int64)), n),
        "held_links": sum(len(layer.layer.held) for layer in image.layers),
        "layers": layers,
        "energy": _energy(found),
        "links": _links(found),
        "hops_per_packet": [int(count) / n for count in found.lengths],
        "cores": [
            {
                "id": core.id, "x": core.place[0], "y": core.place[1],
                "neurons": sum(s.slice.size for s in core.slices), "weight_bytes": synapse_bytes(core),
                "delay_bits": delay_bits(core), "bytes": core.size, "packets": found.sent[core.id] / n,
            }
            for core in image.cores
        ],
        "latency": _latency(image),
        "cycles": None if found.timing is None else _cycles(found.timing, image.figures),
        "definitions": DEFINITIONS,
    }  # fmt: skip
    return table


def synapse_bytes(core: CoreImage) -> int:
    """Weight memory that a core needs."""
    return sum(s.size for piece in core.slices for s in piece.sections if s.name == "weights")


def delay_bits(core: CoreImage) -> int:
    """Room for the spikes of skip connections that wait."""
    return sum(delay.bits for piece in core.slices for delay in piece.delays)


def _spread(counts: list[int]) -> Table:
    return {"mean": sum(counts) / len(counts), "min": min(counts), "max": max(counts)}


def _directions(hops: Ints, inputs: int) -> Table:
    return {name: int(count) / inputs for name, count in zip(DIRECTIONS, hops, strict=True)}


def _layer(layer: LayerCounts, found: Simulation) -> Table:
    n = found.inputs
    return {
        "name": layer.name, "neurons": layer.neurons, "fires": layer.fires, "ticks": layer.ticks,
        "spikes": layer.spikes / n, "packets": layer.packets / n, "hops": int(layer.hops.sum()) / n,
        "hops_by_direction": _directions(layer.hops, n),
        "sops": layer.sops / n, "macs": layer.macs / n, "updates": layer.updates / n, "held": layer.held / n,
        "energy": {kind: layer_energy(found, layer, kind) for kind in KINDS},
    }  # fmt: skip


def layer_energy(found: Simulation, layer: LayerCounts, kind: str) -> float | None:
    """uJ per frame that a layer takes for this kind of event, or None where the chip gives no figure."""
    key, count = KINDS[kind]
    figure = found.image.figures.get(key)
    events = int(layer.hops.sum()) if count == "hops" else getattr(layer, count)
    return None if figure is None else events / found.inputs * figure.value / 1e6


def _energy(found: Simulation) -> Table:
    kinds: Table = {}
    for kind in KINDS:
        parts = [layer_energy(found, layer, kind) for layer in found.layers.values()]
        known = [p for p in parts if p is not None]
        kinds[kind] = sum(known) if len(known) == len(parts) else None
    kinds["static"] = static(found.image)
    keys = dict.fromkeys([key for key, _ in KINDS.values()])
    missing = [key for key in keys if found.image.figures.get(key) is None]
    missing += [] if kinds["static"] is not None else ["e_static, or p_static with tick"]
    lines = {"b": ("spikes", "held", "hops", "static"), "c": ("sops", "held", "hops", "static")}
    sums = {
        line: sum(kinds[k] for k in parts) if all(kinds[k] is not None for k in parts) else None
        for line, parts in lines.items()
    }
    return {"modelled": True, "unit": "uJ/frame", **sums, "kinds": kinds, "not_modelled": missing}


def static(image: Image) -> float | None:
    """uJ per frame whatever happens: the chip's figure per frame, or its power times a frame's ticks."""
    per_frame, power, tick = (image.figures.get(key) for key in ("e_static", "p_static", "tick"))
    if per_frame is not None:
        return per_frame.value
    return None if power is None or tick is None else power.value * tick.value * image.readout.closes / 1000


def _links(found: Simulation) -> Table:
    used = found.links[found.links > 0]
    y, x, direction = (int(i) for i in np.unravel_index(int(found.links.argmax()), found.links.shape))
    busiest = {"x": x, "y": y, "direction": DIRECTIONS[direction], "packets": int(found.links.max()) / found.inputs}
    return {
        "busiest": busiest if used.size else None, "used": int(used.size),
        "mean": float(used.mean()) / found.inputs if used.size else 0.0,
        "loads": {name: (found.links[:, :, i] / found.inputs).tolist() for i, name in enumerate(DIRECTIONS)},
    }  # fmt: skip


def _latency(image: Image) -> Table:
    """In ticks, and in microseconds where the chip says how long a tick lasts."""
    tick = image.figures.get("tick")
    ends = max([image.readout.closes, *(layer.closes for layer in image.layers)])
    interval = max(layer.ticks for layer in image.layers)
    return {
        "serial_ticks": ends, "interval_ticks": interval,
        "serial_us": None if tick is None else ends * tick.value,
        "interval_us": None if tick is None else interval * tick.value,
    }  # fmt: skip


def _cycles(timing: Timing, figures: Mapping[str, Figure | None]) -> Table:
    cycle, tick = figures.get("cycle"), figures.get("tick")
    r = timing.router
    slowest = None if cycle is None else timing.slowest * cycle.value / 1000
    table: Table = {
        "serial": _spread(timing.serial), "interval": _spread(timing.interval), "slowest_tick": timing.slowest,
        "deliveries": timing.deliveries / len(timing.serial),
        "waited_mean": timing.waited / timing.deliveries if timing.deliveries else 0.0,
        "waited_longest": timing.longest,
        "serial_us": None if cycle is None else sum(timing.serial) / len(timing.serial) * cycle.value / 1000,
        "interval_us": None if cycle is None else sum(timing.interval) / len(timing.interval) * cycle.value / 1000,
        "slowest_tick_us": slowest, "fits_tick": None if slowest is None or tick is None else slowest <= tick.value,
        "router": {"buffer_packets": r.depth, "route_cycles": r.route, "switch_cycles": r.allocate,
                   "crossbar_cycles": r.cross, "link_cycles": r.link, "assumed": list(r.assumed)},
    }  # fmt: skip
    return table


def lines(table: Table) -> list[str]:
    """The main figures as sentences."""
    per, energy, links, cycles = table["per_frame"], table["energy"], table["links"], table["cycles"]
    mesh = "x".join(map(str, table["mesh"]))
    ways = ", ".join(f"{count:,.1f} {way}" for way, count in table["hops_by_direction"].items())
    found = [
        f"{table['net']} on {len(table['cores'])} cores of a {mesh} mesh of {table['chip']}: {table['delivery']}, "
        f"{table['routing']}, {table['partition']} partition, {table['placement']}; {table['inputs']} inputs",
        f"spikes {per['spikes']['mean']:,.1f} per frame, SOPs {per['sops']['mean']:,.0f}, "
        f"packets {per['packets']['mean']:,.1f}",
        f"hops {per['hops']['mean']:,.1f} per frame: {ways}",
    ]
    if table["held_links"]:
        kept = f"{per['held']['mean']:,.1f} spikes per frame are held for a later window"
        room = sum(core["delay_bits"] for core in table["cores"])
        found.append(f"skip connections: {table['held_links']}; {kept}, in {room:,} bits on all cores together")
    if links["busiest"] is not None:
        b = links["busiest"]
        place, mean = f"{b['direction']} of {b['x']},{b['y']}", f"mean of {links['used']} used {links['mean']:,.1f}"
        found.append(f"busiest link {b['packets']:,.1f} packets per frame ({place}), {mean}")
    shown = {kind: uj for kind, uj in energy["kinds"].items() if kind != "held" or table["held_links"]}
    known = [f"{kind} {uj:,.4g}" for kind, uj in shown.items() if uj is not None]
    found += [f"energy by kind, uJ per frame, modelled, not measured: {', '.join(known)}"] if known else []
    for key in ("b", "c"):
        value = energy[key]
        what = "not modelled" if value is None else f"{value:,.4g} uJ per frame, modelled, not measured"
        found.append(f"energy ({key}) {what}: {DEFINITIONS[f'energy {key}'].partition(':')[0]}")
    found.append(
        f"latency {table['latency']['serial_ticks']} ticks; with all layers at work a frame every "
        f"{table['latency']['interval_ticks']}"
    )
    if cycles is not None:
        found.append(
            f"routers: {cycles['serial']['mean']:,.0f} cycles per frame alone; with all layers at work a frame every "
            f"{cycles['interval']['mean']:,.0f}; {cycles['deliveries']:,.0f} deliveries, each once, waited "
            f"{cycles['waited_mean']:.1f} cycles on average, {cycles['waited_longest']} at most"
        )
        if cycles["router"]["assumed"]:
            found.append(f"assumed, the chip gives no figure: {', '.join(cycles['router']['assumed'])}")
    if energy["not_modelled"]:
        found.append(f"not modelled, the chip gives no figure: {', '.join(energy['not_modelled'])}")
    return found
