"""The energy formulas of the DTA-TTFS paper (Wei et al., ICCV 2023) as functions of event counts. Pure arithmetic.

Everything here is modelled from counts, never measured. A coefficient that a chip's description does not give makes
its line "not modelled"; it is never taken as 0.
"""

from dataclasses import dataclass, field

PAPER = "Wei et al., DTA-TTFS, ICCV 2023"
PJ_PER_UJ = 1_000_000.0

RATE_STEPS = 512
"""Time steps of the rate-coded VGG16 that Eq. 11 is relative to (PAPER, Eq. 11, Table 2)."""
RATE_SPIKES = 2.612e6
"""Spikes per CIFAR-10 frame of that network (PAPER, Eq. 11, Table 2)."""


@dataclass(frozen=True, slots=True)
class Platform:
    """How one platform's energy divides between running for a time step and delivering a spike; shares sum to 1."""

    name: str
    steps_share: float  # E_s
    spikes_share: float  # E_d


TRUENORTH = Platform("TrueNorth", 0.6, 0.4)
SPINNAKER = Platform("SpiNNaker", 0.36, 0.64)
EQ11_FORMULA = "E_s * steps / 512 + E_d * spikes / 2.612 M"
EQ11_SOURCE = f"{PAPER}, Eq. 11 and Table 2; relative to rate-coded VGG16 on CIFAR-10"


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of an energy line: so many events per frame at so many picojoules each, or a fixed amount."""

    name: str
    count: float | None = None  # events per frame; None: a fixed amount, or not counted
    each_pj: float | None = None  # None: a fixed amount, or not given by the chip
    uj: float | None = None  # per frame; None: not modelled


@dataclass(frozen=True, slots=True)
class EnergyLine:
    """One modelled energy per frame, with what it was computed from. `value` is None where it is not modelled."""

    key: str
    title: str
    unit: str  # uJ, or "relative" for Eq. 11
    value: float | None
    formula: str
    source: str
    terms: tuple[Term, ...] = ()
    not_modelled: tuple[str, ...] = ()  # why, if value is None
    modelled: bool = field(default=True)  # never measured


def eq11_relative(platform: Platform, *, steps: float, spikes: float) -> float:
    """Energy per frame relative to rate coding on `platform` (PAPER, Eq. 11); steps and spikes per frame."""
    return platform.steps_share * steps / RATE_STEPS + platform.spikes_share * spikes / RATE_SPIKES


def eq12_uj(*, spikes: float, hops: float, spike_pj: float, hop_pj: float, static_uj: float) -> float:
    """Energy per frame in uJ (PAPER, Eq. 12): spikes, hops, and a fixed amount.

    The paper's 50.36 uJ is 20 pJ x 72.0 k + 100 pJ x 454 k + 3.52 uJ.
    """
    return events_uj(spikes, spike_pj) + events_uj(hops, hop_pj) + static_uj


def events_uj(count: float, each_pj: float) -> float:
    """Energy of `count` events of `each_pj` picojoules, in microjoules."""
    return count * each_pj / PJ_PER_UJ


def events(name: str, count: float | None, each_pj: float | None) -> Term:
    """A term of counted events; not modelled unless both count and coefficient are known."""
    return Term(name, count, each_pj, None if count is None or each_pj is None else events_uj(count, each_pj))


def fixed(name: str, uj: float | None) -> Term:
    """A term that is the same for every frame."""
    return Term(name, uj=uj)


def total(
    key: str, title: str, terms: tuple[Term, ...], *, formula: str, source: str, missing: tuple[str, ...]
) -> EnergyLine:
    """The sum of terms as a line; `missing` says, per cause, why a term is not modelled, and then there is no sum."""
    known = [t.uj for t in terms if t.uj is not None]
    complete = len(known) == len(terms)
    assert complete == (not missing), f"{key}: every term that is not modelled needs its reason, and only those"
    value = sum(known) if complete else None
    return EnergyLine(key, title, "uJ", value, formula, source, terms, missing)


def relative(
    key: str, platform: Platform, *, steps: float, spikes: float | None, missing: tuple[str, ...]
) -> EnergyLine:
    """Eq. 11 as a line."""
    value = None if spikes is None else eq11_relative(platform, steps=steps, spikes=spikes)
    assert (value is None) == bool(missing), f"{key}: what is not modelled needs its reason"
    formula = EQ11_FORMULA.replace("E_s", str(platform.steps_share)).replace("E_d", str(platform.spikes_share))
    title = f"Eq. 11, {platform.name}"
    terms = (Term("steps", count=steps), Term("spikes", count=spikes))
    return EnergyLine(key, title, "relative", value, formula, EQ11_SOURCE, terms, missing)
