"""How much stack a generated model may take, from the local arrays of its kernels.

A kernel inlined twice may have its arrays twice in the frame, so every call of a step counts. What compilers add
(return addresses, saved and spilled registers) is a fixed allowance that tests/c/test_stack.py holds gcc and clang to.
"""

import ast
import re
from collections.abc import Iterable

from ttfsc.backends.c.cgen import SIZES
from ttfsc.backends.c.kernels import KERNELS, Instance, sources

ALLOWANCE = 768  # bytes beside the arrays, optimised (-O1 and more), on 64-bit processors
POINTER = 8
VECTOR = 64  # bytes at most
SPILLED = 16 * VECTOR  # beside that, where a step has kernels in vectors
CALLED = 4 * VECTOR  # and where it has kernels that are never inlined, for what these save and align
_NAME = r"\w+(?:\[[^\]]+\])+"
_ARRAY = re.compile(rf"^ +(?:const )?(\w+)((?: \*(?:const |restrict )*| ){_NAME}(?:, {_NAME})*)[ ;=]", re.M)
_ENUM = re.compile(r"enum \{ (\w+) = [^?;]*\? (\d+) : (\d+) \}")


def stack_bytes(steps: Iterable[Iterable[Instance]]) -> int:
    """Bytes of stack that one inference takes at most; steps: what each calls, a kernel as often as it is called."""
    return ALLOWANCE + max((_frame(list(calls)) for calls in steps), default=0)


def _frame(calls: list[Instance]) -> int:
    called = any(KERNELS[one.kernel].dots or KERNELS[one.kernel].wide for one in calls)
    vectors = any(map(_has_vectors, calls))
    return sum(map(_arrays, calls)) + (SPILLED if vectors else 0) + (CALLED if called else 0)


def _has_vectors(one: Instance) -> bool:
    return one.vector or any(map(_has_vectors, one.calls()))


def _arrays(one: Instance) -> int:
    """Bytes of the local arrays of a kernel and of those it calls; of its two variants the larger."""
    return max(_declared(text, one) for text in sources(one)) + sum(map(_arrays, one.calls()))


def _declared(text: str, one: Instance) -> int:
    given = dict(one.types)
    numbers = {f"ttfs_{key}": int(value) for key, value in given.items() if value.isdigit()}
    numbers["ttfs_lanes"] = min(VECTOR, numbers.get("ttfs_block", VECTOR))
    numbers |= {name: max(int(a), int(b)) for name, a, b in _ENUM.findall(text)}
    types = SIZES | {f"ttfs_{key}_t": SIZES[value] for key, value in given.items() if not value.isdigit()}
    total = 0
    for ctype, declared in _ARRAY.findall(text):
        size = POINTER if "*" in declared else types.get(ctype, numbers["ttfs_lanes"])
        for one_array in declared.split(", "):
            count = 1
            for length in re.findall(r"\[([^\]]+)\]", one_array):
                count *= _value(ast.parse(length, mode="eval").body, numbers)
            total += size * count
    return total


def _value(node: ast.expr, numbers: dict[str, int]) -> int:
    """A constant of C: numbers, names, + - * and the division of integers."""
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return numbers[name]
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _value(left, numbers), _value(right, numbers)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case _:
                    assert isinstance(op, ast.Div), ast.unparse(node)
                    return a // b
        case _:
            raise AssertionError(f"{ast.unparse(node)} is no array length that this understands")
