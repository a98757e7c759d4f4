"""C as text: identifiers, comments, strings, tables. Nothing here knows what a network is."""

import re

import numpy as np

from ttfsc.ir import Array

_RANGES = (("uint8_t", 0, 2**8 - 1), ("int16_t", -(2**15), 2**15 - 1), ("uint16_t", 0, 2**16 - 1))
SIZES = {"uint8_t": 1, "int8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4}


def identifier(name: str) -> str:
    """Any name as a C identifier, lower case, never reserved once something is appended to it.

    >>> identifier("c1.v"), identifier("7seg-Net"), identifier("__x"), identifier("é")
    ('c1_v', 'n7seg_net', 'x', 'n')
    """
    word = re.sub(r"[^a-z0-9_]", "_", name.lower()).strip("_")
    return word if word[:1].isalpha() else f"n{word}"


def comment(text: str) -> str:
    """Text that may stand inside a block comment.

    >>> comment("a */ b /* c")
    'a * / b / * c'
    """
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ")


def string(text: str) -> str:
    r"""A C string literal; everything but plain ASCII as octal bytes.

    >>> print(string('a"b\\é?'))
    "a\"b\\\303\251\?"
    """
    plain = {'"': '\\"', "\\": "\\\\", "?": "\\?"}
    body = "".join(plain.get(ch, ch) if " " <= ch <= "~" else "".join(f"\\{b:03o}" for b in ch.encode()) for ch in text)
    return f'"{body}"'


def integer(value: int) -> str:
    """A literal; the lowest int32_t has none of its own.

    >>> integer(-7), integer(-2**31)
    ('-7', '(-2147483647 - 1)')
    """
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)


def holding(low: int, high: int) -> str:
    """The smallest type of ours that holds low..high.

    >>> holding(0, 255), holding(-1, 255), holding(0, 40000), holding(-1, 40000)
    ('uint8_t', 'int16_t', 'uint16_t', 'int32_t')
    """
    return next((name for name, least, most in _RANGES if least <= low and high <= most), "int32_t")


def table(values: Array, indent: str = "    ") -> str:
    """The body of an array initialiser, in lines of at most 120 columns."""
    numbers = np.asarray(values).ravel()
    literal = str if numbers.min(initial=0) > -(2**31) else integer
    flat = [literal(v) for v in numbers.tolist()]
    per_line = max(1, (120 - len(indent)) // (max(map(len, flat), default=1) + 2))
    return ",\n".join(indent + ", ".join(flat[i : i + per_line]) for i in range(0, len(flat), per_line))
