"""Opens what the Rust side wrote with the tools of the field and compares it with what was meant.

    python check_written.py FOLDER

`FOLDER/expected.json` names the files and says what each holds.
"""

import json
import sys
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy
import squidpy

from contents import contents_of, differences, exact, matrix_of

warnings.filterwarnings("ignore")
FOLDER = Path(sys.argv[1])
wrong = []


def compare(file, expected, found):
    wrong.extend(f"{file}{difference}" for difference in differences(expected, found))


def annotations_of(values):
    """`uns` with arrays as lists."""
    if isinstance(values, dict):
        return {key: annotations_of(value) for key, value in values.items()}
    if isinstance(values, np.ndarray):
        return [annotations_of(value) for value in values]
    return values.item() if isinstance(values, np.generic) else values


def h5ad(file, expected):
    data = anndata.read_h5ad(FOLDER / file)
    compare(file, expected["contents"], contents_of(data))
    compare(file, expected["uns"], annotations_of(data.uns))
    # The tools do more than open it.
    if data.n_obs > 6 and np.nanmax(matrix_values(data)) > 0:
        scanpy.pp.calculate_qc_metrics(data, inplace=True, percent_top=None)
        if not np.allclose(data.obs["total_counts"], np.asarray(data.X.sum(axis=1)).ravel()):
            wrong.append(f"{file}: scanpy's totals")
        if "spatial" in data.obsm:
            squidpy.gr.spatial_neighbors(data, coord_type="generic", n_neighs=3)
            if not (np.diff(data.obsp["spatial_connectivities"].indptr) >= 1).all():
                wrong.append(f"{file}: squidpy's neighbours")


def matrix_values(data):
    return data.X.toarray() if hasattr(data.X, "toarray") else data.X


def tenx(file, expected):
    data = scanpy.read_10x_h5(FOLDER / file, gex_only=False)
    found = {
        "barcodes": list(data.obs_names),
        "names": list(data.var_names),
        "ids": list(data.var["gene_ids"]),
        "types": list(data.var["feature_types"]),
        "genomes": list(data.var["genome"]),
        "x": matrix_of(data.X),
    }
    compare(file, expected, found)


def positions(file, expected):
    frame = pd.read_parquet(FOLDER / file)
    found = {
        "barcode": list(frame["barcode"]),
        "in_tissue": [bool(value) for value in frame["in_tissue"]],
        "array_row": [int(value) for value in frame["array_row"]],
        "array_col": [int(value) for value in frame["array_col"]],
        "x": exact(frame["pxl_col_in_fullres"]),
        "y": exact(frame["pxl_row_in_fullres"]),
    }
    compare(file, expected, found)
    types = [str(dtype) for dtype in frame.dtypes[1:]]
    compare(file, ["int32"] * 3 + ["float64"] * 2, types)


expected = json.loads((FOLDER / "expected.json").read_text())
for check in [h5ad, tenx, positions]:
    for file, contents in expected[check.__name__].items():
        check(file, contents)
if wrong:
    sys.exit("\n".join(wrong[:40]))
print(sum(map(len, expected.values())), "files")
