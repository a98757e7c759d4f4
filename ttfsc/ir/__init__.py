"""What a net is and means: types, ops, verifier, text form, reference meaning. Knows nothing else of ttfsc."""

from ttfsc.ir.arrays import EMPTY, Array, Arrays, Const, load_npz, save_npz
from ttfsc.ir.bounds import Bounds, bounds_of
from ttfsc.ir.build import OPEN, Builder
from ttfsc.ir.diff import diff
from ttfsc.ir.faults import NOWHERE, Fault, Loc, TtfsError
from ttfsc.ir.holding import axons_of, delay_bits, waits
from ttfsc.ir.layers import Grid, Held, Layer, Link, grid_of, layers_of, source_of, with_held
from ttfsc.ir.mapping import Box, Core, Hop, Mapped, Place, Pool, Route, Slice, flipped, tree_hops, xy_tree
from ttfsc.ir.meaning import NEVER, Result, check_input, is_integer, run, run_batches, ticks_of
from ttfsc.ir.net import Net, consts_of, reread
from ttfsc.ir.ops import (
    OPS,
    Add,
    AvgPool,
    BatchNorm,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Identity,
    Input,
    MaxPool,
    Op,
    Ref,
    ShapeError,
    Synapse,
)  # fmt: skip
from ttfsc.ir.parse import parse
from ttfsc.ir.pooling import EVERY, first_of_groups, pool_of, pooled_rate, sent_rates, sent_spikes
from ttfsc.ir.reach import heard, weights_held
from ttfsc.ir.show import show, show_op
from ttfsc.ir.stages import STAGES, Stage, check_stage, stage_faults
from ttfsc.ir.store import load, save
from ttfsc.ir.tables import falling_table
from ttfsc.ir.traffic import LinkLoads, Traffic, link_loads, span_tree, traffic
from ttfsc.ir.types import Analog, Potential, Scores, Shape, Spikes, Type, show_shape
from ttfsc.ir.values import divisors
from ttfsc.ir.verify import faults_of, verify

__all__ = [
    "EMPTY", "EVERY", "NEVER", "NOWHERE", "OPEN", "OPS", "STAGES",
    "Add", "Analog", "Array", "Arrays", "AvgPool", "BatchNorm", "Bounds", "Box", "Builder", "Const", "Conv2d", "Core",
    "Decode", "Dense", "Encode", "Fault", "Fire", "Flatten", "Grid", "Held", "Hop", "Identity", "Input", "Layer",
    "Link", "LinkLoads", "Loc", "Mapped", "MaxPool", "Net", "Op", "Place", "Pool", "Potential", "Ref", "Result",
    "Route",
    "Scores", "Shape", "ShapeError", "Slice", "Spikes", "Stage", "Synapse", "Traffic", "TtfsError", "Type",
    "axons_of", "bounds_of", "check_input", "check_stage", "consts_of", "delay_bits", "diff", "divisors",
    "falling_table", "faults_of",
    "first_of_groups", "flipped", "grid_of", "heard", "is_integer", "layers_of", "link_loads", "load", "load_npz",
    "parse", "pool_of", "pooled_rate", "reread",
    "run", "run_batches", "save", "save_npz", "sent_rates", "sent_spikes", "show", "show_op", "show_shape", "source_of",
    "span_tree", "stage_faults",
    "ticks_of", "traffic", "tree_hops", "verify", "waits", "weights_held", "with_held", "xy_tree",
]  # fmt: skip
