#!/usr/bin/env python3
"""A decoder of `.siren` images, version 1, written from the text of ../siren.md alone.

    python3 decode.py FILE.siren...                     check files against their vectors
    python3 decode.py --render FILE.siren OUT [WxH]     write a PGM, PPM or (alpha) PAM

It favours clearness over speed: everything is computed in binary64, which the
specification takes for the reference. Section numbers are those of the specification.
Needs Python 3.11 and numpy.
"""
import bisect
import functools
import math
import re
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SIGNATURE = b"\x89SRN\r\n\x1a\n"
METADATA = (b"iccp", b"cicp", b"exif", b"xmpp", b"sett")
MAX_SIDE, MAX_LAYERS, MAX_FEATURES, MAX_WEIGHTS = 2**31 - 1, 64, 1024, 2**20
MAX_PIXELS = 2**26  # this decoder's own bound on a render (section 9, last sentence)


class SirenError(ValueError):
    """The file is refused; the message names the rule that it breaks."""


def need(condition, message):
    if not condition:
        raise SirenError(message)


@dataclass
class Siren:
    width: int
    height: int
    channels: int
    depth: int
    layers: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # (W_l, b_l)
    metadata: dict[bytes, bytes] = field(default_factory=dict)

    def evaluate(self, x, y):
        """t before clamping at points of the plane: sections 5 and 8."""
        h = np.stack([x, y], axis=-1)
        for weights, bias in self.layers[:-1]:
            h = np.sin(h @ weights.T + bias)
        weights, bias = self.layers[-1]
        return (h @ weights.T + bias + 1) / 2

    def render(self, W, H):
        """t before clamping at the pixels of a W x H render, section 7: H x W x channels."""
        need(0 < W * H <= MAX_PIXELS, f"a render of {W} x {H} is beyond this decoder's bound")
        w, h = float(self.width), float(self.height)
        m = max(w, h)
        x = (2 * np.arange(W) + 1 - W) * w / (W * m)
        y = (2 * np.arange(H) + 1 - H) * h / (H * m)
        return np.stack([self.evaluate(x, np.full(W, y_j)) for y_j in y])


def quantize(t, bits):
    """Samples of section 8."""
    return np.floor(np.clip(t, 0, 1) * (2**bits - 1) + 0.5).astype(np.int64)


class Reader:
    def __init__(self, data):
        self.data, self.pos = data, 0

    def take(self, count, what):
        need(count <= len(self.data) - self.pos, f"truncated: the file ends in {what}")
        self.pos += count
        return self.data[self.pos - count:self.pos]

    def u8(self, what):
        return self.take(1, what)[0]

    def varint(self, what):
        value = 0
        for i in range(5):
            byte = self.u8(what)
            need(i < 4 or byte < 0x10, f"{what}: a varint of 2^32 or more")
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                need(byte or i == 0, f"{what}: a varint not in its shortest form")
                return value

    def crc(self, start, what):
        actual = zlib.crc32(self.data[start:self.pos])
        stored = int.from_bytes(self.take(4, f"the CRC of {what}"), "little")
        need(stored == actual, f"corrupt: the CRC of {what} does not match")


def check_signature(data):
    """Section 2."""
    if data.startswith(SIGNATURE):
        return
    need(len(data) < 4 or not SIGNATURE.startswith(data), "truncated: it ends in the signature")
    damaged = data[1:4] == b"SRN" and data[0] in (0x89, 0x09)
    raise SirenError("a .siren file damaged by a text-mode or 7-bit transfer" if damaged
                     else "not a .siren file")


def read_header(r):
    """Section 3, up to and with the CRC. Returns the picture, n_0 .. n_{N+1} and the weight
    coding."""
    check_signature(r.data)
    r.pos = len(SIGNATURE)
    version = r.u8("the version")
    need(version != 0, "malformed: version 0")
    need(version == 1, f"version {version} is newer than this decoder: update it")
    representation, coding, fmt = r.take(3, "the header")
    width, height = r.varint("width"), r.varint("height")
    N = r.u8("hidden layers")
    need(1 <= N <= MAX_LAYERS, f"{N} hidden layers; 1 to {MAX_LAYERS} are allowed")
    hidden = [r.varint("hidden features") for _ in range(N if fmt & 0x20 else 1)]
    omega = np.frombuffer(r.take(4, "training omega_0"), "<f2") if fmt & 0x10 else None
    r.crc(0, "the header")

    need(representation == 0, f"unknown representation {representation}: update the decoder")
    need(coding in (0, 1), f"unknown weight coding {coding}: update the decoder")
    channels, depth = (fmt & 3) + 1, fmt >> 2 & 3
    need(depth < 2, f"reserved depth {depth}")
    need(fmt >> 6 == 0, "a reserved bit of format is set")
    for name, side in (("width", width), ("height", height)):
        need(1 <= side <= MAX_SIDE, f"{name} {side}; 1 to 2^31 - 1 is allowed")
    for n in hidden:
        need(1 <= n <= MAX_FEATURES, f"{n} features; 1 to {MAX_FEATURES} are allowed")
    need(omega is None or np.isfinite(omega).all(), "training omega_0 is not finite")
    n = [2, *(hidden if fmt & 0x20 else hidden * N), channels]
    count = weight_count(n)
    need(count <= MAX_WEIGHTS, f"{count} weights; at most 2^20 are allowed")
    return Siren(width, height, channels, 16 if depth else 8), n, coding


def weight_count(n):
    return sum((a + 1) * b for a, b in zip(n, n[1:]))


def read_binary16(payload, n):
    """Section 6.1: [(W_l, b_l)]."""
    expected = 2 * weight_count(n)
    need(len(payload) == expected, f"WGHT has {len(payload)} bytes instead of {expected}")
    weights = np.frombuffer(payload, "<f2").astype(np.float64)
    need(np.isfinite(weights).all(), "a weight is infinite or not a number")
    layers, at = [], 0
    for a, b in zip(n, n[1:]):
        layers.append((weights[at:at + a * b].reshape(b, a), weights[at + a * b:at + a * b + b]))
        at += (a + 1) * b
    return layers


@functools.cache
def slice_starts(i):
    """The starts of the slices of -63 to 63 and the escape, and the number of low bits."""
    w = i - 16
    h = 0 if w < 12 else (w - 12) // 4 + 1
    a = 2 ** ((w - 4 * h) / 4)
    # Beyond e^700 a quotient is 0 all the same.
    rounded = [math.floor(65408 / (1 + math.exp(min(700, (0.5 - k) / a))) + 0.5)
               for k in range(-62, 65)]
    return [0] + [start + k + 63 for k, start in zip(range(-62, 65), rounded)], h


class EntropyDecoder:
    """Section 6.3."""

    def __init__(self, payload):
        need(payload[-1:] != b"\0", "WGHT ends in a zero")
        self.payload, self.taken = payload, 8
        self.R, self.D = 2**64 - 1, int.from_bytes(payload[:8].ljust(8, b"\0"), "big")

    def symbol(self, starts):
        """The number of the slice; `starts` are rising from 0."""
        S = self.R >> 16
        q = self.D // S
        need(q < 2**16, "a quantile out of range")
        index = bisect.bisect_right(starts, q) - 1
        end = starts[index + 1] if index + 1 < len(starts) else 2**16
        self.D -= S * starts[index]
        self.R = S * (end - starts[index])
        if self.R < 2**48:
            word = self.payload[self.taken:self.taken + 2].ljust(2, b"\0")
            self.R, self.D = self.R << 16, self.D << 16 | int.from_bytes(word, "big")
            self.taken += 2
        return index

    def bits(self, count):
        value = 0
        while count > 0:
            p = min(8, count)
            value = value << p | self.symbol(range(0, 2**16, 2 ** (16 - p)))
            count -= p
        return value

    def natural(self, k):
        n = k
        while self.bits(1):
            n += 1
            need(n < 24, "an integer out of range")
        return 2**n + self.bits(n) - 2**k

    def integer(self, i):
        starts, h = slice_starts(i)
        v = self.symbol(starts) - 63
        if v == 64:
            negative = self.bits(1)
            v = 64 + self.natural(0)
            v = -v if negative else v
        v = (v << h) + self.bits(h) - (2**h >> 1)
        need(abs(v) < 2**24, "an integer out of range")
        return v

    def finish(self):
        need(self.taken >= len(self.payload), "WGHT holds more than the weights")


def read_compact(payload, n):
    """Section 6.2: [(W_l, b_l)]."""
    coder = EntropyDecoder(payload)
    roots = (1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429)

    def parameter(predicted, least, most):
        value = predicted + coder.integer(20)
        need(least <= value <= most, "a parameter out of range")
        return value

    def weights(integers, code):
        size = math.ldexp(roots[code % 4], code // 4)
        return (np.array(integers, np.float64) * size).astype(np.float32).astype(np.float64)

    layers, (s, i, k) = [], (-24, 46, 5)
    for l, (a, b) in enumerate(zip(n, n[1:])):
        s = parameter(s, -100, 27)
        i = parameter(i, 0, 63)
        c = parameter(s - 2, -100, 27)
        matrix = weights([coder.integer(i) for _ in range(a * b)], s).reshape(b, a)
        bias = []
        if l + 2 < len(n):
            k = parameter(k, 0, 19)
            for _ in range(b):
                bias.append((bias[-1] if bias else 0) + coder.natural(k))
                need(bias[-1] < 2**24, "an integer out of range")
        else:
            j = parameter(i, 0, 63)
            bias = [coder.integer(j) for _ in range(b)]
        layers.append((matrix, weights(bias, c)))
    coder.finish()
    return layers


def check_metadata(kind, payload):
    """The rules of section 4 on what is in a chunk; `iccp`, `exif` and `xmpp` stay opaque."""
    if kind == b"cicp":
        need(len(payload) == 4, f"cicp has {len(payload)} bytes instead of 4")
        need(payload[2] == 0, "MatrixCoefficients of cicp is not 0")
        need(payload[3] < 2, "VideoFullRangeFlag of cicp is neither 0 nor 1")
    elif kind == b"sett":
        need(len(payload) <= 4096, "sett is longer than 4,096 bytes")
        try:
            text = payload.decode("utf-8")
        except UnicodeDecodeError:
            raise SirenError("sett is not UTF-8") from None
        need(not re.search("[\0-\x1f\x7f-\x9f]", text), "sett has a control character")


def decode(data):
    """A whole file, or SirenError."""
    r = Reader(data)
    picture, n, coding = read_header(r)
    while True:  # the chunks, section 4
        start = r.pos
        kind = r.take(4, "the chunks: there is no WGHT yet")
        need(re.fullmatch(rb"[A-Za-z]{4}", kind), f"malformed: chunk type {kind!r}")
        name = kind.decode()
        payload = r.take(r.varint(f"the length of {name}"), f"chunk {name}")
        r.crc(start, f"chunk {name}")
        if kind == b"WGHT":
            picture.layers = (read_compact if coding else read_binary16)(payload, n)
            need(r.pos == len(data), "bytes follow the WGHT chunk")
            return picture
        need(not name[0].isupper(), f"unknown critical chunk {name}: update the decoder")
        if kind in METADATA:
            need(kind not in picture.metadata, f"a second {name} chunk")
            check_metadata(kind, payload)
            picture.metadata[kind] = payload


def check(path):
    """Compares a file with its vectors, a line for each. True if all hold (section 10)."""
    pattern = re.compile(re.escape(path.stem) + r"\.(\d+)x(\d+)\.f64")
    vectors = sorted((p, m) for p in path.parent.iterdir() if (m := pattern.fullmatch(p.name)))
    need(vectors, "there is no vector beside it")
    picture, all_hold = decode(path.read_bytes()), True
    for vector, match in vectors:
        W, H = int(match[1]), int(match[2])
        size = f"{W}x{H}x{picture.channels}"
        stored = vector.read_bytes()
        if len(stored) != 8 * W * H * picture.channels:
            print(f"{vector}: {len(stored)} bytes are not {size} values: FAILED")
            all_hold = False
            continue
        stored = np.frombuffer(stored, "<f8")
        t = picture.render(W, H).ravel()
        difference = np.abs(t - stored).max()
        steps = np.abs(quantize(t, 8) - quantize(stored, 8))
        holds = difference <= 1e-9 and steps.max() <= 1 and (steps == 0).mean() >= 0.999
        print(f"{path.stem} {size}: max difference {difference:.3g}, "
              f"{np.count_nonzero(steps)} samples differ: {'ok' if holds else 'FAILED'}")
        all_hold &= bool(holds)
    return all_hold


def render(path, out, size=None):
    picture = decode(path.read_bytes())
    W, H = map(int, size.split("x")) if size else (picture.width, picture.height)
    samples = quantize(picture.render(W, H), picture.depth)
    top = 2**picture.depth - 1
    head = {1: f"P5\n{W} {H}\n{top}\n", 3: f"P6\n{W} {H}\n{top}\n"}.get(
        picture.channels,
        f"P7\nWIDTH {W}\nHEIGHT {H}\nDEPTH {picture.channels}\nMAXVAL {top}\n"
        f"TUPLTYPE {'GRAYSCALE' if picture.channels == 2 else 'RGB'}_ALPHA\nENDHDR\n")
    out.write_bytes(head.encode() + samples.astype("u1" if top == 255 else ">u2").tobytes())
    return True


def main(args):
    if args[:1] == ["--render"]:
        sized = len(args) == 4 and re.fullmatch(r"\d+x\d+", args[3])
        if len(args) != 3 and not sized:
            sys.exit(__doc__)
        jobs = [(args[1], lambda path: render(path, Path(args[2]), *args[3:]))]
    elif args and not args[0].startswith("-"):
        jobs = [(name, check) for name in args]
    else:
        sys.exit(__doc__)
    status = 0
    for name, job in jobs:
        try:
            status |= not job(Path(name))
        except (SirenError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
