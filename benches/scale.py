#!/usr/bin/env python3
"""Time, memory and PSNR against the size of the picture, of both representations.

    python3 benches/scale.py OUT.md [--sirenc BIN] [--effort N] [--bpp B] [--bytes N]
                                    [--megapixels M,M,...]

Latent grids take so many bits per pixel, one SIREN so many bytes whatever the size.

Large pictures are patched together from random crops of the public-domain photographs of
scikit-image and scikit-learn. Whole processes on all cores, wall time; nothing else should run.

Needs: python3 -m pip install numpy pillow scikit-image scikit-learn; Linux.
"""
import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

PATCH = (400, 250)


def photograph(megapixels):
    """3:2, of patches; the same on every run."""
    sources = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(),
               load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    rng = np.random.default_rng(1)
    width = round((megapixels * 1.5e6) ** 0.5)
    height = round(width / 1.5)
    out = np.zeros((height, width, 3), np.uint8)
    for y in range(0, height, PATCH[1]):
        for x in range(0, width, PATCH[0]):
            source = sources[rng.integers(len(sources))]
            h, w = min(PATCH[1], height - y), min(PATCH[0], width - x)
            top = rng.integers(0, source.shape[0] - h + 1)
            left = rng.integers(0, source.shape[1] - w + 1)
            out[y:y + h, x:x + w] = source[top:top + h, left:left + w]
    return Image.fromarray(out)


def measured(*command):
    """Wall seconds, the largest resident size in MB, and what it prints, some lines at most."""
    start, memory = time.monotonic(), 0
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    status = Path(f"/proc/{process.pid}/status")
    # The size that wait4 tells includes this process before exec.
    while process.poll() is None:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                memory = int(line.split()[1]) * 1024 / 1e6
        time.sleep(0.002)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed")
    return time.monotonic() - start, memory, process.stdout.read()


def line(picture, representation, options, work):
    """A line of the table."""
    png, siren = work / "picture.png", work / "picture.siren"
    ppm, thumbnail = work / "decoded.ppm", work / "thumbnail.png"
    picture.save(png, compress_level=1)
    pixels = picture.width * picture.height / 1e6
    size = ["--bpp", options.bpp] if representation == "grid" else ["--bytes", options.bytes]
    encode, memory, record = measured(
        options.sirenc, "encode", png, "-o", siren, "-e", options.effort, *size,
        "--representation", representation, "--device", "cpu", "--json")
    psnr = json.loads(record)["psnr"]
    decode, decode_memory, _ = min(
        measured(options.sirenc, "decode", siren, "-o", ppm) for _ in range(3))
    small = min(measured(options.sirenc, "decode", siren, "--size", 96, "-o", thumbnail)[0]
                for _ in range(3))
    return (f"| {pixels:.2f} | {psnr:.2f} | {encode:.1f} | {encode / pixels:.1f} | {memory:.0f} "
            f"| {decode:.3f} | {pixels / decode:.1f} | {decode_memory:.0f} | {small:.3f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sirenc", default="target/release/sirenc")
    parser.add_argument("--effort", type=int, default=1)
    parser.add_argument("--bpp", type=float, default=0.6)
    parser.add_argument("--bytes", type=int, default=15_000)
    parser.add_argument("--megapixels", default=[0.1, 0.4, 1.6, 6, 12, 24],
                        type=lambda text: [float(m) for m in text.split(",")])
    options = parser.parse_args()
    lines = ["# Time and memory against the size of the picture", "",
             f"Made by `benches/scale.py` at effort {options.effort} on {os.cpu_count()} cores; "
             "memory is the largest resident size."]
    for representation, title in (("grid", f"Latent grids, {options.bpp} bits per pixel"),
                                  ("siren", f"One SIREN, {options.bytes} bytes")):
        lines += ["", f"## {title}", "",
                  "| megapixels | PSNR, dB | encode, s | s per megapixel | memory, MB "
                  "| decode to PPM, s | megapixels a second | memory, MB "
                  "| thumbnail of 96 pixels, s |", "|---|---|---|---|---|---|---|---|---|"]
        for megapixels in options.megapixels:
            with tempfile.TemporaryDirectory() as work:
                picture = photograph(megapixels)
                lines.append(line(picture, representation, options, Path(work)))
            print(lines[-1], flush=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
