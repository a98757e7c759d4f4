"""Charts as inline SVG, without scripts. Every text goes through Markup.format, which escapes it.

Colours come from the page's style sheet by class: s0, s1, s2 for series, dim for marks, heat for shades; a picture in a
file of its own (`standalone`) carries them with it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from markupsafe import Markup

LABEL = 130  # pixels kept for row names
BAR = 400
VALUE = 150
ROW = 22
TIMES_ROW = 34
GRID = 340
COLUMN = 160  # height of a histogram
_SHORT = 18
_STYLE = """
text { font: 12px sans-serif; fill: #555 } .label { text-anchor: end } .tick { text-anchor: start; font-size: 10px }
.s0, .heat { fill: #2563a8 } .s1 { fill: #c2571a } .s2 { fill: #4d8a3a } .s3 { fill: #8a5aa8 } .s4 { fill: #b08a1e }
.s5 { fill: #888 } .dim { fill: #bbb } .mesh { fill: none; stroke: #ccc } .axis { stroke: #999 } .mark { stroke: #888 }
@media (prefers-color-scheme: dark) { text { fill: #bbb } .s0, .heat { fill: #6ba6e8 } .dim { fill: #555 } }
"""

Rows = Sequence[tuple[str, Sequence[float], str]]  # name, one value per series, text behind the bar


def stacked(rows: Rows, kinds: Sequence[str] = ("s0", "s1"), names: Sequence[str] = ()) -> Markup:
    """Horizontal bars, one row each, its series stacked in the colours of `kinds`; `names` of them go below."""
    top = max((sum(values) for _, values, _ in rows), default=0.0) or 1.0
    parts = list[Markup]()
    for i, (name, values, text) in enumerate(rows):
        x, y = float(LABEL), i * ROW
        parts.append(_label(name, y + 15))
        for kind, value in zip(kinds, values, strict=False):
            width = BAR * value / top
            if width > 0:
                parts.append(_rect(x, y + 3, width, ROW - 6, kind, f"{name}: {value:.6g}"))
            x += width
        parts.append(_text(x + 6, y + 15, text, "value"))
    base = len(rows) * ROW
    for i, (kind, name) in enumerate(zip(kinds, names, strict=False)):
        parts += [
            _rect(LABEL + i * 90, base + 5, 12, 12, kind, name),
            _text(LABEL + i * 90 + 18, base + 15, name, "value"),
        ]
    return _svg(LABEL + BAR + VALUE, base + (ROW if names else 0), parts)


def times(rows: Sequence[tuple[str, int, int, Sequence[int]]], end: int) -> Markup:
    """Spike times: a row per layer, (name, opens, closes, spikes per tick), on one axis of ticks 0..end."""
    scale = BAR / max(end, 1)
    parts = list[Markup]()
    for i, (name, opens, closes, counts) in enumerate(rows):
        base, top = (i + 1) * TIMES_ROW - 4, max(counts, default=0) or 1
        parts.append(_label(name, base - 4))
        parts.append(_line(LABEL, base, LABEL + BAR, base, "axis"))
        for edge in (opens, closes):
            parts.append(_line(LABEL + edge * scale, base - TIMES_ROW + 8, LABEL + edge * scale, base, "mark"))
        for n, spikes in enumerate(counts):
            height = (TIMES_ROW - 10) * spikes / top
            if height > 0:
                x, width = LABEL + (opens + n) * scale, max(scale - 1, scale * 0.7)
                parts.append(
                    _rect(x, base - height, width, height, "s0", f"{name}, tick {opens + n}: {spikes:,} spikes")
                )
    bottom = len(rows) * TIMES_ROW + 12
    edges = sorted({edge for _, opens, closes, _ in rows for edge in (opens, closes)})
    step = -(-len(edges) // 12)  # as many numbers as fit side by side
    parts += [_text(LABEL + edge * scale, bottom, str(edge), "tick") for edge in edges[:: step or 1]]
    return _svg(LABEL + BAR + 30, bottom + 6, parts)


def heat(cells: Iterable[tuple[int, int, float, str]], mesh: tuple[int, int]) -> Markup:
    """The mesh as a grid: cells (x, y, share of the darkest, what to say), unused places left empty.

    Cells of one place, cores at one router, lie side by side.
    """
    side = GRID / max(*mesh, 1)
    gap = min(2.0, side * 0.12)
    parts = [_rect(0, 0, side * mesh[0], side * mesh[1], "mesh", f"{mesh[0]} x {mesh[1]} mesh")]
    cells, drawn = list(cells), Counter[tuple[int, int]]()
    many = Counter((x, y) for x, y, _, _ in cells)
    for x, y, share, text in cells:
        width = (side - gap) / many[x, y]
        left = x * side + gap / 2 + drawn[x, y] * width
        drawn[x, y] += 1
        parts.append(_rect(left, y * side + gap / 2, width, side - gap, "heat", text, 0.08 + 0.92 * share))
    return _svg(side * mesh[0], side * mesh[1], parts)


def links(loads: Iterable[tuple[int, int, str, float, str]], mesh: tuple[int, int]) -> Markup:
    """Routers as dots, and lanes between them for each way: (x, y, direction, share of the darkest, what to say)."""
    side = GRID / max(*mesh, 1)
    dot, lane = side * 0.4, side * 0.16
    parts = [_rect(0, 0, side * mesh[0], side * mesh[1], "mesh", f"{mesh[0]} x {mesh[1]} mesh")]
    for x, y in ((x, y) for y in range(mesh[1]) for x in range(mesh[0])):
        corner = (side - dot) / 2
        parts.append(_rect(x * side + corner, y * side + corner, dot, dot, "dim", f"router {x},{y}"))
    for x, y, direction, share, text in loads:
        cx, cy, gap = (x + 0.5) * side, (y + 0.5) * side, side - dot
        left, top, width, height = {  # traffic keeps to the right, as on a road
            "east": (cx + dot / 2, cy + lane / 4, gap, lane),
            "west": (cx - dot / 2 - gap, cy - lane * 5 / 4, gap, lane),
            "south": (cx - lane * 5 / 4, cy + dot / 2, lane, gap),
            "north": (cx + lane / 4, cy - dot / 2 - gap, lane, gap),
        }[direction]
        parts.append(_rect(left, top, width, height, "heat", text, 0.08 + 0.92 * share))
    return _svg(side * mesh[0], side * mesh[1], parts)


def columns(bars: Sequence[tuple[str, float, str]], axis: str) -> Markup:
    """A histogram of upright bars: (name below, value, what to say); `axis` says what the names are."""
    top = max((value for _, value, _ in bars), default=0.0) or 1.0
    step = (BAR + VALUE) / max(len(bars), 1)
    parts = [_line(0, COLUMN, BAR + VALUE, COLUMN, "axis")]
    every = -(-len(bars) // 20)  # as many names as fit side by side
    for i, (name, value, text) in enumerate(bars):
        height = (COLUMN - 6) * value / top
        if height > 0:
            parts.append(_rect(i * step + step * 0.1, COLUMN - height, step * 0.8, height, "s0", text))
        if i % every == 0:
            parts.append(_text(i * step + step * 0.3, COLUMN + 14, name, "tick"))
    parts.append(_text(0, COLUMN + 30, axis, "value"))
    return _svg(BAR + VALUE, COLUMN + 36, parts)


def standalone(picture: Markup, title: str) -> bytes:
    """A picture as a file of its own, with the colours that a page would give it."""
    head, _, rest = str(picture).partition(">")
    start = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    words = Markup("<title>{}</title>").format(title)
    return f"{start}>{words}<style>{_STYLE}</style>{rest}\n".encode()


def _svg(width: float, height: float, parts: Iterable[Markup]) -> Markup:
    size = Markup('<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img">').format(_n(width), _n(height))
    return size + Markup("").join(parts) + Markup("</svg>")


def _rect(x: float, y: float, width: float, height: float, kind: str, title: str, opacity: float = 1.0) -> Markup:
    shade = "" if opacity == 1 else Markup(' fill-opacity="{}"').format(_n(opacity))
    form = Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"{}><title>{}</title></rect>')
    return form.format(_n(x), _n(y), _n(width), _n(height), kind, shade, title)


def _line(x0: float, y0: float, x1: float, y1: float, kind: str) -> Markup:
    form = Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>')
    return form.format(_n(x0), _n(y0), _n(x1), _n(y1), kind)


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(_n(x), _n(y), kind, text)


def _label(name: str, y: float) -> Markup:
    short = name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"
    form = Markup('<text x="{}" y="{}" class="label">{}<title>{}</title></text>')
    return form.format(_n(LABEL - 8), _n(y), short, name)


def _n(x: float) -> str:
    """A coordinate: two decimals are a hundredth of a pixel."""
    return f"{x:.2f}".rstrip("0").rstrip(".")
