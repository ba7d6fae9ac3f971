"""Makes the pictures of this directory, as cameras, phones and other programs write them.

    python3 tests/files/make.py        with Pillow 13

Most show four quadrants, red, green, blue and yellow, so that a few training steps tell
whether they came through upright and in their colours; photographs are parts of the CC0
pictures in samples/. Made once and checked in; the tests do not run this.
"""

import io
import struct
import zlib
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent / "samples"
SIZE = (48, 32)
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 220, 30)
COLOURS = (RED, GREEN, BLUE, YELLOW)


def quadrants(mode, colours, size=SIZE):
    """Top left, top right, bottom left, bottom right."""
    width, height = size
    picture = Image.new(mode, size)
    for index, colour in enumerate(colours):
        x, y = (index % 2) * width // 2, (index // 2) * height // 2
        picture.paste(colour, (x, y, x + width // 2, y + height // 2))
    return picture


def save(picture, name, **options):
    picture.save(HERE / name, **options)


def profile(space, tags):
    """An ICC profile of a colour space, with tags (signature, contents)."""
    contents, table = b"", struct.pack(">I", len(tags))
    start = 128 + 4 + 12 * len(tags)
    for signature, body in tags:
        table += struct.pack(">4sII", signature, start + len(contents), len(body))
        contents += body + bytes(-len(body) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x3I48x",
        start + len(contents), 0x02400000, kind, space,
        b"Lab " if space == b"CMYK" else b"XYZ ", b"acsp", 0xF6D6, 0x10000, 0xD32D,
    )
    return header + table + contents


DESCRIPTION = (b"desc", b"desc\0\0\0\0\0\0\0\x05test\0" + bytes(78))
COPYRIGHT = (b"cprt", b"text\0\0\0\0CC0\0")
WHITE = (b"wtpt", b"XYZ \0\0\0\0" + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D))
GAMMA = (b"kTRC", b"curv\0\0\0\0\0\0\0\x01\x02\x33")
GREY_PROFILE = profile(b"GRAY", [DESCRIPTION, COPYRIGHT, WHITE, GAMMA])
# Without the tables that would make it useful: only its header is looked at.
CMYK_PROFILE = profile(b"CMYK", [DESCRIPTION, COPYRIGHT, WHITE])


def orientations():
    """What a phone writes: turned pixels, EXIF and XMP that say how to turn them back."""
    turn = Image.Transpose
    stored = {
        1: None,
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_90,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_270,
    }
    for orientation, method in stored.items():
        picture = quadrants("RGB", COLOURS)
        if method is not None:
            picture = picture.transpose(method)
        exif = Image.Exif()
        # Both orders of bytes.
        exif.endian = "<" if orientation % 2 else ">"
        exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "Phone", orientation
        attribute = f' tiff:Orientation="{orientation}"'
        element = f"<tiff:Orientation>{orientation}</tiff:Orientation>"
        as_attribute = orientation % 3 != 0
        xmp = (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
            f"{attribute if as_attribute else ''}>{'' if as_attribute else element}"
            "</rdf:Description></rdf:RDF></x:xmpmeta>"
        )
        save(picture, f"orientation-{orientation}.jpg", quality=90, exif=exif, xmp=xmp.encode())


def cmyk():
    inks = ((255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 128))
    plain = quadrants("CMYK", inks)
    save(plain, "cmyk.jpg", quality=95)
    save(plain, "cmyk-icc.jpg", quality=95, icc_profile=CMYK_PROFILE)
    save(plain, "cmyk.tiff", compression="tiff_deflate")
    # YCCK holds Y, Cb and Cr of the inks, where the Adobe marker says so. Pillow inverts what it
    # writes, as Adobe does of CMYK.
    inks, black = Image.merge("RGB", plain.split()[:3]), plain.split()[3]
    bands = [band.point(lambda v: 255 - v) for band in inks.convert("YCbCr").split()] + [black]
    out = io.BytesIO()
    Image.merge("CMYK", bands).save(out, "JPEG", quality=95)
    data = bytearray(out.getvalue())
    marker = data.index(b"Adobe")
    assert data[marker + 11] == 0
    data[marker + 11] = 2
    (HERE / "ycck.jpg").write_bytes(data)


def palettes():
    picture = quadrants("P", (0, 1, 2, 3))
    picture.putpalette([sample for colour in COLOURS for sample in colour])
    save(picture, "palette.png", bits=2)
    save(picture, "palette-trns.png", bits=2, transparency=bytes([255, 255, 255, 0]))
    save(picture, "still.gif")
    save(quadrants("1", (1, 0, 0, 1)), "one-bit.png")


def animations():
    frames = [quadrants("RGB", COLOURS), quadrants("RGB", COLOURS[::-1])]
    options = {"save_all": True, "append_images": frames[1:], "duration": 100, "loop": 0}
    save(frames[0], "animation.gif", **options)
    save(frames[0], "animation.png", **options)
    save(frames[0], "animation.webp", lossless=True, **options)
    save(frames[0], "still.webp", lossless=True)
    save(frames[0], "pages.tiff", save_all=True, append_images=frames[1:],
         compression="tiff_deflate")


def deep_tiff():
    """RGB of 16 bits, which Pillow cannot write: one strip, no compression."""
    width, height = 24, 16
    rows = b""
    for y in range(height):
        for x in range(width):
            rows += struct.pack("<3H", x * 65535 // width, y * 65535 // height, 12345)
    short, long = 3, 4
    entries = [(256, short, 1, width), (257, short, 1, height), (258, short, 3, 0),
               (259, short, 1, 1), (262, short, 1, 2), (273, long, 1, 0), (277, short, 1, 3),
               (278, short, 1, height), (279, long, 1, len(rows))]
    bits = 8 + 2 + 12 * len(entries) + 4
    offsets = {258: bits, 273: bits + 6}
    directory = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack("<HHII", tag, kind, count, offsets.get(tag, value))
    head = b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + struct.pack("<3H", 16, 16, 16)
    (HERE / "deep.tiff").write_bytes(head + rows)


def interlaced_png():
    """Adam7, which Pillow cannot write."""
    picture = quadrants("RGB", COLOURS)
    width, height = SIZE
    rows = b""
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
                           (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        for y in range(y0, height, dy):
            rows += b"\0" + b"".join(bytes(picture.getpixel((x, y))) for x in range(x0, width, dx))

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    (HERE / "interlaced.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b""))


def photographs():
    cat = Image.open(SAMPLES / "chelsea.png").convert("RGB")
    cat = cat.crop((100, 40, 388, 232)).resize((72, 48), Image.Resampling.LANCZOS)
    save(cat, "baseline.jpg", quality=85)
    save(cat, "restarts.jpg", quality=85, restart_marker_blocks=4)
    save(cat, "progressive.jpg", quality=85, progressive=True)
    save(cat.convert("L"), "grey-icc.jpg", quality=85, icc_profile=GREY_PROFILE)
    save(cat.convert("L"), "grey-icc.png", icc_profile=GREY_PROFILE)
    save(quadrants("RGB", COLOURS), "quadrants.tga")


save(quadrants("RGB", COLOURS), "upright.png")
orientations()
cmyk()
palettes()
animations()
deep_tiff()
interlaced_png()
photographs()
