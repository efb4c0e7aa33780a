"""The numbers that golden files are made from: weights, inputs, labels and geometry by formulas over names."""

import math

import numpy as np
import torch


def signed(name, shape):
    """Numbers in -1..1: SplitMix64 from the name's FNV-1a hash and the flat index."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    values = 2 * ((z >> np.uint64(40)).astype(np.float64) / 2**24) - 1
    return torch.from_numpy(values).reshape(shape)


def weight(name, shape):
    """A tensor of the state dict."""
    values = signed(name, shape)
    if name.endswith("running_var"):
        values = 1 + 0.5 * (values + 1) / 2
    elif name.endswith("running_mean"):
        values = 0.1 * values
    elif len(shape) >= 2:
        values = values * math.sqrt(3 / (math.prod(shape) / shape[0]))
    elif name.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return values.float()


def adjacency(places, symmetric):
    """K nearest neighbours, ties to the lower index, as a dense matrix."""
    count = min(8, len(places) - 1)
    edges = torch.zeros(len(places), len(places))
    for node, place in enumerate(places):
        others = [other for other in range(len(places)) if other != node]
        others.sort(key=lambda other: (math.dist(place, places[other]), other))
        edges[node, others[:count]] = 1
    return torch.maximum(edges, edges.T) if symmetric else edges


def inputs(sizes):
    """What the released model reads: patches, wide features, parents and graphs."""
    bins, spots, regions, side = (sizes[key] for key in ["B", "S", "R", "P"])
    columns = math.ceil(math.sqrt(bins))
    return (
        signed("input.bin", (bins, 3, side, side)).float(),
        signed("input.spot", (spots, sizes["dim"])).float(),
        signed("input.region", (regions, sizes["dim"])).float(),
        torch.arange(bins) % spots,
        torch.arange(bins) % regions,
        [
            adjacency([(node // columns, node % columns) for node in range(bins)], False),
            adjacency([(node // 2, node % 2) for node in range(spots)], True),
            adjacency([(0, node) for node in range(regions)], True),
        ],
    )
