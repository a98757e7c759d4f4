"""A report as one self-contained HTML page: no network, no scripts, light and dark."""

from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ttfsc.backends.report import svg
from ttfsc.backends.report.model import Mapping, Report
from ttfsc.backends.report.views import MODELLED, clean, count, facts, micro, tables

TEMPLATE = "report.html.j2"


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
        charts=[c for c in (_spikes(r), _times(r), _delivered(r), _operations(r)) if c is not None],
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
    known = [(x, x.energy.spikes_uj, x.energy.hops_uj) for x in r.layers if x.fires]
    rows = [
        (clean(x.name), (spikes, hops), f"{micro(spikes + hops)} uJ")
        for x, spikes, hops in known
        if spikes is not None and hops is not None
    ]
    way = "" if r.mapping is None else f", {clean(r.mapping.delivery)}"
    legend = (("s0", "spikes"), ("s1", "hops"))
    title = f"Energy per layer, line (b){way}"
    return Chart(title, svg.stacked(rows), legend, f"{MODELLED}; static energy belongs to no layer") if rows else None


def _operations(r: Report) -> Chart | None:
    """The same for line (c), where synaptic operations are charged."""
    known = [(x, x.energy.sops_uj, x.energy.hops_uj) for x in r.layers]
    rows = [
        (clean(x.name), (sops, hops), f"{micro(sops + hops)} uJ")
        for x, sops, hops in known
        if sops is not None and hops is not None
    ]
    legend = (("s2", "SOPs"), ("s1", "hops"))
    return Chart("Energy per layer, line (c)", svg.stacked(rows, ("s2", "s1")), legend, MODELLED) if rows else None


def _grids(m: Mapping | None) -> list[Chart]:
    if m is None:
        return []
    limit = max(m.neurons_per_core_limit, *(c.neurons for c in m.cores), 1)
    held = [
        (c.x, c.y, c.neurons / limit, f"core {c.id} at ({c.x}, {c.y}): {c.neurons:,} neurons of {_names(c.layers)}")
        for c in m.cores
    ]
    charts = [Chart("Neurons per core", svg.heat(held, m.mesh), note=f"full colour: {limit:,} neurons")]
    top = max((c.packets or 0.0 for c in m.cores), default=0.0)
    if top:
        sent = [
            (c.x, c.y, (c.packets or 0.0) / top, f"core {c.id} at ({c.x}, {c.y}): {count(c.packets)} packets per frame")
            for c in m.cores
        ]
        note = f"full colour: {count(top)} packets per frame, {clean(m.delivery)}"
        charts.append(Chart("Packets sent per core", svg.heat(sent, m.mesh), note=note))
    return charts


def _names(layers: tuple[str, ...]) -> str:
    return ", ".join(clean(name) for name in layers)
