"""Pooling as part of the layer before it: rows are pooled as they are made, so that only those of a window are kept.

    conv1: 26 rows of spikes, kept whole       =>    conv1: 26 rows, 2 of them kept at a time,
    pool:  13 rows out of them                         13 rows pooled on the way

The layer's buffer becomes a ring of as many rows as a pooling window is high: row y lies at y modulo that. Left alone
where somebody else reads the spikes too, or where it would not save memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ttfsc.backends.c.cgen import SIZES
from ttfsc.backends.c.memory import Buffer
from ttfsc.backends.c.plan import Answer, FastLayer, FireSink, Geometry, Layer, Move, RecallSink, Step

HEIGHT = 5  # where the height of a pooling window is among the fields of runtime/pool.c
KEPT = 11  # where the number of rows that are kept is


def fused(
    steps: Sequence[Step], buffers: Sequence[Buffer], geometries: Sequence[Geometry]
) -> tuple[list[Step], list[Buffer], list[Geometry]]:
    """The same with every pooling fused that can be; the lifetimes of buffers still count the steps that were given."""
    steps, buffers, tables = list(steps), list(buffers), {g.name: g for g in geometries}
    readers, gone = _readers(steps), set[int]()
    for at, layer in enumerate(steps):
        if not (isinstance(layer, Layer) and isinstance(layer.sink, FireSink)) or layer.sink.out.buffer is None:
            continue
        spikes = layer.sink.out.buffer
        move = steps[readers[spikes][0]] if len(readers.get(spikes, [])) == 1 else None
        if not isinstance(move, Move) or move.pool is None or move.out.buffer is None:
            continue
        geometry = tables[move.pool]
        rows = min(geometry.fields[HEIGHT], layer.grid[1])
        ring = replace(buffers[spikes], length=rows * layer.grid[2] * layer.grid[0], last=at)
        made = [i for i in (move.out.buffer, move.hits) if i is not None]
        if _bytes(ring) + sum(_bytes(buffers[i]) for i in made) >= _bytes(buffers[spikes]):
            continue
        buffers[spikes] = ring
        for i in made:
            buffers[i] = replace(buffers[i], first=at)
        tables[move.pool] = replace(geometry, fields=(*geometry.fields[:KEPT], rows))
        steps[at] = replace(layer, pool=move, rows=rows)
        gone.add(readers[spikes][0])
    return [step for i, step in enumerate(steps) if i not in gone], buffers, list(tables.values())


def _bytes(buffer: Buffer) -> int:
    return SIZES[buffer.ctype] * buffer.length


def _readers(steps: Sequence[Step]) -> dict[int, list[int]]:
    """Buffer -> the steps that read it as an operand."""
    found = dict[int, list[int]]()
    for at, step in enumerate(steps):
        for buffer in _read_by(step):
            found.setdefault(buffer, []).append(at)
    return found


def _read_by(step: Step) -> Iterator[int]:
    match step:
        case Layer():
            operands = [link.x for link in step.links]
            operands += [step.sink.spikes] if isinstance(step.sink, RecallSink) else []
        case FastLayer():
            operands = [bundle.x for bundle in step.bundles]
        case Move():
            operands = [step.x]
        case Answer():
            operands = [step.x] if step.x is not None else []
    yield from (x.buffer for x in operands if x.buffer is not None)
