#!/usr/bin/env python3
"""Makes the documentation's pictures of the latent-grid representation.

    python3 scripts/grids.py OUT [--sirenc target/release/sirenc] [--effort N]

Writes into the folder OUT
- grids-avif.jpg: crops of four photographs, the original beside sirenc and AVIF of equal size;
- grids-views.jpg: a render at four times the native size beside a bicubic enlargement, and the
  exact gradient;
- grids-previews.jpg: the coarsest planes of latent grids alone, and what part of the file each
  preview needs.

The photographs are public domain and come with scikit-image. Encodes on the CPU, so that the
same versions give the same pictures.

Needs: python3 -m pip install numpy "pillow>=11.3" scikit-image
"""
import argparse
import io
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

# Photograph and the top left corner of its crop in grids-avif.jpg.
PHOTOGRAPHS = {"astronaut": (140, 20), "chelsea": (100, 50), "coffee": (130, 60),
               "rocket": (190, 275)}
RATES = [0.15, 0.4]  # bits per pixel
CROP = (200, 150)
# Files differ between one thread and several: one is the same on all machines.
AVIF = {"speed": 4, "subsampling": "4:4:4", "max_threads": 1}
# Photograph and crop of grids-views.jpg; the gradient is of the whole picture.
VIEW, VIEW_CROP, SCALE = "chelsea", (108, 70, 120, 80), 4
PREVIEW, PREVIEW_PLANES = "coffee", [1, 3, 5]
GAP, LINE, FONT = 8, 20, ImageFont.load_default(15)


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout


def encode(sirenc, effort, png, bpp):
    siren = png.with_name(f"{png.stem}-{bpp}.siren")
    run(sirenc, "encode", png, "--bpp", bpp, "--representation", "grid", "-e", effort,
        "--device", "cpu", "-o", siren)
    return siren


def decode(sirenc, siren, *options):
    return Image.open(io.BytesIO(run(sirenc, "decode", siren, *options, "-o", "-"))).convert("RGB")


def avif(picture, limit):
    """The AVIF file of the highest quality that has at most `limit` bytes."""
    low, high, best = 0, 100, None
    while low <= high:
        quality = (low + high) // 2
        out = io.BytesIO()
        picture.save(out, "avif", quality=quality, **AVIF)
        if len(out.getvalue()) <= limit:
            low, best = quality + 1, out
        else:
            high = quality - 1
    if best is None:
        raise SystemExit(f"AVIF has no file of {limit} bytes")
    return best.getvalue()


def psnr(a, b):
    difference = np.asarray(a, float) - np.asarray(b, float)
    return 10 * np.log10(255**2 / np.mean(difference**2))


def captioned(image, text):
    cell = Image.new("RGB", (image.width, image.height + LINE), "white")
    cell.paste(image, (0, LINE))
    ImageDraw.Draw(cell).text((0, LINE - 4), text, "black", FONT, "ls")
    return cell


def save(rows, path):
    """Rows of cells, all cells of one size, as a JPEG picture."""
    width, height = rows[0][0].size
    count = max(len(row) for row in rows)
    sheet = Image.new("RGB", (count * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP),
                      "white")
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            sheet.paste(cell, (x * (width + GAP), y * (height + GAP)))
    sheet.save(path, quality=88, optimize=True, progressive=True)
    print(f"{path}: {sheet.width}x{sheet.height}, {path.stat().st_size} bytes")


def crop(image, x, y, w, h):
    return image.crop((x, y, x + w, y + h))


def compare_row(sirenc, name, picture, sirens):
    """Crops of the original, and of sirenc and AVIF at each rate."""
    def cell(image, text):
        part = crop(image, *PHOTOGRAPHS[name], *CROP)
        return captioned(part.resize((CROP[0] * 3 // 2, CROP[1] * 3 // 2), Image.NEAREST), text)

    row = [cell(picture, f"{name}, {picture.width}x{picture.height}")]
    for bpp in RATES:
        size = sirens[name, bpp].stat().st_size
        file = avif(picture, size)
        for codec, count, decoded in [
            ("sirenc", size, decode(sirenc, sirens[name, bpp])),
            ("AVIF", len(file), Image.open(io.BytesIO(file)).convert("RGB")),
        ]:
            row.append(cell(decoded, f"{codec}: {count:,} bytes, {psnr(picture, decoded):.2f} dB"))
            print(name, bpp, codec, count, f"{psnr(picture, decoded):.2f}")
    return row


def views(sirenc, siren):
    native = decode(sirenc, siren)
    area = ",".join(map(str, VIEW_CROP))
    scaled = decode(sirenc, siren, "--crop", area, "--scale", SCALE)
    pixels = crop(native, *VIEW_CROP)
    gradient = decode(sirenc, siren, "--derivative", "gradient")
    return [
        [captioned(pixels.resize(scaled.size, Image.NEAREST), "native pixels"),
         captioned(scaled, f"rendered with --scale {SCALE}")],
        [captioned(pixels.resize(scaled.size, Image.BICUBIC), "native pixels, bicubic"),
         captioned(gradient.resize(scaled.size, Image.LANCZOS), "gradient of the whole picture")],
    ]


def previews(sirenc, siren):
    facts = json.loads(run(sirenc, "info", "--json", siren))
    sizes = [plane["bytes"] for plane in facts["grids"]["planes"]]  # the finest first
    cells = []
    for count in [count for count in PREVIEW_PLANES if count < len(sizes)] + [len(sizes)]:
        # The finest planes are the end of the file: a preview needs all before.
        needed = facts["bytes"] - sum(sizes[:len(sizes) - count])
        text = (f"{count} of {len(sizes)} planes: {needed:,} of {facts['bytes']:,} bytes, "
                f"{100 * needed / facts['bytes']:.0f} %")
        cells.append(captioned(decode(sirenc, siren, "--planes", count), text))
    return [cells[:2], cells[2:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sirenc", default="target/release/sirenc")
    parser.add_argument("--effort", type=int, default=7)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = {name: Image.fromarray(getattr(data, name)()) for name in PHOTOGRAPHS}
    with tempfile.TemporaryDirectory() as work:
        sirens = {}
        for name, picture in pictures.items():
            png = Path(work) / f"{name}.png"
            picture.save(png)
            for bpp in RATES:
                sirens[name, bpp] = encode(options.sirenc, options.effort, png, bpp)
        rows = [compare_row(options.sirenc, name, picture, sirens)
                for name, picture in pictures.items()]
        save(rows, options.out / "grids-avif.jpg")
        save(views(options.sirenc, sirens[VIEW, RATES[-1]]), options.out / "grids-views.jpg")
        save(previews(options.sirenc, sirens[PREVIEW, RATES[-1]]),
             options.out / "grids-previews.jpg")


if __name__ == "__main__":
    main()
