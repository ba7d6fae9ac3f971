//! The container: what is written is read again, what is damaged is refused.

mod common;

use common::{container, uniform};
use proptest::prelude::*;
use sirenc::container::{Cicp, Container, Representation, TrainingOmega, WeightCoding};
use sirenc::{BitDepth, Channels, DecodeError, Decoder, Metadata, Topology};

fn small() -> Vec<u8> {
    container(6, 4, uniform(Channels::Rgb, 2, 4), 1).write()
}

/// The CRC-32 at the end of `bytes[start..end]` put right after a forgery.
fn repair_header(bytes: &mut [u8], header_len: usize) {
    let crc = crc32fast::hash(&bytes[..header_len]);
    bytes[header_len..header_len + 4].copy_from_slice(&crc.to_le_bytes());
}

fn blocks() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..300))
}

prop_compose! {
    fn metadata()(
        icc in blocks(), exif in blocks(), xmp in blocks(),
        cicp in prop::option::of((any::<u8>(), any::<u8>(), 0u8..2)),
        settings in prop::option::of("[ -~]{0,80}"),
    ) -> Metadata {
        let cicp = cicp.map(|(primaries, transfer, full_range)| {
            Cicp { primaries, transfer, matrix: 0, full_range }
        });
        Metadata { icc, cicp, exif, xmp, settings }
    }
}

prop_compose! {
    fn any_container()(
        width in 1u32..=0x7fff_ffff, height in 1u32..=0x7fff_ffff,
        depth in prop_oneof![Just(BitDepth::Eight), Just(BitDepth::Sixteen)],
        channels in 1usize..=4,
        hidden in prop_oneof![
            prop::collection::vec(1usize..40, 1..8),
            (1usize..200, 1usize..5).prop_map(|(n, l)| vec![n; l]),
        ],
        omega in prop::option::of((1u16..500, 1u16..500)),
        metadata in metadata(),
        grid in any::<bool>(),
        weights in prop::collection::vec(any::<u8>(), 0..2000),
    ) -> Container {
        let channels = Channels::from_count(channels).unwrap();
        let (representation, coding) = match grid && hidden.len() == 1 {
            true => (Representation::Latents, WeightCoding::Compact),
            false => (Representation::Siren, WeightCoding::F16),
        };
        Container {
            width, height, depth,
            topology: Topology::new(channels, hidden).unwrap(),
            omega: omega.map(|(f, h)| TrainingOmega { first: f.into(), hidden: h.into() }),
            representation, coding, metadata, weights,
        }
    }
}

proptest! {
    #[test]
    fn every_field_round_trips(container in any_container()) {
        prop_assert_eq!(Container::read(&container.write()), Ok(container));
    }

    #[test]
    fn arbitrary_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Decoder::new(&bytes).is_err());
        let signature = &sirenc::container::SIGNATURE;
        bytes.splice(0..bytes.len().min(8), signature.iter().copied());
        prop_assert!(Decoder::new(&bytes).is_err());
    }
}

#[test]
fn overhead_is_at_most_40_bytes() {
    for (width, height, layers, features) in
        [(768, 512, 10, 28), (6000, 4000, 13, 49), (16_383, 16_383, 4, 256), (1, 1, 1, 1)]
    {
        let file = container(width, height, uniform(Channels::Rgb, layers, features), 0);
        let overhead = file.write().len() - file.weights.len();
        assert!(overhead <= 40, "{overhead} bytes for {width}x{height} {layers}x{features}");
    }
}

#[test]
fn text_mode_and_seven_bit_transfers_are_named() {
    let bytes = small();
    let mut unix = bytes.clone();
    unix.remove(4);
    let mut seven = bytes.clone();
    seven.iter_mut().for_each(|b| *b &= 0x7f);
    for damaged in [unix, seven] {
        let error = Decoder::new(&damaged).unwrap_err();
        assert!(matches!(error, DecodeError::SignatureDamaged { .. }), "{error}");
    }
    let error = Decoder::new(b"\x89PNG\r\n\x1a\n").unwrap_err();
    assert!(matches!(error, DecodeError::NotSiren { .. }), "{error}");
}

/// Header length without its CRC: signature, four bytes, two sizes of one byte, layers,
/// features, two omega_0.
const SMALL_HEADER: usize = 8 + 4 + 2 + 1 + 1 + 4;

fn forged(change: impl FnOnce(&mut [u8])) -> DecodeError {
    let mut bytes = small();
    change(&mut bytes);
    repair_header(&mut bytes, SMALL_HEADER);
    Decoder::new(&bytes).unwrap_err()
}

#[test]
fn forged_headers_have_an_error_each() {
    use DecodeError as E;
    assert!(matches!(forged(|b| b[8] = 2), E::UnsupportedVersion(2)));
    assert!(matches!(forged(|b| b[8] = 0), E::Reserved { field: "version", .. }));
    assert!(matches!(forged(|b| b[9] = 7), E::UnsupportedRepresentation(7)));
    let grid = |coding| forged(|b| (b[9], b[10]) = (1, coding));
    assert!(matches!(grid(0), E::OutOfRange { field: "weight coding of a grid", .. }));
    assert!(matches!(grid(1), E::OutOfRange { field: "hidden layers of a grid", value: 2, .. }));
    assert!(matches!(forged(|b| b[10] = 9), E::UnsupportedWeightCoding(9)));
    assert!(matches!(forged(|b| b[11] |= 0x80), E::Reserved { .. }));
    assert!(matches!(forged(|b| b[11] |= 0x0c), E::Reserved { field: "bit depth code", .. }));
    assert!(matches!(forged(|b| b[12] = 0), E::OutOfRange { field: "width", .. }));
    assert!(matches!(forged(|b| b[13] = 0), E::OutOfRange { field: "height", .. }));
    assert!(matches!(forged(|b| b[14] = 0), E::OutOfRange { field: "hidden layers", .. }));
    assert!(matches!(forged(|b| b[14] = 200), E::OutOfRange { field: "hidden layers", .. }));
    assert!(matches!(forged(|b| b[15] = 0), E::OutOfRange { field: "hidden features", .. }));
    assert!(matches!(forged(|b| b[15] = 90), E::WeightLength { .. }));
    assert!(matches!(forged(|b| b[17] = 0x7c), E::Reserved { .. }));
}

/// `small` with chunks put between its header and its weights.
fn with_chunks(chunks: &[(&[u8; 4], &[u8])]) -> Result<Container, DecodeError> {
    let bytes = small();
    let (header, weights) = bytes.split_at(SMALL_HEADER + 4);
    let mut out = header.to_vec();
    for (kind, payload) in chunks {
        let start = out.len();
        out.extend_from_slice(*kind);
        out.push(u8::try_from(payload.len()).unwrap());
        out.extend_from_slice(payload);
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }
    out.extend_from_slice(weights);
    Container::read(&out)
}

#[test]
fn chunks_follow_their_rules() {
    use DecodeError as E;
    assert_eq!(with_chunks(&[(b"niCe", b"x"), (b"niCe", b"y")]), Container::read(&small()));
    assert!(matches!(with_chunks(&[(b"NiCe", b"x")]), Err(E::UnknownCriticalChunk { .. })));
    assert!(matches!(with_chunks(&[(b"ni e", b"x")]), Err(E::MalformedChunkType { .. })));
    assert!(matches!(
        with_chunks(&[(b"exif", b"x"), (b"exif", b"x")]),
        Err(E::DuplicateChunk { .. })
    ));
    assert!(matches!(with_chunks(&[(b"WGHT", b"x")]), Err(E::TrailingData { .. })));
    for bad in [&b"123"[..], &[1, 1, 1, 1], &[1, 1, 0, 2]] {
        assert!(matches!(with_chunks(&[(b"cicp", bad)]), Err(E::MalformedChunk { .. })));
    }
    for bad in [&b"\xff"[..], b"a\nb"] {
        assert!(matches!(with_chunks(&[(b"sett", bad)]), Err(E::MalformedChunk { .. })));
    }
    let mut trailing = small();
    trailing.push(0);
    assert!(matches!(Decoder::new(&trailing), Err(E::TrailingData { count: 1, .. })));
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    for bits in [0x7e00u16, 0x7c00, 0xfc00] {
        let mut file = container(6, 4, uniform(Channels::Grey, 1, 3), 1);
        file.weights[4..6].copy_from_slice(&bits.to_le_bytes());
        let error = Decoder::new(&file.write()).unwrap_err();
        assert!(matches!(error, DecodeError::NonFiniteWeight { index: 2, .. }), "{error}");
    }
}

#[test]
fn topologies_beyond_the_limits_are_refused() {
    assert!(Topology::uniform(Channels::Rgb, 64, 1024).is_err());
    assert!(Topology::uniform(Channels::Rgb, 65, 1).is_err());
    assert!(Topology::uniform(Channels::Rgb, 1, 1025).is_err());
    assert!(Topology::uniform(Channels::Rgb, usize::MAX, 1).is_err());
    assert!(Topology::uniform(Channels::Rgb, 0, 1).is_err());
    assert!(Topology::uniform(Channels::Rgb, 2, 1000).is_ok());
}
