"""The other parts of the released pipeline's structure: PNG files through a DataLoader into the released model, with
k-nearest-neighbour graphs of shuffled batches as dense matrices.

    python released_train.py encoder FILE               # a frozen ResNet-50 of random weights, for both sides
    python released_train.py train FOLDER ENCODER SIZES
    python released_train.py predict FOLDER SIZES
"""

import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))
from golden_formula import weight  # noqa: E402
from released_model import Released, ResNet50, hybrid_loss  # noqa: E402

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
SD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
FROZEN_WIDTH = 2048
WIDE = ["spot", "region"]


class Patches(Dataset):
    def __init__(self, folder, augment=False):
        self.folder, self.count, self.augment = folder, len(list(folder.iterdir())), augment

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        pixels = np.asarray(Image.open(self.folder / f"{index}.png"))
        if self.augment:
            pixels = np.rot90(pixels, random.randrange(4))
            pixels = pixels[:, ::-1] if random.random() < 0.5 else pixels
        patch = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        return index, (patch - MEAN) / SD


def loader(folder, batch, augment=False):
    patches = Patches(folder, augment)
    return DataLoader(patches, batch, shuffle=augment, num_workers=os.cpu_count() or 1)


def encoder(path):
    model = ResNet50(1000)
    names = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if tensor.dim()}
    save_file({name: weight(name, shape) for name, shape in names.items()}, path)


@torch.inference_mode()
def write_features(folder, path):
    """Spots and regions through the frozen encoder, once."""
    model = ResNet50(1000).eval()
    model.load_state_dict(load_file(path), strict=False)
    features = {}
    for level in WIDE:
        batches = [model.pooled(patches) for _, patches in loader(folder / "patches" / level, 16)]
        features[level] = torch.cat(batches)
    save_file(features, folder / "features.safetensors")


def adjacency(centers, symmetric):
    """K nearest neighbours as a dense matrix."""
    nearest = torch.cdist(centers, centers).fill_diagonal_(torch.inf).topk(min(8, len(centers) - 1), largest=False)
    edges = torch.zeros(len(centers), len(centers)).scatter_(1, nearest.indices, 1)
    return torch.maximum(edges, edges.T) if symmetric else edges


class Slide:
    """What the model reads beside patches of bins."""

    def __init__(self, folder, width):
        tables = {name: torch.from_numpy(table) for name, table in np.load(folder / "tables.npz").items()}
        self.centers = tables["bin_centers"]
        self.labels = [tables[f"{level}_labels"] for level in ["bin", *WIDE]]
        self.parents = [tables[f"{level}_parent"] for level in WIDE]
        # The released code draws its map of the features anew in each run; here training and prediction share one.
        torch.manual_seed(0)
        features = load_file(folder / "features.safetensors")
        self.wide = [features[level] @ torch.randn(FROZEN_WIDTH, width) / FROZEN_WIDTH**0.5 for level in WIDE]
        self.wide_graphs = [adjacency(tables[f"{level}_centers"], True) for level in WIDE]

    def inputs(self, index, patches):
        graphs = [adjacency(self.centers[index], False), *self.wide_graphs]
        return patches, *self.wide, *(parent[index] for parent in self.parents), graphs


def build(sizes):
    model = Released(sizes["width"], sizes["genes"], base=sizes["base"])
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            torch.nn.init.xavier_uniform_(parameter)
    torch.nn.init.normal_(model.transformer.positional_encoding)
    return model


def train(folder, path, sizes):
    write_features(folder, path)
    slide, model = Slide(folder, sizes["width"]), build(sizes).train()
    optimizer = torch.optim.SGD(model.parameters(), sizes["rate"], momentum=0.9)
    batches = loader(folder / "patches/bin", sizes["batch"], augment=True)
    steps = 0
    for _ in range(sizes["epochs"]):
        total = 0.0
        for index, patches in batches:
            for group in optimizer.param_groups:
                group["lr"] = sizes["rate"] * (1 - steps / (sizes["epochs"] * len(batches))) ** 0.9
            inputs = slide.inputs(index, patches)
            labels = [slide.labels[0][index], *slide.labels[1:]]
            optimizer.zero_grad()
            loss = hybrid_loss(model(*inputs), labels, *inputs[3:5])
            loss.backward()
            optimizer.step()
            steps, total = steps + 1, total + loss.item()
    torch.save(model.state_dict(), folder / "model.pth")
    return {"steps": steps, "loss": total / len(batches)}


@torch.inference_mode()
def predict(folder, sizes):
    slide, model = Slide(folder, sizes["width"]), build(sizes).eval()
    model.load_state_dict(torch.load(folder / "model.pth"))
    rows = [model(*slide.inputs(*batch))[0] for batch in loader(folder / "patches/bin", sizes["batch"])]
    np.savetxt(folder / "predictions.csv", torch.cat(rows).numpy(), "%.6g", ",")
    return {"bins": sum(map(len, rows))}


if __name__ == "__main__":
    part, folder, *rest = sys.argv[1:]
    began = time.perf_counter()
    if part == "encoder":
        encoder(folder)
    else:
        *paths, sizes = rest
        done = {"train": train, "predict": predict}[part](Path(folder), *paths, json.loads(sizes))
        print(json.dumps({"seconds": time.perf_counter() - began} | done))
