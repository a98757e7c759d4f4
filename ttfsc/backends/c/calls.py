"""Which kernels a step calls."""

from collections.abc import Iterator

from ttfsc.backends.c.kernels import Instance, instance
from ttfsc.backends.c.plan import (
    Answer,
    Depth,
    FastLayer,
    FireSink,
    Gather,
    Layer,
    Link,
    Move,
    Pile,
    RecallSink,
    Step,
    Walk,
)


def calls_of(step: Step) -> Iterator[Instance]:
    """Every kernel that the step names, as often as it does."""
    match step:
        case Layer():
            yield from _layer_calls(step)
        case FastLayer():
            yield from _fast_calls(step)
        case Move():
            yield step.call
        case Answer():
            yield instance({"membrane": "best", "first_spike": "first", "weighted": "weigh"}[step.rule])
            if step.rule == "weighted":
                yield instance("best")


def _fast_calls(layer: FastLayer) -> Iterator[Instance]:
    yield layer.begin
    for bundle in layer.bundles:
        if isinstance(bundle, Gather | Pile) and bundle.sort is not None:
            yield bundle.sort
        if isinstance(bundle, Walk) and bundle.list is not None:
            yield bundle.list
        if isinstance(bundle, Depth) and bundle.lay is not None:
            yield bundle.lay
        yield bundle.call
    for dot in layer.dots:
        yield dot.lay
        yield dot.vnni
        if dot.avx2 is not None:
            yield dot.avx2
    yield layer.sink.call
    if isinstance(layer.sink, FireSink) and layer.sink.force_last:
        yield instance("force_last")


def _layer_calls(layer: Layer) -> Iterator[Instance]:
    acc = layer.acc
    yield instance("start", acc=acc)
    for link in layer.links:
        yield link.call
        if layer.streaming:
            yield from _stream_calls(link, acc)
    if layer.streaming and len(layer.links) > 1:
        yield instance("add", acc=acc)
    yield layer.sink.call
    if layer.pool is not None:
        yield layer.pool.call
    match layer.sink:
        case FireSink():
            yield instance("silence")
            if layer.sink.force_last:
                yield instance("force_last")
        case RecallSink() if layer.slope is not None:
            yield instance("add", acc=acc)
        case _:
            pass


def _stream_calls(link: Link, acc: str) -> Iterator[Instance]:
    if link.leak is not None:
        yield instance("leak", acc=acc)
    if link.drift is not None or link.current is not None:
        yield instance("add", acc=acc)
