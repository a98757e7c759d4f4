"""mapping.json: an image as JSON text and, its form already checked against the schema, back again."""

import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast

from ttfsc.backends.noc.image import (
    FORMAT,
    VERSION,
    CoreImage,
    Delay,
    EncoderImage,
    Image,
    LayerImage,
    LinkImage,
    Readout,
    RouteImage,
    Section,
    SliceImage,
    Stored,
)  # fmt: skip
from ttfsc.hardware import Figure
from ttfsc.ir import (
    Analog,
    Box,
    Const,
    Conv2d,
    Core,
    Decode,
    Dense,
    Encode,
    Fire,
    Input,
    Layer,
    Link,
    Loc,
    Mapped,
    MaxPool,
    Place,
    Potential,
    Ref,
    Route,
    Scores,
    Shape,
    Slice,
    Spikes,
    flipped,
    grid_of,
    span_tree,
    with_held,
)  # fmt: skip

Table = dict[str, Any]
_CONV = ("stride", "pad", "dilation", "groups", "pool", "pool_stride", "pool_pad")
_SYNAPSE = ("kernel", "delay", "every", "shift", "keep", "rounding")


def canonical(table: Mapping[str, Any]) -> bytes:
    """The bytes that hashes are taken over: keys sorted, no spaces, ASCII."""
    return json.dumps(table, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def head_hash(document: Table) -> str:
    """Hash of everything but the cores, which have their own."""
    return sha256(canonical({k: v for k, v in document.items() if k not in ("cores", "sha256")})).hexdigest()


def core_hash(core: Table, block: bytes | memoryview) -> str:
    """Hash of a core's record and of its block of cores.bin."""
    record = canonical({k: v for k, v in core.items() if k != "sha256"})
    return sha256(record + b"\n" + block).hexdigest()


def text_of(image: Image) -> bytes:
    """mapping.json: one line per layer, encoder and core."""
    document = {
        "format": FORMAT,
        "schema_version": VERSION,
        "net": image.name,
        "chip": {"name": image.chip, "figures": {key: _figure(f) for key, f in image.figures.items()}},
        "mesh": {
            "width": image.mapped.mesh[0], "height": image.mapped.mesh[1], "routing": image.mapped.order,
            "delivery": image.mapped.delivery, "partition": image.mapped.partition,
            "placement": image.mapped.placement,
        },
        "input": _input(image.input),
        "encoders": [_encoder(encoder) for encoder in image.encoders],
        "layers": [_layer(layer) for layer in image.layers],
        "readout": _readout(image.readout),
        "cores": _cores(image),
    }  # fmt: skip
    document["sha256"] = {"head": head_hash(document), "cores.bin": sha256(image.binary).hexdigest()}
    return ("{\n" + ",\n".join(f" {json.dumps(k)}: {_lines(v)}" for k, v in document.items()) + "\n}\n").encode()


def _lines(value: object) -> str:
    if isinstance(value, list) and value:
        items = cast(list[object], value)
        return "[\n" + ",\n".join(f"  {json.dumps(item, allow_nan=False)}" for item in items) + "\n ]"
    return json.dumps(value, allow_nan=False)


def _figure(figure: Figure | None) -> Table | None:
    return None if figure is None else {"value": figure.value, "unit": figure.unit, "source": figure.source}


def _input(op: Input) -> Table:
    t = op.type
    assert isinstance(t, Analog | Spikes)
    low, high = (t.low, t.high) if isinstance(t, Analog) else (0, t.ticks)
    opens, closes = (None, None) if isinstance(t, Analog) else (t.opens, t.closes)
    return {
        "name": op.name, "type": t.word, "shape": list(t.shape), "low": low, "high": high, "scale": op.scale,
        "opens": opens, "closes": closes,
    }  # fmt: skip


def _encoder(encoder: EncoderImage) -> Table:
    t = encoder.op.type
    assert isinstance(t, Spikes)
    return {
        "name": encoder.op.name, "source": encoder.op.x, "pools": [_pool(p) for p in encoder.pools],
        "shape": list(t.shape), "opens": t.opens, "closes": t.closes,
    }  # fmt: skip


def _pool(pool: MaxPool) -> Table:
    return {"kernel": pool.kernel, "stride": pool.stride, "pad": pool.pad, "out": list(grid_of(pool.type.shape))}


def _stored(stored: Stored | None) -> Table | None:
    return None if stored is None else {"per": stored.per, "bytes": stored.bytes}


def _layer(layer: LayerImage) -> Table:
    op = layer.layer.op
    return {
        "name": layer.layer.name, "origin": layer.origin, "shape": list(layer.shape), "grid": list(layer.layer.grid),
        "opens": layer.opens, "closes": layer.closes, "force_last": isinstance(op, Fire) and op.force_last,
        "accumulator_bits": op.width, "thresholds": _stored(layer.thresholds),
        "links": [_link(link) for link in layer.links],
    }  # fmt: skip


def _link(stored: LinkImage) -> Table:
    link, synapse = stored.link, stored.link.synapse
    table: Table = {
        "source": link.source, "source_grid": list(link.source_grid), "pools": [_pool(p) for p in link.pools],
        "fan_in": list(link.fan_in), "out": list(link.out_grid),
        "conv": {key: getattr(synapse, key) for key in _CONV} if isinstance(synapse, Conv2d) else None,
        "weights": {"shape": list(link.kernel), "bits": stored.bits, "code": "sign" if stored.sign else "twos"},
        "bias": _stored(stored.bias), "drift": _stored(stored.drift), "held": stored.held,
    }  # fmt: skip
    return table | {key: getattr(synapse, key) for key in _SYNAPSE}


def _readout(readout: Readout) -> Table:
    return {
        "name": readout.name, "rule": readout.rule, "source": readout.source,
        "pools": [_pool(p) for p in readout.pools], "shape": list(readout.shape), "opens": readout.opens,
        "closes": readout.closes, "table": list(readout.table),
    }  # fmt: skip


def _cores(image: Image) -> list[Table]:
    view, found = memoryview(image.binary), list[Table]()
    places = {core.id: core.place for core in image.cores}
    multicast, order = image.mapped.delivery == "multicast", image.mapped.order
    for core in image.cores:
        table: Table = {
            "id": core.id, "place": core.place, "offset": core.offset, "bytes": core.size,
            "slices": [
                {
                    "layer": s.slice.layer, "box": s.slice.box,
                    "sections": [
                        {"name": x.name, "link": x.link, "offset": x.offset, "bytes": x.size} for x in s.sections
                    ],
                    "delays": [{"link": d.link, "axons": d.axons, "bits": d.bits} for d in s.delays],
                }
                for s in core.slices
            ],
            "routes": [
                {
                    "layer": r.source.layer, "box": r.source.box, "pool": r.pool, "to": r.to,
                    "tree": tree_of(core.place, [places[to] for to in r.to], order) if multicast else None,
                }
                for r in core.routes
            ],
        }  # fmt: skip
        table["sha256"] = core_hash(table, view[core.offset : core.offset + core.size])
        found.append(table)
    return found


def tree_of(source: Place, targets: list[Place], order: str) -> Table:
    """The links of a multicast tree, as spans: a row and columns (XY), or a column and rows (YX)."""
    if order == "yx":
        column, rows = span_tree(flipped(source), [flipped(target) for target in targets])
        return {"column": list(column), "rows": [list(row) for row in rows]}
    row, columns = span_tree(source, targets)
    return {"row": list(row), "columns": [list(column) for column in columns]}


def image_from(document: Table, binary: bytes) -> Image:
    """The image that a document of the right form describes. What it says may still be wrong: see `check`."""
    mesh = document["mesh"]
    cores = tuple(_core_from(core) for core in document["cores"])
    figures = {key: None if f is None else Figure(**f) for key, f in document["chip"]["figures"].items()}
    mapped = Mapped(
        document["chip"]["name"], (mesh["width"], mesh["height"]), mesh["partition"], mesh["placement"],
        mesh["delivery"],
        tuple(Core(core.id, core.place, tuple(s.slice for s in core.slices)) for core in cores),
        tuple(Route(core.id, route.source, route.to, route.pool) for core in cores for route in core.routes),
        mesh["routing"], int(figures.get("cores_per_router") or 1),
    )  # fmt: skip
    readout = _readout_from(document["readout"])
    return Image(
        document["net"], document["chip"]["name"], figures, mapped, _input_from(document["input"]),
        tuple(_encoder_from(table) for table in document["encoders"]),
        _layers_from(document["layers"]), readout, cores, binary,
    )  # fmt: skip


def _input_from(table: Table) -> Input:
    shape: Shape = tuple(table["shape"])
    if table["type"] == "analog":
        return Input(name=table["name"], type=Analog(shape, table["low"], table["high"]), scale=table["scale"])
    opens, closes = table["opens"] or 0, table["closes"] or 0
    return Input(name=table["name"], type=Spikes(shape, opens, closes), scale=table["scale"])


def _encoder_from(table: Table) -> EncoderImage:
    t = Spikes(tuple(table["shape"]), table["opens"], table["closes"])
    return EncoderImage(Encode(name=table["name"], type=t, x=Ref(table["source"])), _pools_from(table))


def _pools_from(table: Table) -> tuple[MaxPool, ...]:
    at = Ref(table["source"])
    return tuple(
        MaxPool(
            name=f"{at}.pool{i}", type=Spikes(tuple(p["out"]), 0, 1), x=at,
            kernel=tuple(p["kernel"]), stride=tuple(p["stride"]), pad=tuple(p["pad"]),
        )
        for i, p in enumerate(table["pools"])
    )  # fmt: skip


def _stored_from(table: Table | None) -> Stored | None:
    return None if table is None else Stored(table["per"], table["bytes"])


def _layers_from(tables: list[Table]) -> tuple[LayerImage, ...]:
    found = [_layer_from(table) for table in tables]
    held = with_held(image.layer for image in found)
    return tuple(replace(image, layer=layer) for image, layer in zip(found, held, strict=True))


def _layer_from(table: Table) -> LayerImage:
    name, shape, opens, closes = table["name"], tuple(table["shape"]), table["opens"], table["closes"]
    loc = Loc(origin=table["origin"])
    op: Fire | Decode
    if table["thresholds"] is None:
        t = Scores(shape, opens, closes)
        op = Decode(name=name, type=t, xs=(Ref(name),), rule="membrane", width=table["accumulator_bits"], loc=loc)
    else:
        op = Fire(
            name=name, type=Spikes(shape, opens, closes), v=Ref(name), force_last=table["force_last"],
            width=table["accumulator_bits"], loc=loc,
        )  # fmt: skip
    links = tuple(_link_from(link, opens, closes) for link in table["links"])
    grid = (table["grid"][0], table["grid"][1], table["grid"][2])
    layer = Layer(name, op, grid, tuple(link.link for link in links))
    return LayerImage(layer, shape, opens, closes, table["origin"], _stored_from(table["thresholds"]), links)


def _link_from(table: Table, opens: int, closes: int) -> LinkImage:
    streaming = table["kernel"] in ("step", "leak")
    common: Table = {key: table[key] for key in _SYNAPSE}
    common |= {
        "name": table["source"], "x": Ref(table["source"]), "w": Const("w"), "bits": table["weights"]["bits"],
        "type": Potential(tuple(table["out"]), opens, closes if streaming else None),
    }  # fmt: skip
    synapse: Conv2d | Dense
    if table["conv"] is None:
        synapse = Dense(**common)
    else:
        sizes: Table = table["conv"]
        sizes = {key: sizes[key] if key == "groups" else tuple(sizes[key]) for key in _CONV}
        synapse = Conv2d(**common, **sizes)
    source, out = table["source_grid"], table["out"]
    link = Link(
        table["source"], (source[0], source[1], source[2]), _pools_from(table), synapse, tuple(table["fan_in"]),
        (out[0], out[1], out[2]), tuple(table["weights"]["shape"]),
    )  # fmt: skip
    weights = table["weights"]
    return LinkImage(
        link, weights["bits"], weights["code"] == "sign", _stored_from(table["bias"]), _stored_from(table["drift"]),
        table["held"],
    )  # fmt: skip


def _readout_from(table: Table) -> Readout:
    return Readout(
        table["name"], table["rule"], table["source"], _pools_from(table), tuple(table["shape"]), table["opens"],
        table["closes"], tuple(table["table"]),
    )  # fmt: skip


def _core_from(table: Table) -> CoreImage:
    return CoreImage(
        table["id"], (table["place"][0], table["place"][1]), table["offset"], table["bytes"],
        tuple(
            SliceImage(
                Slice(s["layer"], _box(s["box"])),
                tuple(Section(x["name"], x["link"], x["offset"], x["bytes"]) for x in s["sections"]),
                tuple(Delay(d["link"], d["axons"], d["bits"]) for d in s["delays"]),
            )
            for s in table["slices"]
        ),
        tuple(
            RouteImage(Slice(r["layer"], _box(r["box"])), tuple(r["to"]), (r["pool"][0], r["pool"][1]))
            for r in table["routes"]
        ),
    )  # fmt: skip


def _box(spans: list[list[int]]) -> Box:
    return tuple((a, b) for a, b in spans)
