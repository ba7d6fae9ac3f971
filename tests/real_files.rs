//! Pictures as phones, cameras and other programs write them, through the binary. Those in
//! `tests/files` are made by `tests/files/make.py`.
#![cfg(all(feature = "cli", feature = "encode"))]

mod workplace;

use std::fs;
use std::path::Path;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageReader, Rgb, RgbImage};
use serde_json::Value;
use workplace::Workplace;

const QUICK: &str = "--hidden-layers 2 --hidden-features 12 --steps 60 --force";

const RED: [u8; 3] = [220, 30, 30];
const GREEN: [u8; 3] = [30, 200, 30];
const BLUE: [u8; 3] = [30, 30, 220];
const YELLOW: [u8; 3] = [230, 220, 30];

/// What `encode` made of a picture.
struct Encoded {
    /// What `info --json` says of it.
    facts: Value,
    /// What the encoder said, except its summary.
    said: Vec<String>,
}

impl Encoded {
    fn size(&self) -> (u64, u64) {
        (self.number("width"), self.number("height"))
    }

    /// Channels and bits of a sample.
    fn samples(&self) -> (u64, u64) {
        (self.number("channels"), self.number("bit_depth"))
    }

    fn number(&self, key: &str) -> u64 {
        self.facts[key].as_u64().unwrap()
    }
}

impl Workplace {
    /// A file of `tests/files`, copied here.
    fn file(&self, name: &str) -> Vec<u8> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name);
        let bytes = fs::read(source).unwrap();
        fs::write(self.path(name), &bytes).unwrap();
        bytes
    }

    /// Encodes a file that lies here as `a.siren`.
    fn encode(&self, name: &str) -> Encoded {
        let run = self.run(&format!("encode {name} -o a.siren {QUICK}")).success();
        let stderr = String::from_utf8(run.get_output().stderr.clone()).unwrap();
        let mut said: Vec<String> = stderr.lines().map(str::to_owned).collect();
        let summary = said.pop().unwrap();
        assert!(summary.starts_with(&format!("{name} -> a.siren: 2x12, ")), "{summary}");
        let run = self.run("info a.siren --json").success();
        Encoded { facts: serde_json::from_slice(&run.get_output().stdout).unwrap(), said }
    }

    /// Encodes a file of `tests/files`, about which there is nothing to say.
    fn encode_silently(&self, name: &str) -> Encoded {
        self.file(name);
        let encoded = self.encode(name);
        assert!(encoded.said.is_empty(), "{name}: {:?}", encoded.said);
        encoded
    }

    /// What `image` finds in larger TIFF files only.
    fn tiff_xmp(&self, name: &str) -> Option<Vec<u8>> {
        let file = fs::File::open(self.path(name)).unwrap();
        let mut tiff = tiff::decoder::Decoder::new(file).unwrap();
        tiff.get_tag_u8_vec(tiff::tags::Tag::Unknown(700)).ok()
    }

    /// Four quadrants, top left first.
    fn quadrants(&self, name: &str, colours: [[u8; 3]; 4]) {
        let colour = |x, y| Rgb(colours[usize::from(x >= 24) + 2 * usize::from(y >= 16)]);
        RgbImage::from_fn(48, 32, colour).save(self.path(name)).unwrap();
    }

    /// PSNR in dB; 99 where pictures are equal.
    fn psnr(&self, one: &str, other: &str) -> f64 {
        let run = self.run(&format!("compare {one} {other} --json")).success();
        let facts: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
        facts["psnr"].as_f64().unwrap_or(99.0)
    }

    /// The picture is read as the other one but for the losses of JPEG, and comes back as far as
    /// little training takes it.
    fn shows(&self, name: &str, other: &str) {
        let (read, back) = (self.psnr(name, other), self.psnr("a.siren", other));
        assert!(read > 25.0 && back > 14.0, "{name}: {read} dB as it is read, {back} dB encoded");
    }

    /// Fails, says so in one line, and leaves no output.
    fn refuses(&self, name: &str, message: &str) {
        let run = self.fails(&format!("encode {name} -o none.siren {QUICK}"), message).code(1);
        let stderr = String::from_utf8(run.get_output().stderr.clone()).unwrap();
        assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr:?}");
        assert!(!self.path("none.siren").exists());
    }
}

#[test]
fn every_orientation_comes_out_upright_and_says_so() {
    let w = Workplace::new();
    w.quadrants("upright.png", [RED, GREEN, BLUE, YELLOW]);
    for orientation in 1..=8 {
        let name = format!("orientation-{orientation}.jpg");
        let encoded = w.encode_silently(&name);
        assert_eq!(encoded.size(), (48, 32), "{name}");
        w.shows(&name, "upright.png");
        for out in ["b.png", "b.jpg", "b.tiff", "b.webp"] {
            w.run(&format!("decode a.siren -o {out}")).success();
            let mut decoder = ImageReader::open(w.path(out)).unwrap().into_decoder().unwrap();
            assert_eq!(decoder.dimensions(), (48, 32), "{name} {out}");
            assert_eq!(decoder.orientation().unwrap(), Orientation::NoTransforms, "{name} {out}");
            // TIFF takes no EXIF, WebP no XMP; what is kept is as it was otherwise.
            if let Some(exif) = decoder.exif_metadata().unwrap() {
                assert!(exif.windows(5).any(|word| word == b"Phone"), "{name} {out}");
            }
            let xmp = match out {
                "b.tiff" => w.tiff_xmp(out),
                _ => decoder.xmp_metadata().unwrap(),
            };
            if let Some(xmp) = xmp {
                let xmp = String::from_utf8(xmp).unwrap();
                let upright = ["tiff:Orientation=\"1\"", "<tiff:Orientation>1</tiff:Orientation>"];
                assert!(upright.iter().any(|words| xmp.contains(words)), "{name} {out}: {xmp}");
            } else {
                assert_eq!(out, "b.webp");
            }
        }
    }
}

#[test]
fn cmyk_becomes_rgb_without_its_profile() {
    let w = Workplace::new();
    w.quadrants("inks.png", [[0, 255, 255], [255, 0, 255], [255, 255, 0], [127, 127, 127]]);
    for name in ["cmyk.jpg", "cmyk-icc.jpg", "ycck.jpg", "cmyk.tiff"] {
        w.file(name);
        let encoded = w.encode(name);
        let warning = "CMYK was converted without its profile; colours are approximate";
        assert_eq!(encoded.said, [format!("warning: {name}: {warning}")]);
        assert_eq!(encoded.samples(), (3, 8), "{name}");
        assert_eq!(encoded.facts["icc_bytes"], Value::Null, "{name}");
        w.shows(name, "inks.png");
    }
}

#[test]
fn palettes_interlacing_and_single_bits_are_read() {
    let w = Workplace::new();
    let colours = [RED, GREEN, BLUE, YELLOW];
    w.quadrants("colours.png", colours);
    let mut see_through = image::open(w.path("colours.png")).unwrap().into_rgba8();
    for (x, y, pixel) in see_through.enumerate_pixels_mut() {
        if x >= 24 && y >= 16 {
            pixel.0[3] = 0;
        }
    }
    see_through.save(w.path("see-through.png")).unwrap();
    w.quadrants("bits.png", [[255; 3], [0; 3], [0; 3], [255; 3]]);
    for (name, channels, other) in [
        ("palette.png", 3, "colours.png"),
        ("palette-trns.png", 4, "see-through.png"),
        ("still.gif", 3, "colours.png"),
        ("still.webp", 3, "colours.png"),
        ("interlaced.png", 3, "colours.png"),
        ("quadrants.tga", 3, "colours.png"),
        ("one-bit.png", 1, "bits.png"),
    ] {
        let encoded = w.encode_silently(name);
        assert_eq!((encoded.size(), encoded.samples()), ((48, 32), (channels, 8)), "{name}");
        assert_eq!(w.psnr(name, other), 99.0, "{name}");
        w.shows(name, other);
    }
}

#[test]
fn of_animations_and_pages_the_first_is_encoded_and_a_warning_given() {
    let w = Workplace::new();
    w.quadrants("first.png", [RED, GREEN, BLUE, YELLOW]);
    for name in ["animation.gif", "animation.png", "animation.webp", "pages.tiff"] {
        w.file(name);
        let encoded = w.encode(name);
        let warning = "holds several pictures, as an animation does; only the first is read";
        assert_eq!(encoded.said, [format!("warning: {name}: {warning}")]);
        assert_eq!(encoded.samples(), (3, 8), "{name}");
        w.shows(name, "first.png");
    }
}

#[test]
fn sixteen_bits_stay_sixteen() {
    let w = Workplace::new();
    let encoded = w.encode_silently("deep.tiff");
    assert_eq!((encoded.size(), encoded.samples()), ((24, 16), (3, 16)));
    w.run("decode a.siren -o b.tiff").success();
    assert_eq!(image::open(w.path("b.tiff")).unwrap().color(), image::ColorType::Rgb16);
}

#[test]
fn grey_stays_grey_and_keeps_its_profile() {
    let w = Workplace::new();
    for name in ["grey-icc.png", "grey-icc.jpg"] {
        let encoded = w.encode_silently(name);
        assert_eq!((encoded.size(), encoded.samples()), ((72, 48), (1, 8)), "{name}");
        let reader = ImageReader::open(w.path(name)).unwrap();
        let profile = reader.into_decoder().unwrap().icc_profile().unwrap();
        assert_eq!(encoded.number("icc_bytes"), profile.as_ref().unwrap().len() as u64);
        for out in ["b.png", "b.jpg"] {
            w.run(&format!("decode a.siren -o {out}")).success();
            let mut decoder = ImageReader::open(w.path(out)).unwrap().into_decoder().unwrap();
            assert_eq!(decoder.color_type(), image::ColorType::L8, "{name} {out}");
            assert_eq!(decoder.icc_profile().unwrap(), profile, "{name} {out}");
        }
    }
}

#[test]
fn small_tiff_files_keep_profile_and_xmp() {
    let w = Workplace::new();
    for (name, key) in [("grey-icc.png", "icc_bytes"), ("orientation-1.jpg", "xmp_bytes")] {
        let length = w.encode_silently(name).number(key);
        w.run("decode a.siren --size 8 -o b.tiff").success();
        assert_eq!(w.encode("b.tiff").number(key), length, "{name}");
    }
}

#[test]
fn progressive_jpeg_restarts_and_what_follows_the_end_are_read() {
    let w = Workplace::new();
    let mut motion = w.file("baseline.jpg");
    motion.extend(b"a film, as phones append it");
    fs::write(w.path("motion.jpg"), motion).unwrap();
    w.encode("motion.jpg");
    assert_eq!(w.psnr("motion.jpg", "baseline.jpg"), 99.0);
    for name in ["restarts.jpg", "progressive.jpg"] {
        w.encode_silently(name);
        w.shows(name, "baseline.jpg");
    }
}

#[test]
fn files_that_are_cut_short_are_refused() {
    let w = Workplace::new();
    for (name, message) in [
        ("baseline.jpg", "cut short: a JPEG file without its end"),
        ("progressive.jpg", "cut short: a JPEG file without its end"),
        ("restarts.jpg", "cut short: a JPEG file without its end"),
        ("orientation-6.jpg", "cut short: a JPEG file without its end"),
        ("grey-icc.png", "the file is cut short"),
        ("interlaced.png", "the file is cut short"),
        ("deep.tiff", "the file is cut short"),
        ("quadrants.tga", "the file is cut short"),
        ("still.gif", "Unexpected End of File"),
        // The length of its only chunk, or the stream of bits.
        ("still.webp", "cannot decode: "),
    ] {
        let whole = w.file(name);
        let cut = format!("cut-{name}");
        for kept in [whole.len() / 3, whole.len() * 2 / 3, whole.len() - 30] {
            fs::write(w.path(&cut), &whole[..kept]).unwrap();
            w.refuses(&cut, message);
        }
    }
}

#[test]
fn files_that_are_no_pictures_are_refused() {
    let w = Workplace::new();
    fs::write(w.path("empty.jpg"), b"").unwrap();
    w.refuses("empty.jpg", "empty.jpg is empty");
    for name in ["text.png", "text.jpg", "text.tga"] {
        fs::write(w.path(name), b"Dear diary, this is not a picture.\n").unwrap();
        w.refuses(name, name);
    }
    w.refuses("text.png", "not a picture in a format that sirenc reads");
}

const ALPHAS: [u8; 4] = [255, 102, 51, 204];
const COLOURS: [[u8; 3]; 4] = [RED, GREEN, BLUE, YELLOW];

impl Workplace {
    /// Four quadrants with alpha; of those that are fainter, colours are as exact as alpha lets them.
    fn faint_quadrants(&self, name: &str, deep: bool) {
        let quadrant = |x, y| usize::from(x >= 24) + 2 * usize::from(y >= 16);
        let colour = |x, y| {
            let (colour, alpha) = (COLOURS[quadrant(x, y)], ALPHAS[quadrant(x, y)]);
            // Multiplied, rounded to 8 bits, and divided again.
            let most = if deep { 65535.0 } else { 255.0 };
            let wide = if deep { 257.0 } else { 1.0 };
            colour.map(|c| {
                let multiplied = (f64::from(c) * f64::from(alpha) / 255.0).round_ties_even() * wide;
                (multiplied * most / (f64::from(alpha) * wide)).round() as u16
            })
        };
        if deep {
            let pixel = |x, y| {
                let [r, g, b] = colour(x, y);
                image::Rgba([r, g, b, u16::from(ALPHAS[quadrant(x, y)]) * 257])
            };
            let image = image::ImageBuffer::from_fn(48, 32, pixel);
            image::DynamicImage::ImageRgba16(image).save(self.path(name)).unwrap();
        } else {
            let pixel = |x, y| {
                let [r, g, b] = colour(x, y).map(|c| c as u8);
                image::Rgba([r, g, b, ALPHAS[quadrant(x, y)]])
            };
            image::RgbaImage::from_fn(48, 32, pixel).save(self.path(name)).unwrap();
        }
    }

    /// The metadata of `a.siren`.
    fn metadata(&self) -> sirenc::Metadata {
        let bytes = fs::read(self.path("a.siren")).unwrap();
        sirenc::Decoder::new(&bytes).unwrap().metadata().clone()
    }

    /// Encodes a file of `tests/files` about which this one thing is to say.
    fn encode_warned(&self, name: &str, warning: &str) -> Encoded {
        self.file(name);
        let encoded = self.encode(name);
        assert_eq!(encoded.said, [format!("warning: {name}: {warning}")]);
        encoded
    }
}

#[test]
fn premultiplied_colours_are_divided_by_alpha() {
    let w = Workplace::new();
    for (name, bits) in
        [("premultiplied-8.tiff", 8), ("premultiplied-16.tiff", 16), ("premultiplied.tga", 8)]
    {
        w.faint_quadrants("straight.png", bits == 16);
        let encoded = w.encode_silently(name);
        assert_eq!((encoded.size(), encoded.samples()), ((48, 32), (4, bits)), "{name}");
        assert_eq!(w.psnr(name, "straight.png"), 99.0, "{name}");
    }
}

#[test]
fn grey_with_alpha_is_read_from_tiff_and_alpha_is_written_as_alpha() {
    let w = Workplace::new();
    for (name, bits) in [("grey-alpha-8.tiff", 8), ("grey-alpha-16.tiff", 16)] {
        let encoded = w.encode_silently(name);
        assert_eq!((encoded.size(), encoded.samples()), ((48, 32), (2, bits)), "{name}");
        let quadrant = |x, y| usize::from(x >= 24) + 2 * usize::from(y >= 16);
        let pixel = |x, y| {
            let q: usize = quadrant(x, y);
            image::LumaA([COLOURS[q][0], ALPHAS[q]].map(|s| u16::from(s) * 257))
        };
        let image = image::ImageBuffer::from_fn(48, 32, pixel);
        image::DynamicImage::ImageLumaA16(image).save(w.path("grey.png")).unwrap();
        assert_eq!(w.psnr(name, "grey.png"), 99.0, "{name}");
        // ExtraSamples 2: alpha, and straight.
        w.run(&format!("decode a.siren --depth {bits} -o b.tiff")).success();
        let mut tiff =
            tiff::decoder::Decoder::new(fs::File::open(w.path("b.tiff")).unwrap()).unwrap();
        assert_eq!(tiff.get_tag_u16_vec(tiff::tags::Tag::ExtraSamples).unwrap(), [2], "{name}");
        w.run(&format!("decode a.siren --depth {bits} -o b.png")).success();
        let [one, other] = ["b.tiff", "b.png"].map(|name| image::open(w.path(name)).unwrap());
        assert_eq!(one.into_rgba16(), other.into_rgba16(), "{name}");
    }
}

#[test]
fn kinds_of_tiff_are_read_or_refused_in_one_line() {
    let w = Workplace::new();
    w.quadrants("colours.png", COLOURS);
    for (name, psnr) in
        [("big.tiff", 99.0), ("thumbnail-first.tiff", 99.0), ("ycbcr-jpeg.tiff", 35.0)]
    {
        let encoded = w.encode_silently(name);
        assert_eq!((encoded.size(), encoded.samples()), ((48, 32), (3, 8)), "{name}");
        assert!(w.psnr(name, "colours.png") >= psnr, "{name}: {}", w.psnr(name, "colours.png"));
    }
    w.file("palette.tiff");
    w.refuses("palette.tiff", "TIFF with a palette is not read; convert it to RGB first");
}

#[test]
fn exif_goes_from_tiff_to_tiff() {
    let w = Workplace::new();
    w.encode_silently("exif-gps.tiff");
    let exif = w.metadata().exif.unwrap();
    assert!(exif.windows(5).any(|word| word == b"Maker"));
    w.run("decode a.siren -o b.tiff").success().stderr("");
    let mut tiff = tiff::decoder::Decoder::new(fs::File::open(w.path("b.tiff")).unwrap()).unwrap();
    use tiff::decoder::ifd::Value;
    use tiff::tags::{IfdPointer, Tag};
    assert_eq!(tiff.get_tag_ascii_string(Tag::Make).unwrap(), "Maker");
    let mut inner = |link, tag| {
        let place = tiff.get_tag_unsigned(link).unwrap();
        let directory = tiff.read_directory(IfdPointer(place)).unwrap();
        tiff.read_directory_tags(&directory).get_tag(Tag::Unknown(tag)).unwrap()
    };
    assert_eq!(inner(Tag::ExifDirectory, 0x829a), Value::Rational(1, 125));
    let latitude = Value::List([48, 8, 6].map(|n| Value::Rational(n, 1)).to_vec());
    assert_eq!(inner(Tag::GpsDirectory, 2), latitude);
    // Once more round is the same.
    w.run(&format!("encode b.tiff -o c.siren {QUICK}")).success();
    w.run("decode c.siren -o c.tiff").success();
    let of = |name| fs::read(w.path(name)).unwrap();
    let block = |file: &[u8]| sirenc::Decoder::new(file).unwrap().metadata().exif.clone().unwrap();
    assert_eq!(block(&of("c.siren")), exif);
}

#[test]
fn metadata_is_found_wherever_it_stands() {
    let w = Workplace::new();
    w.quadrants("upright.png", COLOURS);
    for name in [
        "exif-after.png",
        "raw-profile.png",
        "xmp-orientation.png",
        "exif-long.jpg",
        "exif-byte.jpg",
    ] {
        let encoded = w.encode_silently(name);
        assert_eq!(encoded.size(), (48, 32), "{name}");
        w.shows(name, "upright.png");
        let metadata = w.metadata();
        assert_eq!(metadata.exif.is_some(), name != "xmp-orientation.png", "{name}");
        if let Some(exif) = metadata.exif {
            assert!(exif.len() == 26 && !exif[8..].contains(&6), "{name}: {exif:?}");
        }
        let xmp = metadata.xmp.map(|xmp| String::from_utf8(xmp).unwrap());
        match name {
            "xmp-orientation.png" => assert!(xmp.unwrap().contains(r#"tiff:Orientation="1""#)),
            "exif-after.png" | "raw-profile.png" => {
                assert!(xmp.unwrap().contains(r#"tiff:Make="Maker""#))
            }
            _ => assert_eq!(xmp, None),
        }
    }
    assert_eq!(w.encode_silently("profile.bmp").samples(), (3, 8));
    assert_eq!(w.metadata().icc.unwrap()[36..40], *b"acsp");
    w.quadrants("colours.png", COLOURS);
    assert_eq!(w.psnr("profile.bmp", "colours.png"), 99.0);
}

#[test]
fn xmp_is_put_together_and_in_utf_8() {
    let w = Workplace::new();
    w.encode_silently("utf16-xmp.jpg");
    let xmp = String::from_utf8(w.metadata().xmp.unwrap()).unwrap();
    assert!(xmp.contains(r#"tiff:Make="Müller""#), "{xmp}");
    w.run("decode a.siren -o b.png").success().stderr("");
    let mut decoder = ImageReader::open(w.path("b.png")).unwrap().into_decoder().unwrap();
    assert_eq!(decoder.xmp_metadata().unwrap().as_deref(), Some(xmp.as_bytes()));

    let bytes = w.file("extended-xmp.jpg");
    w.encode_silently("extended-xmp.jpg");
    let xmp = String::from_utf8(w.metadata().xmp.unwrap()).unwrap();
    assert!(xmp.contains(r#"tiff:Make="Maker""#), "{xmp}");
    assert!(xmp.contains(&format!("<tiff:Model>{}</tiff:Model>", "Phone ".repeat(40))), "{xmp}");
    assert!(!xmp.contains("HasExtendedXMP"), "{xmp}");
    // A part of it that is gone.
    let name = b"http://ns.adobe.com/xmp/extension/";
    let part = bytes.windows(name.len()).position(|window| window == name).unwrap();
    let length = usize::from(u16::from_be_bytes([bytes[part - 2], bytes[part - 1]]));
    fs::write(w.path("part.jpg"), [&bytes[..part - 4], &bytes[part - 2 + length..]].concat())
        .unwrap();
    let encoded = w.encode("part.jpg");
    assert_eq!(
        encoded.said,
        ["warning: part.jpg: the extension of its XMP is damaged and left out"]
    );
    let xmp = String::from_utf8(w.metadata().xmp.unwrap()).unwrap();
    assert!(xmp.contains("Maker") && !xmp.contains("Phone") && !xmp.contains("HasExtendedXMP"));
}

#[test]
fn what_makes_no_sense_is_left_out_and_told() {
    let w = Workplace::new();
    w.quadrants("upright.png", COLOURS);
    let other_channels = "its ICC profile is for pictures with other channels and left out";
    for name in ["grey-icc-on-rgb.png", "rgb-icc-on-grey.jpg"] {
        w.encode_warned(name, other_channels);
        assert_eq!(w.metadata().icc, None, "{name}");
    }
    w.encode_warned("large-icc.png", "its ICC profile has more than 8 MiB and is left out");
    assert_eq!(w.metadata().icc, None);
    w.encode_warned("exif-thumbnail.jpg", "its EXIF thumbnail, which is not upright, is left out");
    assert_eq!(w.metadata().exif.unwrap().len(), 26);
    w.shows("exif-thumbnail.jpg", "upright.png");
    let gone = "what follows the picture, as a gain map for HDR or a film, is not kept";
    w.encode_warned("gain-map.jpg", gone);
    let xmp = String::from_utf8(w.metadata().xmp.unwrap()).unwrap();
    assert!(
        xmp.contains("Maker") && !xmp.contains("hdrgm:Version") && !xmp.contains("GainMap"),
        "{xmp}"
    );
}

#[test]
fn light_without_a_profile_becomes_srgb() {
    let w = Workplace::new();
    w.quadrants("colours.png", COLOURS);
    w.encode_warned("gamma-1.png", "its colours, of gamma 1 without a profile, are now sRGB");
    // Darkest samples are a few steps of light.
    let psnr = w.psnr("gamma-1.png", "colours.png");
    assert!(psnr > 40.0, "{psnr}");
    assert_eq!(w.metadata().icc, None);
}

#[test]
fn alpha_that_is_none_does_not_hide_colours() {
    let w = Workplace::new();
    w.quadrants("colours.png", COLOURS);
    for (name, channels) in
        [("zero-alpha.bmp", 3), ("no-alpha.tga", 3), ("alpha-without-masks.bmp", 4)]
    {
        w.file(name);
        let encoded = w.encode(name);
        assert_eq!(encoded.samples(), (channels, 8), "{name}");
        let said = "alpha is 0 everywhere and was taken for none";
        match name {
            "zero-alpha.bmp" => assert_eq!(encoded.said, [format!("warning: {name}: {said}")]),
            _ => assert!(encoded.said.is_empty(), "{name}: {:?}", encoded.said),
        }
        if channels == 3 {
            assert_eq!(w.psnr(name, "colours.png"), 99.0, "{name}");
        }
    }
    // Where a format states alpha, it counts.
    let clear = image::RgbaImage::from_pixel(48, 32, image::Rgba([9, 99, 199, 0]));
    clear.save(w.path("clear.png")).unwrap();
    let encoded = w.run(&format!("encode clear.png -o a.siren {QUICK}")).success();
    let said = String::from_utf8(encoded.get_output().stderr.clone()).unwrap();
    let warning = "warning: clear.png: alpha is 0 everywhere: nothing is to be seen, and no colours are kept\n";
    assert!(said.starts_with(warning), "{said}");
}

#[test]
fn damaged_jpeg_data_is_refused_or_told() {
    let w = Workplace::new();
    let early = "damaged: the picture data of the JPEG file ends early";
    for name in ["baseline.jpg", "progressive.jpg", "restarts.jpg", "grey-icc.jpg"] {
        let whole = w.file(name);
        let start = whole.windows(2).position(|pair| pair == b"\xff\xda").unwrap() + 20;
        let data = whole.len() - 2 - start;
        // The end is marked, and half of the data is not there.
        for share in [0.2, 0.5, 0.9] {
            let kept = start + (data as f64 * share) as usize;
            let mut cut = whole[..kept].to_vec();
            while cut.last() == Some(&0xff) {
                cut.pop();
            }
            cut.extend(b"\xff\xd9");
            fs::write(w.path("cut.jpg"), cut).unwrap();
            w.refuses("cut.jpg", early);
        }
        // Bytes in its middle are others: refused, or told.
        let mut other = whole.clone();
        let mut value = 1u32;
        for byte in &mut other[start + data / 2..][..60] {
            value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (value >> 24) as u8;
        }
        fs::write(w.path("other.jpg"), other).unwrap();
        let run = w.run(&format!("encode other.jpg -o a.siren {QUICK}"));
        let said = String::from_utf8(run.get_output().stderr.clone()).unwrap();
        let told =
            "warning: other.jpg: its picture data is damaged; parts of the picture may be wrong\n";
        let refused = format!("error: other.jpg: {early}\n");
        assert!(said.starts_with(told) || said == refused, "{name}: {said}");
        // All data without its end, and something else behind it.
        for behind in [&b""[..], b"a trailer of some other program"] {
            fs::write(w.path("open.jpg"), [&whole[..whole.len() - 2], behind].concat()).unwrap();
            let encoded = w.encode("open.jpg");
            assert_eq!(
                encoded.said,
                ["warning: open.jpg: has no end marker; the picture is whole"]
            );
            assert_eq!(w.psnr("open.jpg", name), 99.0);
        }
    }
}

#[test]
fn jpeg_data_that_was_never_written_is_refused_and_padding_is_not() {
    let w = Workplace::new();
    for name in ["baseline.jpg", "restarts.jpg", "progressive.jpg"] {
        let whole = w.file(name);
        let start = whole.windows(2).position(|pair| pair == b"\xff\xda").unwrap() + 20;
        let data = whole.len() - 2 - start;
        for share in [0.3, 0.6, 0.9] {
            let mut zeroed = whole.clone();
            zeroed[start + (data as f64 * share) as usize..].fill(0);
            fs::write(w.path("zeroed.jpg"), zeroed).unwrap();
            let run = w.run(&format!("encode zeroed.jpg -o a.siren {QUICK}"));
            let said = String::from_utf8(run.get_output().stderr.clone()).unwrap();
            assert!(!said.contains("the picture is whole"), "{name} {share}: {said}");
            assert!(
                said.starts_with("error: ") || said.contains("damaged"),
                "{name} {share}: {said}"
            );
        }
        let padded = [&whole[..whole.len() - 2], &[0, 0], b"\xff\xd9"].concat();
        fs::write(w.path("padded.jpg"), padded).unwrap();
        assert!(w.encode("padded.jpg").said.is_empty(), "{name}");
    }
}

#[test]
fn metadata_that_does_not_fit_is_left_out_and_told() {
    let w = Workplace::new();
    let bytes = fs::read({
        w.encode_silently("baseline.jpg");
        w.path("a.siren")
    });
    let mut metadata = w.metadata();
    metadata.exif = Some([b"II*\0\x08\0\0\0\0\0\0\0\0\0", &[0; 70_000][..]].concat());
    metadata.xmp = Some(format!("<x:xmpmeta a=\"{}\"/>", "b".repeat(70_000)).into_bytes());
    let edited = sirenc::container::replace_metadata(&bytes.unwrap(), &metadata).unwrap();
    fs::write(w.path("large.siren"), edited).unwrap();
    let line = |block, format| {
        format!(
            "warning: large.siren: its {block} does not fit into {format} and is left out; write PNG to keep it\n"
        )
    };
    for (name, format) in [("b.jpg", "JPG"), ("b.ppm", "PNM")] {
        let both = line("EXIF", format) + &line("XMP", format);
        w.run(&format!("decode large.siren -o {name}")).success().stderr(both);
    }
    for name in ["b.png", "b.webp", "b.tiff"] {
        w.run(&format!("decode large.siren -o {name}")).success().stderr("");
    }
}

#[test]
fn icons_and_cut_webp_files() {
    let w = Workplace::new();
    w.quadrants("colours.png", COLOURS);
    // An icon with a PNG file of RGB in it.
    let png = fs::read(w.path("colours.png")).unwrap();
    let mut icon = [&[0, 0, 1, 0, 1, 0, 48, 32, 0, 0, 1, 0, 24, 0][..]].concat();
    icon.extend((png.len() as u32).to_le_bytes());
    icon.extend(22u32.to_le_bytes());
    icon.extend(&png);
    fs::write(w.path("a.ico"), icon).unwrap();
    assert_eq!(w.encode("a.ico").samples(), (3, 8));
    assert_eq!(w.psnr("a.ico", "colours.png"), 99.0);
    // A file that says that it is longer.
    let whole = w.file("still.webp");
    fs::write(w.path("cut.webp"), &whole[..whole.len() - 2]).unwrap();
    w.refuses("cut.webp", "the file is cut short");
}
