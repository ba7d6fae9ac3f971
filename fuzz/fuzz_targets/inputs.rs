//! Any bytes as a picture that is to be encoded: what its metadata and its headers say. Pixels are
//! not decoded, which is other projects' work.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// The readers, in rooms of the same names as in the binary.
#[allow(dead_code)]
#[path = "."]
mod cli {
    #[path = "."]
    pub mod metadata {
        #[path = "../../src/cli/metadata/exif.rs"]
        pub mod exif;
        #[path = "../../src/cli/metadata/xmp.rs"]
        pub mod xmp;
    }
    #[path = "."]
    pub mod input {
        use super::metadata;

        #[path = "../../src/cli/input/bitmap.rs"]
        pub mod bitmap;
        #[path = "../../src/cli/input/jpeg.rs"]
        pub mod jpeg;
        #[path = "../../src/cli/input/png.rs"]
        pub mod png;
        #[path = "../../src/cli/input/scan.rs"]
        pub mod scan;
        #[path = "../../src/cli/input/told.rs"]
        pub mod told;

        /// Metadata of every kind, of every format.
        pub fn read(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
            let ending = scan::ending(bytes);
            assert!(ending.length <= bytes.len());
            let jpeg::Told { icc, exif, xmp, .. } = jpeg::Told::read(bytes, ending.length);
            let chunks = png::Chunks::read(bytes);
            let _ = bitmap::tga_alpha(bytes);
            if let Some(copy) = bitmap::with_masks(bytes) {
                assert_eq!(copy.len(), bytes.len());
            }
            let profile = bitmap::bmp_profile(bytes).map(Vec::from);
            let blocks = vec![icc, exif, xmp, chunks.icc, chunks.exif, chunks.xmp, profile];
            for block in blocks.iter().flatten() {
                assert!(block.len() <= told::MAX_METADATA_BYTES);
            }
            blocks
        }
    }

    use metadata::{exif, xmp};

    /// Reads, and looks at what was found and at the bytes as such.
    pub fn check(bytes: &[u8]) {
        let found = input::read(bytes);
        for block in found.into_iter().flatten().chain([bytes.to_vec()]) {
            let mut upright = block.clone();
            exif::reset_orientation(&mut upright);
            assert!(exif::orientation(&upright).is_none_or(|orientation| orientation == 1));
            let _ = exif::fields(&upright, None);
            if exif::remove_thumbnail(&mut upright) {
                assert!(upright.len() <= block.len() && !exif::remove_thumbnail(&mut upright));
            }
            let Some(mut packet) = xmp::to_utf8(&block) else { continue };
            xmp::reset_orientation(&mut packet);
            let text = String::from_utf8(packet).expect("UTF-8, of which one digit has changed");
            if let Some(rest) = xmp::without_following_pictures(&text) {
                assert!(rest.len() < text.len());
            }
            let _ = xmp::with_extension(&text, &text);
        }
    }
}

fuzz_target!(|bytes: &[u8]| cli::check(bytes));
