"""What the mapping files say, as values: the shape shared by the writer, the reader and the executor.

Layers are held in the same view as everywhere (`ttfsc.ir.Layer`, `Link`), but without arrays: weights, biases and
thresholds belong to cores and lie in `cores.bin`, section after section (docs/mapping-format.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from ttfsc.hardware import Figure
from ttfsc.ir import (
    Box,
    Encode,
    Input,
    Layer,
    Link,
    Mapped,
    MaxPool,
    Place,
    Pool,
    Shape,
    Slice,
    axons_of,
    weights_held,
)
from ttfsc.ir.ops import Rule

VERSION = 1
FORMAT = "ttfsc-noc"
MAPPING, BINARY, SCHEMA = "mapping.json", "cores.bin", "mapping.schema.json"
MAGIC = b"TTFSNOC\0"
HEADER = 16  # magic, version and number of cores, both little-endian uint32
ALIGN = 8  # every section begins at a multiple of this

Per = Literal["layer", "channel", "neuron"]


@dataclass(frozen=True, slots=True)
class Stored:
    """Integers beside the weights: one for the layer, per channel or per neuron; little-endian, so many bytes each."""

    per: Per
    bytes: int

    def shape(self, box: Box) -> Shape:
        """[C, H, W] of what a core holds for its box, to broadcast over it."""
        sides = tuple(b - a for a, b in box)
        return {"layer": (1, 1, 1), "channel": (sides[0], 1, 1), "neuron": sides}[self.per]


@dataclass(frozen=True)
class LinkImage:
    """A bundle of synapses, and how its numbers are stored."""

    link: Link
    bits: int  # of a stored weight
    sign: bool  # 1 bit: 1 is +1 and 0 is -1; otherwise two's complement
    bias: Stored | None
    drift: Stored | None
    held: int  # ticks that cores keep its spikes, from the end of their window until their own opens: skip connections


@dataclass(frozen=True)
class LayerImage:
    """A layer of neurons; `shape` is how its spikes are handed out, the grid or flat."""

    layer: Layer
    shape: Shape
    opens: int
    closes: int
    origin: str
    thresholds: Stored | None  # None: read-out membranes, which never fire
    links: tuple[LinkImage, ...]

    @property
    def ticks(self) -> int:
        """T, the window's length."""
        return self.closes - self.opens


@dataclass(frozen=True)
class EncoderImage:
    """Analog input turned into spikes by the host, behind max pools on the pixels."""

    op: Encode
    pools: tuple[MaxPool, ...]


@dataclass(frozen=True)
class Readout:
    """How the host reads the answer: from the spikes or membranes of `source`, behind max pools."""

    name: str
    rule: Rule
    source: str
    pools: tuple[MaxPool, ...]
    shape: Shape
    opens: int
    closes: int
    table: tuple[int, ...]  # weighted: by tick


@dataclass(frozen=True, slots=True)
class Section:
    """Bytes offset..offset + size of cores.bin: weights, bias or drift of a link (by number), or thresholds."""

    name: str
    link: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Delay:
    """Room on a core where the spikes of a link (by number) wait: of so many neurons, so many bits in all."""

    link: int
    axons: int
    bits: int


@dataclass(frozen=True, slots=True)
class SliceImage:
    """Some neurons of one layer on a core, where their numbers lie, and the room where spikes wait for them."""

    slice: Slice
    sections: tuple[Section, ...]
    delays: tuple[Delay, ...]


@dataclass(frozen=True, slots=True)
class RouteImage:
    """Spikes of a box of a core's neurons, and the cores they are delivered to; of every `pool` the earliest only."""

    source: Slice
    to: tuple[int, ...]
    pool: Pool


@dataclass(frozen=True, slots=True)
class CoreImage:
    """One core: its neurons, its memory, its outgoing routes."""

    id: int
    place: Place
    offset: int
    size: int
    slices: tuple[SliceImage, ...]
    routes: tuple[RouteImage, ...]


@dataclass(frozen=True)
class Image:
    """Everything needed to run the network on a mesh."""

    name: str
    chip: str
    figures: dict[str, Figure | None]
    mapped: Mapped  # the same map that a net carries; cores and routes also below, with their memory
    input: Input
    encoders: tuple[EncoderImage, ...]
    layers: tuple[LayerImage, ...]
    readout: Readout
    cores: tuple[CoreImage, ...]
    binary: bytes


def sections(layer: LayerImage, box: Box, offset: int) -> Iterator[Section]:
    """The sections of one slice, laid out from `offset` on: per link weights, bias, drift; then the thresholds."""
    for i, stored in enumerate(layer.links):
        sizes = [("weights", -(-weights_held(stored.link, box) * stored.bits // 8))]
        sizes += [(n, prod(s.shape(box)) * s.bytes) for n, s in (("bias", stored.bias), ("drift", stored.drift)) if s]
        for name, size in sizes:
            yield Section(name, i, offset, size)
            offset = aligned(offset + size)
    if layer.thresholds is not None:
        size = prod(layer.thresholds.shape(box)) * layer.ticks * layer.thresholds.bytes
        yield Section("thresholds", -1, offset, size)


def delays(layer: Layer, box: Box) -> tuple[Delay, ...]:
    """The delays of one slice."""
    rooms = ((i, axons_of(layer.links[i], box), wait.bits) for i, wait in layer.held)
    return tuple(Delay(i, axons, axons * bits) for i, axons, bits in rooms)


def aligned(offset: int) -> int:
    """The next offset at which a section may begin."""
    return -(-offset // ALIGN) * ALIGN
