"""Opens every file of a prediction with the tools of the field; all of them must hold the same values.

    python check_predictions.py FOLDER PLOT.png

The reference is `FOLDER/predictions.h5ad` as anndata reads it, of which `FOLDER/../expected.json` holds what the Rust
side knows. One gene is drawn with squidpy into `PLOT.png`.
"""

import json
import sys
import warnings
from pathlib import Path

import anndata
import matplotlib
import numpy as np
import pandas as pd
import pyarrow.parquet
import tifffile

matplotlib.use("Agg")
import matplotlib.image
import squidpy

from contents import contents_of, differences

warnings.filterwarnings("ignore")
FOLDER, PLOT = Path(sys.argv[1]), Path(sys.argv[2])

data = anndata.read_h5ad(FOLDER / "predictions.h5ad")
expected = json.loads((FOLDER.parent / "expected.json").read_text())
wrong = list(differences(expected, contents_of(data)))
values = np.asarray(data.X, dtype="float32")


def table(name, frame, tolerance=0.0):
    """A table of places and genes beside the matrix."""
    if list(frame[frame.columns[0]].astype(str)) != list(data.obs_names):
        wrong.append(f"{name}: other places")
    genes = [column for column in frame.columns if column in set(data.var_names)]
    if genes != list(data.var_names):
        wrong.append(f"{name}: the genes {genes[:5]}")
        return
    found = frame[genes].to_numpy(dtype="float32")
    if not np.allclose(found, values, rtol=0, atol=tolerance, equal_nan=True):
        wrong.append(f"{name}: other values, up to {np.nanmax(np.abs(found - values))}")
    print(f"{name}: {found.shape[0]} x {found.shape[1]} values")


# Five decimals.
table("predictions.csv", pd.read_csv(FOLDER / "predictions.csv"), tolerance=5.1e-6)

parquet = pyarrow.parquet.read_table(FOLDER / "predictions.parquet")
table("predictions.parquet", parquet.to_pandas())
if "units" not in json.loads(parquet.schema.metadata[b"magnet"]):
    wrong.append("predictions.parquet: no provenance in the metadata")

# A channel per gene, a pixel per place; nothing where no place is.
with tifffile.TiffFile(FOLDER / "predictions.ome.tif") as file:
    series = file.series[0]
    maps = series.asarray().reshape(-1, *series.shape[-2:])
    pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    channels = [channel["Name"] for channel in pixels["Channel"]]
    plane = pixels["Plane"][0]
    column, row = (
        np.floor((data.obs[f"{axis}_um"].to_numpy() - plane[f"Position{axis.upper()}"]) / pixels[f"PhysicalSize{axis.upper()}"]).astype(int)
        for axis in "xy"
    )
if channels != list(data.var_names):
    wrong.append(f"predictions.ome.tif: the channels {channels[:5]}")
elif not np.array_equal(maps[:, row, column].T, values, equal_nan=True):
    wrong.append("predictions.ome.tif: other values")
elif np.isfinite(maps).sum() != np.isfinite(values).sum():
    wrong.append("predictions.ome.tif: values where no place is")
print(f"predictions.ome.tif: {maps.shape[0]} channels of {maps.shape[2]} x {maps.shape[1]} px")

tiles = json.loads((FOLDER / "predictions.geojson").read_text())["features"]
centers = np.array([np.mean(tile["geometry"]["coordinates"][0][:4], axis=0) for tile in tiles])
if [tile["properties"]["name"] for tile in tiles] != list(data.obs_names):
    wrong.append("predictions.geojson: other places")
elif not np.allclose(centers, data.obsm["spatial"], rtol=0, atol=0.011):
    wrong.append("predictions.geojson: tiles elsewhere")
print(f"predictions.geojson: {len(tiles)} tiles")

# The slide behind the places.
library = next(iter(data.uns["spatial"].values()))
scale, image = library["scalefactors"]["tissue_hires_scalef"], library["images"]["hires"]
if not (data.obsm["spatial"] * scale <= [image.shape[1], image.shape[0]]).all():
    wrong.append(f"uns/spatial: places outside the picture of {image.shape}")

# The plot that a user makes first: one gene over the places.
gene = data.var_names[0]
shape = None if "spatial" not in data.uns else "square"
squidpy.pl.spatial_scatter(data, color=gene, shape=shape, size=None if shape else 30, save=str(PLOT), dpi=100)
pixels = matplotlib.image.imread(PLOT)[..., :3]
if pixels.std() < 0.02 or len(np.unique(pixels.reshape(-1, 3), axis=0)) < 10:
    wrong.append(f"{PLOT}: an empty plot")
print(f"{PLOT.name}: {pixels.shape[1]} x {pixels.shape[0]} px")

if wrong:
    sys.exit("\n".join(wrong[:40]))
