"""Makes the pictures of this directory, as cameras, phones and other programs write them.

    python3 tests/files/make.py        with Pillow 13

Most show four quadrants, red, green, blue and yellow, so that a few training steps tell
whether they came through upright and in their colours; photographs are parts of the CC0
pictures in samples/. Made once and checked in; the tests do not run this.
"""

import hashlib
import io
import struct
import zlib
from pathlib import Path

from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import IFDRational

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

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    (HERE / "interlaced.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b""))


def tiff(name, size, samples, tags, big=False):
    """TIFF as Pillow cannot write it: little-endian, one strip, no compression; `tags` are
    (number, type, values), and `big` makes it a BigTIFF file."""
    width, height = size
    tags = tags + [(256, 4, [width]), (257, 4, [height]), (259, 3, [1]), (278, 4, [height]),
                   (273, 4, [0]), (279, 4, [len(samples)])]
    head, count, entry, inline = (16, "Q", "HHQ", 8) if big else (8, "H", "HHI", 4)
    directory_size = struct.calcsize("<" + count) + len(tags) * (struct.calcsize("<" + entry) + inline) + inline
    directory = struct.pack("<" + count, len(tags))
    behind = b""
    for number, kind, values in sorted(tags):
        values = [head + directory_size] if number == 273 else values
        body = struct.pack("<%d%s" % (len(values), {3: "H", 4: "I"}[kind]), *values)
        if len(body) > inline:
            place = head + directory_size + len(samples) + len(behind)
            behind += body
            body = struct.pack("<Q" if big else "<I", place)
        directory += struct.pack("<" + entry, number, kind, len(values)) + body.ljust(inline, b"\0")
    directory += bytes(inline)
    start = b"II+\0" + struct.pack("<HHQ", 8, 0, 16) if big else b"II*\0" + struct.pack("<I", 8)
    (HERE / name).write_bytes(start + directory + samples + behind)


def tiff_pixels(pixels, maximum):
    """Samples of quadrants, 8 or 16 bits: `pixels` are four pixels of numbers from 0 to 255."""
    width, height = SIZE
    out = b""
    for y in range(height):
        for x in range(width):
            for sample in pixels[(x >= width // 2) + 2 * (y >= height // 2)]:
                out += bytes([sample]) if maximum == 255 else struct.pack("<H", sample * 257)
    return out


ALPHAS = (255, 102, 51, 204)


def alpha_tiffs():
    """Alpha that is straight or has been multiplied in, with colours or grey."""
    for maximum, bits in ((255, 8), (65535, 16)):
        multiplied = [[round(c * a / 255) for c in colour] + [a] for colour, a in zip(COLOURS, ALPHAS)]
        rgb = [(258, 3, [bits] * 4), (262, 3, [2]), (277, 3, [4]), (338, 3, [1])]
        tiff(f"premultiplied-{bits}.tiff", SIZE, tiff_pixels(multiplied, maximum), rgb)
        grey = [(258, 3, [bits] * 2), (262, 3, [1]), (277, 3, [2]), (338, 3, [2])]
        pixels = [[colour[0], a] for colour, a in zip(COLOURS, ALPHAS)]
        tiff(f"grey-alpha-{bits}.tiff", SIZE, tiff_pixels(pixels, maximum), grey)


def other_tiffs():
    plain = [(258, 3, [8] * 3), (262, 3, [2]), (277, 3, [3])]
    tiff("big.tiff", SIZE, tiff_pixels(COLOURS, 255), plain, big=True)
    picture = quadrants("RGB", COLOURS)
    save(picture, "ycbcr-jpeg.tiff", compression="jpeg", quality=95)
    save(picture.convert("P", palette=Image.Palette.ADAPTIVE), "palette.tiff")
    thumbnail = picture.resize((12, 8))
    out = io.BytesIO()
    picture.encoderinfo = {"tiffinfo": {254: 0}}
    thumbnail.save(out, "TIFF", save_all=True, append_images=[picture], tiffinfo={254: 1})
    (HERE / "thumbnail-first.tiff").write_bytes(out.getvalue())
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[0x010F], info[0x0132] = "Maker", "2026:01:02 03:04:05"
    info[0x8769] = {0x829A: IFDRational(1, 125), 0x8827: 200}
    info[0x8825] = {1: "N", 2: (IFDRational(48), IFDRational(8), IFDRational(6))}
    save(quadrants("RGB", COLOURS), "exif-gps.tiff", tiffinfo=info)


def chunk(kind, body):
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def exif_block(kind=3, big_endian=False, thumbnail=b""):
    """EXIF of one entry, orientation 6, as a value of this type, and a thumbnail."""
    order = ">" if big_endian else "<"
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I"}[kind], 6)
    block = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1)
    block += value + struct.pack(order + "I", 26 if thumbnail else 0)
    if thumbnail:
        block += struct.pack(order + "HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail), 0)
        block += thumbnail
    return block


def packet(inside, attributes=""):
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{attributes}>{inside}'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def turned():
    """Four quadrants as a camera on its side stores them: orientation 6 turns them back."""
    return quadrants("RGB", COLOURS).transpose(Image.Transpose.ROTATE_90)


def png_metadata():
    """Metadata where not everybody looks for it, and more of it than fits."""

    def with_chunks(name, before=b"", after=b"", picture=None):
        out = io.BytesIO()
        (picture or turned()).save(out, "PNG")
        data = out.getvalue()
        start, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
        (HERE / name).write_bytes(data[:start] + before + data[start:end] + after + data[end:])

    def raw_profile(kind, body):
        digits = body.hex()
        lines = "\n".join(digits[at:at + 72] for at in range(0, len(digits), 72))
        text = f"\n{kind}\n{len(body):8}\n{lines}\n".encode()
        return chunk(b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text))

    def xmp(text):
        return chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text.encode())

    word = packet("", ' tiff:Make="Maker"')
    with_chunks("exif-after.png", after=chunk(b"eXIf", exif_block()) + xmp(word))
    with_chunks("raw-profile.png",
                before=raw_profile("exif", b"Exif\0\0" + exif_block()) + raw_profile("xmp", word.encode()))
    with_chunks("xmp-orientation.png", before=xmp(packet("", ' tiff:Orientation="6"')))
    straight = quadrants("RGB", COLOURS)
    icc = b"profile\0\0" + zlib.compress(GREY_PROFILE)
    with_chunks("grey-icc-on-rgb.png", before=chunk(b"iCCP", icc), picture=straight)
    icc = b"profile\0\0" + zlib.compress(bytes(9 << 20), 9)
    with_chunks("large-icc.png", before=chunk(b"iCCP", icc), picture=straight)
    # Light itself: what is dark to the eye is darker by far.
    light = [tuple(round(255 * (v / 12.92 / 255 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4))
                   for v in colour) for colour in COLOURS]
    with_chunks("gamma-1.png", before=chunk(b"gAMA", struct.pack(">I", 100000)),
                picture=quadrants("RGB", light))


def jpeg_metadata():
    """As phones and editors write it, and as it should not be."""

    def segment(marker, body):
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    def jpeg(name, segments, picture=None, after=b""):
        out = io.BytesIO()
        (picture or turned()).save(out, "JPEG", quality=90)
        (HERE / name).write_bytes(out.getvalue()[:2] + b"".join(segments) + out.getvalue()[2:] + after)

    def exif(**options):
        return segment(0xE1, b"Exif\0\0" + exif_block(**options))

    jpeg("exif-long.jpg", [exif(kind=4, big_endian=True)])
    jpeg("exif-byte.jpg", [exif(kind=1)])
    small = io.BytesIO()
    turned().resize((8, 12)).save(small, "JPEG", quality=50)
    jpeg("exif-thumbnail.jpg", [exif(thumbnail=small.getvalue())])
    rgb = profile(b"RGB ", [DESCRIPTION, COPYRIGHT, WHITE])
    grey = quadrants("RGB", COLOURS).convert("L")
    jpeg("rgb-icc-on-grey.jpg", [segment(0xE2, b"ICC_PROFILE\0\1\1" + rgb)], grey)
    xmp = b"http://ns.adobe.com/xap/1.0/\0"
    upright = quadrants("RGB", COLOURS)
    wide = packet("", ' tiff:Make="Müller"').encode("utf-16-le")
    jpeg("utf16-xmp.jpg", [segment(0xE1, xmp + b"\xff\xfe" + wide)], upright)
    more = packet("<tiff:Model>" + "Phone " * 40 + "</tiff:Model>").encode()
    digest = hashlib.md5(more).hexdigest().upper().encode()
    note = ' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="'
    main = packet("", ' tiff:Make="Maker"' + note + digest.decode() + '"').encode()
    parts = [segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + digest
                     + struct.pack(">II", len(more), at) + more[at:at + 300])
             for at in range(0, len(more), 300)]
    # In any order.
    jpeg("extended-xmp.jpg", [segment(0xE1, xmp + main)] + parts[::-1], upright)
    gain = (' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
            ' tiff:Make="Maker"')
    listed = ('<Container:Directory xmlns:Container="http://ns.google.com/photos/1.0/container/" '
              'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"><rdf:Seq>'
              '<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap"/></rdf:li>'
              '</rdf:Seq></Container:Directory>')
    jpeg("gain-map.jpg", [segment(0xE1, xmp + packet(listed, gain).encode())], upright,
         after=small.getvalue())


def bitmaps():
    """What the headers of BMP and TGA say of alpha and colours."""
    width, height = SIZE

    def rows(alphas):
        out = b""
        for y in reversed(range(height)):
            for x in range(width):
                quadrant = (x >= width // 2) + 2 * (y >= height // 2)
                out += bytes(COLOURS[quadrant][::-1]) + bytes([alphas[quadrant]])
        return out

    def bmp(name, alphas, compression, icc=b""):
        pixels = rows(alphas)
        header = struct.pack("<IiiHHIIiiII4I4s36x12xIIII", 124, width, height, 1, 32, compression,
                             len(pixels), 2835, 2835, 0, 0, 0xFF0000, 0xFF00, 0xFF, 0xFF000000,
                             b"DEBM" if icc else b"BGRs", 4, 124 + len(pixels) if icc else 0, len(icc), 0)
        size = 14 + len(header) + len(pixels) + len(icc)
        start = b"BM" + struct.pack("<IHHI", size, 0, 0, 14 + len(header))
        (HERE / name).write_bytes(start + header + pixels + icc)

    bmp("profile.bmp", (255,) * 4, 3, profile(b"RGB ", [DESCRIPTION, COPYRIGHT, WHITE]))
    bmp("zero-alpha.bmp", (0,) * 4, 3)
    bmp("alpha-without-masks.bmp", ALPHAS, 0)
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, width, height, 32, 0)
    (HERE / "no-alpha.tga").write_bytes(head + rows((0, 0, 0, 0)))
    multiplied = b""
    plain = rows(ALPHAS)
    for at in range(0, len(plain), 4):
        *colour, alpha = plain[at:at + 4]
        multiplied += bytes(round(c * alpha / 255) for c in colour) + bytes([alpha])
    extension = struct.pack("<H", 495) + bytes(492) + b"\4"
    footer = struct.pack("<II", 18 + len(multiplied), 0) + b"TRUEVISION-XFILE.\0"
    (HERE / "premultiplied.tga").write_bytes(head[:-1] + b"\x08" + multiplied + extension + footer)


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
alpha_tiffs()
other_tiffs()
png_metadata()
jpeg_metadata()
bitmaps()
