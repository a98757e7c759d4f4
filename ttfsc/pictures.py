"""Pictures of a simulation, as SVG files, drawn from the same figures as its JSON."""

from typing import Any

from markupsafe import Markup

from ttfsc.backends.report import svg
from ttfsc.backends.report.views import MODELLED, clean

ENERGY = ("sops", "hops", "held", "updates", "memory")  # energy line (c) and what else the chip has figures for
_COLOURS = ("s0", "s1", "s2", "s3", "s4")
_STATIC = "s5"
Table = dict[str, Any]


def pictures(summary: Table) -> dict[str, bytes]:
    """SVG files by name, from `ttfsc.backends.noc.summary`."""
    cores = [core | {"memory_bytes": core["weight_bytes"] + -(-core["delay_bits"] // 8)} for core in summary["cores"]]
    mesh = (summary["mesh"][0], summary["mesh"][1])
    whats = {
        "neurons": ("neurons", "neurons"),
        "memory": ("memory_bytes", "bytes of weights and of spikes that wait"),
        "packets": ("packets", "packets per frame"),
    }
    found = {
        name: (f"{what} of every core", svg.heat(_cells(cores, key, what), mesh)) for name, (key, what) in whats.items()
    }
    found["links"] = ("packets per frame over every link", _links(summary["links"]["loads"], mesh))
    found["hops"] = ("packets per frame by the links that they cross", _histogram(summary["hops_per_packet"]))
    found["energy"] = (f"energy per frame by layer, {MODELLED}", _energy(summary))
    return {f"{name}.svg": svg.standalone(picture, clean(title)) for name, (title, picture) in found.items()}


def _cells(cores: list[Table], key: str, what: str) -> list[tuple[int, int, float, str]]:
    top = max((core[key] for core in cores), default=0) or 1
    return [(c["x"], c["y"], c[key] / top, f"core {c['id']} at {c['x']},{c['y']}: {c[key]:,.6g} {what}") for c in cores]


def _links(loads: dict[str, list[list[float]]], mesh: tuple[int, int]) -> Markup:
    used = [
        (x, y, direction, load)
        for direction, rows in loads.items()
        for y, row in enumerate(rows)
        for x, load in enumerate(row)
        if load
    ]
    top = max((load for *_, load in used), default=1.0)
    return svg.links(
        [(x, y, way, n / top, f"{x},{y} {way}: {n:,.6g} packets per frame") for x, y, way, n in used], mesh
    )


def _histogram(lengths: list[float]) -> Markup:
    bars = [(str(hops), n, f"{n:,.6g} packets per frame cross {hops} links") for hops, n in enumerate(lengths)]
    return svg.columns(bars, "links crossed by one packet")


def _energy(summary: Table) -> Markup:
    kinds = [kind for kind in ENERGY if summary["energy"]["kinds"][kind] is not None]
    kinds = [kind for kind in kinds if kind != "held" or summary["held_links"]]
    rows = list[tuple[str, list[float], str]]()
    for layer in summary["layers"]:
        parts = [layer["energy"][kind] for kind in kinds]
        rows.append((clean(layer["name"]), parts, f"{sum(parts):.4g} uJ"))
    fixed = summary["energy"]["kinds"]["static"]
    if fixed is not None:
        rows.append(("static", [0.0] * len(kinds) + [fixed], f"{fixed:.4g} uJ"))
    return svg.stacked(rows, (*_COLOURS[: len(kinds)], _STATIC), [*kinds, "static"])
