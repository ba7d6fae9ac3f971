//! The `image` crate's hooks, decoder and encoder. One process, so one registration.
#![cfg(feature = "image")]

mod common;

use std::io::Cursor;

use common::{container, uniform};
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use sirenc::container::Container;
use sirenc::{
    BitDepth, Channels, Decoder, Field, Raster, RasterError, Samples, SirenDecoder, Size, View,
};

fn file(channels: Channels, depth: BitDepth) -> Container {
    let mut file = container(31, 17, uniform(channels, 2, 5), 8);
    file.depth = depth;
    file
}

#[test]
fn hooks_open_files_by_extension_and_by_signature() {
    assert!(sirenc::register());
    assert!(!sirenc::register(), "the second registration is refused");
    let directory = tempfile::tempdir().unwrap();
    let bytes = file(Channels::Rgb, BitDepth::Eight).write();
    let decoded = Decoder::new(&bytes).unwrap().render(&View::native()).unwrap();

    let named = directory.path().join("picture.SIREN");
    std::fs::write(&named, &bytes).unwrap();
    let opened = image::open(&named).unwrap();
    assert_eq!(Samples::U8(opened.into_rgb8().into_raw()), *decoded.samples());

    let unnamed = directory.path().join("picture");
    std::fs::write(&unnamed, &bytes).unwrap();
    let reader = ImageReader::open(&unnamed).unwrap().with_guessed_format().unwrap();
    assert_eq!(reader.decode().unwrap().width(), 31);
    assert_eq!(image::load_from_memory(&bytes).unwrap().width(), 31);

    let huge = container(1 << 30, 1 << 30, uniform(Channels::Rgb, 1, 1), 0).write();
    let reader = ImageReader::new(Cursor::new(huge)).with_guessed_format().unwrap();
    assert!(matches!(reader.decode(), Err(ImageError::Limits(_))));
}

#[test]
fn every_colour_type_is_native_endian() {
    for (channels, depth, colour) in [
        (Channels::Grey, BitDepth::Eight, ColorType::L8),
        (Channels::GreyAlpha, BitDepth::Eight, ColorType::La8),
        (Channels::Rgb, BitDepth::Eight, ColorType::Rgb8),
        (Channels::Rgba, BitDepth::Eight, ColorType::Rgba8),
        (Channels::Grey, BitDepth::Sixteen, ColorType::L16),
        (Channels::GreyAlpha, BitDepth::Sixteen, ColorType::La16),
        (Channels::Rgb, BitDepth::Sixteen, ColorType::Rgb16),
        (Channels::Rgba, BitDepth::Sixteen, ColorType::Rgba16),
    ] {
        let bytes = file(channels, depth).write();
        let raster = Decoder::new(&bytes).unwrap().render(&View::native()).unwrap();
        let expected = match raster.samples() {
            Samples::U8(samples) => samples.clone(),
            Samples::U16(samples) => samples.iter().flat_map(|s| s.to_ne_bytes()).collect(),
        };
        let decoder = SirenDecoder::new(bytes.as_slice()).unwrap();
        assert_eq!(decoder.color_type(), colour);
        assert_eq!(decoder.total_bytes(), expected.len() as u64);
        // One byte off any alignment.
        let mut buffer = vec![0; expected.len() + 1];
        decoder.read_image(&mut buffer[1..]).unwrap();
        assert_eq!(buffer[1..], expected);
    }
}

#[test]
fn a_view_of_other_samples_can_be_asked_for() {
    let bytes = file(Channels::Rgba, BitDepth::Eight).write();
    let view = View::scaled(1.7).field(Field::Gradient { gain: 3.0 }).depth(BitDepth::Sixteen);
    let decoder = SirenDecoder::with_view(bytes.as_slice(), view).unwrap();
    assert_eq!(decoder.color_type(), ColorType::Rgb16);
    let mut buffer = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut buffer).unwrap();
    let raster = Decoder::new(&bytes).unwrap().render(&view).unwrap();
    let Samples::U16(samples) = raster.samples() else { panic!("16 bits") };
    assert_eq!(buffer, samples.iter().flat_map(|s| s.to_ne_bytes()).collect::<Vec<u8>>());
    let view = View::native().field(Field::Gradient { gain: -1.0 });
    assert!(SirenDecoder::with_view(bytes.as_slice(), view).is_err());
}

#[test]
fn pictures_come_and_go() {
    for (channels, depth) in [
        (Channels::Grey, BitDepth::Eight),
        (Channels::GreyAlpha, BitDepth::Eight),
        (Channels::Rgb, BitDepth::Sixteen),
        (Channels::Rgba, BitDepth::Sixteen),
    ] {
        let bytes = file(channels, depth).write();
        let raster = Decoder::new(&bytes).unwrap().render(&View::native()).unwrap();
        let picture = DynamicImage::from(raster.clone());
        assert_eq!(picture.color(), SirenDecoder::new(bytes.as_slice()).unwrap().color_type());
        assert_eq!(Raster::try_from(picture), Ok(raster));
    }
    let floats = DynamicImage::ImageRgb32F(image::ImageBuffer::new(2, 2));
    assert_eq!(Raster::try_from(floats), Err(RasterError::FloatingPoint));
    let nothing = DynamicImage::ImageLuma8(image::ImageBuffer::new(0, 2));
    assert_eq!(Raster::try_from(nothing), Err(RasterError::Empty { width: 0, height: 2 }));
}

#[test]
fn a_size_can_be_asked_for() {
    let bytes = file(Channels::Rgb, BitDepth::Eight).write();
    let size = Size { width: 100, height: 3 };
    let decoder = SirenDecoder::with_size(bytes.as_slice(), size).unwrap();
    assert_eq!(decoder.dimensions(), (100, 3));
    let mut buffer = vec![0; 900];
    decoder.read_image(&mut buffer).unwrap();
    let nothing = Size { width: 0, height: 3 };
    assert!(SirenDecoder::with_size(bytes.as_slice(), nothing).is_err());
}

#[test]
#[should_panic(expected = "the buffer must hold the picture")]
fn a_wrong_buffer_panics_as_the_trait_says() {
    let bytes = file(Channels::Rgb, BitDepth::Eight).write();
    let _ = SirenDecoder::new(bytes.as_slice()).unwrap().read_image(&mut [0; 10]);
}

#[test]
fn limits_arrive_after_construction() {
    let bytes = file(Channels::Rgb, BitDepth::Eight).write();
    let mut decoder = SirenDecoder::new(bytes.as_slice()).unwrap();
    let mut limits = Limits::default();
    limits.max_image_width = Some(30);
    assert!(matches!(decoder.set_limits(limits), Err(ImageError::Limits(_))));
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(100);
    decoder.set_limits(limits).unwrap();
    let mut buffer = vec![0; 31 * 17 * 3];
    assert!(matches!(decoder.read_image(&mut buffer), Err(ImageError::Limits(_))));
}

#[test]
fn metadata_is_handed_on_and_orientation_is_not() {
    let mut file = file(Channels::Rgb, BitDepth::Eight);
    file.metadata.icc = Some(vec![1, 2]);
    // TIFF header, one entry: orientation 6.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    file.metadata.exif = Some(exif.clone());
    file.metadata.xmp = Some(b"<x/>".to_vec());
    let bytes = file.write();
    let mut decoder = SirenDecoder::new(bytes.as_slice()).unwrap();
    assert_eq!(decoder.icc_profile().unwrap(), Some(vec![1, 2]));
    assert_eq!(decoder.exif_metadata().unwrap(), Some(exif));
    assert_eq!(decoder.xmp_metadata().unwrap(), Some(b"<x/>".to_vec()));
    assert_eq!(decoder.orientation().unwrap(), image::metadata::Orientation::NoTransforms);
}

#[test]
fn damaged_files_are_decoding_errors() {
    let mut bytes = file(Channels::Rgb, BitDepth::Eight).write();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(matches!(SirenDecoder::new(bytes.as_slice()), Err(ImageError::Decoding(_))));
    bytes[8] = 200;
    assert!(matches!(SirenDecoder::new(bytes.as_slice()), Err(ImageError::Unsupported(_))));
    assert!(SirenDecoder::new(&[][..]).is_err());
}

#[cfg(feature = "encode")]
#[test]
fn the_encoder_encodes() {
    use image::{ExtendedColorType, ImageEncoder};
    use sirenc::{Encoder, SirenEncoder, SirenOptions};

    let encoder = Encoder::new().representation(SirenOptions::new().hidden([8, 8])).steps(50);
    let encode = |buffer: &[u8], width, colour| {
        let mut file = Vec::new();
        let mut encoder = SirenEncoder::new(&mut file, encoder.clone());
        encoder.set_icc_profile(vec![9; 9]).unwrap();
        encoder.write_image(buffer, width, 4, colour).map(|()| file)
    };
    let ramp: Vec<u8> = (0..8 * 4 * 3).map(|i| i as u8 * 2).collect();
    let decoder = Decoder::new(&encode(&ramp, 8, ExtendedColorType::Rgb8).unwrap()).unwrap();
    assert_eq!(decoder.size(), Size { width: 8, height: 4 });
    assert_eq!(decoder.metadata().icc, Some(vec![9; 9]));
    let sixteen = encode(&ramp, 4, ExtendedColorType::Rgb16).unwrap();
    assert_eq!(Decoder::new(&sixteen).unwrap().depth(), BitDepth::Sixteen);
    let float = encode(&[0; 8 * 4 * 12], 8, ExtendedColorType::Rgb32F);
    assert!(matches!(float, Err(ImageError::Unsupported(_))));
    assert!(matches!(encode(&[], 0, ExtendedColorType::Rgb8), Err(ImageError::Encoding(_))));
}
