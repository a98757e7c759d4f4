"""What the planner knows of a processor: which variant suits it, how much it adds at once, what its caches hold."""

from dataclasses import dataclass, replace

from ttfsc.ir import TtfsError, codes


@dataclass(frozen=True, slots=True)
class Cpu:
    """fast: memory for lists of spikes and unpacked weights is there. adds: bytes added per cycle; l2: its bytes.

    dots: dot products of bytes may be there, which the C asks the processor; 2: AVX-512 VNNI is expected, 1: AVX2.
    asks: as adds, of kernels that are made for wider vectors as well and ask the processor for these.
    vectors: the compiler knows GNU vectors (gcc and clang do); otherwise there is nothing but C99.
    """

    name: str
    fast: bool
    adds: int
    asks: int
    l2: int
    dots: int
    vectors: bool = True

    @property
    def widest(self) -> "Cpu":
        """The same where the C finds AVX-512."""
        return replace(self, asks=64) if self.vectors and self.fast else self


CPUS = {
    cpu.name: cpu
    for cpu in (
        Cpu("generic", True, 16, 32, 512 << 10, 1),
        Cpu("x86-64-v3", True, 64, 64, 512 << 10, 1),
        Cpu("native", True, 64, 64, 1 << 20, 2),
        Cpu("c99", True, 16, 16, 512 << 10, 0, vectors=False),
        Cpu("cortex-m", False, 1, 1, 0, 0),
    )
}


def cpu_named(name: str) -> Cpu:
    """The description of a processor. Raises TtfsError: none of that name."""
    if name not in CPUS:
        raise TtfsError.one(codes.OPTION, f"no cpu {name!r}; there are {', '.join(sorted(CPUS))}", subject="cpu")
    return CPUS[name]
