"""What skip connections cost: spikes that wait in the cores that read them, from the end of their own window until the
window of the reading layer opens.

A windowed layer adds the spikes of all its inputs as its window opens. Those of the layer before it have just arrived;
those of a layer farther back came earlier, travelled in their own window, once, and are **held** since then by every
core that reads them. Such a delay takes room, and the spike is handled once more. Streaming layers hold nothing, and
the host sends its input when it is wanted.
"""

from collections.abc import Iterable
from math import prod

import numpy as np

from ttfsc.ir.geometry import Counts
from ttfsc.ir.layers import Layer, Link
from ttfsc.ir.mapping import Box, Core
from ttfsc.ir.reach import heard


def axons_of(link: Link, box: Box) -> int:
    """Source neurons that a core hears through a link for this box."""
    return prod(int(mask.sum()) for mask in heard(link, box))


def delay_bits(layer: Layer, box: Box) -> int:
    """What the spikes that wait take on a core that has this box of the layer."""
    return sum(wait.bits * axons_of(layer.links[i], box) for i, wait in layer.held)


def waits(layers: Iterable[Layer], cores: Iterable[Core]) -> dict[str, list[tuple[str, Counts]]]:
    """By reading layer, for every link whose spikes wait: its source, and [C, H, W] how many slices keep each neuron's.

    Spikes held in a frame: the sum of this map over the spikes that were sent.
    """
    found, boxes = dict[str, list[tuple[str, Counts]]](), dict[str, list[Box]]()
    for piece in (piece for core in cores for piece in core.slices):
        boxes.setdefault(piece.layer, []).append(piece.box)
    for layer in layers:
        for i, _ in layer.held:
            link = layer.links[i]
            count = np.zeros(link.source_grid, np.int64)
            for c, y, x in (heard(link, box) for box in boxes.get(layer.name, ())):
                count += c[:, None, None] & y[:, None] & x
            found.setdefault(layer.name, []).append((link.source, count))
    return found
