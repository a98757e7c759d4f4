"""Run exported files in SANA-FE, where it is installed (`pip install sanafe`); our tests compare with it.

SANA-FE is licensed under the GPL and therefore no dependency of ttfsc: it is imported by name, here only.
"""

import json
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ttfsc.ir import TtfsError, codes


@dataclass(frozen=True)
class Replay:
    """What SANA-FE counted in one frame, by our names.

    ticks: by group and neuron, when it fired. energy: joules by part.
    """

    spikes: int
    packets: int
    hops: int
    sops: int
    ticks: dict[tuple[str, int], int]
    energy: dict[str, float]


def run_sanafe(folder: Path) -> Replay:
    """Run arch.yaml and net.yaml of a folder, with its schedule.json if there is one, for as many ticks as that says.

    Without a schedule (a replay) it runs until the largest threshold has been passed. Raises TtfsError (TOOL) where
    SANA-FE is not installed.
    """
    try:
        sana: Any = import_module("sanafe")
    except ImportError as e:
        raise TtfsError.one(codes.TOOL, "SANA-FE is not installed: pip install sanafe", subject="sanafe") from e
    arch = sana.load_arch(str(folder / "arch.yaml"))
    net = sana.load_net(str(folder / "net.yaml"), arch)
    chip = sana.SpikingChip(arch)
    chip.load(net)
    path = folder / "schedule.json"
    table: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    counts = dict.fromkeys(("spikes", "packets", "hops", "sops"), 0)
    ticks, energy = dict[tuple[str, int], int](), dict[str, float]()
    length = int(table["ticks"]) if table else _last_tick(folder / "net.yaml") + 1
    for tick in range(length + 1):  # spikes are processed one tick after they were sent
        for group, change in table.get("schedule", {}).get(str(tick), {}).items():
            for i, neuron in enumerate(chip.mapped_neuron_groups[group]):
                own = {key: _one(value, i) for key, value in change.items()}
                neuron.set_attributes(model_attributes=own)  # 2.2.9 hands `soma_attributes` to the dendrite
        found = chip.sim(1, timing_model="simple", spike_trace=True, perf_trace=True)
        counts["spikes"] += found["neurons_fired"]
        counts["packets"] += found["packets_sent"]
        counts["sops"] += found["spikes"]
        counts["hops"] += sum(found["perf_trace"]["hops"])
        for address in (a for step in found["spike_trace"] for a in step):
            ticks[address.group_name, address.neuron_offset] = tick
        for part, joules in found["energy"].items():
            energy[part] = energy.get(part, 0.0) + joules
    return Replay(counts["spikes"], counts["packets"], counts["hops"], counts["sops"], ticks, energy)


def _one(value: float | list[float], neuron: int) -> float:
    return value[neuron] if isinstance(value, list) else value


def _last_tick(net: Path) -> int:
    """Of a replay: the largest threshold of a spike."""
    marks = re.findall(r"^ +- \d+: \[soma: \{threshold: (\d+)\.5\}\]$", net.read_text(), re.MULTILINE)
    return max(map(int, marks), default=0)
