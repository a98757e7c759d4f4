"""A report as one self-contained HTML page: no network, no scripts, light and dark."""

from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ttfsc.backends.report import svg
from ttfsc.backends.report.model import Core, Layer, Mapping, Report
from ttfsc.backends.report.views import MODELLED, clean, count, facts, micro, room, tables

TEMPLATE = "report.html.j2"
MOST_BARS = 200  # of a histogram
MOST_ROUTERS = 1 << 16  # of a picture; a report may come from anybody
Parts = tuple[float | None, ...]  # uJ by kind
_HOPS = 2  # their place among the kinds


@dataclass(frozen=True)
class Chart:
    """A picture with its caption; legend: (series class, name)."""

    title: str
    picture: Markup
    legend: tuple[tuple[str, str], ...] = ()
    note: str = ""


def html_of(r: Report) -> str:
    """The page."""
    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = env.from_string(files("ttfsc.backends.report").joinpath(TEMPLATE).read_text("utf-8"))
    return template.render(
        title=clean(r.model.name),
        tool=f"{clean(r.provenance.tool)} {clean(r.provenance.version)}",
        facts=facts(r),
        charts=[c for c in (_spikes(r), _times(r), _delivered(r), _operations(r), _lengths(r)) if c is not None],
        grids=_grids(r.mapping),
        tables=tables(r),
        options=[(clean(key), clean(value)) for key, value in r.provenance.options.items()],
    )


def _spikes(r: Report) -> Chart | None:
    found = [(x, x.activity) for x in r.layers if x.activity is not None and x.fires]
    rows = [
        (clean(x.name), (a.spikes,), f"{count(a.spikes)}  ({a.spikes_per_neuron or 0:.3f}/neuron)") for x, a in found
    ]
    return Chart("Spikes per frame", svg.stacked(rows)) if rows else None


def _times(r: Report) -> Chart | None:
    rows = [
        (clean(x.name), x.window[0], x.window[1], x.activity.times)
        for x in r.layers
        if x.activity is not None and x.activity.times
    ]
    note = "ticks; every row scaled to its own tallest bar, dashed lines open and close a layer's window"
    return Chart("When the spikes come", svg.times(rows, r.latency.serial), note=note) if rows else None


def _delivered(r: Report) -> Chart | None:
    """The parts of energy line (b) that belong to a layer."""
    kinds = (("s0", "spikes"), ("s3", "held"), ("s1", "hops"))
    rows = [(x, (x.energy.spikes_uj, x.energy.held_uj, x.energy.hops_uj)) for x in r.layers if x.fires]
    way = "" if r.mapping is None else f", {clean(r.mapping.delivery)}"
    note = f"{MODELLED}; static energy belongs to no layer"
    return _energy(f"Energy per layer, line (b){way}", rows, kinds, note)


def _operations(r: Report) -> Chart | None:
    """Line (c), where synaptic operations are charged, and whatever else the chip gives figures for."""
    kinds = (("s2", "SOPs"), ("s3", "held"), ("s1", "hops"), ("s4", "updates"), ("s5", "memory"))
    rows = [
        (x, (e.sops_uj, e.held_uj, e.hops_uj, e.updates_uj, e.memory_uj)) for x, e in ((x, x.energy) for x in r.layers)
    ]
    title = "Energy per layer, line (c)"
    if any(parts[3] is not None or parts[4] is not None for _, parts in rows):
        title += ", updates and memory"
    return _energy(title, rows, kinds, MODELLED)


def _energy(
    title: str, given: list[tuple[Layer, Parts]], kinds: tuple[tuple[str, str], ...], note: str
) -> Chart | None:
    """Stacked bars of the kinds that are known for every layer; none unless the first of them and hops are."""
    if not given or any(parts[0] is None or parts[_HOPS] is None for _, parts in given):
        return None
    known = [i for i in range(len(kinds)) if all(parts[i] is not None for _, parts in given)]
    shown = [i for i in known if kinds[i][1] != "held" or any(parts[i] for _, parts in given)]
    rows = list[tuple[str, list[float], str]]()
    for layer, parts in given:
        values = [parts[i] or 0.0 for i in shown]
        rows.append((clean(layer.name), values, f"{micro(sum(values))} uJ"))
    return Chart(title, svg.stacked(rows, [kinds[i][0] for i in shown]), tuple(kinds[i] for i in shown), note)


def _lengths(r: Report) -> Chart | None:
    if r.mapping is None or not r.mapping.hops_per_packet or not any(r.mapping.hops_per_packet):
        return None
    per, way = r.mapping.hops_per_packet[:MOST_BARS], clean(r.mapping.delivery)
    bars = [(str(hops), n, f"{count(n)} packets per frame cross {hops} links") for hops, n in enumerate(per)]
    cut = f"; packets of {MOST_BARS} links and more are not shown" if any(r.mapping.hops_per_packet[MOST_BARS:]) else ""
    note = f"{way} packets per frame by the links that they cross{cut}"
    return Chart("Hops per packet", svg.columns(bars, "links crossed by one packet"), note=note)


def _grids(m: Mapping | None) -> list[Chart]:
    if m is None:
        return []
    limit = max(m.neurons_per_core_limit, *(c.neurons for c in m.cores), 1)
    places = [f"core {c.id} at ({c.x}, {c.y})" for c in m.cores]
    neurons = [
        (c.x, c.y, c.neurons / limit, f"{at}: {c.neurons:,} neurons of {_names(c.layers)}")
        for c, at in zip(m.cores, places, strict=True)
    ]
    charts = [Chart("Neurons per core", svg.heat(neurons, m.mesh), note=f"full colour: {limit:,} neurons")]
    most = max([m.synapse_bits_per_core_limit or 0, *(c.weight_bits + c.delay_bits for c in m.cores), 1])
    held = [
        (c.x, c.y, (c.weight_bits + c.delay_bits) / most, f"{at}: {_memory(c)}")
        for c, at in zip(m.cores, places, strict=True)
    ]
    charts.append(Chart("Memory per core", svg.heat(held, m.mesh), note=f"full colour: {room(most)}"))
    top = max((c.packets or 0.0 for c in m.cores), default=0.0)
    if top:
        sent = [
            (c.x, c.y, (c.packets or 0.0) / top, f"{at}: {count(c.packets)} packets per frame")
            for c, at in zip(m.cores, places, strict=True)
        ]
        note = f"full colour: {count(top)} packets per frame, {clean(m.delivery)}"
        charts.append(Chart("Packets sent per core", svg.heat(sent, m.mesh), note=note))
    if m.links is not None and m.links.loads and m.mesh[0] * m.mesh[1] <= MOST_ROUTERS:
        busiest = max(max(load.packets for load in m.links.loads), 1e-300)
        loads = [
            (x.x, x.y, x.way, x.packets / busiest, f"({x.x}, {x.y}) {x.way}: {count(x.packets)} packets per frame")
            for x in m.links.loads
        ]
        note = f"full colour: {count(busiest)} packets per frame; traffic keeps to the right"
        charts.append(Chart("Link load", svg.links(loads, m.mesh), note=note))
    return charts


def _memory(core: Core) -> str:
    waiting = f", {room(core.delay_bits)} for spikes that wait" if core.delay_bits else ""
    return f"{room(core.weight_bits)} of weights{waiting}"


def _names(layers: tuple[str, ...]) -> str:
    return ", ".join(clean(name) for name in layers)
