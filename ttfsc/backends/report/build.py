"""From a net, its counts and a chip to a report. All figures are made here; the views only print them."""

from collections.abc import Mapping as Map
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np

from ttfsc.backends.report import energy, model
from ttfsc.backends.report.lines import energy_lines, figure
from ttfsc.backends.report.mapped import flows_of, held_of, hops_of, layer_mapping, mapping_of, sum_of
from ttfsc.backends.report.measure import LayerCounts, Measurement
from ttfsc.backends.report.structure import Synapses, synapses_of
from ttfsc.hardware import Chip
from ttfsc.ir import (
    NOWHERE,
    Bounds,
    Conv2d,
    Decode,
    Layer,
    Link,
    Loc,
    Net,
    Potential,
    Scores,
    Spikes,
    TtfsError,
    bounds_of,
    check_stage,
    codes,
    layers_of,
    show_shape,
)
from ttfsc.ir.traffic import traffic


def build(
    net: Net,
    *,
    chip: Chip,
    measured: Measurement | None = None,
    verification: model.Verification = model.NOT_VERIFIED,
    provenance: model.Provenance,
) -> model.Report:
    """The report of a quantised or mapped net; without `measured` it has no activity and models no energy.

    Raises TtfsError for a net that is not that far down, or mapped for another chip.
    """
    check_stage(net, "quantized")
    if net.mapped is not None and net.mapped.chip != chip.name:
        fact = f"is mapped for chip {net.mapped.chip}: report it for that one, or map it for {chip.name}"
        raise TtfsError.one(codes.OPTION, fact, subject=f"net @{net.name}")
    layers, maps = layers_of(net), None if net.mapped is None else traffic(net)
    flows = None if measured is None or maps is None else flows_of(measured, maps)
    synapses = {layer.name: synapses_of(net, layer) for layer in layers}
    bounds = bounds_of(net)
    whole = None if flows is None else sum_of(flows.values())
    delivery = None if net.mapped is None else net.mapped.delivery
    latency = _latency(net, layers, measured)
    activity = None if measured is None else _totals(layers, measured)
    held = None if measured is None or net.mapped is None else held_of(layers, net.mapped, measured)
    waiting = sum(held.values()) if held else None
    return model.Report(
        schema_version=model.SCHEMA_VERSION,
        provenance=provenance,
        model=_model(net, layers, synapses),
        layers=tuple(
            _layer(
                layer,
                synapses[layer.name],
                bounds[_potential(layer)],
                counts=None if measured is None else _activity(layer, measured.layers[layer.name], measured.inputs),
                mapping=None
                if net.mapped is None
                else layer_mapping(net.mapped, layer, chip, None if held is None else held.get(layer.name, 0.0)),
                flow=None if flows is None else flows[layer.name],
                delivery=delivery,
                chip=chip,
            )
            for layer in layers
        ),
        activity=activity,
        traffic=whole,
        latency=latency,
        energy=energy_lines(chip, activity, whole, steps=latency.serial, delivery=delivery, held=waiting),
        mapping=None
        if net.mapped is None
        else mapping_of(net, net.mapped, chip, measured, maps or {}, activity and activity.spikes, whole, waiting),
        chip=_chip(chip),
        verification=verification,
        definitions=model.DEFINITIONS,
    )


def _potential(layer: Layer) -> str:
    return layer.op.xs[0] if isinstance(layer.op, Decode) else layer.op.v


def _model(net: Net, layers: tuple[Layer, ...], synapses: Map[str, Synapses]) -> model.Model:
    weights = {link.synapse.w: link.synapse.bits for layer in layers for link in layer.links}
    answer = net.answer
    return model.Model(
        name=net.name,
        input=str(net.input.type),
        input_scale=net.input.scale,
        answer=answer.rule if isinstance(answer, Decode) else "none: the spikes of the last layer",
        classes=answer.type.shape[0],
        layers=len(layers),
        neurons=sum(layer.size for layer in layers if layer.fires),
        readout=sum(layer.size for layer in layers if not layer.fires),
        synapses=sum(s.total for s in synapses.values()),
        synapses_nonzero=sum(s.nonzero for s in synapses.values()),
        parameters=sum(s.parameters for s in synapses.values()),
        weight_bits=tuple(sorted(set(weights.values()))),
        weight_bytes=sum(-(-net.arrays[w].size * bits // 8) for w, bits in weights.items()),
    )


def _layer(
    layer: Layer,
    synapses: Synapses,
    bounds: Bounds,
    *,
    counts: model.LayerActivity | None,
    mapping: model.LayerMapping | None,
    flow: model.Traffic | None,
    delivery: str | None,
    chip: Chip,
) -> model.Layer:
    window = layer.op.type
    assert isinstance(window, Spikes | Scores)
    e_sop, e_hop = figure(chip.e_sop), figure(chip.e_hop)
    sops, held = counts and counts.sops, mapping and mapping.held
    accesses = None if sops is None or held is None else sops + 2 * held
    return model.Layer(
        name=layer.name,
        source=_source(layer),
        kind=" + ".join(dict.fromkeys(_kind(link) for link in layer.links)),
        reads=tuple(model.Read(link.source, link.fan_in, len(link.pools)) for link in layer.links),
        shape=layer.op.type.shape,
        neurons=layer.size,
        fires=layer.fires,
        fan_in=synapses.fan_in,
        synapses=synapses.total,
        synapses_nonzero=synapses.nonzero,
        parameters=synapses.parameters,
        bits=synapses.bits,
        window=(window.opens, window.closes),
        membrane=bounds.membrane,
        largest=bounds.largest,
        width=layer.op.width,
        activity=counts,
        mapping=mapping,
        traffic=flow,
        energy=model.LayerEnergy(
            spikes_uj=energy.events("spikes", counts and counts.spikes, e_sop).uj,
            hops_uj=energy.events("hops", hops_of(flow, delivery), e_hop).uj,
            sops_uj=energy.events("SOPs", sops, e_sop).uj,
            held_uj=energy.events("held", held, e_sop).uj,
            updates_uj=energy.events("updates", layer.size * window.ticks, figure(chip.e_update)).uj,
            memory_uj=energy.events("accesses", accesses, figure(chip.e_memory)).uj,
        ),
    )


def _kind(link: Link) -> str:
    op = link.synapse
    words = [op.mnemonic]
    if isinstance(op, Conv2d):
        words.append(show_shape(link.kernel[2:]))
        if op.pool != (1, 1):
            words.append(f"on {show_shape(op.pool)} sums")
    return " ".join([*words, op.kernel])


def _source(layer: Layer) -> str:
    """Where the source model has this layer: module paths and node names, or file:line without the folder."""
    places = [_place(loc) for loc in (*(link.synapse.loc for link in layer.links), layer.op.loc) if loc != NOWHERE]
    return " + ".join(dict.fromkeys(p for p in places if p))


def _place(loc: Loc) -> str:
    if loc.origin:
        return loc.origin
    name = PurePosixPath(PureWindowsPath(loc.file).as_posix()).name
    return f"{name}:{loc.line}" if loc.line else name


def _activity(layer: Layer, counts: LayerCounts, inputs: int) -> model.LayerActivity:
    return model.LayerActivity(
        spikes=counts.total / inputs,
        spikes_per_neuron=counts.total / inputs / layer.size if layer.fires else None,
        silent=counts.silent / layer.size if layer.fires else None,
        times=tuple(int(n) for n in counts.times),
        sops=counts.sops / inputs,
        macs=counts.macs / inputs,
    )


def _totals(layers: tuple[Layer, ...], m: Measurement) -> model.Activity:
    neurons = sum(layer.size for layer in layers if layer.fires)
    return model.Activity(
        inputs=m.inputs,
        spikes=m.spikes / m.inputs,
        spikes_per_neuron=m.spikes / m.inputs / neurons if neurons else 0.0,
        input_spikes=m.input_spikes / m.inputs,
        sops=m.sops / m.inputs,
        macs=m.macs / m.inputs,
        correct=m.correct,
        accuracy=None if m.correct is None else m.correct / m.inputs,
    )


def _latency(net: Net, layers: tuple[Layer, ...], m: Measurement | None) -> model.Latency:
    windows = [layer.op.type for layer in layers] + [net.answer.type]
    ends = [t for t in windows if isinstance(t, Spikes | Scores)]
    opens = 0
    if isinstance(net.answer, Decode):
        t = net.type_of(net.answer.xs[0])
        opens = t.opens if isinstance(t, Spikes | Potential) else 0
    first = None
    if m is not None and m.first_spike is not None:
        *counts, without = (int(n) for n in m.first_spike)
        ticks = np.repeat(np.arange(len(counts)) + opens, counts)
        spread = model.Spread(float(ticks.min()), float(ticks.mean()), float(ticks.max())) if ticks.size else None
        first = model.FirstSpike(spread, without)
    return model.Latency(max(t.closes for t in ends), max(t.ticks for t in ends), first)


def _chip(chip: Chip) -> model.ChipFacts:
    figures = tuple(
        model.ChipFigure(key, None, "", "not given") if f is None else model.ChipFigure(key, f.value, f.unit, f.source)
        for key, f in chip.figures.items()
    )
    return model.ChipFacts(chip.name, chip.title, figures)
