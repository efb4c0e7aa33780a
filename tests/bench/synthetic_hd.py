"""A made-up Visium HD run of the size of a real one: bins in Space Ranger's layout and a pyramidal slide.

The counts have the sparsity of real ones and no biology; what the readers do depends on nothing else.

    python synthetic_hd.py FOLDER BINS BIN_UM
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import tifffile

UM_PER_PX = 0.5
GENES = 18_000
# Genes seen in a bin of 8 µm, on average; real ones have 50 to 200.
GENES_PER_BIN = 90
# A disc of tissue in the square of bins that Space Ranger lists.
TISSUE_SHARE = 0.72


def make(folder: Path, bins: int, bin_um: int = 8, seed: int = 5):
    """Writes the run into `folder/outs` and the slide into `folder/slide.tif`, once."""
    side, bin_px = int(np.ceil(np.sqrt(bins / TISSUE_SHARE))), bin_um / UM_PER_PX
    marker = folder / f"made-{bins}-{bin_um}-{seed}"
    if marker.exists():
        return
    random = np.random.default_rng(seed)
    outputs = folder / "outs/binned_outputs" / f"square_{bin_um:03}um"
    (outputs / "spatial").mkdir(parents=True, exist_ok=True)

    row, col = (grid.ravel() for grid in np.mgrid[0:side, 0:side])
    distance = np.hypot(row - side / 2, col - side / 2)
    in_tissue = np.zeros(side * side, dtype="int32")
    in_tissue[np.argsort(distance, kind="stable")[:bins]] = 1
    barcodes = np.array([f"s_{bin_um:03}um_{r:05}_{c:05}-1" for r, c in zip(row, col)])
    pd.DataFrame(
        {
            "barcode": barcodes,
            "in_tissue": in_tissue,
            "array_row": row.astype("int32"),
            "array_col": col.astype("int32"),
            "pxl_row_in_fullres": (row + 0.5) * bin_px + 64,
            "pxl_col_in_fullres": (col + 0.5) * bin_px + 64,
        }
    ).to_parquet(outputs / "spatial/tissue_positions.parquet", index=False)
    scale = {"spot_diameter_fullres": bin_px, "bin_size_um": float(bin_um), "microns_per_pixel": UM_PER_PX}
    (outputs / "spatial/scalefactors_json.json").write_text(json.dumps(scale))
    write_matrix(outputs / "filtered_feature_bc_matrix.h5", barcodes[in_tissue == 1], GENES_PER_BIN * (bin_um / 8) ** 2, random)
    write_slide(folder / "slide.tif", int(side * bin_px) + 128, random)
    marker.touch()


def write_matrix(path, barcodes, genes_per_bin, random):
    """Few genes are seen often, most rarely; nearly all counts are 1 or 2."""
    likelihood = 1 / np.arange(1, GENES + 1) ** 0.8
    likelihood = random.permutation(likelihood / likelihood.sum())
    indices, data, lengths = [], [], []
    for start in range(0, len(barcodes), 10_000):
        here = len(barcodes[start : start + 10_000])
        drawn = random.gamma(3.0, genes_per_bin * 1.25 / 3.0, here).astype(int) + 1
        genes = random.choice(GENES, drawn.sum(), p=likelihood).astype("int64")
        keys = np.repeat(np.arange(here), drawn) * GENES + genes
        unique, counts = np.unique(keys, return_counts=True)
        indices.append(unique % GENES)
        data.append(counts.astype("int32"))
        lengths.append(np.bincount(unique // GENES, minlength=here))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype("int64")
    packed = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "chunks": (80_000,)}
    with h5py.File(path, "w") as file:
        file.attrs["filetype"], file.attrs["version"] = "matrix", 2
        group = file.create_group("matrix")
        group.create_dataset("barcodes", data=barcodes.astype("S"), compression="gzip", chunks=(80_000,))
        group.create_dataset("data", data=np.concatenate(data), **packed)
        group.create_dataset("indices", data=np.concatenate(indices), **packed)
        group.create_dataset("indptr", data=indptr, **packed)
        group.create_dataset("shape", data=np.array([GENES, len(barcodes)], dtype="int32"))
        features = group.create_group("features")
        for name, values in {
            "id": [f"ENSG{gene:011}" for gene in range(GENES)],
            # A few symbols repeat, as in the real tables.
            "name": [f"GENE{gene - gene % 500 // 499}" for gene in range(GENES)],
            "feature_type": ["Gene Expression"] * GENES,
            "genome": ["GRCh38"] * GENES,
        }.items():
            features.create_dataset(name, data=np.array(values, dtype="S"))


def write_slide(path, side, random):
    """Smooth tissue with the noise of a camera, JPEG tiles of 256 px, five levels."""
    y, x = np.mgrid[0:side, 0:side].astype("float32")
    image = np.empty((side, side, 3), dtype="uint8")
    for channel, (wave, base) in enumerate([(37, 200), (53, 140), (71, 180)]):
        smooth = base + 30 * np.sin(x / wave + y / 91) + 20 * np.cos(y / wave - x / 173)
        image[..., channel] = np.clip(smooth + random.normal(0, 4, (side, side)).astype("float32"), 0, 255)
    levels = [image]
    while len(levels) < 5:
        last = levels[-1]
        half = last.shape[0] // 2
        blocks = last[: half * 2, : half * 2].reshape(half, 2, half, 2, 3)
        levels.append(blocks.mean(axis=(1, 3), dtype="float32").round().astype("uint8"))
    options = {
        "tile": (256, 256),
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": 85},
        "resolution": (1e4 / UM_PER_PX, 1e4 / UM_PER_PX),
        "resolutionunit": "CENTIMETER",
        "metadata": None,
    }
    with tifffile.TiffWriter(path, bigtiff=True) as out:
        out.write(levels[0], subifds=len(levels) - 1, **options)
        for level in levels[1:]:
            out.write(level, subfiletype=1, **options)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    make(target, int(sys.argv[2]), int(sys.argv[3]))
