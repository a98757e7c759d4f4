"""VGG16 for CIFAR-10 at rate 0.256: the report's figures against the mapping study's exact ones."""

import numpy as np
import pytest

from bench.vgg import vgg
from tests.report.nets import mapped
from ttfsc.backends.report import LayerCounts, Measurement, Provenance, build
from ttfsc.hardware import load_chip
from ttfsc.ir import layers_of


@pytest.mark.parametrize(
    ("scheme", "unicast", "multicast", "packets", "unicast_uj", "multicast_uj", "digit"),
    [
        ("tile", 1_487_241, 980_287, 196_018, 153.7, 103.0, 0.1),
        ("feature", 19_134_415, 4_154_458, 2_228_224, 1918, 420, 1),
    ],
)
def test_vgg16(
    scheme: str, unicast: int, multicast: int, packets: int, unicast_uj: float, multicast_uj: float, digit: float
) -> None:
    chip = load_chip("canmore-22nm")
    net = mapped(vgg(), chip, scheme=scheme)
    none = np.zeros(0, np.int64)
    counts = {
        layer.name: LayerCounts(np.full(layer.grid, 256 if layer.fires else 0), none, 0, 0) for layer in layers_of(net)
    }
    report = build(net, chip=chip, measured=Measurement(1000, counts, 0, None, None), provenance=Provenance("", "", {}))
    t, m = report.traffic, report.mapping
    assert t is not None and m is not None
    assert (round(t.hops_unicast), round(t.hops_multicast), round(t.packets_unicast)) == (unicast, multicast, packets)
    lines = {line.key: line.value for line in report.energy}
    assert lines["b-unicast"] == pytest.approx(unicast_uj, abs=digit / 2)
    assert lines["b-multicast"] == pytest.approx(multicast_uj, abs=digit / 2)
    assert (round(lines["truenorth"] or 0, 4), round(lines["spinnaker"] or 0, 4)) == (0.1987, 0.1304)
    assert (report.model.neurons + report.model.readout, report.latency.serial) == (284_682, 160)
    assert (m.cores_used, m.mesh) == (279, (17, 17))
