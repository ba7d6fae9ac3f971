#!/usr/bin/env python3
"""sirenc beside JPEG, WebP, JPEG XL and AVIF: rate, distortion and time.

    python3 benches/rate_distortion.py PICTURES OUT [--sirenc BIN] [--effort N] [--bpp B,B,...]
                                                    [--representation siren|grid]

Encodes every picture of the folder PICTURES over a range of rates and writes OUT.csv (a line
for each file), OUT.md (means and BD-rates), OUT.svg and OUT.png (the curves). Lines that
OUT.csv has already are not measured again, so that an interrupted run goes on, and so that
representations and efforts measured one after the other stand side by side.

Needs: python3 -m pip install pillow pillow-jxl-plugin numpy scipy matplotlib
"""
import argparse
import csv
import io
import json
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import matplotlib
import numpy as np
import PIL
import pillow_jxl  # noqa: F401  (registers JPEG XL with Pillow)
from PIL import Image, features
from scipy.interpolate import PchipInterpolator

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

# Name, Pillow's format, fixed options, the option that sets the rate, its values.
PEERS = [
    ("JPEG", "jpeg", {"optimize": True, "progressive": True}, "quality",
     [1, 3, 6, 10, 15, 25, 40, 60, 80, 90]),
    ("WebP", "webp", {"method": 6}, "quality", [0, 1, 3, 7, 15, 30, 50, 70, 85, 93]),
    ("JPEG XL", "jxl", {"effort": 7}, "quality", [1, 5, 10, 20, 30, 45, 60, 75, 85, 92]),
    ("AVIF", "avif", {"speed": 4, "subsampling": "4:4:4"}, "quality",
     [1, 5, 10, 18, 26, 35, 45, 55, 70, 80]),
]
# What the representations are called in tables.
OURS = {"siren": "one SIREN", "grid": "latent grids"}
FIELDS = ["picture", "codec", "setting", "bytes", "bpp", "psnr", "ssimulacra2",
          "encode_s", "decode_s"]
METRICS = [("psnr", "PSNR, dB"), ("ssimulacra2", "SSIMULACRA2")]
# Dupont et al. 2021 (COIN), means over all 24 Kodak pictures: bpp and PSNR.
COIN = [(0.037, 22.41), (0.074, 23.21), (0.160, 24.64), (0.307, 26.41), (0.611, 28.41),
        (1.209, 30.64)]


def timed(function):
    """The result and the processor seconds of this process and its children, all threads
    summed: a codec on two threads has no advantage, other load on the machine little weight."""
    def clock():
        return sum(sum(resource.getrusage(who)[:2])
                   for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    start = clock()
    result = function()
    return result, clock() - start


def compare(sirenc, a, b):
    run = [sirenc, "compare", "--json", a, b]
    facts = json.loads(subprocess.run(run, check=True, capture_output=True).stdout)
    return {"psnr": facts["psnr"], "ssimulacra2": facts["ssimulacra2"]}


def measure_peer(path, peer, value, options, work):
    """A file of one of Pillow's encoders, timed in memory."""
    _, fmt, fixed, option, _ = peer
    picture = Image.open(path).convert("RGB")
    out = io.BytesIO()
    _, encode_s = timed(lambda: picture.save(out, fmt, **fixed, **{option: value}))
    decoded, decode_s = timed(lambda: Image.open(io.BytesIO(out.getvalue())).convert("RGB"))
    png = work / "decoded.png"
    decoded.save(png, compress_level=1)
    return {"bytes": len(out.getvalue()), **compare(options.sirenc, path, png),
            "encode_s": encode_s, "decode_s": decode_s}


def measure_sirenc(path, bpp, options, work):
    """A file of sirenc, the whole processes timed."""
    siren, png = work / "picture.siren", work / "decoded.png"
    command = [options.sirenc, "encode", path, "--bpp", str(bpp), "-e", str(options.effort),
               "--representation", options.representation, "--strip", "-o", siren]
    _, encode_s = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    command = [options.sirenc, "decode", siren, "-o", png]
    _, decode_s = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    return {"bytes": siren.stat().st_size, **compare(options.sirenc, path, png),
            "encode_s": encode_s, "decode_s": decode_s}


def measure(pictures, options):
    """All lines, those of an earlier run included."""
    table = Path(f"{options.out}.csv")
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    done = {(row["picture"], row["codec"], row["setting"]) for row in rows}
    jobs = [(peer[0], f"{peer[3]} {value}",
             lambda path, work, peer=peer, value=value:
                 measure_peer(path, peer, value, options, work))
            for peer in PEERS for value in peer[4]]
    jobs += [(f"{OURS[options.representation]}, effort {options.effort}", f"{bpp} bpp",
              lambda path, work, bpp=bpp: measure_sirenc(path, bpp, options, work))
             for bpp in options.bpp]
    with table.open("a", newline="") as file, tempfile.TemporaryDirectory() as work:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if not rows:
            writer.writeheader()
        for codec, setting, job in jobs:
            for path in pictures:
                if (path.stem, codec, setting) in done:
                    continue
                row = {"picture": path.stem, "codec": codec, "setting": setting}
                for old in Path(work).iterdir():
                    old.unlink()
                row |= job(path, Path(work))
                with Image.open(path) as picture:
                    row["bpp"] = 8 * row["bytes"] / (picture.width * picture.height)
                row = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}
                writer.writerow(row)
                file.flush()
                rows.append(row)
                print(*row.values(), file=sys.stderr)
    return rows


def curve(rows, metric):
    """Logarithm of bpp as a function of the metric, and the range that it holds for."""
    points = sorted((float(row[metric]), np.log(float(row["bpp"]))) for row in rows)
    rising = []
    for value, rate in points:
        # A curve that folds back has no inverse: keep the cheapest file of each quality.
        while rising and rising[-1][1] >= rate:
            rising.pop()
        rising.append((value, rate))
    if len(rising) < 2:
        return None
    values, rates = zip(*rising)
    return PchipInterpolator(values, rates), values[0], values[-1]


def bd_rate(rows, anchor, metric):
    """Mean difference of the rate at equal quality in per cent (Bjontegaard), by piecewise
    cubic interpolation over the common range of qualities; None without one."""
    curves = curve(rows, metric), curve(anchor, metric)
    if None in curves:
        return None
    (ours, low, high), (theirs, other_low, other_high) = curves
    low, high = max(low, other_low), min(high, other_high)
    if high <= low:
        return None
    difference = ours.integrate(low, high) - theirs.integrate(low, high)
    return 100 * (np.exp(difference / (high - low)) - 1)


def means(rows):
    """Means of all fields over the pictures for each setting, by rate."""
    by_setting = defaultdict(list)
    for row in rows:
        by_setting[row["setting"]].append(row)
    fields = FIELDS[3:]
    points = [{"setting": setting} | {f: np.mean([float(row[f]) for row in group]) for f in fields}
              for setting, group in by_setting.items()]
    return sorted(points, key=lambda point: point["bpp"])


def is_ours(codec):
    return codec.startswith(tuple(OURS.values()))


def report(rows, pictures, options):
    ours = sorted({r["codec"] for r in rows if is_ours(r["codec"])})
    by_codec = {name: [r for r in rows if r["codec"] == name]
                for name in ours + [peer[0] for peer in PEERS]}
    lines = [f"# Rate and distortion: sirenc beside other codecs, {len(pictures)} pictures", "",
             "Made by runs of the bench, the last", "",
             f"    python3 benches/rate_distortion.py {' '.join(sys.argv[1:])}", "",
             "Means over the pictures; times are processor seconds a picture, all threads summed: of",
             "the whole process for sirenc, in memory for the others.", "",
             "Encoders: " + ", ".join(
                 f"{name} ({' '.join(f'{k}={v}' for k, v in fixed.items())}, by {option})"
                 for name, _, fixed, option, _ in PEERS) + "; Pillow " + PIL.__version__ +
             f" (libavif {features.version('avif')}, libwebp {features.version('webp')}), "
             f"pillow-jxl-plugin {version('pillow-jxl-plugin')}.", "",
             "| codec | setting | bpp | PSNR, dB | SSIMULACRA2 | encode, CPU s | decode, CPU s |",
             "|---|---|---|---|---|---|---|"]
    for name, codec_rows in by_codec.items():
        for point in means(codec_rows):
            lines.append("| {} | {setting} | {bpp:.3f} | {psnr:.2f} | {ssimulacra2:.1f} | {encode_s:.2f} "
                         "| {decode_s:.3f} |".format(name, **point))
    lines += ["", "BD-rate: bytes more (+) or fewer (-) at equal quality, mean of the pictures'",
              "figures, in brackets the number of pictures with a common range of qualities."]
    for own in ours:
        if len(means(by_codec[own])) < 2:
            continue  # One rate is no curve.
        lines += ["", f"| {own} beside | PSNR | SSIMULACRA2 |", "|---|---|---|"]
        for name, _, _, _, _ in PEERS:
            cells = []
            for metric, _ in METRICS:
                figures = [bd_rate(*([r for r in by_codec[codec] if r["picture"] == path.stem]
                                     for codec in (own, name)), metric) for path in pictures]
                figures = [figure for figure in figures if figure is not None]
                cells.append(f"{np.mean(figures):+.1f} % ({len(figures)})" if figures else "none")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        coin = [{"bpp": bpp, "psnr": psnr} for bpp, psnr in COIN]
        figure = bd_rate(means(by_codec[own]), coin, "psnr")
        if figure is not None:
            lines.append(f"| COIN, published means of 24 Kodak pictures | {figure:+.0f} % | |")
    Path(f"{options.out}.md").write_text("\n".join(lines) + "\n")
    plot(by_codec, len(pictures), options)


def plot(by_codec, count, options):
    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "sirenc", "svg.fonttype": "none"})
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2))
    for (metric, label), axis in zip(METRICS, axes):
        for name, rows in by_codec.items():
            points = means(rows)
            dashes = "--" if name.startswith(OURS["siren"]) else "-"
            style = {"color": "black", "linestyle": dashes, "linewidth": 2.2} if is_ours(name) else {}
            axis.plot([p["bpp"] for p in points], [p[metric] for p in points], marker=".",
                      label=name, **style)
        if metric == "psnr":
            axis.plot(*zip(*COIN), "k:", marker="x", label="COIN (published)")
        axis.set(xscale="log", xlim=(0.02, 2), xlabel="bits per pixel", ylabel=label)
        axis.set_xticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
        axis.grid(alpha=0.3)
    axes[0].set_ylim(20, 42)
    axes[1].set_ylim(-60, 95)
    axes[0].legend()
    figure.suptitle(f"Means over {count} pictures")
    figure.tight_layout()
    figure.savefig(f"{options.out}.svg", metadata={"Date": None})
    figure.savefig(f"{options.out}.png", dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out")
    parser.add_argument("--sirenc", default="target/release/sirenc")
    parser.add_argument("--effort", type=int, default=7)
    parser.add_argument("--representation", default="siren", choices=OURS)
    parser.add_argument("--bpp", default=[0.02, 0.05, 0.1, 0.15, 0.3, 0.6],
                        type=lambda text: [float(bpp) for bpp in text.split(",")])
    options = parser.parse_args()
    pictures = sorted(p for p in options.pictures.iterdir()
                      if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff"))
    if not pictures:
        sys.exit(f"{options.pictures} has no pictures")
    report(measure(pictures, options), pictures, options)


if __name__ == "__main__":
    main()
