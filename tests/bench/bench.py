"""Times the programs against Python on a made-up Visium HD slide, checks that both made the same, prints a table.

    python bench.py FOLDER PROGRAMS [BINS]

Each way is run five times in a process of its own, the ways in turn; the medians count. Python's own start and imports
are not counted, the program's start is.
"""

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

import synthetic_hd

HERE = Path(__file__).resolve().parent
FOLDER, PROGRAMS = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
BINS = int(sys.argv[3]) if len(sys.argv) > 3 else 210_000
REPEATS = 5
# Patch side in pixels, and how many places are read.
PATCHES = [(112, 20_000), (512, 2_000)]


def python(script, *arguments):
    output = subprocess.run(
        [sys.executable, HERE / script, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return output.stdout.split()


def median(times):
    return f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"


def table(title, rows):
    """Each row beside the first."""
    print(f"\n{title}\n\n| way | median of {REPEATS} (range) | times the program's |\n| --- | ---: | ---: |")
    reference = statistics.median(rows[0][1])
    for name, times in rows:
        print(f"| {name} | {median(times)} | {statistics.median(times) / reference:.1f} |")


def clear(folder):
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def prepare():
    ours, theirs = FOLDER / "prepared", FOLDER / "prepared-python"
    outs, slide = FOLDER / "outs", FOLDER / "slide.tif"
    times = ([], [])
    for _ in range(REPEATS):
        command = [PROGRAMS / "magnet-native", "prepare", "visium-hd", "--input", outs, "--image", slide]
        command += ["--out", clear(ours), "--id", "S1", "--bin-um", "8", "--quiet"]
        began = time.perf_counter()
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        times[0].append(time.perf_counter() - began)
        times[1].append(float(python("prepare_in_python.py", outs, slide, clear(theirs), "S1")[0]))
    found, expected = (anndata.read_h5ad(folder / "st/S1.h5ad") for folder in (ours, theirs))
    assert (found.obs_names == expected.obs_names).all(), "other bins"
    assert (found.var["gene_ids"].to_numpy() == expected.var["gene_ids"].to_numpy()).all(), "other genes"
    assert (found.X != expected.X).nnz == 0, "other counts"
    assert (found.obsm["spatial"] == expected.obsm["spatial"]).all(), "other places"
    table(
        f"Preparing {found.n_obs:,} bins x {found.n_vars:,} genes ({found.X.nnz:,} counts), identical values",
        [("magnet-native prepare visium-hd", times[0]), ("h5py + pandas + anndata", times[1])],
    )


def patches():
    positions = pd.read_parquet(FOLDER / "outs/binned_outputs/square_008um/spatial/tissue_positions.parquet")
    places = positions[positions["in_tissue"] == 1][["pxl_col_in_fullres", "pxl_row_in_fullres"]]
    slide = FOLDER / "slide.tif"
    for side, count in PATCHES:
        # Neighbouring bins, row by row, from the middle of the tissue.
        start = max((len(places) - count) // 2, 0)
        chosen = FOLDER / f"centers-{side}.csv"
        places.iloc[start : start + count].to_csv(chosen, index=False)
        ways = {
            "magnet, all cores": lambda out: ours(slide, chosen, side, 0, out),
            "magnet, one thread": lambda out: ours(slide, chosen, side, 1, out),
            "tifffile, tiles kept": lambda out: python("patches_in_python.py", slide, chosen, side, "cached", out),
            "tifffile, zarr store": lambda out: python("patches_in_python.py", slide, chosen, side, "zarr", out),
            "tifffile, whole slide in memory": lambda out: python("patches_in_python.py", slide, chosen, side, "memory", out),
        }
        times, samples = {name: [] for name in ways}, {}
        for repeat in range(REPEATS):
            for name, run in ways.items():
                # The slow way is run once.
                if name.endswith("zarr store") and repeat > 0:
                    continue
                out = FOLDER / "sample.rgb"
                times[name].append(float(run(out)[0]))
                samples[name] = np.fromfile(out, dtype="uint8").astype(int)
        differences = [abs(samples[name] - samples["magnet, one thread"]) for name in ways]
        largest, mean = max(d.max() for d in differences), max(d.mean() for d in differences)
        assert all(len(d) == 64 * side * side * 3 for d in differences) and mean < 1, "other pixels"
        table(
            f"{len(places.iloc[start:start + count]):,} patches of {side} px; pixels differ by {mean:.2f} on average, "
            f"at most {largest} (two JPEG decoders)",
            list(times.items()),
        )


def ours(slide, centers, side, threads, out):
    command = [PROGRAMS / "bench-patches", slide, centers, side, threads, out]
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout.split()


FOLDER.mkdir(parents=True, exist_ok=True)
synthetic_hd.make(FOLDER, BINS)
prepare()
patches()
