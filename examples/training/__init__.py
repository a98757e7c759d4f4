"""One trainer for all examples: data, augmentation, the training loop, and what is printed at the end.

A recipe (`examples/mnist/train.py`, `examples/cifar10/train.py`) is a table of `Recipe`s; everything else is here.
"""
