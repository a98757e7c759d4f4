"""One torch thread: the tensors here are small, and other tests run beside these."""

import importlib.util

if importlib.util.find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
