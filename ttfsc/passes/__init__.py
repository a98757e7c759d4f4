"""Passes: plain functions `Net -> Net`, one file each. The pass manager (`ttfsc.pipeline`) finds them by name here.

net = ttfsc.passes.quantize(net, bits=4, ticks=16, calibration=x)
"""

from ttfsc.passes.calibrate import calibrate
from ttfsc.passes.drop_identity import drop_identity
from ttfsc.passes.fold_avgpool import fold_avgpool
from ttfsc.passes.fold_batchnorm import fold_batchnorm
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.prove_widths import prove_widths
from ttfsc.passes.quantize import quantize
from ttfsc.passes.route import route

PASSES: dict[str, str] = {  # "module:function", imported when a pipeline names it
    "drop-identity": "ttfsc.passes.drop_identity:drop_identity",
    "fold-batchnorm": "ttfsc.passes.fold_batchnorm:fold_batchnorm",
    "fold-avgpool": "ttfsc.passes.fold_avgpool:fold_avgpool",
    "calibrate": "ttfsc.passes.calibrate:calibrate",
    "quantize": "ttfsc.passes.quantize:quantize",
    "prove-widths": "ttfsc.passes.prove_widths:prove_widths",
    "partition": "ttfsc.passes.partition:partition",
    "place": "ttfsc.passes.place:place",
    "route": "ttfsc.passes.route:route",
}

__all__ = [
    "PASSES",
    "calibrate",
    "drop_identity",
    "fold_avgpool",
    "fold_batchnorm",
    "partition",
    "place",
    "prove_widths",
    "quantize",
    "route",
]
