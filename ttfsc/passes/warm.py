"""A warm start: cores stand where an earlier map of the same net had them."""

from collections import Counter
from collections.abc import Iterator, Mapping

from ttfsc.ir import Core, Mapped, Place, Slice


def earlier_places(
    cores: tuple[Core, ...],
    earlier: Mapped,
    fixed: Mapping[int, Place],
    free: Iterator[Place],
    may: frozenset[Place],
    ports: int = 1,
) -> tuple[dict[int, Place], int]:
    """A place for every core by its number, and how many stand where they stood.

    A core is known by its slices. Those that the earlier map did not have, or whose place is not in `may`, take the
    next of `free` where fewer than `ports` cores stand; `fixed` cores stay where they are told to.
    """
    before: dict[tuple[Slice, ...], Place] = {core.slices: core.place for core in earlier.cores}
    found = dict(fixed)
    room = Counter(dict.fromkeys(may, ports))
    room.subtract(fixed.values())
    for core in cores:
        place = before.get(core.slices)
        if core.id not in found and place is not None and room[place] > 0:
            found[core.id] = place
            room[place] -= 1
    kept = len(found) - len(fixed)
    rest = (place for place in free for _ in range(room[place]))
    for core in cores:
        if core.id not in found:
            found[core.id] = next(rest)
    return found, kept
