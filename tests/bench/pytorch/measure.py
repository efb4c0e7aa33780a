"""One measurement with PyTorch, in the fields that `magnet-native bench --json` prints.

    python measure.py encode|forward|train-step --shape '{"patches": 64, "patch_px": 112}' [--mode eager|compiled]
        [--layout nchw|channels_last] [--graph dense|tables] [--device cpu|cuda] [--precision f32|tf32|bf16]
        [--repeats R] [--warm-up W]

The shapes are those of our measurement, as it printed them.
"""

import argparse
import json
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import figure2

sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))
from released_model import Released, ResNet50, hybrid_loss  # noqa: E402

WIDTH = 1024
# Bins to a tile of the paper's sizes: 8, 56 and 128 µm.
BINS_OF_TILE = (1, 49, 256)


def main():
    options = arguments()
    torch.manual_seed(0)
    device, shape = torch.device(options.device), json.loads(options.shape)
    if options.precision == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    half = torch.autocast(device.type, torch.bfloat16) if options.precision == "bf16" else nullcontext()
    model, step = PARTS[options.part](options, shape, device)

    def run():
        with half, torch.inference_mode(options.part != "train-step"):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    peak = matrix_gflops(device, half)
    for _ in range(options.warm_up):
        run()
    seconds = []
    for _ in range(options.repeats):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    operations = count_operations(run) if options.mode == "eager" else None
    median = statistics.median(seconds)
    floor = operations / peak / 1e9 if operations else None
    count, unit = (shape["patches"], "patches/s") if options.part == "encode" else (shape["core_bins"], "bins/s")
    measurement = {
        "name": options.part,
        "shape": shape | {"parameters": sum(parameter.numel() for parameter in model.parameters())},
        "repeats": options.repeats,
        "seconds": seconds,
        "seconds_median": median,
        "rate": count / median,
        "unit": unit,
        "operations": operations,
        "bytes": None,
        "floor_seconds": floor,
        "floor_bound": "matrix",
        "share_of_floor": floor and floor / median,
    }
    report = {
        "version": f"PyTorch {torch.__version__}",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "matrix_gflops": peak,
        "bandwidth_gbytes": None,
        "measurements": [measurement],
    }
    print(json.dumps(report))


def encode(options, shape, device):
    """The released code's ResNet-50, all patches at once."""
    layout = torch.channels_last if options.layout == "channels_last" else torch.contiguous_format
    model = ResNet50(WIDTH).eval().to(device, memory_format=layout)
    side = shape["patch_px"]
    patches = torch.rand(shape["patches"], 3, side, side, device=device).contiguous(memory_format=layout)
    encoder = compiled(options, model)
    return model, lambda: encoder(patches)


def forward(options, shape, device):
    """All after the encoder; `released` with its dense graph matrices, its encoder taken out."""
    nodes, core = sizes(shape)
    geometry = figure2.geometry(nodes, core, options.graph, device)
    encoded = [torch.rand(count, shape["width"], device=device) for count in nodes]
    if shape["preset"] == "published":
        model = Released(shape["width"], shape["genes"])
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        model.encoder = torch.nn.Identity()
        parents, _, graphs, _ = geometry
        inputs = (*encoded, *parents, [graph.float() for graph in graphs])
    else:
        model = figure2.MagNet(**figure2.SIZES[shape["preset"]])
        inputs = (encoded, *geometry)
    model = model.eval().to(device)
    predict = compiled(options, model)
    return model, lambda: [prediction.cpu() for prediction in predict(*inputs)]


def train_step(options, shape, device):
    """Forward pass, loss, backward pass and update; the patches of all levels lie on the device."""
    nodes, core = sizes(shape)
    layout = torch.channels_last if options.layout == "channels_last" else torch.contiguous_format
    model = torch.nn.ModuleList([ResNet50(WIDTH), figure2.MagNet(**figure2.SIZES["paper"])]).train()
    model = model.to(device, memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), 5e-3, momentum=0.9)
    patches = [
        torch.rand(count, 3, shape["patch_px"][level], shape["patch_px"][level], device=device)
        for level, count in zip(figure2.LEVELS, nodes)
    ]
    patches = [patch.contiguous(memory_format=layout) for patch in patches]
    geometry = figure2.geometry(nodes, core, options.graph, device)
    genes = figure2.SIZES["paper"]["genes"]
    labels = [torch.rand(count, genes, device=device) for count in core]
    parents = [parent[: core[0]] % count for parent, count in zip(geometry[0], core[1:])]
    encoder, magnet = (compiled(options, part) for part in model)

    def step():
        optimizer.zero_grad()
        predicted = magnet([encoder(patch) for patch in patches], *geometry)
        hybrid_loss(predicted, labels, *parents).backward()
        optimizer.step()

    return model, step


PARTS = {"encode": encode, "forward": forward, "train-step": train_step}


def sizes(shape):
    """Nodes of each level, and how many of them are predicted: of the tiles the fewest that the bins can lie in."""
    nodes = [shape["bins"], shape["spots"], shape["regions"]]
    return nodes, [min(count, -(-shape["core_bins"] // of_tile)) for count, of_tile in zip(nodes, BINS_OF_TILE)]


def compiled(options, model):
    return torch.compile(model) if options.mode == "compiled" else model


def matrix_gflops(device, half, side=2048, repeats=5):
    """What this device reaches in a product of matrices."""
    a, b = torch.rand(2, side, side, device=device)
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        with half:
            a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times[1:]) / 1e9


def count_operations(run):
    """Operations of matrix products and convolutions; fused layers would hide theirs."""
    torch.backends.mha.set_fastpath_enabled(False)
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--shape", required=True)
    parser.add_argument("--mode", choices=["eager", "compiled"], default="eager")
    parser.add_argument("--layout", choices=["nchw", "channels_last"], default="nchw")
    parser.add_argument("--graph", choices=["dense", "tables"], default="dense")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="f32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
