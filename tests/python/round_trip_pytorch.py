"""The round trip of tests/tests/exchange.rs through an installed PyTorch.

    python round_trip_pytorch.py STATE.safetensors GOLDEN.safetensors FOLDER

Loads a state dict that `magnet-native export --to pytorch` wrote into the published model in PyTorch, compares its
predictions with the golden file's, and saves it in FOLDER as PyTorch does: f32.pth, f16.pth, bf16.pth.
"""

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from golden_formula import inputs
from released_model import Released

state, golden_path, folder = sys.argv[1:]
with safe_open(golden_path, "pt") as golden:
    sizes = {key: int(value) for key, value in golden.metadata().items()}
    expected = [golden.get_tensor(name) for name in ["out_bin", "out_spot", "out_region"]]

model = Released(sizes["dim"], sizes["genes"]).eval()
model.load_state_dict(load_file(state), strict=True)
with torch.no_grad():
    predicted = model(*inputs(sizes))
for level, ours, theirs in zip(["bin", "spot", "region"], predicted, expected):
    apart = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    assert apart <= 1e-4, f"{level}: {apart}"
for name, dtype in [("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)]:
    saved = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in model.state_dict().items()
    }
    torch.save(saved, Path(folder) / f"{name}.pth")
print("the exported state dict predicts what the released code does")
