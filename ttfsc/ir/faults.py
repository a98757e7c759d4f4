"""Where something is, what is wrong with it, and the one exception a user ever sees."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Loc:
    """A place in the user's world: a line of text, an ONNX node, a torch module path; or several of these."""

    file: str = ""
    line: int = 0
    origin: str = ""  # module path or node name in the source model; survives passes, text and back

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        if place and self.origin:
            return f"{place} ({self.origin})"
        return place or self.origin or "<net>"


NOWHERE = Loc()


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule: `where: error[TTFS0nn]: 'op' %name: fact, way out`."""

    code: int  # a key of ttfsc.ir.codes.CODES
    loc: Loc
    subject: str  # "'conv2d' %c1", a file, an option; may be empty
    fact: str

    def __str__(self) -> str:
        subject = f"{self.subject}: " if self.subject else ""
        return f"{self.loc}: error[TTFS{self.code:03d}]: {subject}{self.fact}"


class TtfsError(Exception):
    """Everything that is wrong with one input, all at once. The command line prints it and exits with 1."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        assert self.faults, "an error without a fault tells nobody anything"
        super().__init__("\n".join(map(str, self.faults)))

    @classmethod
    def one(cls, code: int, fact: str, *, loc: Loc = NOWHERE, subject: str = "") -> Self:
        """The error of a single fault."""
        return cls([Fault(code, loc, subject, fact)])
