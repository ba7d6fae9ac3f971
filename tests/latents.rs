//! Files of latents that are cut, damaged or forged: previews or typed errors, never a
//! panic.

mod common;

use common::{
    Random, compact_container, latents_container, latents_file, latents_networks, planes_container,
    splines, uniform, waves,
};
use sirenc::container::Container;
use sirenc::latents::{Bases, Plane};
use sirenc::{Channels, Crop, DecodeError, Decoder, Limit, Limits, Scale, Size, View};

const SIZE: Size = Size { width: 70, height: 45 };
/// Damaged variants of each file, of three kinds.
const ROUNDS: usize = 1000;

fn example() -> Container {
    latents_container(SIZE, 4, uniform(Channels::Rgb, 1, 12), (6, 5), 120)
}

fn example_with_waves() -> Container {
    planes_container(SIZE, waves(2, 8, 2, 2), uniform(Channels::Rgb, 1, 12), (6, 5), 121)
}

fn planes(planes: usize) -> View {
    View::native().planes(planes)
}

#[test]
fn a_cut_file_shows_the_planes_that_have_arrived() {
    for file in [example(), example_with_waves()] {
        is_shown_as_far_as_it_has_arrived(&file.write());
    }
    let siren = compact_container(9, 9, uniform(Channels::Rgb, 1, 5), 1).write();
    let cut = Decoder::truncated(&siren[..siren.len() - 5], Limits::default());
    assert!(matches!(cut, Err(DecodeError::Truncated { .. })));
}

fn is_shown_as_far_as_it_has_arrived(bytes: &[u8]) {
    let whole = Decoder::new(bytes).unwrap();
    let count = whole.payload().unwrap().bases().count();
    let previews: Vec<_> = (1..=count).map(|k| whole.render(&planes(k)).unwrap()).collect();
    assert_eq!(previews[count - 1], whole.render(&View::native()).unwrap());
    assert!(previews.windows(2).all(|pair| pair[0] != pair[1]));
    // Where each plane ends, from the end of the payload, before the checksum, backwards.
    let mut ends = Vec::new();
    let mut end = bytes.len() - 4;
    for bytes in whole.payload().unwrap().sizes().planes {
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
        assert_eq!(cut.payload().unwrap().complete_planes(), complete, "{len}");
        // Rendering all of them takes long.
        if len % 50 == 0 || ends.contains(&len) || ends.contains(&(len + 1)) {
            assert_eq!(cut.render(&View::native()).unwrap(), previews[complete - 1]);
            assert_eq!(cut.render(&planes(1)).unwrap(), previews[0]);
            assert_eq!(cut.render(&planes(count)).unwrap(), previews[complete - 1]);
            assert!(cut.sample(3.0, 40.5).is_ok());
        }
    }
    assert_eq!(Decoder::truncated(bytes, Limits::default()).unwrap().payload(), whole.payload());
    // A file that is whole but damaged is not a cut one.
    let mut damaged = bytes.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let refused = Decoder::truncated(&damaged, Limits::default());
    assert!(matches!(refused, Err(DecodeError::Checksum { .. })));
}

#[test]
fn a_part_is_that_of_the_whole() {
    let (size, topology) = (Size { width: 530, height: 300 }, uniform(Channels::GreyAlpha, 1, 7));
    for bases in [splines(6), waves(1, 8, 2, 3), waves(2, 32, 0, 5)] {
        let file = planes_container(size, bases, topology.clone(), (3, 4), 122);
        parts_are_those_of_the_whole(&Decoder::new(&file.write()).unwrap());
    }
}

fn parts_are_those_of_the_whole(decoder: &Decoder) {
    let whole = decoder.render(&View::native()).unwrap();
    let sirenc::Samples::U8(whole) = whole.samples() else { unreachable!("8 bits") };
    for (x, y, width, height) in [(250, 250, 20, 9), (0, 0, 1, 1), (511, 256, 19, 44)] {
        let crop = Crop {
            x: f64::from(x),
            y: f64::from(y),
            width: f64::from(width),
            height: f64::from(height),
        };
        let view = View::native().crop(crop);
        let part = decoder.render(&view).unwrap();
        let sirenc::Samples::U8(part) = part.samples() else { unreachable!("8 bits") };
        for (row, line) in part.chunks_exact(2 * width as usize).enumerate() {
            let start = 2 * ((y as usize + row) * 530 + x as usize);
            assert_eq!(line, &whole[start..start + line.len()], "{x} {y}");
        }
    }
}

/// A picture of 4 x 3 tiles of the finest plane, some of them 0.
fn tiled(bases: Bases) -> Container {
    let size = Size { width: 900, height: 520 };
    let topology = uniform(Channels::Rgb, 1, 9);
    let mut planes: Vec<Plane> = bases.iter().map(|basis| Plane::new(basis, size)).collect();
    let mut random = Random(9);
    for plane in &mut planes {
        let width = plane.width();
        for (at, value) in plane.values_mut().iter_mut().enumerate() {
            if at % width < 512 || at / width > 256 {
                *value = random.between(-4.0, 4.0) as i16;
            }
        }
    }
    let networks = latents_networks(bases, &topology, (4, 5), 11);
    latents_file(&planes, size, &networks, topology)
}

/// Operations of a render of a part, 256 x 256 pixels large.
fn operations(decoder: &Decoder, view: &View) -> u64 {
    let mut decoder = decoder.clone();
    decoder.set_limits(Limits::NONE.max_operations(0));
    match decoder.render(view) {
        Err(DecodeError::LimitExceeded { requested, .. }) => requested,
        other => panic!("not refused: {:?}", other.map(|raster| raster.size())),
    }
}

fn crop(x: f64, y: f64, side: f64) -> View {
    let crop = Some(Crop { x, y, width: side, height: side });
    View::native().crop(crop)
}

#[test]
fn latents_are_decoded_once() {
    // Latents that a point takes along both axes: of splines 8, of waves 4 times the cell.
    are_decoded_once(splines(5), 5 * 8);
    are_decoded_once(waves(2, 16, 2, 3), 2 * 64 + 3 * 8);
}

fn are_decoded_once(bases: Bases, taps: u64) {
    let bytes = tiled(bases).write();
    let decoder = Decoder::new(&bytes).unwrap();
    let (left, right) = (crop(130.0, 200.0, 200.0), crop(600.0, 280.0, 220.0));
    // Sines and outputs of a point, and the sums of its planes.
    let points = |side: u64| side * side * ((5 * 9) + 3 * (9 + 5) + taps);
    assert!(operations(&decoder, &left) > points(200));
    let first = decoder.render(&left).unwrap();
    assert_eq!(operations(&decoder, &left), points(200));
    assert_eq!(operations(&decoder.clone(), &crop(140.0, 210.0, 150.0)), points(150));
    assert!(operations(&decoder, &right) > points(220));
    decoder.render(&right).unwrap();
    assert_eq!(operations(&decoder, &right), points(220));
    assert_eq!(decoder.render(&left).unwrap(), first);
    // A sample decodes what it needs, no more, and once.
    let decoder = Decoder::new(&bytes).unwrap();
    decoder.sample(140.0, 210.5).unwrap();
    let before = operations(&decoder, &crop(0.0, 0.0, 512.0));
    assert!(before < operations(&Decoder::new(&bytes).unwrap(), &crop(0.0, 0.0, 512.0)));
    assert!(before > points(512));
    assert_eq!(operations(&decoder, &crop(100.0, 100.0, 50.0)), points(50));
}

#[test]
fn kept_latents_change_no_pixel() {
    change_no_pixel(splines(5), 2_600_000);
    change_no_pixel(waves(1, 8, 2, 4), 2_600_000);
}

fn change_no_pixel(bases: Bases, max_memory: u64) {
    let bytes = tiled(bases).write();
    let kept = Decoder::new(&bytes).unwrap();
    // As much as one of the renders takes, at most: what others need is dropped on the way.
    let tight = Limits::default().max_memory(max_memory);
    let tight = Decoder::with_limits(&bytes, tight).unwrap();
    let mut random = Random(4);
    let mut any = |least: f64, most: f64| random.between(least, most).floor();
    let views: Vec<View> = (0..60)
        .map(|_| {
            let (x, y) = (any(0.0, 800.0), any(0.0, 450.0));
            let (width, height) = (any(1.0, 900.0 - x), any(1.0, 520.0 - y));
            let scale = match any(0.0, 4.0) as u32 {
                0 => Scale::Native,
                1 => Scale::Factor(0.21),
                2 => Scale::Factor(0.04),
                _ => Scale::LongerSide(70),
            };
            let crop = Crop { x, y, width, height };
            View::native().crop(crop).scale(scale).planes(any(1.0, 9.0) as usize)
        })
        .collect();
    let check = |view: &View| {
        let fresh = Decoder::new(&bytes).unwrap();
        let raster = fresh.render(view).unwrap();
        assert_eq!(kept.render(view).unwrap(), raster, "{view:?}");
        match tight.render(view) {
            Ok(found) => assert_eq!(found, raster, "{view:?}"),
            Err(DecodeError::LimitExceeded { what: Limit::Memory, .. }) => {
                let refused = Decoder::with_limits(&bytes, tight.limits()).unwrap().render(view);
                assert!(refused.is_err(), "{view:?}");
            }
            Err(other) => panic!("{other}"),
        }
    };
    // From several threads at once, which may decode the same tile.
    std::thread::scope(|scope| {
        for part in views.chunks(20) {
            scope.spawn(move || part.iter().for_each(check));
        }
    });
    assert_eq!(kept.latents(), Decoder::new(&bytes).unwrap().latents());
}

#[test]
fn kept_latents_make_room() {
    for bases in [splines(5), waves(1, 16, 1, 3)] {
        make_room(bases);
    }
}

fn make_room(bases: Bases) {
    let bytes = tiled(bases).write();
    let (left, right) = (crop(30.0, 20.0, 200.0), crop(300.0, 300.0, 200.0));
    let least = |decoder: &Decoder, view: &View| {
        let mut decoder = decoder.clone();
        let mut fits = |max_memory| {
            decoder.set_limits(Limits::NONE.max_memory(max_memory));
            decoder.prepare(view).is_ok()
        };
        (1..4096).map(|n| n << 12).find(|&memory| fits(memory)).expect("16 MiB do")
    };
    // What is kept takes nothing away from what comes.
    let fresh = least(&Decoder::new(&bytes).unwrap(), &right);
    let decoder = Decoder::new(&bytes).unwrap();
    let first = decoder.render(&left).unwrap();
    let evaluated = operations(&decoder, &left);
    assert!(least(&decoder, &right) <= fresh);
    // It was dropped for that.
    assert!(operations(&decoder, &left) > evaluated);
    assert_eq!(decoder.render(&left).unwrap(), first);
}

/// Renders a thumbnail of whatever the bytes are.
fn try_to_render(bytes: &[u8]) -> bool {
    let limits = Limits::default()
        .max_pixels(1 << 14)
        .max_dimension(1 << 12)
        .max_memory(1 << 20)
        .max_operations(1 << 26);
    let view = View::fit(16);
    let thumbnail = view;
    let native = View::native();
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
        example_with_waves(),
        latents_container(wide, 10, uniform(Channels::Rgba, 1, 3), (3, 3), 123),
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
