"""What a report says: the declarations behind report.json, its schema, and the text and HTML views.

Per-frame figures are means over the measured inputs. `None` is "not measured", "not mapped" or "not modelled",
never 0.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from ttfsc.backends.report.codec import SIGNED
from ttfsc.backends.report.energy import EnergyLine

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the report. No date, path or user: same input, same bytes."""

    tool: str
    version: str
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class Definition:
    """What a word beside a figure means."""

    term: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, mean and largest of something."""

    min: float
    mean: float
    max: float


@dataclass(frozen=True, slots=True)
class Model:
    """The network as a whole."""

    name: str
    input: Annotated[str, "type of the input"]
    input_scale: Annotated[float, "source value of one input step"]
    answer: Annotated[str, "decode rule"]
    classes: int
    layers: int
    neurons: Annotated[int, "neurons that can fire"]
    readout: Annotated[int, "read-out membranes, which never fire"]
    synapses: Annotated[int, "inside real borders, zero weights included"]
    synapses_nonzero: int
    parameters: Annotated[int, "weights, biases and drifts, each array once"]
    weight_bits: Annotated[tuple[int, ...], "the widths that occur"]
    weight_bytes: Annotated[int, "all weights once, packed"]


@dataclass(frozen=True, slots=True)
class Read:
    """Where a layer's input comes from, and the shape its synapses see behind `max_pools` max pools."""

    source: str
    shape: tuple[int, ...]
    max_pools: int


@dataclass(frozen=True, slots=True)
class LayerActivity:
    """What a layer did, per frame."""

    spikes: float
    spikes_per_neuron: Annotated[float | None, "None for read-out membranes"]
    silent: Annotated[float | None, "share of neurons that fired on none of the inputs"]
    times: Annotated[tuple[int, ...], "spikes at each tick of the window, over all inputs"]
    sops: float
    macs: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets and hops per frame. hops_mean_distance: spikes times mean distance to their destinations."""

    packets_unicast: float
    packets_multicast: float
    hops_unicast: float
    hops_multicast: float
    hops_mean_distance: float


@dataclass(frozen=True, slots=True)
class LayerMapping:
    """The cores that hold a layer."""

    cores: int
    core_use: Annotated[float, "the layer's neurons over what these cores could hold"]
    delay_bits: Annotated[int, "room on its cores for spikes of skip connections that wait for its window"]
    held: Annotated[float | None, "such spikes per frame, once for every core that keeps one"]


@dataclass(frozen=True, slots=True)
class LayerEnergy:
    """uJ per frame, modelled: its spikes (e_sop each), the hops they cause, and what it costs to add what arrives."""

    spikes_uj: float | None
    hops_uj: Annotated[float | None, "with the delivery of the map"]
    sops_uj: float | None
    held_uj: Annotated[float | None, "spikes held for its window, e_sop each"]
    updates_uj: Annotated[float | None, "neurons times ticks of its window, e_update each"]
    memory_uj: Annotated[float | None, "SOPs and twice the held spikes, e_memory each"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of neurons."""

    name: str
    source: Annotated[str, "where the source model has it"]
    kind: str
    reads: tuple[Read, ...]
    shape: tuple[int, ...]
    neurons: int
    fires: bool
    fan_in: Annotated[int, "synapses of the best connected neuron"]
    synapses: int
    synapses_nonzero: int
    parameters: int
    bits: int
    window: Annotated[tuple[int, int], "opens..closes, in ticks"]
    membrane: Annotated[tuple[int, int], "smallest and largest V(n) that any input can cause", SIGNED]
    largest: Annotated[int, "largest magnitude of S, W or V(n) that any input can cause"]
    width: Annotated[int, "bits of the accumulator"]
    activity: LayerActivity | None
    mapping: LayerMapping | None
    traffic: Traffic | None
    energy: LayerEnergy


@dataclass(frozen=True, slots=True)
class Activity:
    """What the network did on the measured inputs, per frame."""

    inputs: int
    spikes: float
    spikes_per_neuron: float
    input_spikes: Annotated[float, "from outside, fired by no neuron of the network"]
    sops: float
    macs: float
    correct: int | None
    accuracy: Annotated[float | None, "share of the inputs"]


@dataclass(frozen=True, slots=True)
class FirstSpike:
    """The earliest output spike, in ticks since the input's window opened; frames without one counted apart."""

    ticks: Spread | None
    frames_without: int


@dataclass(frozen=True, slots=True)
class Latency:
    """In ticks."""

    serial: Annotated[int, "until the last window closes"]
    interval: Annotated[int, "from frame to frame when layers are pipelined: the longest window"]
    first_spike: Annotated[FirstSpike | None, "None where the answer is not read from spikes, or nothing was measured"]


@dataclass(frozen=True, slots=True)
class Core:
    """One core of the mesh."""

    id: int
    x: int
    y: int
    neurons: int
    layers: tuple[str, ...]
    weight_bits: int
    delay_bits: Annotated[int, "room for spikes of skip connections that wait"]
    packets: Annotated[float | None, "sent per frame, with the delivery of the map"]


@dataclass(frozen=True, slots=True)
class LinkLoad:
    """Packets per frame over one link, from router x, y."""

    x: int
    y: int
    way: Literal["east", "west", "south", "north"]
    packets: float


@dataclass(frozen=True, slots=True)
class Links:
    """Load of the mesh's links, packets per frame, with the delivery of the map."""

    busiest: float
    mean: Annotated[float, "over the links that carry anything"]
    used: int
    loads: Annotated[tuple[LinkLoad, ...], "of the links that carry anything"]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Cores and mesh."""

    chip: str
    mesh: Annotated[tuple[int, int], "width, height"]
    partition: str
    placement: str
    delivery: str
    cores_used: int
    cores_available: int
    neurons_per_core_limit: int
    neurons_per_core: Spread
    synapse_bits_per_core_limit: Annotated[int | None, "None: the chip's description gives none"]
    delay_bits: Annotated[int, "room on all cores for spikes of skip connections that wait"]
    held: Annotated[
        float | None, "such spikes per frame, once for every core; None: no skip connection, or not measured"
    ]
    hops_per_packet: Annotated[tuple[float, ...] | None, "packets per frame that cross 0, 1, 2... links"]
    destinations: Annotated[float | None, "unicast packets per spike"]
    hops_per_spike_unicast: float | None
    hops_per_spike_multicast: float | None
    links: Links | None
    cores: tuple[Core, ...]


@dataclass(frozen=True, slots=True)
class ChipFigure:
    """One figure of the chip's description."""

    key: str
    value: Annotated[float | None, "None: the description does not give it"]
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class ChipFacts:
    """The chip whose figures the energy lines use."""

    name: str
    title: str
    figures: tuple[ChipFigure, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """An engine whose spike times were compared with the interpreter's."""

    engine: str
    inputs: int
    first_mismatch: Annotated[str | None, "None: equal on every input"]


@dataclass(frozen=True, slots=True)
class Verification:
    """Which engines were compared with the interpreter. `exact` is None if none was."""

    exact: bool | None
    engines: tuple[Compared, ...]
    not_run: Annotated[tuple[str, ...], "checks that were not made"]


NOT_VERIFIED = Verification(None, (), ("comparison of engines",))


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report."""

    schema_version: Literal[1]
    provenance: Provenance
    model: Model
    layers: tuple[Layer, ...]
    activity: Annotated[Activity | None, "None: no inputs were measured"]
    traffic: Annotated[Traffic | None, "None: not mapped, or no inputs were measured"]
    latency: Latency
    energy: tuple[EnergyLine, ...]
    mapping: Annotated[Mapping | None, "None: not mapped"]
    chip: ChipFacts
    verification: Verification
    definitions: tuple[Definition, ...]


DEFINITIONS = tuple(
    Definition(term, meaning)
    for term, meaning in (
        ("per frame", "mean over the measured inputs; one frame is one input"),
        ("spike", "a neuron fired; each fires at most once per frame"),
        ("spikes per neuron", "spikes of a frame over the neurons that can fire, read-out membranes not counted"),
        ("silent", "share of neurons that fired on none of the measured inputs"),
        ("SOP", "one synaptic addition: a spike times its fan-out inside real borders, behind max pools"),
        ("MAC", "one multiply-accumulate of an analog input that is not 0 (direct coding); in no energy line"),
        ("packet", "one spike to one destination core (unicast), or one tree to all of them (multicast)"),
        (
            "hop",
            "one link between neighbouring routers: |dx| + |dy| of a unicast packet, the links of the XY tree of a "
            "multicast packet; injection and ejection are not hops",
        ),
        (
            "held",
            "a spike of a skip connection that a core keeps until the window of the layer that adds it; counted once "
            "for every core that keeps it, and charged like a relay on the spot: e_sop, no hops",
        ),
        ("tick", "the unit of time; a window a..b holds the ticks a to b-1"),
        ("largest", "the largest magnitude of a membrane that any input can cause, proven"),
        ("modelled", "computed from counted events and the chip's figures; nothing here was measured on a chip"),
        ("(a)", "the paper's counting: every spike is one packet of the mean distance to its destinations"),
        ("(b)", "the same with the packets, hops and held spikes that the map really causes"),
        ("(c)", "e_sop charged for every SOP, as its name says, instead of for every spike"),
    )
)
