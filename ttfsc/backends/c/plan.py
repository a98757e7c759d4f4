"""The last IR before text: which buffers, which tables, which kernel in which order. Everything is decided here.

Values lie channel-last ([y][x][channel]) whatever their order in the net: the outputs of one position are contiguous,
as the rows of the weights are. A flattened value keeps the layout of the grid it came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ttfsc.backends.c.kernels import Instance
from ttfsc.backends.c.memory import Buffer
from ttfsc.backends.c.pack import Packed
from ttfsc.ir import Array, Conv2d, Dense, Grid

KernelName = Literal["rows", "depthwise", "rows_at"]


def choose_kernel(op: Conv2d | Dense, inputs: int, *, events: bool) -> KernelName:
    """The one place that picks how a bundle of synapses is computed.

    inputs: channels of the operand. events: its spikes act tick by tick (streaming).
    """
    if events:
        return "rows_at"
    if isinstance(op, Conv2d) and op.groups > 1 and inputs == op.groups:
        return "depthwise"
    return "rows"


@dataclass(frozen=True, slots=True)
class Operand:
    """A value: a buffer of the state, or the caller's input (buffer None); grid [C, H, W], laid out [H][W][C]."""

    buffer: int | None
    ctype: str
    grid: Grid
    low: int
    high: int  # what it can hold

    @property
    def pixels(self) -> int:
        """Positions of the grid."""
        return self.grid[1] * self.grid[2]

    @property
    def size(self) -> int:
        """Elements."""
        return self.grid[0] * self.pixels


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """A constant array of the source file."""

    name: str
    ctype: str
    values: Array
    line: str  # the IR line it came from


@dataclass(frozen=True, eq=False, slots=True)
class Weights:
    """Packed weights of one op: an array of the source file, or a stretch of the blob."""

    name: str
    line: str
    packed: Packed
    offset: int

    @property
    def end(self) -> int:
        """Where the next may begin."""
        return self.offset + self.packed.data.size


@dataclass(frozen=True, slots=True)
class Geometry:
    """A constant struct of the source file: `link` or `pool` (runtime/link.c, pool.c) and its fields in order."""

    name: str
    struct: str
    fields: tuple[int, ...]
    line: str


@dataclass(frozen=True, slots=True)
class Constants:
    """Per channel, or per neuron: then pixel i's start at i * channels (times ticks for thresholds)."""

    table: str
    per_channel: bool = True
    per_neuron: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """One synapse op of a layer, ready to call."""

    call: Instance
    geometry: str
    x: Operand
    weights: str
    offset: int  # of the weights in the blob
    pixel_bytes: int  # 0: every output position uses the same weights
    ramp: bool = False  # adds to the slope as well
    hits: int | None = None  # windowed ramp on a pooled operand: buffer of spike counts
    scratch: int | None = None
    pool: str | None = None  # streaming on a pooled operand
    bias: Constants | None = None  # the rest: streaming only
    drift: Constants | None = None
    leak: tuple[int, int, int] | None = None  # numerator, shift, rounding
    delay: int = 0
    every: bool = False
    v: int = -1  # buffer of this op's membrane
    current: int | None = None  # analog operand: buffer of what arrives


@dataclass(frozen=True, slots=True)
class FireSink:
    """Spikes by threshold table."""

    call: Instance
    theta: Constants
    ticks: int
    force_last: bool
    out: Operand


@dataclass(frozen=True, slots=True)
class MembraneSink:
    """V at the window's end becomes the scores."""

    call: Instance
    ticks: int


@dataclass(frozen=True, slots=True)
class RecallSink:
    """V at each neuron's own spike, or at the window's end where it was silent."""

    call: Instance
    ticks: int
    spikes: Operand
    at: int  # buffer, channel-major


@dataclass(frozen=True, slots=True)
class Layer:
    """Neurons: synapses and what becomes of their sums, one output position after the other."""

    id: str
    lines: tuple[str, ...]
    streaming: bool
    grid: Grid
    acc: str
    links: tuple[Link, ...]
    sum: int  # buffer; streaming with one link: that link's membrane
    slope: int | None
    bias: Constants | None  # windowed: of all links together
    drift: Constants | None
    sink: FireSink | MembraneSink | RecallSink
    pool: "Move | None" = None  # pools the rows as they are made; only `rows` of them are kept
    rows: int = 0
    kind: str = "layer"


@dataclass(frozen=True, slots=True)
class Bundle:
    """One synapse op of a fast layer: every input times its weight row."""

    call: Instance
    geometry: str
    x: Operand
    weights: str
    offset: int  # of the weights in the blob
    ramp: bool
    kind: str = "direct"


@dataclass(frozen=True, slots=True)
class Gather(Bundle):
    """Weight rows gathered eight by eight: spikes sorted by value, lists merged for each output position."""

    most: int = 0  # eights of rows that a 16-bit sum holds
    sort: Instance | None = None
    order: int = -1  # buffers
    start: int = -1
    fired: int = -1
    value: int = -1
    rows: int = -1
    late: int = -1
    at: int = -1
    whole: int = -1
    kind: str = "gather"


@dataclass(frozen=True, slots=True)
class Walk(Bundle):
    """Weight rows times their inputs, from one list of what carries something; fields as in runtime/lists.c."""

    most: int = 0  # entries that a 16-bit sum holds
    list: Instance | None = None
    where: int = -1  # buffers
    value: int = -1
    count: int | None = None
    first: int = -1
    top: int = -1
    total: int = -1
    spikes: int | None = None
    cell: int | None = None
    hits: int | None = None
    kind: str = "walk"


@dataclass(frozen=True, slots=True)
class Pile(Bundle):
    """Weight rows piled up by value, from the largest on; buffers as in runtime/buckets.c."""

    sort: Instance | None = None
    where: int = -1  # buffers
    start: int = -1
    fired: int = -1
    kind: str = "pile"


@dataclass(frozen=True, slots=True)
class Depth(Bundle):
    """A convolution in groups of few channels: every tap of every output multiplied."""

    lay: Instance | None = None  # lays the operand out as every output's own inputs, first
    own: int | None = None  # buffer of these
    kind: str = "depth"


@dataclass(frozen=True, slots=True)
class Dot:
    """One op by dot products of bytes, where the processor has them (runtime/dot.c)."""

    lay: Instance
    vnni: Instance
    avx2: Instance | None  # None: AVX-512 VNNI only
    geometry: str
    x: Operand
    weights: str
    offset: int  # of the weights in the blob
    plane: int  # buffer: what the op reads, laid out
    size: int  # bytes of that
    ramp: bool


@dataclass(frozen=True, slots=True)
class FastLayer:
    """Neurons, windowed: `tile` output rows at a time, a block of outputs after the other."""

    id: str
    lines: tuple[str, ...]
    grid: Grid
    width: int  # channels, filled up to whole blocks
    tile: int
    uacc: str
    begin: Instance
    bundles: tuple[Bundle, ...]
    sum: int
    slope: int | None
    bias: Constants | None
    drift: Constants | None
    sink: FireSink | MembraneSink
    dots: tuple[Dot, ...] = ()  # of every op, used in place of the bundles where the processor has what they need
    groups: int = 1  # of its outputs, at most
    kind: str = "fast"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a layer, why, and what it is expected to cost per input where three in ten inputs fire."""

    layer: str
    kernel: str
    reason: str
    kilocycles: float


@dataclass(frozen=True, slots=True)
class Move:
    """A step without neurons: take (channel-last input), encode, max_pool, pool_sum."""

    id: str
    lines: tuple[str, ...]
    call: Instance
    x: Operand
    out: Operand
    pool: str | None = None
    hits: int | None = None
    numbers: tuple[int, ...] = ()  # encode: low, high, ticks
    kind: str = "move"


@dataclass(frozen=True, slots=True)
class Answer:
    """From scores or spikes to the label."""

    id: str
    lines: tuple[str, ...]
    rule: str
    x: Operand | None = None
    membrane: int | None = None
    table: str | None = None
    ticks: int = 0
    kind: str = "answer"


Step = Layer | FastLayer | Move | Answer


@dataclass(frozen=True, slots=True)
class Traced:
    """A layer that the trace shows: `size` values from `offset`, channel-major; tick = closes - value."""

    name: str
    step: str
    x: Operand
    shape: tuple[int, ...]
    opens: int
    closes: int
    offset: int


@dataclass(frozen=True, eq=False)
class Plan:
    """A model, ready to print."""

    name: str  # C prefix
    net: str  # the net's own name
    ir: str  # hash of the net
    scale: float
    spike_input: bool
    input: Operand
    input_shape: tuple[int, ...]
    classes: int
    rule: str
    ticks: int  # of the answer's window
    spike: str  # C type of spike values
    buffers: tuple[Buffer, ...]
    arenas: tuple[tuple[str, int], ...]
    state_bytes: int
    tables: tuple[Table, ...]
    geometries: tuple[Geometry, ...]
    weights: tuple[Weights, ...]
    blob: bool  # weights are linked or loaded, not in the source
    steps: tuple[Step, ...]
    traced: tuple[Traced, ...]
    instances: tuple[Instance, ...]
    choices: tuple[Choice, ...]
    stack_bytes: int  # of one inference at most, optimised
    vectors: bool = True  # kernels have their variants in GNU vectors beside plain C99
    threads: int = 1  # pieces that a layer is cut into at most
    cut: Mapping[str, int] = field(default_factory=dict[str, int])  # pieces of the steps that are cut, by id

    @property
    def weight_bytes(self) -> int:
        """Of all ops, packed, each where its rows begin."""
        return self.weights[-1].end if self.weights else 0

    @property
    def trace_len(self) -> int:
        """Spike values of one trace."""
        return sum(t.x.size for t in self.traced)
