//! Files of latent grids that are cut, damaged or forged: previews or typed errors, never a
//! panic.

mod common;

use common::{Random, compact_container, grid_container, uniform};
use sirenc::container::Container;
use sirenc::{Channels, Crop, DecodeError, Decoder, Limits, RenderOptions, Scale, Size, View};

const SIZE: Size = Size { width: 70, height: 45 };
const LEVELS: usize = 4;
/// Damaged variants of each file, of three kinds.
const ROUNDS: usize = 1000;

fn example() -> Container {
    grid_container(SIZE, LEVELS, uniform(Channels::Rgb, 1, 12), (6, 5), 120)
}

fn levels(levels: usize) -> RenderOptions {
    RenderOptions { levels: Some(levels), ..Default::default() }
}

#[test]
fn a_cut_file_shows_the_levels_that_have_arrived() {
    let bytes = example().write();
    let whole = Decoder::new(&bytes).unwrap();
    let previews: Vec<_> = (1..=LEVELS).map(|k| whole.render(&levels(k)).unwrap()).collect();
    assert_eq!(previews[LEVELS - 1], whole.render(&RenderOptions::default()).unwrap());
    assert!(previews.windows(2).all(|pair| pair[0] != pair[1]));
    // Where each level ends, from the end of the payload, before the checksum, backwards.
    let mut ends = Vec::new();
    let mut end = bytes.len() - 4;
    for bytes in whole.payload().unwrap().sizes().levels {
        ends.push(end);
        end -= bytes;
    }
    for len in 0..bytes.len() {
        let cut = Decoder::truncated(&bytes[..len], Limits::default());
        let complete = ends.iter().filter(|&&end| end <= len).count();
        if complete == 0 {
            assert!(matches!(cut, Err(DecodeError::Truncated { .. })) || len == 0, "{len}");
            continue;
        }
        let cut = cut.unwrap();
        assert_eq!(cut.payload().unwrap().complete_levels(), complete, "{len}");
        // Rendering all of them takes long.
        if len % 50 == 0 || ends.contains(&len) || ends.contains(&(len + 1)) {
            assert_eq!(cut.render(&RenderOptions::default()).unwrap(), previews[complete - 1]);
            assert_eq!(cut.render(&levels(1)).unwrap(), previews[0]);
            assert_eq!(cut.render(&levels(LEVELS)).unwrap(), previews[complete - 1]);
            assert!(cut.sample(3.0, 40.5).is_ok());
        }
    }
    assert_eq!(Decoder::truncated(&bytes, Limits::default()).unwrap().payload(), whole.payload());
    // A file that is whole but damaged is not a cut one.
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let refused = Decoder::truncated(&damaged, Limits::default());
    assert!(matches!(refused, Err(DecodeError::Checksum { .. })));
    let siren = compact_container(9, 9, uniform(Channels::Rgb, 1, 5), 1).write();
    let cut = Decoder::truncated(&siren[..siren.len() - 5], Limits::default());
    assert!(matches!(cut, Err(DecodeError::Truncated { .. })));
}

#[test]
fn a_part_is_that_of_the_whole() {
    let file = grid_container(
        Size { width: 530, height: 300 },
        6,
        uniform(Channels::GreyAlpha, 1, 7),
        (3, 4),
        122,
    );
    let decoder = Decoder::new(&file.write()).unwrap();
    let whole = decoder.render(&RenderOptions::default()).unwrap();
    let sirenc::Samples::U8(whole) = whole.samples() else { unreachable!("8 bits") };
    for (x, y, width, height) in [(250, 250, 20, 9), (0, 0, 1, 1), (511, 256, 19, 44)] {
        let crop = Crop {
            x: f64::from(x),
            y: f64::from(y),
            width: f64::from(width),
            height: f64::from(height),
        };
        let view = View { crop: Some(crop), scale: Scale::Native };
        let part = decoder.render(&RenderOptions { view, ..Default::default() }).unwrap();
        let sirenc::Samples::U8(part) = part.samples() else { unreachable!("8 bits") };
        for (row, line) in part.chunks_exact(2 * width as usize).enumerate() {
            let start = 2 * ((y as usize + row) * 530 + x as usize);
            assert_eq!(line, &whole[start..start + line.len()], "{x} {y}");
        }
    }
}

/// Renders a thumbnail of whatever the bytes are.
fn try_to_render(bytes: &[u8]) -> bool {
    let limits = Limits {
        max_pixels: 1 << 14,
        max_dimension: 1 << 12,
        max_memory: 1 << 20,
        max_operations: 1 << 26,
        ..Limits::default()
    };
    let view = View { crop: None, scale: Scale::LongerSide(16) };
    let thumbnail = RenderOptions { view, ..Default::default() };
    let native = RenderOptions::default();
    let mut rendered = false;
    let opened = [Decoder::with_limits(bytes, limits), Decoder::truncated(bytes, limits)];
    for decoder in opened.into_iter().flatten() {
        for options in [&thumbnail, &native] {
            rendered |= decoder.render(options).is_ok();
        }
    }
    rendered
}

/// One to four changes of a byte, an insertion, a deletion, a run of one byte.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.between(1.0, 5.0) as usize {
        let at = random.between(0.0, bytes.len() as f64) as usize;
        let byte = random.between(0.0, 256.0) as u8;
        match random.between(0.0, 6.0) as usize {
            0 if at < bytes.len() => drop(bytes.remove(at)),
            1 => bytes.insert(at.min(bytes.len()), byte),
            2 => bytes.truncate(at),
            3 => bytes[at..].iter_mut().take(9).for_each(|b| *b = if byte < 128 { 0 } else { 255 }),
            4 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            _ if at < bytes.len() => bytes[at] = byte,
            _ => {}
        }
    }
}

#[test]
fn damaged_files_are_pictures_or_errors() {
    let wide = Size { width: 300, height: 5 };
    let files = [
        example(),
        grid_container(wide, 10, uniform(Channels::Rgba, 1, 3), (3, 3), 123),
        compact_container(20, 31, uniform(Channels::Rgb, 3, 9), 124),
    ];
    let mut random = Random(125);
    let (mut tried, mut rendered) = (0, 0);
    for _ in 0..ROUNDS {
        for file in &files {
            // With right checksums a decoder gets to see the damage.
            let mut changed = file.clone();
            mutate(&mut changed.weights, &mut random);
            rendered += usize::from(try_to_render(&changed.write()));
            let mut header = file.write();
            let end = header.windows(4).position(|w| w == b"WGHT").unwrap() - 4;
            for _ in 0..random.between(1.0, 3.0) as usize {
                let at = random.between(8.0, end as f64) as usize;
                header[at] = random.between(0.0, 256.0) as u8;
            }
            let crc = crc32fast::hash(&header[..end]);
            header[end..end + 4].copy_from_slice(&crc.to_le_bytes());
            rendered += usize::from(try_to_render(&header));
            let mut any = file.write();
            mutate(&mut any, &mut random);
            rendered += usize::from(try_to_render(&any));
            tried += 3;
        }
    }
    assert!(rendered > tried / 20, "{rendered} of {tried} give a picture");
}
