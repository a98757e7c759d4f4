"""Net -> text, from the op declarations alone. `ttfsc.ir.parse` reads it back: parse(show(net)) == net."""

import json
from collections.abc import Iterator
from typing import cast

from ttfsc.ir.arrays import Arrays
from ttfsc.ir.fields import Field, fields_of
from ttfsc.ir.mapping import Mapped
from ttfsc.ir.net import Net
from ttfsc.ir.ops import Op
from ttfsc.ir.types import Shape, show_shape


def show(net: Net, *, hashes: bool = False) -> str:
    """The net as text. With `hashes` it ends in its arrays with number type, shape and sha256, as files are saved."""
    width = max((len(op.name) for op in net.ops), default=0)
    lines = [f"net @{net.name} {{", *(f"  {show_op(op, width)}" for op in net.ops)]
    if net.mapped is not None:
        lines += [f"  {line}" for line in _mapped(net.mapped)]
    if hashes:
        lines += [f"  {line}" for line in _arrays(net.arrays)]
    return "\n".join([*lines, "}"]) + "\n"


def show_op(op: Op, width: int = 0) -> str:
    """One op as its line of text, its name padded to `width`."""
    parts = [f"%{op.name:<{width}} = {op.mnemonic}"]
    for f in fields_of(type(op)):
        value = getattr(op, f.name)
        if f.kind == "ref":
            parts.append(f"%{value}")
        elif f.kind == "refs":
            parts += [f"%{ref}" for ref in value]
        elif value != f.default:
            parts.append(f"{f.name}={_value(f, value)}")
    return f"{' '.join(parts)} : {op.type}{_origin(op.loc.origin)}"


def _origin(origin: str) -> str:
    """Where the op came from, quoted; what UTF-8 cannot hold becomes a question mark."""
    text = origin.encode("utf-8", "replace").decode("utf-8")
    return f" at {json.dumps(text, ensure_ascii=False)}" if text else ""


def _value(f: Field, value: object) -> str:
    match f.kind:
        case "const":
            return f"@{value}"
        case "sizes":
            return show_shape(cast(Shape, value))
        case "bool":
            return "true" if value else "false"
        case "float":
            return repr(float(str(value)))
        case _:
            return str(value)


def _arrays(arrays: Arrays) -> Iterator[str]:
    for name in sorted(arrays):
        array = arrays[name]
        shape = show_shape(array.shape)
        yield f"@{name} = {array.dtype.str[1:]}<{shape}> sha256={arrays.digest(name)}"


def _mapped(mapped: Mapped) -> Iterator[str]:
    head = f"partition={mapped.partition} place={mapped.placement} deliver={mapped.delivery}"
    head += f" order={mapped.order}" if mapped.order != "xy" else ""
    shared = f" cores_per_router={mapped.cores_per_router}" if mapped.cores_per_router != 1 else ""
    yield f"map @{mapped.chip} mesh={show_shape(mapped.mesh)}{shared} {head} {{"
    for core in mapped.cores:
        yield f"  core {core.id} at {core.place[0]},{core.place[1]} : {' '.join(map(str, core.slices))}"
    for route in mapped.routes:
        pool = f" pool={show_shape(route.pool)}" if route.pool != (1, 1) else ""
        yield f"  route {route.core} {route.source}{pool} -> {' '.join(map(str, route.to))}"
    yield "}"
