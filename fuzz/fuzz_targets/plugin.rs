//! Any bytes through the `image` crate's traits, under its limits.
#![no_main]

use image::{ImageDecoder, Limits};
use libfuzzer_sys::fuzz_target;
use sirenc::{DecodeError, Decoder, SirenDecoder, Size};
use sirenc_fuzz::{LIMITS, on_this_thread, repaired};

fuzz_target!(|bytes: &[u8]| {
    on_this_thread();
    let bytes = repaired(bytes);
    // A million weights take their time.
    if matches!(Decoder::with_limits(&bytes, LIMITS), Err(DecodeError::LimitExceeded { .. })) {
        return;
    }
    let size = Size { width: 3, height: 1 };
    let opened = [SirenDecoder::new(&bytes[..]), SirenDecoder::with_size(&bytes[..], size)];
    for mut decoder in opened.into_iter().flatten() {
        let mut limits = Limits::default();
        limits.max_image_width = Some(4);
        limits.max_image_height = Some(4);
        limits.max_alloc = Some(1 << 17);
        let (width, height) = decoder.dimensions();
        let _ = (decoder.icc_profile(), decoder.exif_metadata(), decoder.xmp_metadata());
        let allowed = decoder.set_limits(limits).is_ok();
        assert_eq!(allowed, width <= 4 && height <= 4);
        if allowed {
            let pixels = u64::from(width) * u64::from(height);
            let pixel = u64::from(decoder.color_type().bytes_per_pixel());
            assert_eq!(decoder.total_bytes(), pixels * pixel);
            let mut buffer = vec![0; (pixels * pixel) as usize];
            let _ = decoder.read_image(&mut buffer);
        }
    }
});
