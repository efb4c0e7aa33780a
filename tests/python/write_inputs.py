"""Writes files as the field's tools write them, and what each of them holds, for tests/tests/field_tools.

    python write_inputs.py FOLDER

`FOLDER/expected.json` lists the files; the values beside each file are those that the tool itself reads back from it.
"""

import itertools
import json
import sys
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scanpy
import scipy.sparse as sp

from contents import contents_of, exact, matrix_of

warnings.filterwarnings("ignore")
OUT = Path(sys.argv[1])
RANDOM = np.random.default_rng(7)
FORMATS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda matrix: matrix.toarray()}
DTYPES = ["float32", "float64", "int32", "int64", "uint16"]
expected = {"h5ad": [], "tenx": [], "positions": []}


def counts(rows, cols, density=0.3):
    """Whole numbers with many zeros, an empty row and an empty column."""
    dense = RANDOM.poisson(4, (rows, cols)) * (RANDOM.random((rows, cols)) < density)
    dense[rows // 2] = 0
    dense[:, cols // 3] = 0
    return sp.csr_matrix(dense)


def names(prefix, count):
    return [f"{prefix}{index}" for index in range(count)]


# An image of fractions, which some tools write; ours holds bytes.
HIRES = "uns/spatial/lib/images/hires"


def expect_h5ad(path, unread=(), ignored=()):
    """Adds a file with what anndata reads from it, less the columns and objects that we report as not read."""
    contents = contents_of(anndata.read_h5ad(path), unread)
    expected["h5ad"].append({"file": path.name, "ignored": list(ignored), **contents})


def plain(matrix):
    return anndata.AnnData(
        matrix,
        obs=pd.DataFrame(index=names("s", matrix.shape[0])),
        var=pd.DataFrame(index=names("g", matrix.shape[1])),
    )


def rewrite(path, dataset, **settings):
    """Stores a dataset again with other settings: what anndata's own writer does not offer."""
    with h5py.File(path, "r+") as file:
        values, attributes = file[dataset][()], dict(file[dataset].attrs)
        del file[dataset]
        replaced = file.create_dataset(dataset, data=values.astype(settings.pop("dtype", values.dtype)), **settings)
        replaced.attrs.update(attributes)


# AnnData files.


def h5ad_layouts():
    """Every layout, type, compression and chunking of the main matrix."""
    for form, dtype, compression in itertools.product(FORMATS, DTYPES, [None, "gzip", "lzf"]):
        path = OUT / f"{form}-{dtype}-{compression}.h5ad"
        plain(FORMATS[form](counts(23, 17).astype(dtype))).write_h5ad(path, compression=compression)
        expect_h5ad(path)
    # Chunks that do not divide the shape, filters in their various orders, wide indices.
    chunked = {
        "plain": {},
        "gzip-shuffle": {"compression": "gzip", "shuffle": True},
        "gzip-shuffle-checksum": {"compression": "gzip", "shuffle": True, "fletcher32": True},
        "lzf-shuffle": {"compression": "lzf", "shuffle": True},
        "gzip-9": {"compression": "gzip", "compression_opts": 9},
    }
    for (name, settings), form in itertools.product(chunked.items(), FORMATS):
        path = OUT / f"chunked-{form}-{name}.h5ad"
        plain(FORMATS[form](counts(61, 40).astype("float32"))).write_h5ad(path)
        if form == "dense":
            rewrite(path, "X", chunks=(7, 11), **settings)
        else:
            rewrite(path, "X/data", chunks=(100,), **settings)
            rewrite(path, "X/indices", dtype="int64", chunks=(33,), **settings)
            rewrite(path, "X/indptr", dtype="int64", chunks=(5,), **settings)
        expect_h5ad(path)
    for dtype in ["uint32", "uint64", "int64"]:
        path = OUT / f"indices-{dtype}.h5ad"
        plain(counts(30, 20).astype("float32")).write_h5ad(path)
        rewrite(path, "X/indices", dtype=dtype)
        rewrite(path, "X/indptr", dtype=dtype)
        expect_h5ad(path)
    # Room to grow, as tools that append leave it; big-endian numbers; the newest file layout.
    path = OUT / "resizable.h5ad"
    plain(counts(30, 20).astype("float32")).write_h5ad(path)
    rewrite(path, "X/data", chunks=(16,), maxshape=(None,))
    expect_h5ad(path)
    path = OUT / "big-endian.h5ad"
    plain(counts(30, 20).toarray().astype("float32")).write_h5ad(path)
    rewrite(path, "X", dtype=">f4")
    expect_h5ad(path)
    source, path = path, OUT / "latest-layout.h5ad"
    with h5py.File(source) as old, h5py.File(path, "w", libver="latest") as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
    expect_h5ad(path)
    path = OUT / "unsorted.h5ad"
    matrix = counts(12, 9).astype("float32")
    for row in range(12):
        span = slice(matrix.indptr[row], matrix.indptr[row + 1])
        matrix.indices[span], matrix.data[span] = matrix.indices[span][::-1].copy(), matrix.data[span][::-1].copy()
    matrix.has_sorted_indices = False
    plain(matrix).write_h5ad(path)
    expect_h5ad(path)
    path = OUT / "half.h5ad"
    plain(counts(9, 7).toarray().astype("float16")).write_h5ad(path)
    expect_h5ad(path)


def rich(rows=40, cols=25):
    """Tables with columns of every kind, layers, raw, coordinates and annotations."""
    matrix = counts(rows, cols).astype("float32")
    obs = pd.DataFrame(
        {
            "cluster": pd.Categorical(RANDOM.choice(["tumour", "stroma", "Ödem"], rows)),
            "grade": pd.Categorical(RANDOM.choice([1, 2, 3], rows), ordered=True),
            "patient": pd.Categorical([None if index % 5 == 0 else "P1" for index in range(rows)]),
            "score": RANDOM.normal(size=rows),
            "score32": RANDOM.normal(size=rows).astype("float32"),
            "missing": np.where(np.arange(rows) % 3 == 0, np.nan, 1.5),
            "reads": RANDOM.integers(-5, 1 << 40, rows),
            "row": np.arange(rows, dtype="int32"),
            "byte": np.arange(rows, dtype="uint8"),
            "in_tissue": RANDOM.random(rows) < 0.5,
            "note": [f"naïve {index} 細胞" for index in range(rows)],
        },
        index=[f"AAAC{index:04}-1" for index in range(rows)],
    )
    var = pd.DataFrame(
        {"gene_ids": [f"ENSG{index:011}" for index in range(cols)], "highly_variable": np.arange(cols) % 2 == 0},
        index=names("GENE", cols),
    )
    data = anndata.AnnData(matrix, obs=obs, var=var)
    data.layers["counts"] = sp.csc_matrix(matrix)
    data.layers["dense"] = matrix.toarray().astype("float64")
    data.obsm["spatial"] = RANDOM.random((rows, 2)) * 5000
    data.uns["spatial"] = {
        "lib": {
            "images": {"hires": RANDOM.random((20, 30, 3)).astype("float32")},
            "scalefactors": {"spot_diameter_fullres": 89.5, "tissue_hires_scalef": 0.08},
        }
    }
    return data


def h5ad_contents():
    path = OUT / "rich.h5ad"
    rich().write_h5ad(path, compression="gzip")
    expect_h5ad(path, ignored=[HIRES])
    # What common pipelines add.
    path = OUT / "pipeline.h5ad"
    data = rich()
    data.raw = data.copy()
    scanpy.pp.normalize_total(data, target_sum=1e4)
    scanpy.pp.log1p(data)
    scanpy.pp.calculate_qc_metrics(data, inplace=True, percent_top=None)
    data.obsm["X_pca"] = RANDOM.random((data.n_obs, 4))
    data.obsp["connectivities"] = sp.csr_matrix((data.n_obs, data.n_obs))
    data.varm["PCs"] = RANDOM.random((data.n_vars, 4))
    data.write_h5ad(path)
    expect_h5ad(
        path,
        ignored=["obsm/X_pca", "obsp/connectivities", "raw/X", "raw/var", "raw/varm", "uns/log1p/base", HIRES, "varm/PCs"],
    )
    # Columns with a mask, which pandas calls nullable.
    path = OUT / "nullable.h5ad"
    data = rich()
    data.obs["masked_count"] = pd.array([None if i % 4 == 0 else i for i in range(data.n_obs)], dtype="Int64")
    data.obs["masked_flag"] = pd.array([None if i % 4 == 0 else True for i in range(data.n_obs)], dtype="boolean")
    data.write_h5ad(path)
    expect_h5ad(
        path,
        unread=["masked_count", "masked_flag"],
        ignored=["obs/masked_count", "obs/masked_flag", HIRES],
    )
    with anndata.settings.override(allow_write_nullable_strings=True):
        path = OUT / "nullable-strings.h5ad"
        data = rich()
        data.obs["masked_text"] = pd.array([None if i % 4 == 0 else f"t{i}" for i in range(data.n_obs)], dtype="string")
        data.write_h5ad(path)
    expect_h5ad(path, ignored=[HIRES])
    path = OUT / "three-coordinates.h5ad"
    data = plain(counts(8, 6).astype("float32"))
    data.obsm["spatial"] = np.column_stack([RANDOM.random((8, 2)) * 100, np.zeros(8)])
    data.write_h5ad(path)
    expect_h5ad(path)
    path = OUT / "integer-coordinates.h5ad"
    data = plain(counts(8, 6).astype("float32"))
    data.obsm["spatial"] = RANDOM.integers(0, 20000, (8, 2))
    data.write_h5ad(path)
    expect_h5ad(path)
    path = OUT / "named-index.h5ad"
    data = rich()
    data.obs.index.name = "barcode"
    data.write_h5ad(path)
    expect_h5ad(path, ignored=[HIRES])


def h5ad_of_anndata_0_7():
    """The layout of anndata 0.7: categories aside, strings and scalars without an encoding."""
    path = OUT / "anndata-0.7.h5ad"
    data = plain(counts(10, 8).astype("float32"))
    data.obs["reads"] = np.arange(10)
    data.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        for name in list(file.attrs):
            del file.attrs[name]
        del file["obsp"], file["varp"]
        for axis in ["obs", "var"]:
            group = file[axis]
            group.attrs["encoding-version"] = "0.1.0"
            for member in group.values():
                for name in ["encoding-type", "encoding-version"]:
                    if name in member.attrs:
                        del member.attrs[name]
        obs = file["obs"]
        categories = obs.create_group("__categories")
        texts = h5py.string_dtype()
        categories.create_dataset("cluster", data=np.array(["a", "b"], dtype=object), dtype=texts)
        codes = obs.create_dataset("cluster", data=np.array([0, 1, -1, 0, 1, 1, 0, 0, 1, -1], dtype="int8"))
        codes.attrs["categories"] = categories["cluster"].ref
        categories["cluster"].attrs["ordered"] = False
        obs.attrs["column-order"] = np.array(["reads", "cluster"], dtype=object)
    expect_h5ad(path)


# 10x matrices.


def tenx_matrices():
    settings = {
        "gzip": {"chunks": (80,), "compression": "gzip", "shuffle": True},
        "plain": {},
        "lzf": {"chunks": (80,), "compression": "lzf"},
    }
    for (name, packed), (data, indices) in itertools.product(
        settings.items(), [("int32", "int64"), ("int64", "int32"), ("uint32", "int64")]
    ):
        path = OUT / f"tenx-{name}-{data}-{indices}.h5"
        write_tenx(path, data, indices, packed)
        judged = scanpy.read_10x_h5(path, gex_only=False)
        expected["tenx"].append(
            {
                "file": path.name,
                "barcodes": list(judged.obs_names),
                "ids": list(judged.var["gene_ids"]),
                "names": list(judged.var_names),
                "types": list(judged.var["feature_types"]),
                "genomes": list(judged.var["genome"]),
                "x": matrix_of(judged.X),
            }
        )


def write_tenx(path, data_type, index_type, packed):
    """As Space Ranger lays it out: features × barcodes by column, fixed-width ASCII strings."""
    features, barcodes = 30, 50
    matrix = sp.csc_matrix(counts(features, barcodes))
    with h5py.File(path, "w") as file:
        file.attrs["chemistry_description"] = "Visium HD v1"
        file.attrs["filetype"] = "matrix"
        file.attrs["library_ids"] = np.array([b"lib"])
        file.attrs["version"] = 2
        group = file.create_group("matrix")
        cells = np.array([f"s_008um_{i // 8:05}_{i % 8:05}-1" for i in range(barcodes)], dtype="S")
        group.create_dataset("barcodes", data=cells)
        group.create_dataset("data", data=matrix.data.astype(data_type), **packed)
        group.create_dataset("indices", data=matrix.indices.astype(index_type), **packed)
        group.create_dataset("indptr", data=matrix.indptr.astype("int64"), **({"chunks": (16,)} if packed else {}))
        group.create_dataset("shape", data=np.array(matrix.shape, dtype="int32"))
        table = group.create_group("features")
        table.create_dataset("_all_tag_keys", data=np.array([b"genome"]))
        for name, values in {
            "id": [f"ENSG{i:011}" for i in range(features)],
            # A symbol that repeats, as some do.
            "name": [f"GENE{max(i, 1)}" for i in range(features)],
            "feature_type": ["Gene Expression"] * (features - 2) + ["Antibody Capture"] * 2,
            "genome": ["GRCh38"] * features,
        }.items():
            table.create_dataset(name, data=np.array(values, dtype="S"))


# Positions.


def positions():
    rows = 500
    index = np.arange(rows)
    frame = pd.DataFrame(
        {
            "barcode": [f"s_008um_{i // 25:05}_{i % 25:05}-1" for i in index],
            "in_tissue": (index % 3 != 0).astype("int32"),
            "array_row": (index // 25).astype("int32"),
            "array_col": (index % 25).astype("int32"),
            "pxl_row_in_fullres": index // 25 * 29.27 + 0.1,
            "pxl_col_in_fullres": index % 25 * 29.27 - 3.25,
        }
    )
    frame.to_csv(OUT / "positions.csv", index=False)
    frame.to_csv(OUT / "positions_list.csv", index=False, header=False)
    variants = {
        "pandas": lambda path: frame.to_parquet(path, index=False),
        "pandas-index": lambda path: frame.set_index("barcode").to_parquet(path),
        "range-index": lambda path: frame.iloc[5:].reset_index().to_parquet(path),
        "int64": lambda path: frame.astype({"in_tissue": "int64", "array_row": "int64", "array_col": "int64"}).to_parquet(path),
        "small-integers": lambda path: frame.astype({"in_tissue": "uint8", "array_row": "int16", "array_col": "uint16"}).to_parquet(path),
        "boolean": lambda path: frame.astype({"in_tissue": bool}).to_parquet(path),
        "float32": lambda path: frame.astype({"pxl_row_in_fullres": "float32", "pxl_col_in_fullres": "float32"}).to_parquet(path),
        "categories": lambda path: frame.astype({"barcode": "category"}).to_parquet(path),
        "large-strings": lambda path: pq.write_table(
            pa.Table.from_pandas(frame).cast(
                pa.schema([("barcode", pa.large_string())] + [pa.field(n, t) for n, t in zip(
                    frame.columns[1:], [pa.int32()] * 3 + [pa.float64()] * 2)])
            ),
            path,
        ),
        "column-order": lambda path: frame[frame.columns[::-1]].to_parquet(path, index=False),
        "more-columns": lambda path: frame.assign(cluster="a").to_parquet(path, index=False),
    }
    for compression in ["none", "snappy", "zstd", "gzip"]:
        for dictionary, version in [(True, "1.0"), (False, "2.0")]:
            variants[f"{compression}-{version}"] = lambda path, c=compression, d=dictionary, v=version: pq.write_table(
                pa.Table.from_pandas(frame, preserve_index=False),
                path,
                compression=c,
                use_dictionary=d,
                data_page_version=v,
                row_group_size=90,
                data_page_size=600,
            )
    for name, write in variants.items():
        path = OUT / f"positions-{name}.parquet"
        write(path)
        expect_positions(path.name, pd.read_parquet(path))
    # Without this pandas loses the last bit of a number.
    table = pd.read_csv(OUT / "positions.csv", float_precision="round_trip")
    expect_positions("positions.csv", table)
    expect_positions("positions_list.csv", table)


def expect_positions(name, frame):
    frame = frame.reset_index()
    expected["positions"].append(
        {
            "file": name,
            "barcode": [str(value) for value in frame["barcode"]],
            "in_tissue": [bool(value) for value in frame["in_tissue"]],
            "array_row": [int(value) for value in frame["array_row"]],
            "array_col": [int(value) for value in frame["array_col"]],
            "x": exact(frame["pxl_col_in_fullres"]),
            "y": exact(frame["pxl_row_in_fullres"]),
        }
    )


OUT.mkdir(parents=True, exist_ok=True)
h5ad_layouts()
h5ad_contents()
h5ad_of_anndata_0_7()
tenx_matrices()
positions()
(OUT / "expected.json").write_text(json.dumps(expected))
print(", ".join(f"{len(files)} {kind}" for kind, files in expected.items()))
