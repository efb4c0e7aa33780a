"""Writes the files of tests/fixtures/pytorch with PyTorch itself.

    python write_pytorch.py tests/fixtures/pytorch

Value i of a tensor is (i mod 17 - 8) / 4, which every type holds exactly.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import torch

OUT = Path(sys.argv[1])
OUT.mkdir(parents=True, exist_ok=True)


def values(*shape, dtype=torch.float32):
    size = torch.Size(shape).numel()
    return ((torch.arange(size) % 17 - 8) / 4).reshape(shape).to(dtype)


def state(dtype, prefix=""):
    wide = values(2, 3, dtype=dtype)
    tensors = {
        "linear.weight": values(3, 2, dtype=dtype),
        "linear.bias": values(3, dtype=dtype),
        "turned": wide.T,  # a view: strides that are not its shape's
        "row": wide[1],  # a view: an offset into shared storage
        "norm.num_batches_tracked": torch.tensor(5),
    }
    return OrderedDict((prefix + name, tensor) for name, tensor in tensors.items())


class Runs:
    """What a hostile file would have the reader call."""

    def __reduce__(self):
        return print, ("a reader ran this",)


torch.save(state(torch.float32), OUT / "f32.pth")
torch.save(state(torch.float16), OUT / "f16.pth")
torch.save(state(torch.bfloat16), OUT / "bf16.pth")
torch.save(
    {
        "epoch": 3,
        "state_dict": state(torch.float32, "module."),
        "optimizer": {"state": {0: {"momentum_buffer": values(3)}}},
    },
    OUT / "checkpoint.pth",
)
torch.save({"linear.bias": values(3), "more": Runs()}, OUT / "runs.pth")
torch.save({"linear.bias": torch.arange(3)}, OUT / "integers.pth")
