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
    let whole = w.file("baseline.jpg");
    fs::write(w.path("end.jpg"), &whole[..whole.len() - 2]).unwrap();
    w.refuses("end.jpg", "cut short: a JPEG file without its end");
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
