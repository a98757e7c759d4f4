"""The energy lines of a report: which counts go into which formula, and what to say where one cannot be known."""

from ttfsc.backends.report import model
from ttfsc.backends.report.energy import (
    PAPER,
    SPINNAKER,
    TRUENORTH,
    EnergyLine,
    events,
    fixed,
    relative,
    total,
)
from ttfsc.backends.report.mapped import hops_of
from ttfsc.hardware import Chip, Figure

_UNMEASURED = "no inputs were measured"
_UNMAPPED = "the network is not mapped to cores"


def figure(f: Figure | None) -> float | None:
    """The number, or None where the chip's description gives none."""
    return None if f is None else f.value


def static_uj(chip: Chip, steps: int) -> float | None:
    """uJ per frame whatever happens: the chip's figure per frame, or its power times the ticks of a frame."""
    if chip.e_static is not None:
        return chip.e_static.value
    if chip.p_static is None or chip.tick is None:
        return None
    return chip.p_static.value * chip.tick.value * steps / 1000


def energy_lines(
    chip: Chip,
    activity: model.Activity | None,
    flow: model.Traffic | None,
    *,
    steps: int,
    delivery: str | None,
    held: float | None = None,
) -> tuple[EnergyLine, ...]:
    """Lines (a), (b) unicast and multicast, (c), and Eq. 11 for two platforms. Never a 0 for what is not known.

    steps: ticks of a frame. delivery: of the map; None where there is none. held: spikes that wait, per frame; None
    where there are no skip connections, or no map.
    """
    spikes = None if activity is None else activity.spikes
    sops = None if activity is None else activity.sops
    missing = _UNMEASURED if activity is None else _UNMAPPED
    paper = _source(chip, f"{PAPER}, Eq. 12")

    def line(key: str, title: str, what: str, count: float | None, hops_name: str, hops: float | None) -> EnergyLine:
        waits = key != "a" and held is not None
        terms = (
            events(what, count, figure(chip.e_sop)),
            *([events("held", held, figure(chip.e_sop))] if waits else []),
            events(hops_name, hops, figure(chip.e_hop)),
            fixed("static", static_uj(chip, steps)),
        )
        reasons = [_UNMEASURED] if count is None else []
        reasons += [missing] if hops is None else []
        reasons += [f"chip {chip.name} gives no {key}" for key in ("e_sop", "e_hop") if chip.figures[key] is None]
        reasons += [f"chip {chip.name} gives no e_static"] if static_uj(chip, steps) is None else []
        handled = f"({what} + held)" if waits else what
        formula = f"e_sop * {handled} + e_hop * {hops_name} + e_static"
        return total(key, title, terms, formula=formula, source=paper, missing=tuple(dict.fromkeys(reasons)))

    way = delivery or "multicast"
    mean, unicast, multicast = (
        (None, None, None) if flow is None else (flow.hops_mean_distance, flow.hops_unicast, flow.hops_multicast)
    )
    paper_way = "paper's counting: a spike is one packet of mean distance"
    analog = " (the analog input's MACs not included)" if activity is not None and activity.macs else ""
    idle = () if activity is not None else (_UNMEASURED,)
    return (
        line("a", paper_way, "spikes", spikes, "mean-distance hops", mean),
        line("b-unicast", "real delivery, unicast", "spikes", spikes, "unicast hops", unicast),
        line("b-multicast", "real delivery, multicast", "spikes", spikes, "multicast hops", multicast),
        line("c", f"e_sop charged per SOP, {way}{analog}", "SOPs", sops, f"{way} hops", hops_of(flow, way)),
        relative("truenorth", TRUENORTH, steps=steps, spikes=spikes, missing=idle),
        relative("spinnaker", SPINNAKER, steps=steps, spikes=spikes, missing=idle),
    )


def _source(chip: Chip, formula: str) -> str:
    """Where formula and coefficients are from."""
    figures = {key: chip.figures[key] for key in ("e_sop", "e_hop", "e_static", "p_static")}
    given = [f"{key} {f}: {f.source}" for key, f in figures.items() if f is not None]
    return "; ".join([f"formula: {formula}", *given])
