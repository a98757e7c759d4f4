"""Which source neurons a core must hear, and which weights it must hold, for the neurons it owns."""

from math import prod

import numpy as np
import numpy.typing as npt

from ttfsc.ir.layers import Link
from ttfsc.ir.mapping import Box
from ttfsc.ir.ops import Dense

Mask = npt.NDArray[np.bool_]


def heard(link: Link, box: Box) -> tuple[Mask, Mask, Mask]:
    """Source neurons with a synapse into the box of output neurons: channels, rows and columns of the source grid.

    Exact, and separable: the neuron (c, y, x) is heard where all three masks hold. Max pools on the way, folded
    average pools, groups, stride and dilation are included.
    """
    channels, (rows, columns) = np.zeros(link.source_grid[0], np.bool_), link.reach
    if isinstance(link.synapse, Dense):
        return ~channels, rows.sum(0) > 0, columns.sum(0) > 0
    (first, last), (y0, y1), (x0, x1) = box
    per_out, per_in = link.out_grid[0] // link.groups, link.source_grid[0] // link.groups
    channels[first // per_out * per_in : ((last - 1) // per_out + 1) * per_in] = True
    return channels, rows[y0:y1].sum(0) > 0, columns[x0:x1].sum(0) > 0


def weights_held(link: Link, box: Box) -> int:
    """Number of weights a core keeps for this box: whole kernels of its channels, whole rows of a dense matrix."""
    if isinstance(link.synapse, Dense):
        return prod(b - a for a, b in box) * link.kernel[1]
    return (box[0][1] - box[0][0]) * prod(link.kernel[1:])
