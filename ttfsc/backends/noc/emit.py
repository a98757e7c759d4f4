"""A mapped net as files: mapping.json, cores.bin and the schema. Same net, same bytes."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ttfsc.backends.noc.check import image_faults
from ttfsc.backends.noc.document import text_of
from ttfsc.backends.noc.image import (
    BINARY,
    HEADER,
    MAGIC,
    MAPPING,
    SCHEMA,
    VERSION,
    CoreImage,
    EncoderImage,
    Image,
    LayerImage,
    LinkImage,
    Per,
    Readout,
    RouteImage,
    Section,
    SliceImage,
    Stored,
    aligned,
    delays,
    sections,
)  # fmt: skip
from ttfsc.backends.noc.pack import bytes_for, code_of, integers, pack
from ttfsc.backends.noc.schema import schema_bytes
from ttfsc.hardware import Chip
from ttfsc.ir import (
    Array,
    Box,
    Const,
    Core,
    Decode,
    Dense,
    Encode,
    Fault,
    Fire,
    Flatten,
    Grid,
    Held,
    Identity,
    Layer,
    Link,
    Loc,
    Mapped,
    Net,
    Op,
    Ref,
    Scores,
    Spikes,
    TtfsError,
    check_stage,
    codes,
    layers_of,
    source_of,
)  # fmt: skip


def emit(net: Net, chip: Chip) -> dict[str, bytes]:
    """The mapping files of a mapped net, by path.

    Raises TtfsError: the net is not at stage `mapped`, was mapped for another chip, has no or wrong routes, or reads
    its answer in a way that cores cannot give.
    """
    check_stage(net, "mapped")
    assert net.mapped is not None
    faults = [*_chip_faults(net, net.mapped, chip), *_readout_faults(net)]
    if faults:
        raise TtfsError(faults)
    image = image_of(net, net.mapped, chip)
    faults = image_faults(image, Loc(net.name))
    if faults:
        raise TtfsError(faults)
    return {MAPPING: text_of(image), BINARY: image.binary, SCHEMA: schema_bytes()}


def image_of(net: Net, mapped: Mapped, chip: Chip) -> Image:
    """The content of the files."""
    packer = _Packer(net, {layer.name: _layer(net, layer) for layer in layers_of(net)})
    routes = dict[int, list[RouteImage]]()
    for route in mapped.routes:
        routes.setdefault(route.core, []).append(RouteImage(route.source, route.to, route.pool))
    cores = tuple(packer.core(core, tuple(routes.get(core.id, ()))) for core in mapped.cores)
    head = MAGIC + struct.pack("<II", VERSION, len(cores))
    binary = b"".join([head, *packer.parts])
    encoders = tuple(_encoder(net, op) for op in net.ops if isinstance(op, Encode))
    layers = tuple(packer.layers.values())
    return Image(net.name, chip.name, chip.figures, mapped, net.input, encoders, layers, _readout(net), cores, binary)


@dataclass
class _Packer:
    """Writes cores.bin, core after core."""

    net: Net
    layers: dict[str, LayerImage]
    parts: list[bytes] = field(default_factory=list[bytes])
    at: int = HEADER
    _kernels: dict[tuple[str, int, tuple[int, int]], bytes] = field(
        default_factory=dict[tuple[str, int, tuple[int, int]], bytes]
    )

    def core(self, core: Core, routes: tuple[RouteImage, ...]) -> CoreImage:
        start, slices = self.at, list[SliceImage]()
        for piece in core.slices:
            layer = self.layers[piece.layer]
            laid = tuple(sections(layer, piece.box, aligned(self.at)))
            for section in laid:
                self.pad()
                self.put(self.content(layer, section, piece.box), section.size)
            slices.append(SliceImage(piece, laid, delays(layer.layer, piece.box)))
        size = self.at - start
        self.pad()
        return CoreImage(core.id, core.place, start, size, tuple(slices), routes)

    def pad(self) -> None:
        gap = aligned(self.at) - self.at
        if gap:
            self.put(bytes(gap), gap)

    def put(self, data: bytes, size: int) -> None:
        assert len(data) == size, f"a section of {size} bytes got {len(data)}"
        self.parts.append(data)
        self.at += size

    def content(self, layer: LayerImage, section: Section, box: Box) -> bytes:
        grid, op = layer.layer.grid, layer.layer.op
        if section.name == "thresholds":
            assert isinstance(op, Fire) and op.theta is not None and layer.thresholds is not None
            table = self.net.arrays[op.theta]
            shaped = table.reshape(*_shaped(layer.thresholds.per, grid), layer.ticks)
            return integers(_cut(shaped, layer.thresholds.per, box), layer.thresholds.bytes)
        stored = layer.links[section.link]
        synapse = stored.link.synapse
        if section.name == "weights":
            return self.weights(layer, section.link, stored, box)
        name, how = (synapse.bias, stored.bias) if section.name == "bias" else (synapse.drift, stored.drift)
        assert name is not None and how is not None
        return integers(_cut(self.net.arrays[name].reshape(_shaped(how.per, grid)), how.per, box), how.bytes)

    def weights(self, layer: LayerImage, number: int, stored: LinkImage, box: Box) -> bytes:
        w = self.net.arrays[stored.link.synapse.w]
        if isinstance(stored.link.synapse, Dense):
            rows = w.reshape(*layer.layer.grid, w.shape[1])[tuple(slice(a, b) for a, b in box)]
            return pack(rows, stored.bits, stored.sign)
        key = (layer.layer.name, number, box[0])  # cores of one channel group hold equal kernels: packed once
        if key not in self._kernels:
            self._kernels[key] = pack(w[box[0][0] : box[0][1]], stored.bits, stored.sign)
        return self._kernels[key]


def _shaped(per: Per, grid: Grid) -> Grid:
    return {"layer": (1, 1, 1), "channel": (grid[0], 1, 1), "neuron": grid}[per]


def _cut(a: Array, per: Per, box: Box) -> Array:
    match per:
        case "layer":
            return a
        case "channel":
            return a[box[0][0] : box[0][1]]
        case "neuron":
            return a[tuple(slice(low, high) for low, high in box)]


def _layer(net: Net, layer: Layer) -> LayerImage:
    op, thresholds = layer.op, None
    if isinstance(op, Fire):
        assert op.theta is not None
        table = net.arrays[op.theta]
        lead = table.size // table.shape[-1]
        per: Per = "layer" if lead == 1 else "channel" if lead == layer.grid[0] else "neuron"
        thresholds = Stored(per, bytes_for(table))
    assert isinstance(op.type, Spikes | Scores)
    held = dict(layer.held)
    links = tuple(_link(net, link, layer.grid, held.get(i)) for i, link in enumerate(layer.links))
    return LayerImage(layer, op.type.shape, op.type.opens, op.type.closes, op.loc.origin, thresholds, links)


def _link(net: Net, link: Link, grid: Grid, held: Held | None) -> LinkImage:
    synapse = link.synapse
    bits, sign = code_of(net.arrays[synapse.w], synapse.bits)
    bias, drift = _constant(net, synapse.bias, grid), _constant(net, synapse.drift, grid)
    return LinkImage(link, bits, sign, bias, drift, 0 if held is None else held.ticks)


def _encoder(net: Net, op: Encode) -> EncoderImage:
    """With its pools; what it reads is the input, whatever flattens lie between."""
    source, pools, _ = source_of(net, op.x)
    return EncoderImage(replace(op, x=Ref(source.name)), pools)


def _constant(net: Net, name: Const | None, grid: Grid) -> Stored | None:
    if name is None:
        return None
    a = net.arrays[name]
    return Stored("channel" if a.size == grid[0] else "neuron", bytes_for(a))


def _readout(net: Net) -> Readout:
    op = net.answer
    assert isinstance(op, Decode) and isinstance(op.type, Scores)
    table = tuple(net.arrays[op.table].tolist()) if op.table is not None else ()
    source, pools = op.name, ()
    if op.rule != "membrane":
        found, pools, _ = source_of(net, op.xs[0])
        source = found.name
    return Readout(op.name, op.rule, source, pools, op.type.shape, op.type.opens, op.type.closes, table)


def _chip_faults(net: Net, mapped: Mapped, chip: Chip) -> Iterator[Fault]:
    subject = f"net @{net.name}"
    if mapped.chip != chip.name:
        fact = f"was mapped for {mapped.chip}, not for {chip.name}: run partition, place and route again"
        yield Fault(codes.OPTION, Loc(net.name), subject, fact)
    fires = {layer.name for layer in layers_of(net) if layer.fires}
    if not mapped.routes and any(link.source in fires for layer in layers_of(net) for link in layer.links):
        yield Fault(codes.STAGE, Loc(net.name), subject, "its map has no routes: run route")


def _readout_faults(net: Net) -> Iterator[Fault]:
    """first_spike compares membranes of the very neurons that spike; a core has no others to offer."""
    op = net.answer
    if isinstance(op, Decode) and op.rule == "first_spike":
        spikes, membrane = _behind(net, op.xs[0]), _behind(net, op.xs[1])
        if not isinstance(spikes, Fire) or _behind(net, spikes.v) is not membrane:
            fact = f"rule=first_spike reads %{op.xs[0]} and %{op.xs[1]}, which are not a fire and its own membrane"
            yield Fault(codes.UNSUPPORTED, op.loc, op.subject, f"{fact}: read those two, or use another rule")


def _behind(net: Net, name: str) -> Op:
    op = net.by_name[name]
    while isinstance(op, Flatten | Identity):
        op = net.by_name[op.x]
    return op
