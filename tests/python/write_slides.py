"""Writes pyramidal slides with tifffile and imagecodecs, and the pixels that they decode to, for
tests/tests/field_tools.

    python write_slides.py FOLDER

`FOLDER/slides.json` lists the files: the size of each level, and beside each file its levels as raw RGB bytes, as
tifffile decodes them. A tolerance is the largest and the mean difference that another decoder of a lossy codec may show.
"""

import json
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

OUT = Path(sys.argv[1])
RANDOM = np.random.default_rng(11)
HEIGHT, WIDTH = 421, 603
EXACT = {"max": 0, "mean": 0.0}
slides = []


def tissue():
    """Smooth structure with a little noise, so that lossy codecs behave as on a slide."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [np.sin(x / 37 + y / 53), np.cos(x / 71 - y / 29), np.sin((x + y) / 43)]
    image = np.stack([150 + 60 * wave for wave in waves], axis=-1) + RANDOM.normal(0, 2, (HEIGHT, WIDTH, 3))
    return np.clip(image, 0, 255).astype("uint8")


def halved(image):
    height, width = image.shape[0] // 2, image.shape[1] // 2
    blocks = image[: height * 2, : width * 2].reshape(height, 2, width, 2, *image.shape[2:])
    return blocks.mean(axis=(1, 3)).round().astype("uint8")


BASE = tissue()
LEVELS = [BASE, halved(BASE), halved(halved(BASE))]


def expect(name, tolerance=EXACT, um_per_px=None, levels=3, palette=None):
    """Adds a file with what tifffile reads from it."""
    with tifffile.TiffFile(OUT / name) as file:
        series = file.series[0]
        decoded = [level.asarray() for level in series.levels]
    assert len(decoded) == levels, f"{name}: tifffile sees {len(decoded)} levels"
    described = []
    for index, pixels in enumerate(decoded):
        if palette is not None:
            pixels = palette[pixels]
        if pixels.dtype == np.uint16:
            pixels = (pixels // 257).astype("uint8")
        if series.levels[0].keyframe.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        raw = f"{name}.{index}.rgb"
        (OUT / raw).write_bytes(np.ascontiguousarray(pixels[..., :3]).tobytes())
        described.append({"width": pixels.shape[1], "height": pixels.shape[0], "rgb": raw})
    slides.append({"file": name, "levels": described, "tolerance": tolerance, "um_per_px": um_per_px})


def write(name, bigtiff=False, subifds=True, um_per_px=None, ome=False, levels=LEVELS, **options):
    """A pyramid: further levels as SubIFDs of the first page, or as pages of their own."""
    options = {"photometric": "rgb", **options}
    if um_per_px:
        options |= {"resolution": (1e4 / um_per_px, 1e4 / um_per_px), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(OUT / name, bigtiff=bigtiff, ome=ome, byteorder=options.pop("byteorder", "<")) as out:
        first = {"metadata": options.pop("metadata", None), "description": options.pop("description", None)}
        if subifds:
            first["subifds"] = len(levels) - 1
        out.write(levels[0], **first, **options)
        for level in levels[1:]:
            out.write(level, subfiletype=1, metadata=None, **options)


def lossless():
    for tile in [(64, 64), (112, 240), None]:
        layout = "strips" if tile is None else f"tiles{tile[0]}"
        for codec in [None, "lzw", "deflate", "packbits"]:
            for predictor in [False, True] if codec in {"lzw", "deflate"} else [False]:
                name = f"{layout}-{codec}{'-predictor' if predictor else ''}.tif"
                extra = {"tile": tile} if tile else {"rowsperstrip": 37}
                write(name, compression=codec, predictor=predictor, um_per_px=0.5, **extra)
                expect(name, um_per_px=0.5)
    write("bigtiff.tif", bigtiff=True, tile=(128, 128), compression="deflate", um_per_px=0.2738)
    expect("bigtiff.tif", um_per_px=0.2738)
    write("bigtiff-big-endian.tif", bigtiff=True, byteorder=">", tile=(128, 128), compression="lzw")
    expect("bigtiff-big-endian.tif")
    write("big-endian.tif", byteorder=">", tile=(128, 128), compression="deflate", predictor=True)
    expect("big-endian.tif")
    write("one-level.tif", levels=LEVELS[:1], subifds=False, rowsperstrip=50)
    expect("one-level.tif", levels=1)
    gray = [level[..., 1].copy() for level in LEVELS]
    write("gray.tif", levels=gray, photometric="minisblack", tile=(64, 64), compression="lzw")
    expect("gray.tif")
    alpha = [np.dstack([level, np.full(level.shape[:2], 255, "uint8")]) for level in LEVELS]
    write("alpha.tif", levels=alpha, extrasamples=["unassalpha"], tile=(64, 64), compression="deflate")
    expect("alpha.tif")
    planes = [np.moveaxis(level, -1, 0).copy() for level in LEVELS]
    write("planes.tif", levels=planes, planarconfig="separate", tile=(64, 64), compression="deflate")
    expect("planes.tif")
    # The same picture in 16 bits: 255 is 65535.
    wide = [level.astype("uint16") * 257 for level in LEVELS]
    write("sixteen-bit.tif", levels=wide, tile=(64, 64), compression="lzw", predictor=True)
    expect("sixteen-bit.tif")
    palette = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2]).astype("uint16") * 257
    write("palette.tif", levels=gray, photometric="palette", colormap=palette, tile=(64, 64), compression="deflate")
    expect("palette.tif", palette=(palette // 257).astype("uint8").T)


# Decoders of JPEG may round differently by one; where colours are stored at half resolution, they also spread them
# differently.
ROUNDING = {"max": 3, "mean": 0.5}
SPREADING = {"max": 12, "mean": 1.0}


def lossy():
    args = {"level": 90}
    write("jpeg-rgb.tif", tile=(128, 128), compression="jpeg", compressionargs={**args, "outcolorspace": "rgb"})
    expect("jpeg-rgb.tif", ROUNDING)
    for name, subsampling, tolerance in [("444", (1, 1), ROUNDING), ("422", (2, 1), SPREADING), ("420", (2, 2), SPREADING)]:
        for layout in [{"tile": (128, 128)}, {"rowsperstrip": 64}]:
            file = f"jpeg-ycbcr-{name}-{next(iter(layout))}.tif"
            write(file, photometric="rgb", compression="jpeg", compressionargs=args, subsampling=subsampling, **layout)
            expect(file, tolerance)
    shared_tables("jpeg-shared-tables.tif")
    for name, codec in [("jp2k", "jpeg2000"), ("aperio-jp2k", "aperio_jp2000_rgb")]:
        write(f"{name}-lossless.tif", tile=(128, 128), compression=codec, compressionargs={"reversible": True, "level": 0})
        expect(f"{name}-lossless.tif")
        write(f"{name}-lossy.tif", tile=(128, 128), compression=codec, compressionargs={"level": 40})
        expect(f"{name}-lossy.tif", {"max": 2, "mean": 0.5})


def shared_tables(name):
    """Tiles without tables of their own, as most scanners write them."""
    tables, size = None, 128
    rows, cols = -(-HEIGHT // size), -(-WIDTH // size)
    padded = np.pad(BASE, ((0, rows * size - HEIGHT), (0, cols * size - WIDTH), (0, 0)), mode="edge")
    tiles = []
    for row in range(rows):
        for col in range(cols):
            tile = padded[row * size : (row + 1) * size, col * size : (col + 1) * size]
            stream = imagecodecs.jpeg8_encode(np.ascontiguousarray(tile), level=90, subsampling="444")
            tables, short = split_tables(stream)
            tiles.append(short)
    tifffile.imwrite(
        OUT / name,
        data=iter(tiles),
        shape=BASE.shape,
        dtype="uint8",
        tile=(size, size),
        photometric="rgb",
        compression="jpeg",
        subsampling=(1, 1),
        extratags=[(347, 7, len(tables), tables, True)],
        metadata=None,
    )
    expect(name, ROUNDING, levels=1)


def split_tables(stream):
    """The quantisation and Huffman tables of a JPEG stream, and the stream without them."""
    tables, rest, place = b"", b"\xff\xd8", 2
    while stream[place + 1] != 0xDA:
        length = 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
        segment = stream[place : place + length]
        if stream[place + 1] in (0xDB, 0xC4):
            tables += segment
        elif stream[place + 1] != 0xE0:
            rest += segment
        place += length
    return b"\xff\xd8" + tables + b"\xff\xd9", rest + stream[place:]


def described():
    """Pixel sizes in the words of the formats."""
    write(
        "pyramid.ome.tif",
        ome=True,
        tile=(128, 128),
        compression="deflate",
        metadata={"axes": "YXS", "PhysicalSizeX": 0.325, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.325, "PhysicalSizeYUnit": "µm"},
    )
    expect("pyramid.ome.tif", um_per_px=0.325)
    aperio = "Aperio Image Library v12.0.15\r\n603x421 [0,0 603x421] (128x128) JPEG/RGB Q=90|AppMag = 20|MPP = 0.4990"
    with tifffile.TiffWriter(OUT / "slide.svs", bigtiff=False) as out:
        options = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 90}, "metadata": None}
        out.write(LEVELS[0], tile=(128, 128), description=aperio, **options)
        # The thumbnail is no level, nor are label and macro.
        out.write(LEVELS[2], rowsperstrip=16, description="Aperio Image Library v12.0.15\r\n150x105", **options)
        for level in LEVELS[1:]:
            out.write(level, tile=(128, 128), description=aperio.split("|")[0], **options)
        out.write(LEVELS[2], rowsperstrip=16, subfiletype=1, description="Aperio Image Library v12.0.15\r\nlabel 150x105", **options)
        out.write(LEVELS[2], rowsperstrip=16, subfiletype=9, description="Aperio Image Library v12.0.15\r\nmacro 150x105", **options)
    expect("slide.svs", SPREADING, um_per_px=0.499)


OUT.mkdir(parents=True, exist_ok=True)
lossless()
lossy()
described()
(OUT / "slides.json").write_text(json.dumps(slides))
print(len(slides), "slides")
