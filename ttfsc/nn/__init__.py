"""Torch layers for training time-to-first-spike networks: what one trains with is what the frontend traces.

Needs torch (the extra `ttfsc[torch]`). Two families, told apart by what flows between the layers:

- exact ReLU (`kernel="hold"`): plain tensors of spike values;
- DTA-TTFS (`kernel="ramp"`): `Spikes` into a synapse layer, a `Potential` out of it; the first layer is `hold`.
"""

from ttfsc.nn.anneal import RangeAnnealing
from ttfsc.nn.fire import Fire
from ttfsc.nn.fold import fold_batchnorm
from ttfsc.nn.init import calibrate
from ttfsc.nn.pool import AvgPool2d, Flatten, Input, MaxPool2d
from ttfsc.nn.readout import FirstSpike, Membrane, first_spike_loss
from ttfsc.nn.residual import Add, Residual
from ttfsc.nn.spikes import Potential, Spikes
from ttfsc.nn.synapse import Conv2d, Kernel, Linear, Synapse

__all__ = [
    "Add",
    "AvgPool2d",
    "Conv2d",
    "Fire",
    "FirstSpike",
    "Flatten",
    "Input",
    "Kernel",
    "Linear",
    "MaxPool2d",
    "Membrane",
    "Potential",
    "RangeAnnealing",
    "Residual",
    "Spikes",
    "Synapse",
    "calibrate",
    "first_spike_loss",
    "fold_batchnorm",
]
