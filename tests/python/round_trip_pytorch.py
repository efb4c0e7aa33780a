"""The round trip of tests/tests/exchange.rs through an installed PyTorch.

    python round_trip_pytorch.py STATE.safetensors GOLDEN.safetensors FOLDER

Loads a state dict that `magnet-native export --to pytorch` wrote into the published model in PyTorch, compares its
predictions with the golden file's, and saves it in FOLDER as PyTorch does: f32.pth, f16.pth, bf16.pth.
"""

import math
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from released_model import Released

MASK = (1 << 64) - 1


def signed(name, shape):
    """The golden files' numbers in -1..1: SplitMix64 from the name's FNV-1a hash."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    values = []
    for index in range(math.prod(shape)):
        z = ((seed + index + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        values.append(2 * ((z >> 40) / 2**24) - 1)
    return torch.tensor(values, dtype=torch.float64).float().reshape(shape)


def adjacency(places, symmetric):
    count = min(8, len(places) - 1)
    edges = torch.zeros(len(places), len(places))
    for node, place in enumerate(places):
        others = [other for other in range(len(places)) if other != node]
        others.sort(key=lambda other: (math.dist(place, places[other]), other))
        edges[node, others[:count]] = 1
    return torch.maximum(edges, edges.T) if symmetric else edges


state, golden_path, folder = sys.argv[1:]
with safe_open(golden_path, "pt") as golden:
    sizes = {key: int(value) for key, value in golden.metadata().items()}
    expected = [golden.get_tensor(name) for name in ["out_bin", "out_spot", "out_region"]]
bins, spots, regions, side = (sizes[key] for key in ["B", "S", "R", "P"])

model = Released(sizes["dim"], sizes["genes"]).eval()
model.load_state_dict(load_file(state), strict=True)
columns = math.ceil(math.sqrt(bins))
with torch.no_grad():
    predicted = model(
        signed("input.bin", (bins, 3, side, side)),
        signed("input.spot", (spots, sizes["dim"])),
        signed("input.region", (regions, sizes["dim"])),
        torch.arange(bins) % spots,
        torch.arange(bins) % regions,
        [
            adjacency([(node // columns, node % columns) for node in range(bins)], False),
            adjacency([(node // 2, node % 2) for node in range(spots)], True),
            adjacency([(0, node) for node in range(regions)], True),
        ],
    )
for level, ours, theirs in zip(["bin", "spot", "region"], predicted, expected):
    apart = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    assert apart <= 1e-4, f"{level}: {apart}"
for name, dtype in [("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)]:
    saved = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in model.state_dict().items()
    }
    torch.save(saved, Path(folder) / f"{name}.pth")
print("the exported state dict predicts what the released code does")
