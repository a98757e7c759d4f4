"""The DTA-TTFS paper's energies from its own numbers."""

import pytest

from ttfsc.backends.report import energy
from ttfsc.backends.report.energy import SPINNAKER, TRUENORTH, eq11_relative, eq12_uj

# Table 2: method, steps, spikes in millions, TrueNorth, SpiNNaker as printed
TABLE_2 = (
    ("phase", 1500, 35.196, 7.1476, 9.6785),
    ("burst", 1125, 6.920, 2.3781, 2.4865),
    ("T2FSNN", 680, 0.069, 0.8074, 0.4950),
    ("Park", 544, 0.067, 0.6478, 0.3989),
    ("DTA-TTFS", 160, 0.073, 0.1987, 0.1304),
)
# Two of the ten printed figures lie one unit of the last digit below what the printed steps and spikes give.
CUT_OFF = {("phase", "TrueNorth"): 7.1477, ("burst", "SpiNNaker"): 2.4866}


@pytest.mark.parametrize(("method", "steps", "millions", "truenorth", "spinnaker"), TABLE_2, ids=lambda v: str(v))
def test_table_2(method: str, steps: int, millions: float, truenorth: float, spinnaker: float) -> None:
    for platform, printed in ((TRUENORTH, truenorth), (SPINNAKER, spinnaker)):
        made = eq11_relative(platform, steps=steps, spikes=millions * 1e6)
        assert round(made, 4) == CUT_OFF.get((method, platform.name), printed)
        assert made == pytest.approx(printed, abs=1.1e-4)


def test_rate_coding_is_the_unit() -> None:
    for platform in (TRUENORTH, SPINNAKER):
        assert platform.steps_share + platform.spikes_share == 1
        assert eq11_relative(platform, steps=512, spikes=2.612e6) == 1


def test_50_uj_of_the_hardware_estimate() -> None:
    made = eq12_uj(spikes=72.0e3, hops=454e3, spike_pj=20, hop_pj=100, static_uj=3.52)
    assert round(made, 2) == 50.36


def test_figures_of_the_mapping_study() -> None:
    """VGG16 on annealed tiles with multicast: 72,879 spikes and 0.341 M hops are 39.1 uJ."""
    made = eq12_uj(spikes=72_879, hops=0.341e6, spike_pj=20, hop_pj=100, static_uj=3.52)
    assert made == pytest.approx(39.1, abs=0.05)


def test_what_is_not_known_is_not_zero() -> None:
    term = energy.events("hops", 10, None)
    assert term.uj is None and term.count == 10
    line = energy.total("b", "b", (term, energy.fixed("static", 1)), formula="", source="", missing=("no e_hop",))
    assert line.value is None and line.not_modelled == ("no e_hop",)


def test_a_line_without_its_reason_is_our_bug() -> None:
    with pytest.raises(AssertionError, match="needs its reason"):
        energy.total("b", "b", (energy.events("hops", 1, None),), formula="", source="", missing=())
    with pytest.raises(AssertionError, match="needs its reason"):
        energy.relative("t", TRUENORTH, steps=1, spikes=None, missing=())
