"""The packets of some frames as a table, for cycle-accurate simulators of networks on chip.

One row for every tick, tree and destination that carried anything:

    frame,tick,src_x,src_y,dst_x,dst_y,tree,packets

A tick is the window in which the packets may be injected, all of them as it begins. `tree` numbers the route: rows of
one tick and tree are one multicast packet (times `packets`) with several destinations; a simulator without multicast
sends every row by itself and then counts unicast hops, the sum of packets * (|dst_x - src_x| + |dst_y - src_y|).
Simulators that count routers instead of links (BookSim2) report one hop more per packet.
"""

import io

import numpy as np

from ttfsc.backends.noc.packets import Fabric, Packets

HEADER = "frame,tick,src_x,src_y,dst_x,dst_y,tree,packets"


def traffic_table(fabric: Fabric, packets: Packets, first: int = 0) -> str:
    """The rows, without the header, ordered by frame, tick, tree and destination; `first`: number of frame 0."""
    trees = len(fabric.trees)
    ticks = int(packets.tick.max(initial=0)) + 1
    keys, counts = np.unique((packets.frame * ticks + packets.tick) * trees + packets.tree, return_counts=True)
    out = io.StringIO()
    for key, count in zip(keys, counts, strict=True):
        time, number = divmod(int(key), trees)
        frame, tick = divmod(time, ticks)
        tree = fabric.trees[number]
        sy, sx = divmod(tree.source, fabric.width)
        for router in tree.to:
            y, x = divmod(router, fabric.width)
            out.write(f"{first + frame},{tick},{sx},{sy},{x},{y},{number},{count}\n")
    return out.getvalue()
