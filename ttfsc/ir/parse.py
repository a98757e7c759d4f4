"""Text -> net. Every mistake of a file is reported at once: a bad line costs that line, not the rest."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import cast

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from ttfsc.ir import codes
from ttfsc.ir.arrays import EMPTY, Arrays, Const
from ttfsc.ir.faults import Fault, Loc, TtfsError
from ttfsc.ir.fields import Field, fields_of
from ttfsc.ir.mapping import Core, Mapped, Route, Slice
from ttfsc.ir.net import Net
from ttfsc.ir.ops import OPS, Op, Ref
from ttfsc.ir.types import Analog, Potential, Scores, Shape, Spikes, Type, show_shape
from ttfsc.ir.verify import faults_of

Node = Tree[Token]
_READABLE = {"VALUE": "%name", "CONST": "@name", "RANGE": "a..b", "SIZES": "1x2x3", "WORD": "a word", "SPAN": "a:b"}
MAX_TEXT = 64 << 20  # characters
_MAX_LINE = 1 << 18
_MAX_FAULTS = 1000  # a file with more of them is not a net with mistakes
_QUOTE_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//')


class _BadLineError(Exception):
    """One fact about the line at hand; `code` says which rule."""

    def __init__(self, fact: str, code: int = codes.SYNTAX) -> None:
        super().__init__(fact)
        self.code = code


@dataclass
class _Reader:
    """What has been read so far."""

    source: str
    faults: list[Fault] = field(default_factory=list[Fault])
    begun: bool = False
    name: str = ""
    ops: list[Op] = field(default_factory=list[Op])
    lost: set[str] = field(default_factory=set[str])  # names whose line was bad: their readers are not to blame
    map_head: Mapped | None = None  # without its cores and routes
    map_lost: bool = False  # a line of it was bad: the rest is not to blame
    cores: list[Core] = field(default_factory=list[Core])
    routes: list[Route] = field(default_factory=list[Route])
    hashes: dict[str, tuple[Loc, str, Shape, str]] = field(default_factory=dict[str, tuple[Loc, str, Shape, str]])
    depth: int = 0  # 0 outside, 1 in the net, 2 in its map
    closed: bool = False


def parse(text: str, arrays: Arrays = EMPTY, *, source: str = "<text>") -> Net:
    """Read and verify a net. Raises TtfsError with every fault of the text."""
    net, faults = parse_faults(text, arrays, source=source)
    if faults:
        raise TtfsError(faults)
    return net


def parse_faults(text: str, arrays: Arrays = EMPTY, *, source: str = "<text>") -> tuple[Net, list[Fault]]:
    """Read a net; what is wrong with it comes back beside it, in order of lines."""
    reader = _Reader(source)
    if len(text) > MAX_TEXT:
        fact = f"{len(text)} characters, more than the {MAX_TEXT} a net may have"
        return Net("none", ()), [Fault(codes.SYNTAX, Loc(source), "", fact)]
    number = _statements(reader, text)
    if not reader.closed and len(reader.faults) < _MAX_FAULTS:
        what = "no net: the first line must be `net @name {`" if not reader.begun else "the net's closing } is missing"
        reader.faults.append(Fault(codes.SYNTAX, Loc(source, number), "", what))
    mapped = None if reader.map_lost else reader.map_head
    if mapped is not None:
        mapped = replace(mapped, cores=tuple(reader.cores), routes=tuple(reader.routes))
    net = Net(reader.name or "none", tuple(reader.ops), arrays, mapped)
    faults = [*reader.faults, *_hash_faults(reader, arrays)]
    if reader.name:
        rules = faults_of(net, lost=frozenset(reader.lost), whole=not reader.faults)
        faults += [f if f.loc.file == source else replace(f, loc=Loc(source)) for f in rules]  # of an empty net
    return net, sorted(faults, key=lambda f: f.loc.line)


def _statements(reader: _Reader, text: str) -> int:
    """Read line by line; the number of the last line looked at."""
    number = 0
    for number, line in enumerate(text.split("\n"), 1):
        line = _uncomment(line)
        if line.strip():
            _statement(reader, line, Loc(reader.source, number))
        if len(reader.faults) >= _MAX_FAULTS:
            end = Loc(reader.source, number)
            reader.faults.append(Fault(codes.SYNTAX, end, "", f"{_MAX_FAULTS} mistakes up to here; the rest is unread"))
            break
    return number


def _statement(reader: _Reader, line: str, loc: Loc) -> None:
    if len(line) > _MAX_LINE:
        reader.faults.append(Fault(codes.SYNTAX, loc, "", f"{len(line)} characters, more than a line may have"))
        return
    defined = re.match(r"\s*%([A-Za-z0-9_][A-Za-z0-9_./-]*)\s*=", line)
    try:
        tree = _parser().parse(line)  # pyright: ignore[reportUnknownMemberType]
        _READ[str(tree.data)](reader, tree, loc)
        return
    except UnexpectedInput as e:
        fact, code = _unexpected(e, line), codes.SYNTAX
    except _BadLineError as e:
        fact, code = str(e), e.code
    reader.map_lost |= reader.depth == 2
    if defined:
        reader.lost.add(defined[1])
    elif opened := re.match(r"\s*(net|map)\b.*\{\s*$", line):  # what it opens is open all the same
        reader.depth, reader.begun = (1, True) if opened[1] == "net" else (2, reader.begun)
    reader.faults.append(Fault(code, loc, f"%{defined[1]}" if defined else "", fact))


def _head(reader: _Reader, tree: Node, loc: Loc) -> None:
    if reader.begun:
        raise _BadLineError("a second net; a file holds one")
    reader.name, reader.depth, reader.begun = _text(tree.children[0])[1:], 1, True


def _close(reader: _Reader, tree: Node, loc: Loc) -> None:
    if reader.depth == 0:
        raise _BadLineError("} without {")
    reader.depth -= 1
    reader.closed = reader.depth == 0


def _op(reader: _Reader, tree: Node, loc: Loc) -> None:
    _inside(reader, 1, "an op")
    head, *rest = tree.children
    mnemonic, name = _text(rest.pop(0)), _text(head)[1:]
    origin = ""
    if isinstance(rest[-1], Token):
        origin = _origin(_text(rest.pop()))
    op_type = _type(rest.pop())
    if mnemonic not in OPS:
        raise _BadLineError(f"unknown op '{mnemonic}'; there are {', '.join(OPS)}")
    refs = [Ref(_text(t)[1:]) for t in rest if isinstance(t, Token)]
    given = [t for t in rest if not isinstance(t, Token)]
    values, facts = _values(OPS[mnemonic], mnemonic, refs, given)
    if facts:
        raise _BadLineError("; ".join(facts))
    loc = Loc(loc.file, loc.line, origin)
    reader.ops.append(OPS[mnemonic](name=name, type=op_type, loc=loc, **values))


def _values(op: type[Op], mnemonic: str, refs: list[Ref], given: Sequence[Node]) -> tuple[dict[str, object], list[str]]:
    """Constructor arguments from operands and attributes, and what is wrong with them."""
    values, facts = dict[str, object](), list[str]()
    known = {f.name: f for f in fields_of(op) if f.kind not in ("ref", "refs")}
    want = [f for f in fields_of(op) if f.kind in ("ref", "refs")]
    if want and want[0].kind == "refs":
        values[want[0].name] = tuple(refs)
    elif len(refs) != len(want):
        facts.append(f"'{mnemonic}' reads {len(want)} values, not {len(refs)}")
    else:
        values |= {f.name: ref for f, ref in zip(want, refs, strict=True)}
    for attr in given:
        key, token = _text(attr.children[0]), attr.children[1]
        if key not in known:
            facts.append(f"'{mnemonic}' has no attribute {key}; it has {', '.join(known) or 'none'}")
        elif key in values:
            facts.append(f"{key} is given twice")
        else:
            try:
                values[key] = _value(known[key], token)
            except _BadLineError as e:
                facts.append(str(e))
    seen = {_text(a.children[0]) for a in given}
    facts += [f"{f.name}= is missing" for f in known.values() if f.default is MISSING and f.name not in seen]
    return values, facts


def _value(f: Field, token: object) -> object:
    text, kind = _text(token), token.type if isinstance(token, Token) else ""
    match f.kind:
        case "const" if kind == "CONST":
            return text[1:]
        case "int" if kind == "NUMBER" and re.fullmatch(r"[+-]?\d{1,18}", text):
            return int(text)
        case "float" if kind == "NUMBER":
            return float(text)
        case "bool" if text in ("true", "false"):
            return text == "true"
        case "word" if text in f.words:
            return text
        case "sizes" if kind in ("SIZES", "NUMBER"):
            sizes = _sizes(text)
            if len(sizes) == f.count:
                return sizes
        case _:
            pass
    wanted = {
        "const": "an array, @name",
        "int": "a whole number of at most 18 digits",
        "float": "a number",
        "bool": "true or false",
    }
    want = {"word": " or ".join(f.words), "sizes": "x".join("n" * f.count)}.get(f.kind) or wanted[f.kind]
    raise _BadLineError(f"{f.name}={text[:40]} must be {want}")


def _type(node: object) -> Type:
    tree = _tree(node)
    word, shape = _text(tree.children[0]), _sizes(_text(tree.children[1]))
    window = _text(tree.children[2]) if len(tree.children) > 2 else None
    low, high = window.split("..") if window else ("", "")
    match word:
        case "analog" if low and high:
            return Analog(shape, _int(low), _int(high))
        case "spikes" if low and high:
            return Spikes(shape, _int(low), _int(high))
        case "potential" if low:
            return Potential(shape, _int(low), _int(high) if high else None)
        case "scores" if low and high:
            return Scores(shape, _int(low), _int(high))
        case _:
            forms = "analog<1x28x28, 0..255>, spikes<8x9x9, 0..10>, potential<8x9x9, 10..>, scores<10, 20..30>"
            raise _BadLineError(f"not a type; types look like {forms}")


def _origin(text: str) -> str:
    """The string in quotes; whatever a model may be called, as long as it can be written again."""
    try:
        origin = str(json.loads(text))
        origin.encode("utf-8")
    except ValueError as e:
        raise _BadLineError(f"{text[:40]} is no string: {e}") from e
    return origin


def _array(reader: _Reader, tree: Node, loc: Loc) -> None:
    _inside(reader, 1, "an array")
    name, dtype, *sizes, digest = (_text(t) for t in tree.children)
    if name[1:] in reader.hashes:
        raise _BadLineError(f"{name} is listed twice", codes.NAME)
    reader.hashes[name[1:]] = (loc, dtype, _sizes(sizes[0]) if sizes else (), digest)


def _map(reader: _Reader, tree: Node, loc: Loc) -> None:
    _inside(reader, 1, "a map")
    if reader.map_head is not None:
        raise _BadLineError("a second map; a net has one")
    attrs = [(_text(a.children[0]), _text(a.children[1])) for a in tree.children[1:] if isinstance(a, Tree)]
    given, keys = dict(attrs), sorted(key for key, _ in attrs if key not in ("order", "cores_per_router"))
    once = len(given) == len(attrs)
    plain = ["deliver", "mesh", "partition", "place"]
    shared = given.get("cores_per_router", "1")
    good = once and keys == plain and re.fullmatch(r"\d{1,6}x\d{1,6}", given["mesh"])
    if not good or not re.fullmatch(r"\d{1,6}", shared):
        form = "`map @chip mesh=17x17 partition=tile place=row-major deliver=multicast {`"
        raise _BadLineError(f"a map looks like {form}")
    reader.depth = 2
    width, height = _sizes(given["mesh"])
    chip = _text(tree.children[0])[1:]
    how = given["partition"], given["place"], given["deliver"]
    reader.map_head = Mapped(chip, (width, height), *how, (), (), given.get("order", "xy"), int(shared))


def _core(reader: _Reader, tree: Node, loc: Loc) -> None:
    _inside(reader, 2, "a core")
    number, x, y, *slices = tree.children
    place = (_int(_text(x)), _int(_text(y)))
    reader.cores.append(Core(_int(_text(number)), place, tuple(map(_slice, slices))))


def _route(reader: _Reader, tree: Node, loc: Loc) -> None:
    _inside(reader, 2, "a route")
    number, box, *rest = tree.children
    attrs = [(_text(a.children[0]), _text(a.children[1])) for a in rest if isinstance(a, Tree)]
    sized = all(re.fullmatch(r"\d{1,6}x\d{1,6}", text) for _, text in attrs)
    if [key for key, _ in attrs] not in ([], ["pool"]) or not sized:
        raise _BadLineError("a route looks like `route 0 %c1[0:8, 0:4, 0:4] pool=2x2 -> 1 2`, pool where it has one")
    height, width = _sizes(attrs[0][1]) if attrs else (1, 1)
    to = tuple(_int(_text(t)) for t in rest if isinstance(t, Token))
    reader.routes.append(Route(_int(_text(number)), _slice(box), to, (height, width)))


def _slice(node: object) -> Slice:
    layer, *spans = (_text(t) for t in _tree(node).children)
    return Slice(layer[1:], tuple((_int(a), _int(b)) for a, b in (s.split(":") for s in spans)))


_READ: dict[str, Callable[[_Reader, Node, Loc], None]] = {
    "head": _head, "close": _close, "op": _op, "array": _array, "map": _map, "core": _core, "route": _route,
}  # fmt: skip


def _hash_faults(reader: _Reader, arrays: Arrays) -> list[Fault]:
    """Arrays that are not the ones the text was saved with."""
    faults = list[Fault]()
    for name, (loc, dtype, shape, digest) in reader.hashes.items():
        const = Const(name)
        if const not in arrays:
            faults.append(Fault(codes.NAME, loc, f"@{name}", "no such array in the .npz beside the text"))
        elif (arrays[const].dtype.str[1:], arrays[const].shape) != (dtype, shape):
            got = f"{arrays[const].dtype.str[1:]}<{show_shape(arrays[const].shape)}>"
            fact = f"is {got}, but the text was saved with {dtype}<{show_shape(shape)}>"
            faults.append(Fault(codes.DAMAGED, loc, f"@{name}", fact))
        elif arrays.digest(const) != digest:
            fact = f"content hash is {arrays.digest(const)[:12]}, but the text was saved with {digest[:12]}"
            faults.append(Fault(codes.DAMAGED, loc, f"@{name}", fact))
    return faults


def _inside(reader: _Reader, depth: int, what: str) -> None:
    if reader.depth != depth:
        place = {0: "outside of a net", 1: "directly in a net", 2: "inside a map"}[reader.depth]
        raise _BadLineError(f"{what} may not stand {place}")


def _unexpected(e: UnexpectedInput, line: str) -> str:
    """Lark's complaint as one sentence: what was found, at which column, what would be accepted."""
    at = cast(object, e.column)  # lark has no column for the end of a line
    column = at if isinstance(at, int) and at > 0 else len(line) + 1
    if isinstance(e, UnexpectedToken):
        token = cast(Token, e.token)  # pyright: ignore[reportUnknownMemberType]
        found = "the line ends" if token.type == "$END" else f"unexpected {str(token)[:40]!r}"
        names = set(e.accepts or e.expected)
    else:
        assert isinstance(e, UnexpectedCharacters)
        found, names = f"unexpected {line[column - 1 : column]!r}", set(e.allowed or ())
    terminals = {t.name: t.pattern.value for t in _parser().terminals if t.pattern.type == "str"}
    want = sorted({_READABLE.get(n) or terminals.get(n) or n.lower() for n in names if n != "$END"})
    ends = " or the end of the line" if "$END" in names else ""
    return f"column {column}: {found}, expected {', '.join(want)}{ends}"


def _uncomment(line: str) -> str:
    """The line without a trailing // comment (a // inside a quoted origin is text)."""
    comment = next((m.start() for m in _QUOTE_OR_COMMENT.finditer(line) if m[0] == "//"), len(line))
    return line[:comment]


def _sizes(text: str) -> Shape:
    return tuple(_int(n) for n in text.split("x"))


def _int(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,12}", text):
        raise _BadLineError(f"{text[:40]} must be a whole number of at most 12 digits")
    return int(text)


def _text(token: object) -> str:
    assert isinstance(token, Token)
    return str(token)


def _tree(node: object) -> Node:
    assert isinstance(node, Tree)
    return cast(Node, node)


@cache
def _parser() -> Lark:
    grammar = files("ttfsc.ir").joinpath("text.lark").read_text("utf-8")
    return Lark(grammar, start="line", parser="lalr", propagate_positions=False)
