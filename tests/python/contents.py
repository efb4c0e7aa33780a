"""What an AnnData object holds, in the form in which Rust and Python tell it each other."""

import numpy as np
import pandas as pd
import scipy.sparse as sp


def exact(values):
    """As text: not every reader of JSON takes the last bit of a number."""
    return [repr(float(value)) for value in np.asarray(values).ravel()]


def column_of(series):
    if isinstance(series.dtype, pd.CategoricalDtype):
        texts = [None if pd.isna(value) else str(value) for value in series]
        return {"kind": "categorical", "values": texts, "categories": [str(c) for c in series.cat.categories]}
    if pd.api.types.is_bool_dtype(series.dtype):
        return {"kind": "flags", "values": [bool(value) for value in series]}
    if pd.api.types.is_integer_dtype(series.dtype):
        return {"kind": "integers", "values": [int(value) for value in series]}
    if pd.api.types.is_float_dtype(series.dtype):
        return {"kind": "numbers", "values": exact(series)}
    return {"kind": "texts", "values": ["" if pd.isna(value) else str(value) for value in series]}


def table_of(frame, unread=()):
    return {
        "names": list(frame.index),
        "columns": {name: column_of(frame[name]) for name in frame.columns if name not in unread},
    }


def matrix_of(values):
    if sp.issparse(values):
        # SciPy itself takes no unsigned indices.
        values.indices, values.indptr = values.indices.astype("int64"), values.indptr.astype("int64")
        values = values.toarray()
    dense = np.asarray(values)
    return {"rows": dense.shape[0], "cols": dense.shape[1], "values": exact(dense)}


def contents_of(data, unread=()):
    """An AnnData object, without the columns in `unread` and without annotations."""
    return {
        "sparse": sp.issparse(data.X),
        "x": matrix_of(data.X),
        "layers": {name: matrix_of(layer) for name, layer in data.layers.items()},
        "obs": table_of(data.obs, unread),
        "var": table_of(data.var, unread),
        "spatial": exact(data.obsm["spatial"][:, :2]) if "spatial" in data.obsm else None,
    }


def differences(expected, found, path=""):
    """Every place at which two such descriptions differ; numbers as text are compared as numbers."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(set(expected) | set(found)):
            if key not in expected or key not in found:
                yield f"{path}/{key}: only in {'what was read' if key in found else 'what was written'}"
            else:
                yield from differences(expected[key], found[key], f"{path}/{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield f"{path}: {len(found)} entries, not {len(expected)}"
        else:
            for place, pair in enumerate(zip(expected, found)):
                yield from differences(*pair, f"{path}[{place}]")
    elif expected != found and not same_number(expected, found):
        yield f"{path}: {found!r}, not {expected!r}"


def same_number(expected, found):
    try:
        expected, found = float(expected), float(found)
    except (TypeError, ValueError):
        return False
    return expected == found or (np.isnan(expected) and np.isnan(found))
