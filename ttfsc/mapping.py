"""How a net is mapped, as options of `ttfsc compile`: they become the last three passes of its pipeline."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from ttfsc.ir import Loc, Mapped, TtfsError, codes

_SEARCH = ("objective", "restarts", "seconds", "rates", "earlier")  # what only annealing looks at
_MAX_BYTES = 1 << 26


@dataclass(frozen=True)
class MapOptions:
    """Options of partition, place and route (docs/mapping.md); the empty ones leave the choice to the pass."""

    partition: str = "tile"
    share: str = ""  # layers on common cores: auto, or c1+c2 c3+c4
    place: str = "hilbert"
    objective: str = "multicast"  # of annealing, as all to `earlier`
    restarts: int = 4
    seconds: float = 0.0
    rates: str = ""  # spikes per neuron and frame: measured, a number, or by layer `c1:0.2 c2:0.1`
    earlier: Mapped | None = None  # a map of the same net, to start from
    pool: str = "target"
    delivery: str = ""
    routing: str = "xy"
    pin: str = ""  # cores that stay: 17@3:4 18@4:4
    avoid: str = ""  # places for no core: 0:0 5:6

    def map_faults(self, pipeline: str) -> Iterator[str]:
        """What contradicts itself; the passes check the values."""
        changed = [f.name for f in fields(MapOptions) if getattr(self, f.name) != f.default]
        if pipeline and changed:
            words = ", ".join(map(flag, changed))
            yield f"--pipeline names all passes: write {words} as options of partition, place and route there"
        for name in _SEARCH if self.place != "anneal" else ():
            if name in changed:
                yield f"{flag(name)} belongs to --place anneal, it has no meaning for {self.place}"

    def passes(self, seed: int) -> str:
        """The text of partition, place and route, without what is a default of theirs."""
        plain = MapOptions()._place(0)
        kept = {key: value for key, value in self._place(seed).items() if value != plain.get(key)}
        route = {"delivery": self.delivery, "order": self.routing, "pool": self.pool}
        if self.place != "anneal":  # the others look at neither seed nor traffic
            kept = {key: value for key, value in kept.items() if key in ("scheme", "pinned", "closed")}
        steps = (
            ("partition", {"scheme": self.partition, **({"share": self.share} if self.share else {})}),
            ("place", kept),
            ("route", {k: v for k, v in route.items() if v not in ("", "xy", "target")}),
        )
        return ",".join(
            name + (f"{{{','.join(f'{k}={v}' for k, v in given.items())}}}" if given else "") for name, given in steps
        )

    def _place(self, seed: int) -> dict[str, str]:
        return {
            "scheme": self.place, "objective": self.objective, "seed": str(seed), "restarts": str(self.restarts),
            "seconds": f"{self.seconds:g}", "start": "earlier" if self.earlier else "hilbert", **self._rate(),
            "pool": self.pool, "pinned": self.pin, "closed": self.avoid,
        }  # fmt: skip

    def _rate(self) -> dict[str, str]:
        if not self.rates:
            return {}
        if self.rates == "measured":
            return {"rates": "measured"}
        return {"layers" if ":" in self.rates else "rate": self.rates}


def flag(name: str) -> str:
    """The name of an option on the command line."""
    return {"earlier": "--start-from"}.get(name, f"--{name}")


def rates_of(text: str) -> str:
    """`--rates` as passes write it: a word and numbers as they are, a file as `layer:rate ...`.

    The file is JSON: {"layer": rate}, or what `ttfsc simulate -o` or a report.json says of every layer.
    Raises TtfsError for a file that is neither.
    """
    if not text.endswith(".json"):
        return text
    path = Path(text)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise TtfsError.one(codes.FILE, f"has more than {_MAX_BYTES} bytes: no rates", loc=Loc(text))
        content: object = json.loads(path.read_bytes())
    except OSError as e:
        fact = "no such file" if isinstance(e, FileNotFoundError) else f"cannot be read: {e.strerror or e}"
        raise TtfsError.one(codes.FILE, fact, loc=Loc(text)) from e
    except (ValueError, RecursionError) as e:
        raise TtfsError.one(codes.DAMAGED, f"is not JSON: {e}", loc=Loc(text)) from e
    table = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    rows: object = table.get("layers")
    found = dict(_rows(cast("list[Any]", rows))) if isinstance(rows, list) else table
    wrong = [name for name, rate in found.items() if isinstance(rate, bool) or not isinstance(rate, int | float)]
    if not found or wrong:
        what = f"{wrong[0]!r} is no number" if wrong else "it names no layer"
        fact = f'{what}; rates are {{"layer": 0.2}}, the JSON of `ttfsc simulate -o`, or a report.json with activity'
        raise TtfsError.one(codes.OPTION, fact, loc=Loc(text))
    return " ".join(f"{name}:{rate:.6g}" for name, rate in found.items())


def _rows(rows: list[Any]) -> Iterator[tuple[str, object]]:
    """Name and rate of the layers that fire, from a simulation or a report."""
    for row in (cast("dict[str, Any]", row) for row in rows if isinstance(row, dict)):
        activity, neurons, spikes = row.get("activity"), row.get("neurons"), row.get("spikes")
        rate: object = None
        if isinstance(activity, dict):
            rate = cast("dict[str, Any]", activity).get("spikes_per_neuron")
        elif isinstance(neurons, int) and neurons > 0 and isinstance(spikes, int | float):
            rate = spikes / neurons if row.get("fires", True) else None
        if rate is not None:
            yield str(row.get("name")), rate
