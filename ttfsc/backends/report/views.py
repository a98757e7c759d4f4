"""A report as facts and tables of text, which the plain-text and the HTML page both print.

Names come from other people's models: whatever is not printable is shown as an escape, so that no terminal and no
reader is fooled by it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ttfsc.backends.report.energy import EnergyLine, Term
from ttfsc.backends.report.model import Layer, Report, Verification

NOT_MODELLED = "not modelled"
MODELLED = "modelled, not measured"
NONE = "-"
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_BINS = 16


@dataclass(frozen=True)
class Table:
    """A titled table. A heading that starts with '<' is set flush left, all others flush right."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def clean(text: str) -> str:
    """The text with everything unprintable (controls, direction marks, lone surrogates) as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii") for c in text)


def count(x: float | None) -> str:
    """A count or a mean of counts, about four digits: 0.194, 871.5, 14,816, 1.487 M."""
    if x is None:
        return NONE
    if x == int(x) and x < 1e6:
        return f"{int(x):,}"
    for limit, divisor, unit in ((1e9, 1e9, " G"), (1e6, 1e6, " M")):
        if x >= limit:
            return f"{x / divisor:,.4g}{unit}" if x < 1000 * limit else f"{x:.4g}"
    return f"{x:,.0f}" if x >= 1000 else f"{x:.4g}"


def percent(x: float | None) -> str:
    """0.1937 -> 19.4 %."""
    return NONE if x is None else f"{100 * x:.1f} %"


def size(n: int) -> str:
    """Bytes, in a unit that keeps the number short."""
    for limit, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= limit:
            return f"{n / limit:.1f} {unit}"
    return f"{n} bytes"


def room(bits: int) -> str:
    """Memory given in bits."""
    return size(-(-bits // 8))


def micro(x: float | None) -> str:
    """An energy in uJ."""
    return NOT_MODELLED if x is None else f"{x:,.4g}" if x < 1e4 else f"{x:,.0f}"


def dims(shape: Iterable[int]) -> str:
    """(16, 24, 24) -> 16x24x24."""
    return "x".join(map(str, shape))


def facts(r: Report) -> list[tuple[str, str]]:
    """The report in a few lines: label, sentence."""
    m, a = r.model, r.activity
    widths = "/".join(map(str, m.weight_bits))
    readout = f" + {m.readout:,} read-out membranes" if m.readout else ""
    found = [
        ("Input", f"{clean(m.input)}, {m.classes} classes, answer by {clean(m.answer)}"),
        ("Network", f"{m.layers} layers, {m.neurons:,} neurons{readout}, {count(m.synapses)} synapses"),
        ("Weights", f"{m.parameters:,} parameters, {widths} bit, {size(m.weight_bytes)}"),
    ]
    if a is None:
        found.append(("Activity", "not measured: no inputs were given"))
    else:
        if a.accuracy is not None and a.correct is not None:
            found.append(("Accuracy", f"{100 * a.accuracy:.2f} % ({a.correct:,} of {a.inputs:,} inputs)"))
        outside = f", {count(a.input_spikes)} more from the input" if a.input_spikes else ""
        each = f"{count(a.spikes)} per frame, {a.spikes_per_neuron:.4f} per neuron{outside}"
        found.append(("Spikes", f"{each}; {count(a.sops)} SOPs ({a.inputs:,} inputs)"))
    found.append(("Latency", _latency(r)))
    found += _mapped(r)
    found += [("Energy", f"{_value(line)} - ({line.key}) {line.title}") for line in _headlines(r)]
    found.append(("Verified", verified(r.verification)))
    return [(label, clean(text)) for label, text in found]


def _latency(r: Report) -> str:
    text = f"{r.latency.serial} ticks; pipelined, a frame every {r.latency.interval} ticks"
    first = r.latency.first_spike
    if first is None:
        return text
    if first.ticks is None:
        return f"{text}; no output spike on any input"
    t = first.ticks
    silent = f", none on {first.frames_without:,} inputs" if first.frames_without else ""
    return f"{text}; first output spike at tick {t.mean:.4g} ({t.min:.0f} to {t.max:.0f}){silent}"


def _mapped(r: Report) -> list[tuple[str, str]]:
    m = r.mapping
    if m is None:
        return [("Cores", "not mapped")]
    n = m.neurons_per_core
    mesh = f"{m.cores_used:,} of {m.cores_available:,} ({m.mesh[0]} x {m.mesh[1]} mesh of {m.chip})"
    full = f"{count(n.mean)} of {m.neurons_per_core_limit:,} neurons per core (min {n.min:.0f}, max {n.max:.0f})"
    found = [("Cores", f"{mesh}; {full}"), ("Mapping", f"{m.partition} partition, {m.placement}, {m.delivery}")]
    t = r.traffic
    if t is not None:
        unicast = f"unicast {count(t.packets_unicast)} packets, {count(t.hops_unicast)} hops"
        multicast = f"multicast {count(t.packets_multicast)} packets, {count(t.hops_multicast)} hops"
        found.append(("Traffic", f"{unicast}; {multicast} per frame"))
    if m.delay_bits:
        kept = "" if m.held is None else f", {count(m.held)} spikes per frame"
        found.append(
            ("Skips", f"spikes of skip connections wait on the cores that read them: {room(m.delay_bits)}{kept}")
        )
    if m.links is not None:
        load = f"busiest {count(m.links.busiest)} packets per frame, mean {count(m.links.mean)}"
        found.append(("Links", f"{load} over {m.links.used:,} links in use"))
    return found


def _headlines(r: Report) -> list[EnergyLine]:
    """The energy line that belongs to the map's delivery."""
    key = "b-unicast" if r.mapping is not None and r.mapping.delivery == "unicast" else "b-multicast"
    return [line for line in r.energy if line.key == key]


def _value(line: EnergyLine) -> str:
    if line.value is None:
        return f"{NOT_MODELLED} ({'; '.join(line.not_modelled)})"
    return f"{micro(line.value)} uJ per frame, {MODELLED}" if line.unit == "uJ" else f"{line.value:.4f}"


def verified(v: Verification) -> str:
    """What was compared, and what was not."""
    not_run = f"; not run: {', '.join(v.not_run)}" if v.not_run else ""
    if v.exact is None:
        return f"nothing was compared{not_run}"
    equal = " = ".join(f"{e.engine} on {e.inputs:,} inputs" for e in v.engines if not e.first_mismatch)
    differs = [f"NOT EXACT: {e.engine} differs: {e.first_mismatch}" for e in v.engines if e.first_mismatch]
    return "; ".join([*differs, *([f"bit-exact: interpreter = {equal}"] if equal else [])]) + not_run


def tables(r: Report) -> list[Table]:
    """Everything else, in the order of printing."""
    found = [_structure(r), _activity(r), energy_table(r), _chip(r)]
    words = tuple((clean(d.term), clean(d.meaning)) for d in r.definitions)
    return [t for t in found if t.rows] + [Table("Definitions", ("<", "<"), words)]


def _structure(r: Report) -> Table:
    headings = ("<layer", "<source", "<kind", "shape", "neurons", "fan-in", "parameters", "bits", "window", "largest",
                "width")  # fmt: skip
    rows = (
        (clean(x.name), clean(x.source) or NONE, clean(x.kind), dims(x.shape), f"{x.neurons:,}", f"{x.fan_in:,}",
         f"{x.parameters:,}", str(x.bits), f"{x.window[0]}..{x.window[1]}", f"{x.largest:,}", str(x.width))
        for x in r.layers
    )  # fmt: skip
    return Table("Layers", headings, tuple(rows))


def _activity(r: Report) -> Table:
    if r.activity is None and r.mapping is None:
        return Table("Per frame", (), ())
    unicast = r.mapping is not None and r.mapping.delivery == "unicast"
    headings = ("<layer", "spikes", "per neuron", "silent", "<when", "SOPs", "MACs", "packets", "hops", "cores", "use",
                "spikes uJ", "hops uJ", "SOPs uJ")  # fmt: skip
    skips = r.mapping is not None and r.mapping.held is not None
    headings += ("held", "held uJ") if skips else ()
    rows = list[tuple[str, ...]]()
    for x in r.layers:
        a, t, m, e = x.activity, x.traffic, x.mapping, x.energy
        did = (NONE,) * 6 if a is None else (
            count(a.spikes) if x.fires else NONE, NONE if a.spikes_per_neuron is None else f"{a.spikes_per_neuron:.4f}",
            percent(a.silent), spark(a.times), count(a.sops) if a.sops else NONE, count(a.macs) if a.macs else NONE,
        )  # fmt: skip
        sent = (NONE, NONE) if t is None or not x.fires else (
            (count(t.packets_unicast), count(t.hops_unicast)) if unicast else
            (count(t.packets_multicast), count(t.hops_multicast))
        )  # fmt: skip
        held = (NONE, NONE) if m is None else (f"{m.cores:,}", percent(m.core_use))
        added = a is not None and a.sops > 0  # an analog input's MACs are no SOPs
        costs = (_cost(e.spikes_uj, x), _cost(e.hops_uj, x), micro(e.sops_uj) if added else NONE)
        waiting = (count(m.held), micro(e.held_uj)) if m is not None and m.held else (NONE, NONE)
        rows.append((clean(x.name), *did, *sent, *held, *costs, *(waiting if skips else ())))
    way = "unicast" if unicast else "multicast"
    return Table("Per frame", headings, tuple(rows), (f"packets and hops: {way}. Energy: {MODELLED}.",))


def _cost(uj: float | None, layer: Layer) -> str:
    return micro(uj) if uj is not None and layer.fires else NONE


def spark(times: tuple[int, ...]) -> str:
    """Spikes over the ticks of a window as a line of bars, at most 16."""
    if not times:
        return NONE
    bins = min(len(times), _SPARK_BINS)
    sums = [sum(times[len(times) * i // bins : len(times) * (i + 1) // bins]) for i in range(bins)]
    top = max(sums)
    return "".join(_SPARKS[-(-n * 7 // top)] if n else " " for n in sums) if top else NONE


def energy_table(r: Report) -> Table:
    """The energy lines: each value and how it was computed."""
    rows = list[tuple[str, ...]]()
    for line in r.energy:
        value = NOT_MODELLED if line.value is None else f"{line.value:.4f}" if line.unit != "uJ" else micro(line.value)
        reason = "; ".join(line.not_modelled)
        how = reason or (" + ".join(_term(t) for t in line.terms) if line.unit == "uJ" else _with_counts(line))
        unit = "" if line.value is None else line.unit
        rows.append((f"({clean(line.key)})", clean(line.title), value, clean(unit), clean(how)))
    sources = tuple(dict.fromkeys(clean(line.source) for line in r.energy))
    return Table(
        f"Energy per frame, {MODELLED}", ("<line", "<counting", "energy", "<", "<computed as"), tuple(rows), sources
    )


def _with_counts(line: EnergyLine) -> str:
    counts = ", ".join(f"{t.name} = {count(t.count)}" for t in line.terms)
    return f"{line.formula} with {counts}" if counts else line.formula


def _term(t: Term) -> str:
    if t.count is None or t.each_pj is None:
        return f"{micro(t.uj)} uJ {t.name}"
    return f"{t.each_pj:g} pJ x {count(t.count)} {t.name}"


def _chip(r: Report) -> Table:
    rows = tuple(
        (clean(f.key), NOT_MODELLED if f.value is None else f"{f.value:,.10g}", clean(f.unit), clean(f.source))
        for f in r.chip.figures
    )
    return Table(f"Chip {clean(r.chip.name)}: {clean(r.chip.title)}", ("<figure", "value", "<unit", "<source"), rows)
