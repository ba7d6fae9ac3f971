//! The binary: metadata, orientation and colour on their way through it, and `edit`.
#![cfg(all(feature = "cli", feature = "encode"))]

mod common;
mod workplace;

use std::fs;
use std::io::Cursor;

use common::{container, latents_container, picture, uniform};
use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader};
use predicates::prelude::*;
use sirenc::container::{Cicp, Container};
use sirenc::{BitDepth, Channels, Decoder, Metadata, Samples, Size};
use tiff::tags::Tag;
use workplace::Workplace;

const QUICK: &str = "--hidden-layers 2 --hidden-features 12 --steps 20";
const SIZE: Size = Size { width: 48, height: 32 };
/// TIFF header and one entry: orientation 6, to be turned by 90 degrees clockwise.
const EXIF: &[u8] = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
const XMP: &str = r#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>"#;
const DISPLAY_P3: Cicp = Cicp { primaries: 12, transfer: 13, matrix: 0, full_range: 1 };

/// Bytes that no writer can shorten: larger than a JPEG segment.
fn large_profile() -> Vec<u8> {
    let mut random = common::Random(3);
    (0..100_000).map(|_| (random.next() * 256.0) as u8).collect()
}

fn pixels() -> Vec<u8> {
    let Samples::U8(pixels) = picture(SIZE, Channels::Rgb, BitDepth::Eight).into_samples() else {
        unreachable!("8 bits")
    };
    pixels
}

/// Writes the picture with such metadata.
fn encode(mut encoder: impl ImageEncoder, exif: &[u8], icc: &[u8]) {
    encoder.set_exif_metadata(exif.to_vec()).unwrap();
    encoder.set_icc_profile(icc.to_vec()).unwrap();
    encoder.write_image(&pixels(), SIZE.width, SIZE.height, ExtendedColorType::Rgb8).unwrap();
}

impl Workplace {
    /// A picture with EXIF, or orientation alone for TIFF, and an ICC profile.
    fn picture(&self, name: &str, exif: &[u8], icc: &[u8]) {
        let mut file = fs::File::create(self.path(name)).unwrap();
        let (width, height) = (SIZE.width, SIZE.height);
        match name.rsplit('.').next().unwrap() {
            "png" => encode(image::codecs::png::PngEncoder::new(file), exif, icc),
            "webp" => encode(image::codecs::webp::WebPEncoder::new_lossless(&mut file), exif, icc),
            "jpg" => {
                let mut encoder = jpeg_encoder::Encoder::new(file, 95);
                encoder.add_exif_metadata(exif).unwrap();
                encoder.add_icc_profile(icc).unwrap();
                let colour = jpeg_encoder::ColorType::Rgb;
                encoder.encode(&pixels(), width as u16, height as u16, colour).unwrap();
            }
            "tiff" => {
                let mut encoder = tiff::encoder::TiffEncoder::new(file).unwrap();
                let mut image =
                    encoder.new_image::<tiff::encoder::colortype::RGB8>(width, height).unwrap();
                image.encoder().write_tag(Tag::Orientation, 6u16).unwrap();
                image.encoder().write_tag(Tag::IccProfile, icc).unwrap();
                image.write_data(&pixels()).unwrap();
            }
            _ => unreachable!("a format of these tests"),
        }
    }

    fn metadata(&self, name: &str) -> Metadata {
        Decoder::new(&fs::read(self.path(name)).unwrap()).unwrap().metadata().clone()
    }

    /// A small file with metadata.
    fn siren(&self, name: &str, channels: Channels, metadata: Metadata) {
        let file = Container { metadata, ..container(60, 40, uniform(channels, 3, 9), 5) };
        fs::write(self.path(name), file.write()).unwrap();
    }

    fn image(&self, name: &str) -> DynamicImage {
        image::open(self.path(name)).unwrap()
    }

    /// The cICP chunk of a PNG file as P,T,M,R.
    fn cicp(&self, name: &str) -> Option<[u8; 4]> {
        let bytes = fs::read(self.path(name)).unwrap();
        let at = bytes.windows(4).position(|w| w == b"cICP")? + 4;
        bytes[at..at + 4].try_into().ok()
    }

    fn icc(&self, name: &str) -> Option<Vec<u8>> {
        let bytes = Cursor::new(fs::read(self.path(name)).unwrap());
        if name.ends_with("tiff") {
            // `image` 0.25 loses a profile that is larger than the pixels.
            let mut tiff = tiff::decoder::Decoder::new(bytes).unwrap();
            return tiff.get_tag_u8_vec(Tag::IccProfile).ok();
        }
        let reader = ImageReader::new(bytes).with_guessed_format().unwrap();
        reader.into_decoder().unwrap().icc_profile().unwrap()
    }
}

fn everything() -> Metadata {
    Metadata {
        icc: Some(large_profile()),
        cicp: Some(DISPLAY_P3),
        exif: Some(EXIF.to_vec()),
        xmp: Some(XMP.into()),
        settings: Some("sirenc 0.1.0".into()),
    }
}

#[test]
fn orientation_is_applied_once_whatever_the_format() {
    let w = Workplace::new();
    let prefixed = [b"Exif\0\0", EXIF].concat();
    let upright = {
        let mut exif = EXIF.to_vec();
        Orientation::remove_from_exif_chunk(&mut exif).unwrap();
        exif
    };
    let cases = [
        ("a.png", EXIF),
        ("a.jpg", EXIF),
        ("a.webp", EXIF),
        ("b.webp", &prefixed),
        ("a.tiff", EXIF),
    ];
    for (name, exif) in cases {
        w.picture(name, exif, &[7; 200]);
        w.run(&format!("encode {name} {QUICK} -o a.siren")).success();
        let file = fs::read(w.path("a.siren")).unwrap();
        let decoder = Decoder::new(&file).unwrap();
        assert_eq!(decoder.size(), Size { width: 32, height: 48 }, "{name}");
        let kept = (name != "a.tiff").then_some(upright.clone());
        assert_eq!(decoder.metadata().exif, kept, "{name}");
    }
    // A file by another encoder may still say otherwise.
    w.siren("stale.siren", Channels::Rgb, everything());
    for name in ["b.png", "b.jpg", "b.webp", "b.tiff"] {
        w.run(&format!("decode stale.siren -o {name}")).success();
        let mut decoder = ImageReader::open(w.path(name)).unwrap().into_decoder().unwrap();
        assert_eq!(decoder.dimensions(), (60, 40));
        assert_eq!(decoder.orientation().unwrap(), Orientation::NoTransforms, "{name}");
        if let Some(xmp) = decoder.xmp_metadata().unwrap() {
            let xmp = String::from_utf8(xmp).unwrap();
            assert!(xmp.contains(r#"tiff:Orientation="1""#), "{name}: {xmp}");
        } else {
            assert_eq!(name, "b.webp", "WebP alone is written without XMP");
        }
    }
}

#[test]
fn kinds_of_metadata_are_kept_and_left_out() {
    let w = Workplace::new();
    w.picture("a.png", EXIF, &[7; 200]);
    w.siren("all.siren", Channels::Rgb, everything());
    let kinds =
        |m: &Metadata| [m.icc.is_some(), m.cicp.is_some(), m.exif.is_some(), m.xmp.is_some()];
    for (options, stored, [icc, cicp, exif, xmp]) in [
        ("", [true, false, true, false], [true; 4]),
        ("--strip", [false; 4], [false; 4]),
        ("--strip=exif,xmp", [true, false, false, false], [true, true, false, false]),
        ("--strip=icc", [false, false, true, false], [false, true, true, true]),
        ("--keep icc,cicp", [true, false, false, false], [true, true, false, false]),
        ("--keep=exif", [false, false, true, false], [false, false, true, false]),
    ] {
        w.run(&format!("encode {options} a.png {QUICK} -o a.siren")).success();
        let metadata = w.metadata("a.siren");
        assert_eq!(kinds(&metadata), stored, "encode {options}");
        w.run(&format!("decode {options} all.siren -o b.png")).success();
        let mut decoder = ImageReader::open(w.path("b.png")).unwrap().into_decoder().unwrap();
        assert_eq!(decoder.icc_profile().unwrap().is_some(), icc, "decode {options}");
        assert_eq!(w.cicp("b.png").is_some(), cicp, "decode {options}");
        assert_eq!(decoder.exif_metadata().unwrap().is_some(), exif, "decode {options}");
        assert_eq!(decoder.xmp_metadata().unwrap().is_some(), xmp, "decode {options}");
    }
    w.run("decode all.siren --strip=settings -o b.png").code(2);
    w.run("decode all.siren --strip --keep=icc -o b.png").code(2);
}

#[test]
fn colour_spaces_survive_byte_for_byte() {
    let w = Workplace::new();
    let icc = large_profile();
    for input in ["a.png", "a.jpg", "a.tiff", "a.webp"] {
        w.picture(input, EXIF, &icc);
        w.run(&format!("encode {input} {QUICK} -o a.siren")).success();
        assert!(w.metadata("a.siren").icc.as_ref() == Some(&icc), "{input}");
        for output in ["b.png", "b.jpg", "b.tiff", "b.webp"] {
            w.run(&format!("decode a.siren -o {output}")).success().stderr("");
            assert!(w.icc(output).as_ref() == Some(&icc), "{input} {output}");
        }
    }
    let metadata = Metadata { cicp: Some(DISPLAY_P3), ..Metadata::default() };
    w.siren("p3.siren", Channels::Rgb, metadata.clone());
    w.run("decode p3.siren -o p3.png").success().stderr("");
    assert_eq!(w.cicp("p3.png"), Some([12, 13, 0, 1]));
    w.run(&format!("encode p3.png {QUICK} -o again.siren")).success();
    assert_eq!(w.metadata("again.siren").cicp, Some(DISPLAY_P3));
    let warning = "warning: p3.siren: JPG holds no cICP; write PNG, or convert with --to-srgb\n";
    w.run("decode p3.siren -o p3.jpg").success().stderr(warning);
    w.run("decode p3.siren -o p3.jpg --quiet").success().stderr("");
}

/// The transfer function of IEC 61966-2-1 and its inverse.
fn linear(value: f64) -> f64 {
    if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

fn gamma(value: f64) -> f64 {
    let value = value.clamp(0.0, 1.0);
    if value <= 0.0031308 { value * 12.92 } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 }
}

/// A Display P3 colour in sRGB, both in [0, 1].
fn p3_to_srgb(p3: [f64; 3]) -> [f64; 3] {
    // From the primaries of SMPTE EG 432-1 and BT.709; both have the white point D65.
    const MATRIX: [[f64; 3]; 3] = [
        [1.224_940_176, -0.224_940_176, 0.0],
        [-0.042_056_955, 1.042_056_955, 0.0],
        [-0.019_637_555, -0.078_636_046, 1.098_273_600],
    ];
    let p3 = p3.map(linear);
    MATRIX.map(|row| gamma(row.iter().zip(p3).map(|(m, v)| m * v).sum()))
}

#[test]
fn display_p3_becomes_srgb() {
    let w = Workplace::new();
    let icc = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    let by_icc = Metadata { icc: Some(icc.clone()), ..Metadata::default() };
    let by_cicp = Metadata { cicp: Some(DISPLAY_P3), ..Metadata::default() };
    // Code points take precedence, even over nonsense.
    let both = Metadata { icc: Some(vec![7; 200]), ..by_cicp.clone() };
    for metadata in [by_icc, by_cicp, both] {
        for channels in [Channels::Rgb, Channels::Rgba] {
            w.siren("a.siren", channels, metadata.clone());
            for (depth, tolerance) in [(8, 256.0), (16, 24.0)] {
                w.run(&format!("decode a.siren --depth {depth} --strip -o p3.png")).success();
                let options = format!("--depth {depth} --to-srgb");
                w.run(&format!("decode a.siren {options} -o srgb.png")).success().stderr("");
                let (before, after) = (w.image("p3.png"), w.image("srgb.png"));
                assert_eq!(before.color(), after.color());
                let (before, after) = (before.into_rgba16(), after.into_rgba16());
                let mut changed = 0.0f64;
                for (p3, srgb) in before.pixels().zip(after.pixels()) {
                    let expected = p3_to_srgb([0, 1, 2].map(|c| f64::from(p3[c]) / 65535.0));
                    for c in 0..3 {
                        let off = (expected[c] * 65535.0 - f64::from(srgb[c])).abs();
                        assert!(off <= tolerance, "{depth} bits: {p3:?} {srgb:?} {expected:?}");
                        changed = changed.max(f64::from(p3[c].abs_diff(srgb[c])));
                    }
                    assert_eq!(p3[3], srgb[3], "alpha");
                }
                assert!(changed > 2000.0, "{changed}");
            }
            assert_eq!(w.cicp("srgb.png"), Some([1, 13, 0, 1]));
        }
        // JPEG is checked for its profile; TIFF has the samples of PNG.
        w.siren("a.siren", Channels::Rgb, metadata);
        for name in ["srgb.jpg", "srgb.tiff", "srgb.webp", "srgb.png"] {
            w.run(&format!("decode a.siren --to-srgb -o {name}")).success();
            let profile = moxcms::ColorProfile::new_from_slice(&w.icc(name).unwrap()).unwrap();
            // As it is read back: in fixed point.
            let srgb = moxcms::ColorProfile::new_srgb().encode().unwrap();
            let srgb = moxcms::ColorProfile::new_from_slice(&srgb).unwrap();
            assert_eq!(profile.red_colorant, srgb.red_colorant, "{name}");
            assert_eq!(profile.red_trc, srgb.red_trc, "{name}");
        }
        assert_eq!(w.image("srgb.tiff").into_rgb8(), w.image("srgb.png").into_rgb8());
    }
}

#[test]
fn grey_becomes_srgb_by_either_kind_of_profile() {
    let w = Workplace::new();
    let grey = moxcms::ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    let by_grey = Metadata { icc: Some(grey), ..Metadata::default() };
    // Linear light with the primaries of Display P3: grey stays grey.
    let linear_p3 = Cicp { primaries: 12, transfer: 8, matrix: 0, full_range: 1 };
    let by_rgb = Metadata { cicp: Some(linear_p3), ..Metadata::default() };
    for metadata in [by_grey, by_rgb] {
        for channels in [Channels::Grey, Channels::GreyAlpha] {
            w.siren("a.siren", channels, metadata.clone());
            w.run("decode a.siren --strip --depth 16 -o a.png").success();
            w.run("decode a.siren --to-srgb --depth 16 -o b.png").success();
            let (before, after) = (w.image("a.png"), w.image("b.png"));
            assert_eq!(before.color(), after.color());
            let (before, after) = (before.into_luma_alpha16(), after.into_luma_alpha16());
            for (a, b) in before.pixels().zip(after.pixels()) {
                let off = gamma(f64::from(a[0]) / 65535.0) * 65535.0 - f64::from(b[0]);
                assert!(off.abs() <= 256.0 && a[1] == b[1], "{a:?} {b:?}");
            }
        }
    }
}

#[test]
fn what_cannot_be_converted_is_an_error_and_what_need_not_be_is_left() {
    let w = Workplace::new();
    let metadata = Metadata::default();
    w.siren("a.siren", Channels::Rgb, metadata.clone());
    w.run("decode a.siren -o a.png").success();
    w.run("decode a.siren --to-srgb -o b.png").success().stderr("");
    assert_eq!(fs::read(w.path("a.png")).unwrap(), fs::read(w.path("b.png")).unwrap());
    let grey = moxcms::ColorProfile::new_gray_with_gamma(2.2).encode().unwrap();
    let cicp = |primaries, transfer, full_range| Metadata {
        cicp: Some(Cicp { primaries, transfer, matrix: 0, full_range }),
        ..Metadata::default()
    };
    for (metadata, message) in [
        (
            Metadata { icc: Some(vec![7; 200]), ..metadata.clone() },
            "its ICC profile cannot be used",
        ),
        (
            Metadata { icc: Some(grey), ..metadata },
            "its ICC profile is for Gray, the picture is RGB",
        ),
        (cicp(2, 2, 1), "its cICP (2, 2, 0, 1) cannot be used"),
        (cicp(9, 13, 0), "its cICP (9, 13, 0, 0) cannot be used"),
        (cicp(9, 16, 1), "need tone mapping"),
        (cicp(9, 18, 1), "need tone mapping"),
    ] {
        w.siren("a.siren", Channels::Rgb, metadata);
        w.fails("decode a.siren --to-srgb -o c.png", message);
        w.run("decode a.siren -o d.png").success();
    }
    assert!(!w.path("c.png").exists());
    w.run("decode a.siren --to-srgb --derivative gradient -o c.png").code(2);
}

/// Offsets of the first byte of each chunk with its type, and the whole file's end.
fn chunks(file: &[u8], header: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut at = header;
    let mut chunks = Vec::new();
    while at < file.len() {
        let start = at;
        let kind = file[at..at + 4].to_vec();
        at += 4;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = file[at];
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at += length + 4;
        chunks.push((kind, file[start..at].to_vec()));
    }
    chunks
}

#[test]
fn edits_leave_the_picture_alone() {
    let w = Workplace::new();
    let icc = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    fs::write(w.path("p3.icc"), &icc).unwrap();
    fs::write(w.path("a.exif"), EXIF).unwrap();
    fs::write(w.path("a.xmp"), XMP).unwrap();
    let siren =
        Container { metadata: everything(), ..container(60, 40, uniform(Channels::Rgb, 3, 9), 5) };
    let grids = latents_container(
        Size { width: 60, height: 40 },
        4,
        uniform(Channels::Rgb, 1, 9),
        (6, 5),
        130,
    );
    for file in [siren, Container { metadata: everything(), ..grids }] {
        let header = Container { metadata: Metadata::default(), ..file.clone() }.write();
        let header = header.windows(4).position(|w| w == b"WGHT").unwrap();
        // A chunk of a later version, twice, before and after those that are known.
        let mut unknown = b"newr\x03abc".to_vec();
        unknown.extend(crc32fast::hash(&unknown).to_le_bytes());
        let mut bytes = file.write();
        let last = bytes.len() - chunks(&bytes, header).last().unwrap().1.len();
        bytes.splice(last..last, unknown.iter().copied());
        bytes.splice(header..header, unknown.iter().copied());
        fs::write(w.path("a.siren"), &bytes).unwrap();
        let upright = {
            let mut exif = EXIF.to_vec();
            Orientation::remove_from_exif_chunk(&mut exif).unwrap();
            exif
        };
        let all = everything();
        let none = Metadata::default();
        for (options, expected) in [
            ("--strip", none.clone()),
            (
                "--strip=exif,xmp,settings",
                Metadata { exif: None, xmp: None, settings: None, ..all.clone() },
            ),
            ("--strip --icc p3.icc", Metadata { icc: Some(icc.clone()), ..none.clone() }),
            (
                "--strip=icc --cicp 9,13,0,1",
                Metadata {
                    icc: None,
                    cicp: Some(Cicp { primaries: 9, ..DISPLAY_P3 }),
                    ..all.clone()
                },
            ),
            ("--strip --exif a.exif", Metadata { exif: Some(upright), ..none.clone() }),
            (
                "--strip --xmp a.xmp",
                Metadata { xmp: Some(XMP.replace('6', "1").into()), ..none.clone() },
            ),
        ] {
            w.run(&format!("edit a.siren {options} -o b.siren")).success().stdout("").stderr("");
            let edited = fs::read(w.path("b.siren")).unwrap();
            let read = Container::read(&edited).unwrap();
            assert_eq!(read.metadata, expected, "{options}");
            assert!(read.weights == file.weights);
            assert_eq!(edited[..header], bytes[..header]);
            let of = |file: &[u8], kind: &[u8]| -> Vec<Vec<u8>> {
                chunks(file, header).into_iter().filter(|c| c.0 == kind).map(|c| c.1).collect()
            };
            assert_eq!(of(&edited, b"newr"), [unknown.clone(), unknown.clone()], "{options}");
            assert_eq!(of(&edited, b"WGHT"), of(&bytes, b"WGHT"), "{options}");
            assert_eq!(chunks(&edited, header).last().unwrap().0, b"WGHT");
        }
        w.run("edit a.siren --icc p3.icc -o b.siren")
            .success()
            .stderr(predicate::str::contains("its cICP takes precedence"));
        w.run("edit a.siren --in-place --strip=exif").success();
        assert_eq!(w.metadata("a.siren"), Metadata { exif: None, ..all });
    }
}

#[test]
fn edits_take_batches_and_refuse_what_is_unclear() {
    let w = Workplace::new();
    for name in ["a.siren", "b.siren"] {
        w.siren(name, Channels::Rgb, everything());
    }
    let original = fs::read(w.path("a.siren")).unwrap();
    fs::write(w.path("text"), "no profile").unwrap();
    w.run("edit a.siren --strip").code(2).stderr(predicate::str::contains("--output"));
    w.run("edit a.siren -o b.siren").code(2).stderr(predicate::str::contains("--strip"));
    w.run("edit a.siren --strip --in-place -o c.siren").code(2);
    w.run("edit a.siren --cicp 1,2,3,4 --in-place").code(2);
    w.fails("edit a.siren --strip -o a.siren", "a.siren is the input");
    w.fails("edit a.siren --icc text -o c.siren", "text is not an ICC profile");
    w.fails("edit a.siren --exif text -o c.siren", "text is not EXIF");
    w.fails("edit text --strip --in-place", "not a .siren file");
    w.fails("edit a.siren none.siren --strip --in-place", "cannot read none.siren");
    assert_eq!(fs::read(w.path("a.siren")).unwrap(), original);
    w.run("edit a.siren b.siren --strip -o out").success();
    assert_eq!(w.metadata("out/b.siren"), Metadata::default());
    w.fails("edit a.siren b.siren --strip -o out", "exists; name it with -o or use --force");
    w.run("edit a.siren none.siren b.siren --strip --in-place --keep-going").code(3);
    for name in ["a.siren", "b.siren"] {
        assert_eq!(w.metadata(name), Metadata::default());
    }
}
