#!/usr/bin/env python3
"""A decoder of `.siren` images, version 1, written from the text of ../siren.md alone.

    python3 decode.py FILE.siren...                     check files against their vectors
    python3 decode.py --render FILE.siren OUT [WxH]     write a PGM, PPM or (alpha) PAM
    python3 decode.py --f64 FILE.siren OUT [WxH]        write the values t as binary64, for check.py

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
MAX_LEVELS, MAX_WAVES, MAX_HIDDEN, TILE = 10, 4, 64, 256
MAX_PIXELS = 2**26  # this decoder's own bound on a render (section 9, last sentence)
# (dx, dy) of the latents of the same tile that the entropy model of splines sees (section 6.6).
NEIGHBOURS = ((-1, 0), (-2, 0), (-3, 0), (-2, -1), (-1, -1), (0, -1), (1, -1), (2, -1),
              (-2, -2), (-1, -2), (0, -2), (1, -2), (2, -2), (-1, -3), (0, -3), (1, -3))
# (columns of cells, rows of cells, k, m) of the magnitudes that are added for each input of the
# entropy model of waves (section 6.8).
SUMS = (
    ((-1, 0, 0, 0),),
    ((0, -1, 0, 0),),
    ((-1, -1, 0, 0), (1, -1, 0, 0)),
    ((-2, 0, 0, 0), (0, -2, 0, 0)),
    ((0, 0, -1, 0),),
    ((0, 0, 0, -1),),
    ((0, 0, -1, -1),),
    ((0, 0, -2, 0), (0, 0, 0, -2)),
    ((0, 0, 1, -1), (0, 0, 2, -2)),
    ((1, 0, -1, 0), (1, 0, 0, -1)),
    ((0, 1, -1, 0), (0, 1, 0, -1)),
    ((-1, 0, -1, 0), (-1, 0, 0, -1)),
    ((0, -1, -1, 0), (0, -1, 0, -1)),
    ((-1, 0, 1, -1), (0, -1, 1, -1), (1, 0, 1, -1), (0, 1, 1, -1)),
    ((0, 0, -3, 0), (0, 0, 0, -3), (0, 0, -2, -1), (0, 0, -1, -2)),
)


class SirenError(ValueError):
    """The file is refused; the message names the rule that it breaks."""


def need(condition, message):
    if not condition:
        raise SirenError(message)


class Siren:
    """Section 5.1."""

    def __init__(self, layers):
        self.layers = layers  # (W_l, b_l)

    def render(self, w, h, W, H):
        """*out* at the pixels of a W x H render, row by row: sections 5.1 and 7."""
        m = max(w, h)
        x = (2 * np.arange(W) + 1 - W) * w / (W * m)
        y = (2 * np.arange(H) + 1 - H) * h / (H * m)
        for y_j in y:
            a = np.stack([x, np.full(W, y_j)], axis=-1)
            for weights, bias in self.layers[:-1]:
                a = np.sin(a @ weights.T + bias)
            weights, bias = self.layers[-1]
            yield a @ weights.T + bias


class Splines:
    """A plane of level l: section 5.2."""

    def __init__(self, l):
        self.l = l

    def length(self, native):
        """Latents along an axis."""
        return -(-native // 2**self.l)

    def values(self, u, size):
        """What each of the `size` latents of an axis weighs, a row for each position."""
        s = u / 2**self.l - 0.5
        k = np.floor(s).astype(int)
        t = s - k
        taps = ((1 - t)**3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6,
                (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
        matrix = np.zeros((len(u), size))
        for a, tap in enumerate(taps):
            np.add.at(matrix, (np.arange(len(u)), np.clip(k - 1 + a, 0, size - 1)), tap)
        return matrix


class Waves:
    """A plane of cells of s pixels: section 5.2."""

    def __init__(self, s):
        self.s = s

    def length(self, native):
        return -(-native // self.s) * self.s

    def values(self, u, size):
        s, cells = self.s, size // self.s
        matrix = np.zeros((len(u), size))
        for i in range(cells):
            z = u - i * s + s / 2
            S = lambda t: t**3 * (10 - 15 * t + 6 * t**2)
            rise = np.where(z < 0, 0, np.sin(np.pi / 2 * S(z / s))) if i > 0 else 1
            fall = np.where(z > 2 * s, 0, np.cos(np.pi / 2 * S(z / s - 1))) if i + 1 < cells else 1
            window = np.where(z < s, rise, fall)
            for k in range(s):
                wave = np.cos(np.pi / s * (z + s / 2) * (k + 0.5)) * math.sqrt(2 / s)
                matrix[:, s * i + k] = window * wave
        return matrix


class Planes:
    """Section 5.2."""

    def __init__(self, first, last, planes):
        self.first, self.last = first, last  # (W_1, b_1), ((W_2 S), b_2)
        self.planes = planes  # (Splines or Waves, q)

    def render(self, w, h, W, H):
        """*out* at the pixels of a W x H render, row by row: sections 5.2 and 7."""
        u = (2 * np.arange(W) + 1) * w / (2 * W)
        v = (2 * np.arange(H) + 1) * h / (2 * H)
        F = np.zeros((H, W, len(self.planes)))
        for p, (basis, q) in enumerate(self.planes):
            rows, columns = q.shape
            F[:, :, p] = basis.values(v, rows) @ q @ basis.values(u, columns).T
        for row in F:
            features = np.sin(row @ self.first[0].T + self.first[1])
            yield np.hstack([features, row]) @ self.last[0].T + self.last[1]


@dataclass
class Picture:
    width: int
    height: int
    channels: int
    depth: int
    function: Siren | Planes | None = None
    metadata: dict[bytes, bytes] = field(default_factory=dict)

    def render(self, W, H):
        """t before clamping (section 8) of a W x H render: H x W x channels."""
        need(0 < W * H <= MAX_PIXELS, f"a render of {W} x {H} is beyond this decoder's bound")
        return (np.stack(list(self.function.render(self.width, self.height, W, H))) + 1) / 2


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
    """Section 3, up to and with the CRC. Returns the picture, the features of the hidden
    layers, the representation and the weight coding."""
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

    need(representation in (0, 1),
         f"unknown representation {representation}: update the decoder")
    need(coding in ((0, 1), (1,))[representation],
         f"unknown weight coding {coding}: update the decoder")
    need(representation == 0 or N == 1, f"{N} hidden layers; representation 1 has one")
    channels, depth = (fmt & 3) + 1, fmt >> 2 & 3
    need(depth < 2, f"reserved depth {depth}")
    need(fmt >> 6 == 0, "a reserved bit of format is set")
    for name, side in (("width", width), ("height", height)):
        need(1 <= side <= MAX_SIDE, f"{name} {side}; 1 to 2^31 - 1 is allowed")
    for n in hidden:
        need(1 <= n <= MAX_FEATURES, f"{n} features; 1 to {MAX_FEATURES} are allowed")
    need(omega is None or np.isfinite(omega).all(), "training omega_0 is not finite")
    hidden = hidden if fmt & 0x20 else hidden * N
    if representation == 0:
        count = weight_count([2, *hidden, channels])
        need(count <= MAX_WEIGHTS, f"{count} weights; at most 2^20 are allowed")
    return Picture(width, height, channels, 16 if depth else 8), hidden, representation, coding


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
        need(payload[-1:] != b"\0", "a stream of WGHT ends in a zero")
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
        need(self.taken >= len(self.payload), "a stream of WGHT holds more than what was read")


def read_compact(coder, shapes):
    """Section 6.2: [(W_l, b_l)] of these (inputs, outputs)."""
    roots = (1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429)

    def parameter(predicted, least, most):
        value = predicted + coder.integer(20)
        need(least <= value <= most, "a parameter out of range")
        return value

    def weights(integers, code):
        size = math.ldexp(roots[code % 4], code // 4)
        return (np.array(integers, np.float64) * size).astype(np.float32).astype(np.float64)

    layers, (s, i, k) = [], (-24, 46, 5)
    for l, (a, b) in enumerate(shapes):
        s = parameter(s, -100, 27)
        i = parameter(i, 0, 63)
        c = parameter(s - 2, -100, 27)
        matrix = weights([coder.integer(i) for _ in range(a * b)], s).reshape(b, a)
        bias = []
        if l + 1 < len(shapes):
            k = parameter(k, 0, 19)
            for _ in range(b):
                bias.append((bias[-1] if bias else 0) + coder.natural(k))
                need(bias[-1] < 2**24, "an integer out of range")
        else:
            j = parameter(i, 0, 63)
            bias = [coder.integer(j) for _ in range(b)]
        layers.append((matrix, weights(bias, c)))
    return layers


def read_siren(payload, n, coding):
    """Sections 6.1 and 6.2: a network of n_0 .. n_{N+1} features."""
    if coding == 0:
        return Siren(read_binary16(payload, n))
    coder = EntropyDecoder(payload)
    layers = read_compact(coder, list(zip(n, n[1:])))
    coder.finish()
    return Siren(layers)


def read_planes(payload, width, height, n, channels):
    """Section 6.4: planes and a network of n sines."""
    r = Reader(payload)
    L = r.varint("the number of levels")
    need(1 <= L <= MAX_LEVELS, f"{L} levels; 1 to {MAX_LEVELS} are allowed")
    code = r.varint("the finest level and the number of planes of waves")
    V, e = divmod(code, 16)
    need(V <= MAX_WAVES, f"{V} planes of waves; at most {MAX_WAVES} are allowed")
    need(e + L - 1 < MAX_LEVELS, f"level {e + L - 1}; levels 0 to {MAX_LEVELS - 1} are allowed")
    cell = r.varint("the size of a cell") if V else 3
    need(3 <= cell <= 5, f"cells of 2^{cell} pixels; 8, 16 or 32 are allowed")
    hidden = [[r.varint("hidden features of an entropy model") for _ in range(2)]
              for _ in range(2 if V else 1)]
    need(all(1 <= m <= MAX_HIDDEN for model in hidden for m in model),
         f"{hidden} hidden features of the entropy models; 1 to {MAX_HIDDEN} are allowed")
    bases = [Waves(2**cell)] * V + [Splines(l) for l in range(e, e + L)]
    P = len(bases)
    sizes = [(basis.length(height), basis.length(width)) for basis in bases]
    tiles = [-(-rows // TILE) * -(-columns // TILE) for rows, columns in sizes]
    need(sum(tiles) <= len(payload), "truncated: WGHT has fewer bytes than tiles")
    networks = r.varint("the length of the networks' stream")
    lengths = [r.varint("the length of a tile") for _ in range(sum(tiles))]
    need(networks + sum(lengths) == len(payload) - r.pos,
         "the streams of WGHT do not add up to its length")

    coder = EntropyDecoder(r.take(networks, "the networks' stream"))
    first, last = read_compact(coder, [(P, n), (n + P, channels)])
    splines = EntropyModel(coder, [21, *hidden[0], 2])
    waves = EntropyModel(coder, [17, *hidden[1], 1]) if V else None
    coder.finish()

    planes, lengths, coarser = [], iter(lengths), None
    for basis, (rows, columns) in zip(reversed(bases), reversed(sizes)):
        plane = np.zeros((rows, columns), np.int16)
        for y in range(0, rows, TILE):
            for x in range(0, columns, TILE):
                stream = r.take(next(lengths), "a tile")
                tile = plane[y:y + TILE, x:x + TILE]  # a view
                if not stream:
                    continue
                if isinstance(basis, Splines):
                    around = coarser_tile(coarser, x, y)
                    tile[:] = read_splines(EntropyDecoder(stream), splines, basis.l, tile.shape,
                                           around)
                else:
                    tile[:] = read_waves(EntropyDecoder(stream), waves, basis.s, tile.shape)
        planes.append((basis, plane))
        coarser = plane
    return Planes(first, last, planes[::-1])


class EntropyModel:
    """Section 6.5."""

    def __init__(self, coder, sizes):
        self.layers = []
        for (a, b), bound, unit in zip(zip(sizes, sizes[1:]), (1023, 4095, 4095), (1, 64, 64)):
            drop = coder.natural(3)
            need(drop <= 15, "a parameter out of range")
            i = self.width(coder)
            W = np.array([coder.integer(i) for _ in range(a * b)], np.int64).reshape(b, a)
            i = self.width(coder)
            bias = unit * np.array([coder.integer(i) for _ in range(b)], np.int64)
            largest = bound * abs(W).sum(axis=1) + abs(bias) + 2**drop
            need((largest < 2**24).all(), "sums of the entropy model reach 2^24")
            self.layers.append((W, bias, drop))

    @staticmethod
    def width(coder):
        i = coder.natural(5)
        need(i <= 63, "a parameter out of range")
        return i

    def __call__(self, inputs):
        """The values of the third layer for inputs that are clamped."""
        x = inputs
        for l, (W, bias, drop) in enumerate(self.layers):
            x = (W @ x + bias + (1 << drop >> 1)) >> drop
            if l < 2:
                x = np.clip(x, 0, 4095)
        return map(int, x)


def scale_index(o):
    return min(max((o + 4) // 8 + 40, 0), 104)


def coarser_tile(coarser, x, y):
    """The tile of the next coarser level that the tile at (x, y) depends on."""
    if coarser is None:
        return None
    top, left = (start // 2 // TILE * TILE for start in (y, x))
    return coarser[top:top + TILE, left:left + TILE], (x - 2 * left, y - 2 * top)


def read_splines(coder, model, l, shape, around):
    """Section 6.6: a tile of level l."""
    rows, columns = shape
    tile = np.zeros((rows + 3, columns + 5), np.int64)  # with the zeros around it
    inputs = np.zeros(21, np.int64)
    inputs[20] = l

    def latent(x, y):
        for a, (dx, dy) in enumerate(NEIGHBOURS):
            inputs[a] = tile[y + 3 + dy, x + 3 + dx]
        if around is not None:
            coarser, offset = around
            (I, I2), (J, J2) = (
                (at // 2, min(max(at // 2 + (1 if at % 2 else -1), 0), size - 1))
                for at, size in zip((offset[0] + x, offset[1] + y), coarser.shape[::-1]))
            inputs[16:20] = coarser[J, I], coarser[J, I2], coarser[J2, I], coarser[J2, I2]
        centre, scale = model(np.clip(inputs, -1023, 1023))
        return read_latent(coder, min(max(centre, -65535), 65535), scale_index(scale))

    for group in range(0, rows, 16):
        height = min(16, rows - group)
        for t in range(columns + 3 * (height - 1)):
            for row in range(height):
                x, y = t - 3 * row, group + row
                if 0 <= x < columns:
                    tile[y + 3, x + 3] = latent(x, y)
    coder.finish()
    return tile[3:, 3:3 + columns]


def read_waves(coder, model, s, shape):
    """Sections 6.8 and 6.9: a tile of cells of s pixels."""
    R, C = shape[0] // s, shape[1] // s
    pairs = sorted(((k, m) for m in range(s) for k in range(s)), key=lambda at: (sum(at), at[1]))
    g = coder.bits(2 * (s.bit_length() - 1))
    tile = np.zeros((R, s, C, s), np.int64)  # by Y, m, X, k
    inputs = np.zeros(17, np.int64)

    def magnitude(X, Y, k, m):
        inside = 0 <= X < C and 0 <= Y < R and 0 <= k < s and 0 <= m < s
        return abs(int(tile[Y, m, X, k])) if inside else 0

    # A dictionary by step of what is read in it, in its order.
    steps = {}
    for f in range(g + 1):
        for Y in range(R):
            for X in range(C):
                steps.setdefault(X + 2 * Y + 3 * f, []).append((X, Y, *pairs[f]))
    for t in sorted(steps):
        for at in steps[t]:
            for a, places in enumerate(SUMS):
                total = sum(magnitude(*(x + d for x, d in zip(at, place))) for place in places)
                inputs[a] = min(total, 1023)
            X, Y, k, m = at
            inputs[15], inputs[16] = 8 * k // s, 8 * m // s
            scale, = model(inputs)
            tile[Y, m, X, k] = read_latent(coder, 0, scale_index(scale))
    coder.finish()
    return tile.reshape(shape)


E = [math.floor(2**23 * math.exp(-j / 64) + 0.5) for j in range(1153)]


@functools.cache
def latent_slices(centre, i):
    """R and the starts of the slices of the latents around a centre of -32 to 31: section 6.7."""
    S = math.floor(2 ** (16 + (40 - i) / 8) + 0.5)
    R = min(1023, 2 + 11 * 2**16 // S)
    N = 2**16 - (2 * R + 3)

    def P(x):
        z = x * S // 64
        j, f = z >> 10, z & 1023
        return (E[j] * (1024 - f) + E[j + 1] * f) // 1024 if j < 1152 else 0

    starts = [0]
    for k in range(-R, R + 2):
        x = 64 * k - 32 - centre
        D = P(-x) if x <= 0 else 2**24 - P(x)
        starts.append(D * N // 2**24 + k + R + 1)
    return R, starts


def read_latent(coder, c, i):
    """Section 6.7."""
    r = (c + 32) // 64
    R, starts = latent_slices(c - 64 * r, i)
    value = r - R - 1 + coder.symbol(starts)
    order = R.bit_length() - 1
    if value < r - R:
        value -= coder.natural(order)
    elif value > r + R:
        value += coder.natural(order)
    need(abs(value) < 2**15, "a latent out of range")
    return value


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
    picture, hidden, representation, coding = read_header(r)
    while True:  # the chunks, section 4
        start = r.pos
        kind = r.take(4, "the chunks: there is no WGHT yet")
        need(re.fullmatch(rb"[A-Za-z]{4}", kind), f"malformed: chunk type {kind!r}")
        name = kind.decode()
        payload = r.take(r.varint(f"the length of {name}"), f"chunk {name}")
        r.crc(start, f"chunk {name}")
        if kind == b"WGHT":
            need(r.pos == len(data), "bytes follow the WGHT chunk")
            if representation == 0:
                n = [2, *hidden, picture.channels]
                picture.function = read_siren(payload, n, coding)
            else:
                picture.function = read_planes(payload, picture.width, picture.height, hidden[0],
                                               picture.channels)
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


def render(path, out, size=None, raw=False):
    picture = decode(path.read_bytes())
    W, H = map(int, size.split("x")) if size else (picture.width, picture.height)
    t = picture.render(W, H)
    if raw:
        out.write_bytes(np.asarray(t, "<f8").tobytes())
        return True
    samples = quantize(t, picture.depth)
    top = 2**picture.depth - 1
    head = {1: f"P5\n{W} {H}\n{top}\n", 3: f"P6\n{W} {H}\n{top}\n"}.get(
        picture.channels,
        f"P7\nWIDTH {W}\nHEIGHT {H}\nDEPTH {picture.channels}\nMAXVAL {top}\n"
        f"TUPLTYPE {'GRAYSCALE' if picture.channels == 2 else 'RGB'}_ALPHA\nENDHDR\n")
    out.write_bytes(head.encode() + samples.astype("u1" if top == 255 else ">u2").tobytes())
    return True


def main(args):
    if args[:1] in (["--render"], ["--f64"]):
        raw = args[0] == "--f64"
        sized = len(args) == 4 and re.fullmatch(r"\d+x\d+", args[3])
        if len(args) != 3 and not sized:
            sys.exit(__doc__)
        jobs = [(args[1], lambda path: render(path, Path(args[2]), *args[3:], raw=raw))]
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
