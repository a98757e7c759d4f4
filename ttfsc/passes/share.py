"""Which layers share cores: neighbours of one plane, so that a core holds the same patch of both.

    %c1 on cores 0..63, %c2 on cores 64..127   =>   %c1 and %c2 on cores 0..127, in patches of half the size

What a patch sends to itself travels no link; but smaller patches hear more of their surroundings, on both layers. It
pays where what the first layer hears costs nothing, as the pixels that the host sends.
"""

import logging
from collections.abc import Iterator, Sequence

from ttfsc.hardware import Chip
from ttfsc.ir import Box, Fault, Layer, Loc, TtfsError, codes, show_shape
from ttfsc.passes.limits import kept_of, shared_demand, traffic_of
from ttfsc.passes.tiles import Cuts, patches_of

log = logging.getLogger(__name__)
Group = tuple[Layer, ...]  # layers that share cores; most are alone


def shared(layers: Sequence[Layer], cuts: Cuts, chip: Chip, share: str) -> tuple[list[Group], Cuts]:
    """The layers in groups that share cores, in order, and how they are cut then.

    share: `c1+c2 c3+c4` says which; `auto` takes those that have less traffic together, fit the chip and need no more
    cores; nothing shares by default. Raises TtfsError (OPTION) for layers that cannot share.
    """
    if share == "auto":
        groups = _less_traffic(layers, cuts, chip)
    else:
        faults = list[Fault]()
        groups = _named(layers, chip, share, faults)
        if faults:
            raise TtfsError(faults)
    joint = dict(cuts)
    for group in groups:
        if len(group) > 1:
            joint |= dict(zip((layer.name for layer in group), _joint(group, chip), strict=True))
            names = " and ".join(f"%{layer.name}" for layer in group)
            log.info("partition: %s share %d cores", names, len(joint[group[0].name]))
    return groups, joint


def _area(group: Sequence[Layer], chip: Chip) -> int:
    """How many pixels with the channels of all layers fit a core."""
    return int(chip.neurons_per_core) // sum(layer.grid[0] for layer in group)


def _joint(group: Sequence[Layer], chip: Chip) -> list[list[Box]]:
    """By layer its boxes: all channels of the same patches."""
    _, height, width = group[0].grid
    patches = patches_of(height, width, _area(group, chip))
    return [[((0, layer.grid[0]), *patch[1:]) for patch in patches] for layer in group]


def _less_traffic(layers: Sequence[Layer], cuts: Cuts, chip: Chip) -> list[Group]:
    """Groups grow layer by layer as long as each step saves traffic."""
    hosts = frozenset(link.source for layer in layers for link in layer.links) - {layer.name for layer in layers}
    groups, cost, cores = list[Group](), 0, 0  # traffic and cores of the last group
    for layer in layers:
        alone = traffic_of(layer, cuts[layer.name], hosts)
        group = (*groups[-1], layer) if groups else (layer,)
        if len(group) > 1 and group[0].grid[1:] == layer.grid[1:] != (1, 1) and _area(group, chip):
            boxes = _joint(group, chip)
            apart = len(cuts[layer.name]) + cores
            together = sum(traffic_of(x, b, hosts) for x, b in zip(group, boxes, strict=True)) - kept_of(group, boxes)
            if together < cost + alone and len(boxes[0]) <= apart and not shared_demand(group, boxes).over(chip):
                groups[-1], cost, cores = group, together, len(boxes[0])
                continue
        groups.append((layer,))
        cost, cores = alone, len(cuts[layer.name])
    return groups


def _named(layers: Sequence[Layer], chip: Chip, share: str, faults: list[Fault]) -> list[Group]:
    by_name, taken = {layer.name: layer for layer in layers}, dict[str, Group]()
    for word in share.split():
        names = word.split("+")
        found = list(_facts(names, by_name, taken, chip))
        faults += (Fault(codes.OPTION, Loc("pipeline"), "partition", f"share={word}: {fact}") for fact in found)
        if not found:
            taken |= dict.fromkeys(names, tuple(layer for layer in layers if layer.name in names))
    groups = (taken.get(layer.name, (layer,)) for layer in layers)
    return [group for layer, group in zip(layers, groups, strict=True) if group[0].name == layer.name]


def _facts(names: list[str], by_name: dict[str, Layer], taken: dict[str, Group], chip: Chip) -> Iterator[str]:
    unknown = [name for name in names if name not in by_name]
    if len(names) < 2 or unknown:
        yield f"must be layers joined by +, of {', '.join(by_name)}"
        return
    if len(set(names)) < len(names) or set(names) & set(taken):
        yield "a layer can share cores once"
    group = [by_name[name] for name in names]
    planes = {layer.grid[1:] for layer in group}
    if len(planes) > 1:
        yield f"planes of {' and '.join(show_shape(plane) for plane in sorted(planes))} have no patches in common"
    elif not _area(group, chip):
        channels = sum(layer.grid[0] for layer in group)
        fact = f"one pixel of all has {channels:,} channels, more than the"
        yield f"{fact} {int(chip.neurons_per_core):,} neurons on a core of {chip.name}"
