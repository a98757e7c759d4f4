"""VGG16 for CIFAR-10 at rate 0.256: the report's figures against the mapping study's exact ones."""

import numpy as np
import pytest

from tests.report.nets import mapped
from ttfsc.backends.report import LayerCounts, Measurement, Provenance, build
from ttfsc.hardware import load_chip
from ttfsc.ir import (
    OPEN,
    Analog,
    Builder,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Input,
    MaxPool,
    Net,
    Ref,
    layers_of,
)

WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: max pool


def vgg16() -> Net:
    """The paper's network; what it weighs does not matter where its spikes are given."""
    b, here, channels = Builder("vgg16", ticks=10), "in", 3
    b.add(Input(name="in", type=Analog((3, 32, 32), 0, 255), scale=1 / 255))
    never = b.array("never", np.ones((1, 10), np.int32))

    def fire(name: str) -> str:
        return b.add(Fire(name=name, type=OPEN, v=Ref(f"{name}.v"), theta=never, width=32)).name

    for i, width in enumerate(WIDTHS):
        if not width:
            here = b.add(MaxPool(name=f"p{i}", type=OPEN, x=Ref(here), kernel=(2, 2), stride=(2, 2))).name
            continue
        w = b.array(f"w{i}", np.zeros((width, channels, 3, 3), np.int8))
        b.add(Conv2d(name=f"c{i}.v", type=OPEN, x=Ref(here), w=w, bits=4, pad=(1, 1, 1, 1)))
        here, channels = fire(f"c{i}"), width
    here = b.add(Flatten(name="flat", type=OPEN, x=Ref(here))).name
    for i, width in enumerate((4096, 4096, 10)):
        w = b.array(f"fw{i}", np.zeros((width, channels), np.int8))
        b.add(Dense(name=f"f{i}.v", type=OPEN, x=Ref(here), w=w, bits=4))
        here, channels = fire(f"f{i}") if width > 10 else "f2.v", width
    b.add(Decode(name="out", type=OPEN, xs=(Ref("f2.v"),), rule="membrane", width=32))
    return b.net()


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
    net = mapped(vgg16(), chip, scheme=scheme)
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
