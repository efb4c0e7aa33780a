"""The first part of the released pipeline's structure: tables, and one PNG file for each patch of each level.

    python released_prepare.py SPACE_RANGER SLIDE OUT GENES
"""

import json
import sys
import time
from pathlib import Path

import anndata
import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1]))
import patches_in_python  # noqa: E402
import prepare_in_python  # noqa: E402

# Side of the patch in pixels, and of the tile in µm; the slide has 0.25 µm to the pixel, as the paper's.
LEVELS = {"bin": (112, 8), "spot": (224, 56), "region": (512, 128)}


def main(outs, slide, out, genes):
    prepare_in_python.prepare(outs, slide, out, "S1")
    data = anndata.read_h5ad(out / "st/S1.h5ad")
    um_per_px = json.loads((out / "metadata/S1.json").read_text())["pixel_size_um"]
    places = data.obsm["spatial"]
    counts = data.X.toarray()
    counts = counts[:, np.sort(np.argsort(-counts.mean(0), kind="stable")[:genes])]
    tables = {}
    for level, (side, tile_um) in LEVELS.items():
        centers, parent, summed = places, np.arange(len(places)), counts
        if level != "bin":
            tile_px = tile_um / um_per_px
            tiles, parent = np.unique(places // tile_px, axis=0, return_inverse=True)
            centers, parent = (tiles + 0.5) * tile_px, parent.ravel()
            summed = np.zeros((len(tiles), genes))
            np.add.at(summed, parent, counts)
        panel = np.log(summed + 1)
        tables[f"{level}_centers"], tables[f"{level}_parent"] = centers.astype("float32"), parent
        tables[f"{level}_labels"] = (panel - np.log((summed + 1).sum(1, keepdims=True))).astype("float32")
        write_patches(slide, centers, side, out / "patches" / level)
    np.savez(out / "tables.npz", **tables)


def write_patches(slide, centers, side, folder):
    folder.mkdir(parents=True)
    corners = centers.round().astype(int) - side // 2
    for index, patch in enumerate(patches_in_python.with_memory(slide, corners, side)):
        Image.fromarray(patch).save(folder / f"{index}.png")


if __name__ == "__main__":
    began = time.perf_counter()
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
    print(json.dumps({"seconds": time.perf_counter() - began}))
