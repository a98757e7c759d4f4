"""A core that may hear few neurons gets fewer of its own; files are held against the limits on axons and routes too."""

import json
import re
from dataclasses import replace

import pytest

from tests.mapping.files import faults_of, resealed
from tests.mapping.nets import chip_of, mapped, mnist
from ttfsc.backends import noc
from ttfsc.hardware import UNITS, Figure
from ttfsc.ir import TtfsError, layers_of
from ttfsc.passes.limits import demand_of
from ttfsc.passes.partition import partition


@pytest.mark.parametrize("scheme", ["hybrid", "auto"])
@pytest.mark.parametrize("axons", [10_000, 4_096, 3_200])
def test_tiles_shrink_until_they_fit(scheme: str, axons: int) -> None:
    chip = replace(chip_of(1024), axons_in=Figure(axons, "axons", "test"))
    net = partition(mnist(), scheme=scheme, chip=chip)
    assert net.mapped is not None
    for layer in layers_of(net):
        boxes = [s.box for core in net.mapped.cores for s in core.slices if s.layer == layer.name]
        assert demand_of(layer, boxes).axons_in <= axons


def test_what_would_fit_is_said_and_what_the_least_is() -> None:
    chip = replace(chip_of(1024), axons_in=Figure(4_096, "axons", "test"))
    with pytest.raises(TtfsError) as e:
        partition(mnist(), chip=chip)
    assert "512 too few; choose partition{scheme=hybrid}, which needs 4,096, or" in str(e.value)
    chip = replace(chip_of(1024), axons_in=Figure(1_000, "axons", "test"))
    with pytest.raises(TtfsError) as e:
        partition(mnist(), scheme="auto", chip=chip)
    c2, f3 = (str(fault) for fault in e.value.faults)
    assert "%c2: needs 1,600 axons into one core" in c2  # a single position hears 16 channels of 10 x 10 neurons
    assert "%f3: needs 3,200 axons into one core" in f3


@pytest.mark.parametrize(
    ("delivery", "figure", "value", "message"),
    [
        ("multicast", "axons_in", 3_000, r"core \d+: hears [\d,]+ neurons, small has 3,000 axons"),
        ("unicast", "axons_out", 3, r"core \d+: sends spikes of %c1.* to 4 cores, small sends 3 packets"),
        ("multicast", "routing_entries", 9, r"router \d+,\d+: needs \d\d routing entries, small has 9 entries"),
    ],
)
def test_files_that_exceed_a_limit(delivery: str, figure: str, value: int, message: str) -> None:
    """Whoever lowers a limit in the files, or writes them by other means, is told."""
    chip = chip_of(1024)
    files = noc.emit(mapped(mnist(), chip, delivery=delivery), chip)
    table = json.loads(files[noc.MAPPING])
    table["chip"]["figures"][figure] = {"value": value, "unit": UNITS[figure], "source": "test"}
    faults = faults_of(resealed(table, files[noc.BINARY]))
    assert all(re.search(message, fault) for fault in faults), faults
