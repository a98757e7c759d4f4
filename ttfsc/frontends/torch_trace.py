"""A torch module to a Net by symbolic tracing (torch.fx): `forward` runs once on a stand-in for the input.

Modules with a rule are taken whole; everything else is traced into, down to functions and methods with rules. Every
call on a tensor appears in the trace, so no activation is lost; what no rule knows is refused, all of it at once.
"""

from __future__ import annotations

import importlib
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils.parametrize import is_parametrized

from ttfsc.frontends.lowering import Lowering
from ttfsc.frontends.torch_layers import numbers
from ttfsc.frontends.torch_rules import RULES, Rule, reason
from ttfsc.frontends.value import BROKEN, RAW, Constant, Declared, Refused, Value
from ttfsc.ir import Fault, Loc, Net, TtfsError, codes

_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
_VIEWS = ("flatten", "view", "reshape", "squeeze", "detach", "contiguous", "float", "dropout")  # beginnings, any case
_WRITING = ("iadd", "isub", "imul", "itruediv")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def trace_module(model: nn.Module, name: str, declared: Declared) -> Net:
    """Lower `model`, in evaluation mode. Raises TtfsError with every node that cannot be lowered."""
    low = Lowering(name, declared)
    tracer = _Tracer()
    low.faults += _hooked(model)
    try:
        graph = tracer.trace(model)
    except Exception as e:
        raise TtfsError([*low.faults, _untraceable(e, tracer)]) from e
    return _Walk(low, model, graph).run()


class _Tracer(fx.Tracer):
    """fx's tracer, with our leaves, remembering where in the user's source every node was made."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = [""]  # module paths, innermost last; kept as they are when forward raises

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Modules with a rule, and those of torch.nn, which are refused by name if they have none."""
        if module_name(m) in RULES:
            return True
        return type(m).__module__.startswith(("torch.nn.", "torch.ao.")) and not isinstance(m, _CONTAINERS)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace into a module, or make a node of it."""
        try:
            self.inside.append(self.path_of_module(m))
        except NameError:
            raise Refused(
                f"forward calls a {module_name(m)} that is no attribute of the model, so its weights are unknown; "
                "assign it in __init__"
            ) from None
        result = super().call_module(m, forward, args, kwargs)  # pyright: ignore[reportUnknownMemberType]
        self.inside.pop()
        return result

    def to_bool(self, obj: fx.Proxy) -> bool:
        """What an `assert` on shapes asks is taken to hold; any other decision cannot be traced."""
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
            frame = frame.f_back
        if linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("assert "):
            return True
        return super().to_bool(obj)

    def create_proxy(self, *args: Any, **kwargs: Any) -> Any:
        """A node, and the place it comes from."""
        proxy = super().create_proxy(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        node = proxy.node  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        node.meta["inside"] = self.inside[-1]
        node.meta["place"] = _user_line(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        return proxy  # pyright: ignore[reportUnknownVariableType]


def _user_line(frame: FrameType | None) -> tuple[str, int]:
    """The innermost line of the traced code that is neither torch's nor ours."""
    while frame is not None and frame.f_code is not trace_module.__code__:
        if not frame.f_code.co_filename.startswith(_OURS):
            return Path(frame.f_code.co_filename).name, frame.f_lineno
        frame = frame.f_back
    return "", 0


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its path; one that hangs in two places counts once, under the first."""
    return dict(cast("Iterator[tuple[str, nn.Module]]", model.named_modules()))


def module_name(m: nn.Module) -> str:
    """The public name of a module's class: torch.nn.Conv2d rather than torch.nn.modules.conv.Conv2d."""
    kind = type(m).__mro__[1] if is_parametrized(m) else type(m)  # a parametrised class is its original with properties
    for package in ("torch.nn", "ttfsc.nn"):
        public = kind.__module__.startswith(package) and getattr(importlib.import_module(package), kind.__name__, None)
        if public is kind:
            return f"{package}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def resolve(name: str) -> object:
    """The class or function that a name of the table stands for; methods and aten ops stand for themselves."""
    package, _, last = name.rpartition(".")
    return name if package in ("Tensor", "aten") else getattr(importlib.import_module(package), last)


def _functions() -> dict[object, str]:
    """Functions to their names in the table; of several names for one function the first."""
    names = dict[object, str]()
    for name, rule in RULES.items():
        if rule.kind_of(name) == "function":
            names.setdefault(resolve(name), name)
    return names


class _Walk:
    """The traced graph, node by node in order."""

    def __init__(self, low: Lowering, model: nn.Module, graph: fx.Graph) -> None:
        self.low, self.model, self.graph = low, model, graph
        self.modules = modules_of(model)
        self.functions = _functions()
        self.values = dict[fx.Node, object]()
        self.roots = dict[fx.Node, fx.Node]()  # views of one tensor share the root

    def run(self) -> Net:
        """Lower what reaches the output; heads beside it are left out."""
        needed = self.reaching()
        inputs = [n for n in self.graph.nodes if n.op == "placeholder" and not n.args]
        if len(inputs) != 1:
            names = ", ".join(str(n.target) for n in inputs) or "none"
            fact = f"forward takes {len(inputs)} inputs ({names}), must be one image; give the others default values"
            self.low.faults.append(Fault(codes.UNSUPPORTED, Loc(origin="forward"), "", fact))
        result: object = BROKEN
        for node in self.graph.nodes:
            if node.op == "output":
                result = self.output(node)
            elif node.op == "placeholder":
                self.values[node] = (RAW if node is inputs[0] else BROKEN) if not node.args else node.args[0]
            elif node in needed:
                self.visit(node)
        return self.low.finish(result)

    def output(self, node: fx.Node) -> object:
        """The one value that forward returns."""
        result = self.known(node.args[0])
        several = isinstance(result, list | tuple | dict)
        if several and len(result) == 1 and not isinstance(result, dict):  # pyright: ignore[reportUnknownArgumentType]
            return result[0]  # pyright: ignore[reportUnknownVariableType]
        if several:
            fact = (
                f"forward returns {len(result)} values, must be the class scores alone; "  # pyright: ignore[reportUnknownArgumentType]
                "return the others only `if self.training`"
            )
            self.low.faults.append(Fault(codes.UNSUPPORTED, Loc(origin="output"), "", fact))
            return BROKEN
        return result  # pyright: ignore[reportUnknownVariableType]

    def visit(self, node: fx.Node) -> None:
        """Lower one node; in-place ops change what their operand means from here on."""
        path = str(node.target) if node.op in ("call_module", "get_attr") else str(node.meta.get("inside", ""))
        file, line = node.meta.get("place", ("", 0))
        own = node.op in ("call_module", "get_attr")
        base = path if own else f"{path}.{node.name}" if path else node.name
        name = self.name_of(node)
        loc = Loc(file, line, path or "forward")
        args = cast("list[object]", self.known(list(node.args)))
        kwargs = cast("dict[str, object]", self.known(dict(node.kwargs)))
        if BROKEN in args or BROKEN in kwargs.values():
            self.values[node] = BROKEN
            return
        self.values[node] = self.low.step(base, loc, f"'{name}'", lambda: self.lower(node, name, path, args, kwargs))
        self.alias(node, name)

    def name_of(self, node: fx.Node) -> str:
        """The table's name of what a node calls."""
        if node.op == "call_module":
            return module_name(self.modules[str(node.target)])
        if node.op == "call_method":
            return f"Tensor.{node.target}"
        if node.op == "get_attr":
            return "parameter"
        target = cast("Any", node.target)
        if target in self.functions:
            return self.functions[target]
        own = getattr(target, "__name__", str(target))
        for package, holder in (("torch.nn.functional", nn.functional), ("torch", torch)):
            if getattr(holder, own, None) is target:
                return f"{package}.{own}"
        return f"{getattr(target, '__module__', None) or 'python'}.{own}".lstrip("_")

    def lower(self, node: fx.Node, name: str, path: str, args: list[object], kwargs: dict[str, object]) -> object:
        """Apply the rule of one node."""
        if node.op == "get_attr":
            return self.parameter(str(node.target))
        rule = RULES.get(name)
        if rule is None:
            raise Refused(reason(name))
        lead: tuple[object, ...] = (self.low, self.modules[path], path) if node.op == "call_module" else (self.low,)
        return self.apply(rule, (*lead, *args), kwargs)

    def apply(self, rule: Rule, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """Call a rule with the source's arguments."""
        try:
            bound = inspect.signature(rule.call).bind(*args, **_renamed(rule, kwargs))
        except TypeError as e:
            raise Refused(f"{e}; this argument is not understood: leave it at its default") from e
        return rule.call(*bound.args, **bound.kwargs)

    def parameter(self, target: str) -> object:
        """A parameter, buffer or constant that forward reads itself."""
        owner: Any = self.model
        for part in target.split("."):
            owner = getattr(owner, part)
        return Constant(target, numbers(owner)) if isinstance(owner, torch.Tensor) else owner

    def known(self, x: object) -> Any:
        """Arguments with nodes replaced by their values."""
        if isinstance(x, fx.Node):
            return self.values.get(x, BROKEN)
        if isinstance(x, tuple):
            return tuple(self.known(y) for y in cast("tuple[object, ...]", x))
        if isinstance(x, list):
            return [self.known(y) for y in cast("list[object]", x)]
        if isinstance(x, dict):
            return {k: self.known(y) for k, y in cast("dict[str, object]", x).items()}
        if isinstance(x, slice):
            part = cast("Any", x)
            return slice(self.known(part.start), self.known(part.stop), self.known(part.step))
        return x

    def alias(self, node: fx.Node, name: str) -> None:
        """Follow views and in-place changes: after y = relu_(x), x is y for every later reader."""
        first = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if first is None:
            return
        root = self.roots.get(first, first)
        last = name.rsplit(".", 1)[1]
        if last.lower().startswith((*_VIEWS, "identity")):
            self.roots[node] = root
        if not self.in_place(node):
            return
        self.roots[node] = root
        now = self.values[node]
        for other in (root, *(n for n, r in self.roots.items() if r is root)):
            old = self.values.get(other)
            same = isinstance(old, Value) and isinstance(now, Value) and old.shape == now.shape
            self.values[other] = now if same or not isinstance(old, Value) or now is BROKEN else self.moved(old, now)

    def moved(self, old: Value, now: object) -> object:
        """A view of another shape, after the tensor behind it changed."""
        if isinstance(now, Value) and old.shape == (now.size,):
            return self.low.flatten(now)
        return BROKEN if isinstance(now, Value) else now

    def in_place(self, node: fx.Node) -> bool:
        """Whether the node writes its result into its first operand."""
        if node.op == "call_module":
            return bool(getattr(self.modules[str(node.target)], "inplace", False))
        if node.op not in ("call_function", "call_method"):
            return False
        name = self.name_of(node)
        last = name.rsplit(".", 1)[1]
        if last in _WRITING or (last.endswith("_") and not last.endswith("__")):
            return True
        names = list(inspect.signature(RULES[name].call).parameters)[1:] if name in RULES else []
        place = names.index("inplace") if "inplace" in names else len(node.args)
        return node.kwargs.get("inplace") is True or (place < len(node.args) and node.args[place] is True)

    def reaching(self) -> set[fx.Node]:
        """The nodes that the output depends on, and what is written into them in place."""
        needed, stack = set[fx.Node](), [n for n in self.graph.nodes if n.op == "output"]
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack += node.all_input_nodes
                stack += [u for u in node.users if u.args and u.args[0] is node and self.in_place(u)]
        return needed


def _renamed(rule: Rule, kwargs: dict[str, object]) -> dict[str, object]:
    """Our parameters have a trailing underscore where torch's name is taken."""
    own = inspect.signature(rule.call).parameters
    return {k if k in own or f"{k}_" not in own else f"{k}_": v for k, v in kwargs.items()}


def _hooked(model: nn.Module) -> Iterator[Fault]:
    """Modules with hooks: a trace does not see what they do."""
    for path, m in modules_of(model).items():
        if m._forward_hooks or m._forward_pre_hooks:  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
            fact = (
                "has forward hooks, which change its result unseen; remove them (weight and spectral norm: use "
                "torch.nn.utils.parametrizations, which needs none)"
            )
            yield Fault(codes.UNSUPPORTED, Loc(origin=path or "model"), f"'{module_name(m)}'", fact)


def _untraceable(e: Exception, tracer: _Tracer) -> Fault:
    """Control flow that depends on the data, or an error of forward itself."""
    frames = [f for f in traceback.extract_tb(e.__traceback__) if not f.filename.startswith(_OURS)]
    where = (Path(frames[-1].filename).name, frames[-1].lineno or 0) if frames else ("", 0)
    loc = Loc(*where, tracer.inside[-1] or "forward")
    said = (str(e) or type(e).__name__).splitlines()[0]
    if isinstance(e, Refused):
        fact = str(e)
    elif isinstance(e, TraceError) or "Proxy" in said:
        fact = (
            f"forward decides by the data or the batch ({said}); a network of fixed connections cannot: compute with "
            "layers only, flatten with torch.flatten(x, 1)"
        )
    else:
        fact = f"forward fails on a symbolic input: {type(e).__name__}: {said}"
    return Fault(codes.UNSUPPORTED, loc, "", fact)
