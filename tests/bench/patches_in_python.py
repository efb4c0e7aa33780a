"""Reads square patches around places of a slide with tifffile and numpy, in three ways that laboratories use.

    python patches_in_python.py SLIDE CENTERS.csv SIDE_PX WAY [SAMPLE]

`zarr` slices tifffile's zarr store, patch by patch: the slide stays on disk. `cached` does the same with the last 64 MB
of decoded tiles kept. `memory` decodes the whole slide first, which takes as much memory as the slide has pixels.
`SAMPLE` receives the first patches as raw RGB, for a comparison.
"""

import functools
import sys
import time

import numpy as np
import tifffile

SAMPLES = 64


def main(slide, centers, side, way, sample=None):
    side = int(side)
    corners = np.loadtxt(centers, delimiter=",", skiprows=1).round().astype(int) - side // 2
    began = time.perf_counter()
    # Summed, so that every patch is really there.
    total, kept = 0, []
    for patch in WAYS[way](slide, corners, side):
        total += int(patch[::16, ::16].sum())
        if len(kept) < SAMPLES:
            kept.append(patch.tobytes())
    print(time.perf_counter() - began, total)
    if sample:
        with open(sample, "wb") as file:
            file.write(b"".join(kept))


def white(side):
    return np.full((side, side, 3), 255, dtype="uint8")


def cut(read, size, left, top, side):
    """A patch that may reach beyond the slide, where it is white."""
    (height, width), bottom, right = size, top + side, left + side
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return read(top, bottom, left, right)
    patch = white(side)
    inside = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    if inside[0].start < inside[0].stop and inside[1].start < inside[1].stop:
        pixels = read(inside[0].start, inside[0].stop, inside[1].start, inside[1].stop)
        patch[inside[0].start - top :, inside[1].start - left :][: pixels.shape[0], : pixels.shape[1]] = pixels
    return patch


def with_zarr(slide, corners, side):
    import zarr

    array = zarr.open(tifffile.imread(slide, aszarr=True, level=0), mode="r")
    for left, top in corners:
        yield cut(lambda t, b, l, r: array[t:b, l:r], array.shape[:2], left, top, side)


def with_cache(slide, corners, side):
    with tifffile.TiffFile(slide) as file:
        page = file.pages[0]
        height, width = page.tilelength, page.tilewidth
        across = -(-page.imagewidth // width)

        @functools.lru_cache(maxsize=(64 << 20) // (height * width * 3))
        def tile(index):
            file.filehandle.seek(page.dataoffsets[index])
            data = file.filehandle.read(page.databytecounts[index])
            return page.decode(data, index, jpegtables=page.jpegtables)[0][0]

        def read(top, bottom, left, right):
            patch = np.empty((bottom - top, right - left, 3), dtype="uint8")
            for row in range(top // height, (bottom - 1) // height + 1):
                for col in range(left // width, (right - 1) // width + 1):
                    t, l = max(row * height, top), max(col * width, left)
                    b, r = min((row + 1) * height, bottom), min((col + 1) * width, right)
                    pixels = tile(row * across + col)
                    patch[t - top : b - top, l - left : r - left] = pixels[
                        t - row * height : b - row * height, l - col * width : r - col * width
                    ]
            return patch

        for left, top in corners:
            yield cut(read, (page.imagelength, page.imagewidth), left, top, side)


def with_memory(slide, corners, side):
    image = tifffile.imread(slide, level=0)
    for left, top in corners:
        yield cut(lambda t, b, l, r: image[t:b, l:r].copy(), image.shape[:2], left, top, side)


WAYS = {"zarr": with_zarr, "cached": with_cache, "memory": with_memory}

if __name__ == "__main__":
    main(*sys.argv[1:])
