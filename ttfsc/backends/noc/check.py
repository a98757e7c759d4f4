"""Is an image complete and consistent: every neuron once, every spike where it has a synapse and nowhere else?"""

import struct
from collections import Counter
from collections.abc import Iterator
from math import prod

import numpy as np

from ttfsc.backends.noc.image import (
    HEADER,
    MAGIC,
    VERSION,
    CoreImage,
    Delay,
    Image,
    LayerImage,
    aligned,
    delays,
    sections,
)
from ttfsc.backends.noc.structure import Facts, structure_facts
from ttfsc.ir import EVERY, Box, Fault, Loc, Place, Slice, axons_of, codes, heard, pool_of, xy_tree
from ttfsc.ir.reach import Mask

_MOST = 50
Masks = tuple[Mask, Mask, Mask]


def image_faults(image: Image, loc: Loc) -> list[Fault]:
    """Everything that is wrong with an image, up to a limit; empty when it can be run."""
    faults = list[Fault]()
    for facts in (structure_facts, _core_facts, _memory_facts, _route_facts, _delivery_facts, _limit_facts):
        for subject, fact in facts(image):
            faults.append(Fault(codes.MAPPING, loc, subject, fact))
            if len(faults) == _MOST:
                return [*faults, Fault(codes.MAPPING, loc, "", f"more than {_MOST} faults; the rest is not listed")]
        if faults:
            break  # what follows would trip over what is already known
    return faults


def _core_facts(image: Image) -> Facts:
    width, height = image.mapped.mesh
    layers = {layer.layer.name: layer for layer in image.layers}
    covered = {name: np.zeros(layer.layer.grid, np.uint8) for name, layer in layers.items()}
    ids, places = set[int](), dict[tuple[int, int], list[int]]()
    limit = image.figures.get("neurons_per_core")
    for core in image.cores:
        subject = f"core {core.id}"
        if core.id in ids:
            yield subject, "the number is used twice"
        here = places.setdefault(core.place, [])
        if len(here) >= image.mapped.cores_per_router:
            yield subject, f"stands at {core.place[0]},{core.place[1]}, where core {here[-1]} is"
        if not (core.place[0] < width and core.place[1] < height):
            yield subject, f"place {core.place[0]},{core.place[1]} is outside the {width}x{height} mesh"
        ids.add(core.id)
        here.append(core.id)
        for piece in (s.slice for s in core.slices):
            if piece.layer not in layers:
                yield subject, f"%{piece.layer} is no layer"
            elif any(not 0 <= a < b <= n for (a, b), n in zip(piece.box, layers[piece.layer].layer.grid, strict=True)):
                yield subject, f"{piece} is not a box inside {list(layers[piece.layer].layer.grid)}"
            else:
                covered[piece.layer][_index(piece.box)] += 1
        held = sum(s.slice.size for s in core.slices)
        if limit is not None and held > limit.value:
            yield subject, f"holds {held} neurons, {image.chip} has {limit}"
    for name, count in covered.items():
        if (count != 1).any():
            at = [int(i) for i in np.argwhere(count != 1)[0]]
            yield f"layer %{name}", f"neuron {at} is on {'no core' if count[tuple(at)] == 0 else 'more than one core'}"


def _index(box: Box) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in box)


def _memory_facts(image: Image) -> Facts:
    """cores.bin is laid out by one rule, so every offset can be recomputed."""
    layers = {layer.layer.name: layer for layer in image.layers}
    head = MAGIC + struct.pack("<II", VERSION, len(image.cores))
    if image.binary[:HEADER] != head:
        yield "cores.bin", f"begins with {image.binary[:HEADER].hex()}, must begin with {head.hex()}"
    at, end = HEADER, HEADER
    memory = image.figures.get("synapse_bits_per_core")
    for core in image.cores:
        subject = f"core {core.id}"
        if core.offset != at:
            yield subject, f"its block begins at {core.offset}, must begin at {at}"
            return
        held, waits = 0, 0
        for piece in core.slices:
            want = tuple(sections(layers[piece.slice.layer], piece.slice.box, aligned(at)))
            if piece.sections != want:
                yield subject, f"the sections of {piece.slice} do not lie where its shape puts them"
            room = delays(layers[piece.slice.layer].layer, piece.slice.box)
            if piece.delays != room:
                yield subject, f"the delays of {piece.slice} are {_shown(piece.delays)}, must be {_shown(room)}"
            held += 8 * sum(s.size for s in want if s.name == "weights")
            waits += sum(delay.bits for delay in room)
            at = end = max([at, *(s.offset + s.size for s in want)])
        if core.size != end - core.offset:
            yield subject, f"its block has {core.size} bytes, must have {end - core.offset}"
        if memory is not None and held + waits > memory.value:
            more = f" and {waits:,} bits of waiting spikes" if waits else ""
            yield subject, f"holds {held:,} bits of weights{more}, {image.chip} has {memory}"
        at = aligned(end)
    if len(image.binary) != at:
        yield "cores.bin", f"has {len(image.binary)} bytes, must have {at}"


def _shown(room: tuple[Delay, ...]) -> str:
    return ", ".join(f"{d.bits} bits of {d.axons} neurons for link {d.link}" for d in room) or "none"


def _route_facts(image: Image) -> Facts:
    """Routes leave from neurons of their core, each neuron at most once, to cores that exist."""
    ids, layers = {core.id for core in image.cores}, [layer.layer for layer in image.layers]
    pools = {layer.name: pool_of(layer.name, layers) for layer in layers}
    for core in image.cores:
        subject = f"core {core.id}"
        sent = {s.slice: np.zeros([b - a for a, b in s.slice.box], np.uint8) for s in core.slices}
        for route in core.routes:
            home = next((piece for piece in sent if _inside(route.source, piece)), None)
            if home is None:
                yield subject, f"routes {route.source}, which is not on it"
                continue
            sent[home][_index(_relative(route.source.box, home.box))] += 1
            if route.pool not in (EVERY, pools[home.layer]):
                fact = f"pools {route.source} by {list(route.pool)}, its readers by {list(pools[home.layer])}"
                yield subject, f"{fact}: spikes that somebody needs would be lost"
            if list(route.to) != sorted(set(route.to)):
                yield subject, f"the destinations of {route.source} do not ascend"
            unknown = [to for to in route.to if to not in ids]
            if unknown:
                yield subject, f"routes {route.source} to core {unknown[0]}, which does not exist"
        for piece, count in sent.items():
            if (count > 1).any():
                yield subject, f"some neurons of {piece} have more than one route"


def _relative(inner: Box, outer: Box) -> Box:
    return tuple((a - start, b - start) for (a, b), (start, _) in zip(inner, outer, strict=True))


def _inside(inner: Slice, outer: Slice) -> bool:
    spans = zip(inner.box, outer.box, strict=True)
    return inner.layer == outer.layer and all(low <= a < b <= high for (a, b), (low, high) in spans)


def _delivery_facts(image: Image) -> Facts:
    """Compare what every core is sent with what it has synapses for."""
    layers = {layer.layer.name: layer for layer in image.layers}
    sent = dict[tuple[int, str], list[Box]]()
    for core in image.cores:
        for route in core.routes:
            for to in route.to:
                sent.setdefault((to, route.source.layer), []).append(route.source.box)
    for core in image.cores:
        wanted = _wanted(core, layers)
        for name in wanted:
            yield from _compare(core, layers[name], wanted[name], sent.pop((core.id, name), []))
    for (to, name), boxes in sent.items():
        yield f"core {to}", f"is sent {Slice(name, boxes[0])}, of which it has no synapses"


def _limit_facts(image: Image) -> Facts:
    """Axons of cores and entries of routers against the chip's."""
    layers = {layer.layer.name: layer.layer for layer in image.layers}
    axons_in, axons_out, entries = (image.figures.get(key) for key in ("axons_in", "axons_out", "routing_entries"))
    for core in image.cores if axons_in is not None else ():
        heard = [axons_of(link, s.slice.box) for s in core.slices for link in layers[s.slice.layer].links]
        if axons_in is not None and sum(heard) > axons_in.value:
            yield f"core {core.id}", f"hears {sum(heard):,} neurons, {image.chip} has {axons_in}"
    if image.mapped.delivery == "unicast":
        for route in image.mapped.routes if axons_out is not None else ():
            if axons_out is not None and len(route.to) > axons_out.value:
                fact = f"sends spikes of {route.source} to {len(route.to)} cores, {image.chip} sends {axons_out}"
                yield f"core {route.core}", fact
    elif entries is not None:
        places, count = {core.id: core.place for core in image.cores}, Counter[Place]()
        for route in image.mapped.routes:
            tree = xy_tree(places[route.core], [places[to] for to in route.to], image.mapped.order)
            count.update({places[route.core], *(b for _, b in tree)})
        for (x, y), need in count.items():
            if need > entries.value:
                yield f"router {x},{y}", f"needs {need:,} routing entries, {image.chip} has {entries}"


def _wanted(core: CoreImage, layers: dict[str, LayerImage]) -> dict[str, list[Masks]]:
    """Masks of the neurons heard, by source layer."""
    found = dict[str, list[Masks]]()
    for piece in core.slices:
        for stored in layers[piece.slice.layer].links:
            if stored.link.source in layers:
                found.setdefault(stored.link.source, []).append(heard(stored.link, piece.slice.box))
    return found


def _compare(core: CoreImage, source: LayerImage, masks: list[Masks], boxes: list[Box]) -> Iterator[tuple[str, str]]:
    """Counting is enough where one set of masks asks and every box lies inside it: boxes never overlap."""
    first = masks[0]
    alike = all(np.array_equal(a, b) for m in masks[1:] for a, b in zip(m, first, strict=True))
    inside = all(bool(m[a:b].all()) for box in boxes for m, (a, b) in zip(first, box, strict=True))
    asked = prod(int(m.sum()) for m in first)
    if alike and inside and asked == sum(prod(b - a for a, b in box) for box in boxes):
        return
    want, got = np.zeros(source.layer.grid, np.bool_), np.zeros(source.layer.grid, np.bool_)
    for c, y, x in masks:
        want |= c[:, None, None] & y[:, None] & x
    for box in boxes:
        got[_index(box)] = True
    name = source.layer.name
    cases = ((want & ~got, "has synapses from, but is not sent,"), (got & ~want, "is sent, without synapses,"))
    for wrong, fact in cases:
        if wrong.any():
            at = [int(i) for i in np.argwhere(wrong)[0]]
            yield f"core {core.id}", f"{fact} {int(wrong.sum())} neurons of %{name}, the first {at}"
