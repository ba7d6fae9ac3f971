#!/usr/bin/env python3
"""A placeholder of N bytes: sirenc beside ThumbHash and the best WebP of as many bytes.

    python3 benches/placeholder.py PICTURES [--sirenc BIN] [--effort N] [--bytes N]

The WebP is the best of many: of every length of the longer side with the highest quality that
fits, enlarged to the picture's size, the one of the highest PSNR. Writes a table to stdout.

Needs: python3 -m pip install fast-thumbhash, and what rate_distortion.py needs
"""
import argparse
import io
import subprocess
import tempfile
from pathlib import Path

import fast_thumbhash
import numpy as np
from PIL import Image

from rate_distortion import compare

SIDES = [16, 20, 24, 28, 32, 36, 40, 44, 48, 56, 64, 80, 96]


def thumb_hash(picture, _options):
    """What a ThumbHash decodes to, and its bytes."""
    small = picture.convert("RGBA")
    small.thumbnail((100, 100))
    code = bytes(fast_thumbhash.rgba_to_thumb_hash(*small.size, small.tobytes()))
    width, height, rgba = fast_thumbhash.thumb_hash_to_rgba(code)
    pixels = np.frombuffer(bytes(rgba), np.uint8).reshape(height, width, 4)[:, :, :3]
    return [(Image.fromarray(pixels), len(code))]


def webp(picture, options):
    """The largest WebP of at most so many bytes for each length of the longer side."""
    found = []
    for side in SIDES:
        small = picture.copy()
        small.thumbnail((side, side), Image.LANCZOS)
        low, high, best = 0, 100, None
        while low <= high:
            quality = (low + high) // 2
            out = io.BytesIO()
            small.save(out, "webp", quality=quality, method=6)
            if len(out.getvalue()) <= options.bytes:
                best, low = out, quality + 1
            else:
                high = quality - 1
        if best is not None:
            found.append((Image.open(best).convert("RGB"), len(best.getvalue())))
    return found


def siren(path, work, options):
    """sirenc's file, decoded."""
    file, png = work / "picture.siren", work / "siren.png"
    subprocess.run([options.sirenc, "encode", path, "--bytes", str(options.bytes), "--strip",
                    "-e", str(options.effort), "-o", file, "--force"],
                   check=True, capture_output=True)
    subprocess.run([options.sirenc, "decode", file, "-o", png, "--force"],
                   check=True, capture_output=True)
    return [(Image.open(png), file.stat().st_size)]


def measure(path, candidates, work, options):
    """The figures and the bytes of the candidate of the highest PSNR."""
    size = Image.open(path).size
    scores = []
    for picture, length in candidates:
        png = work / "enlarged.png"
        picture.resize(size, Image.BICUBIC).save(png, compress_level=1)
        scores.append([*compare(options.sirenc, path, png).values(), length])
    return max(scores)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--sirenc", default="target/release/sirenc")
    parser.add_argument("--effort", type=int, default=3)
    parser.add_argument("--bytes", type=int, default=400)
    options = parser.parse_args()
    paths = sorted(options.pictures.glob("*.png"))
    print("| picture | " + " | ".join(f"{codec}: dB, SSIMULACRA2, bytes"
                                      for codec in ("sirenc", "ThumbHash", "WebP")) + " |")
    print("|---|---|---|---|")
    table = []
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        for path in paths:
            picture = Image.open(path).convert("RGB")
            row = [measure(path, candidates, work, options)
                   for candidates in (siren(path, work, options), thumb_hash(picture, options),
                                      webp(picture, options))]
            table.append(row)
            print_row(path.stem, row)
    print_row("mean", np.mean(table, axis=0))
    ours = np.array(table)[:, :1, :2]
    wins = (ours >= np.array(table)[:, 1:, :2]).sum(axis=0)
    print(f"\nsirenc is ahead in PSNR and SSIMULACRA2 on {wins[0][0]} and {wins[0][1]} of "
          f"{len(paths)} pictures beside ThumbHash, on {wins[1][0]} and {wins[1][1]} beside WebP.")


def print_row(name, row):
    cells = (f"{psnr:.2f}, {ssimulacra2:.1f}, {size:.0f}" for psnr, ssimulacra2, size in row)
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
