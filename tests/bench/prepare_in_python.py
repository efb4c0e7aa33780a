"""What `magnet-native prepare visium-hd` does, with h5py, pandas and anndata: counts and positions joined, checked and
written as AnnData beside the slide and its metadata.

    python prepare_in_python.py OUTS SLIDE DATASET ID
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import tifffile


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare(outs, slide, dataset, name):
    bins = outs / "binned_outputs/square_008um"
    matrix_path = bins / "filtered_feature_bc_matrix.h5"
    positions_path = bins / "spatial/tissue_positions.parquet"
    scale_path = bins / "spatial/scalefactors_json.json"
    with h5py.File(matrix_path) as file:
        matrix = file["matrix"]
        counts = sp.csr_matrix(
            (matrix["data"][:], matrix["indices"][:], matrix["indptr"][:]), shape=matrix["shape"][:][::-1]
        )
        barcodes = matrix["barcodes"][:].astype(str)
        features = {key: matrix["features"][key][:].astype(str) for key in ["id", "name", "feature_type"]}
    genes = features["feature_type"] == "Gene Expression"
    if not genes.all():
        counts = counts[:, genes]
    positions = pd.read_parquet(positions_path).set_index("barcode")
    if not positions.index.is_unique:
        raise ValueError("a barcode repeats")
    positions = positions.loc[barcodes]
    tissue = positions["in_tissue"].to_numpy() == 1
    if not tissue.all():
        counts, positions = counts[tissue], positions[tissue]
    counts.data = counts.data.astype("float32")
    if (counts.data < 0).any() or (counts.data % 1 != 0).any():
        raise ValueError("values that are no counts")
    scale = json.loads(scale_path.read_text())

    data = anndata.AnnData(
        counts,
        obs=positions[["array_row", "array_col"]].rename_axis(None),
        var=pd.DataFrame({"gene_ids": features["id"][genes]}, index=features["name"][genes]),
    )
    data.var_names_make_unique()
    data.obsm["spatial"] = positions[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()
    with tifffile.TiffFile(slide) as image:
        height, width = image.pages[0].shape[:2]
    if not ((data.obsm["spatial"] >= 0) & (data.obsm["spatial"] < [width, height])).all():
        raise ValueError("a bin outside the slide")
    data.uns["spatial"] = {name: {"scalefactors": {"spot_diameter_fullres": scale["spot_diameter_fullres"]}}}
    metadata = {
        "id": name,
        "pixel_size_um": scale["microns_per_pixel"],
        "bin_um": scale["bin_size_um"],
        "sources": {path.name: sha256(path) for path in [matrix_path, positions_path, scale_path, slide]},
    }
    for folder in ["st", "wsis", "metadata"]:
        (dataset / folder).mkdir(parents=True, exist_ok=True)
    os.link(slide, dataset / f"wsis/{name}.tif")
    (dataset / f"metadata/{name}.json").write_text(json.dumps(metadata))
    data.write_h5ad(dataset / f"st/{name}.h5ad", compression="gzip")


if __name__ == "__main__":
    began = time.perf_counter()
    prepare(*(Path(argument) for argument in sys.argv[1:4]), sys.argv[4])
    print(time.perf_counter() - began)
