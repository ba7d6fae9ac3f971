#!/usr/bin/env python3
"""Makes docs/weak.jpg: what the format is bad at, originals above files of the default quality.

    python3 scripts/weak.py OUT.jpg [--sirenc target/release/sirenc]

Text, a drawing of sharp lines, noise, and a page of fine halftone; beside each file stands the PNG's
size. Encodes on the CPU, so that the same versions give the same picture.

Needs: python3 -m pip install numpy pillow
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = (280, 200)
GAP, LINE, FONT = 8, 20, ImageFont.load_default(15)
WORDS = "A picture is stored as the weights of a small network, and read at any size."


def text():
    picture = Image.new("L", SIZE, 255)
    draw = ImageDraw.Draw(picture)
    for row, size in enumerate((9, 11, 13, 15, 17, 20, 24)):
        draw.text((6, 4 + 27 * row), WORDS, fill=0, font=ImageFont.load_default(size))
    return picture


def lines():
    rng = np.random.default_rng(1)
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    for _ in range(45):
        ends = [tuple(rng.integers(0, SIZE)) for _ in range(2)]
        draw.line([tuple(int(c) for c in end) for end in ends], width=1,
                  fill=tuple(int(c) for c in rng.integers(0, 200, 3)))
    return picture


def noise():
    samples = np.random.default_rng(2).integers(0, 256, (*SIZE[::-1], 3))
    return Image.fromarray(samples.astype(np.uint8))


def halftone():
    y, x = np.mgrid[:SIZE[1], :SIZE[0]]
    tone = 0.5 + 0.45 * np.sin(x / 40) * np.cos(y / 30)
    dots = 0.5 + 0.25 * (np.cos(np.pi * (x + y) / 3) + np.cos(np.pi * (x - y) / 3))
    return Image.fromarray(((dots > tone) * 255).astype(np.uint8))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sirenc", default="target/release/sirenc")
    options = parser.parse_args()
    pictures = {"text": text(), "lines": lines(), "noise": noise(), "halftone": halftone()}
    width, height = SIZE
    sheet = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, 2 * (height + LINE) + GAP),
                      "white")
    draw = ImageDraw.Draw(sheet)
    with tempfile.TemporaryDirectory() as work:
        png, siren, decoded = (Path(work) / name for name in ("a.png", "a.siren", "b.png"))
        for index, (name, picture) in enumerate(pictures.items()):
            left, top = index * (width + GAP), height + LINE + GAP
            picture.save(png, optimize=True)
            encode = [options.sirenc, "encode", png, "-o", siren, "--device", "cpu"]
            subprocess.run(encode, check=True, capture_output=True)
            subprocess.run([options.sirenc, "decode", siren, "-o", decoded], check=True)
            for y, shown, file in ((0, picture, png), (top, Image.open(decoded), siren)):
                draw.text((left, y), f"{name}: {file.stat().st_size:,} bytes{file.suffix}"
                          .replace("bytes.", "bytes as "), fill="black", font=FONT)
                sheet.paste(shown.convert("RGB"), (left, y + LINE))
    sheet.save(options.out, quality=88)


if __name__ == "__main__":
    main()
