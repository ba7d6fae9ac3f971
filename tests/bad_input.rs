//! The table of `docs/bad-input.md`, row by row.
#![cfg(all(feature = "cli", feature = "encode", target_os = "linux"))]

mod common;
mod workplace;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{container, heavy_container, latents_container, uniform};
use sirenc::container::Container;
use sirenc::{Channels, Size};
use workplace::Workplace;

struct Row {
    command: String,
    says: String,
    code: i32,
}

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bad-input.md");
    let text = fs::read_to_string(path).unwrap();
    let cells = |line: &str| {
        line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>()
    };
    let tables = text.lines().filter(|line| line.starts_with('|')).map(cells);
    tables
        .filter_map(|row| {
            let [_, _, command, says, code, _] = &row[..] else { panic!("{row:?}") };
            let code = code.parse().ok()?;
            Some(Row { command: command.clone(), says: says.clone(), code })
        })
        .collect()
}

/// Signature, four bytes, width and height, layers, features, two omega_0.
const HEADER: usize = 8 + 4 + 2 + 1 + 1 + 4;

/// A file of `tests/files`.
fn made(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)).unwrap()
}

/// The files that the table names.
fn files() -> BTreeMap<&'static str, Vec<u8>> {
    let file = container(60, 40, uniform(Channels::Rgb, 3, 9), 5);
    let good = file.write();
    let mut files = BTreeMap::new();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let forged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = changed(change);
        let crc = crc32fast::hash(&bytes[..HEADER]);
        bytes[HEADER..HEADER + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    };
    files.insert("empty.siren", vec![]);
    files.insert("other.siren", b"GIF89a...".to_vec());
    files.insert("text-mode.siren", changed(&|b| assert_eq!(b.remove(4), b'\r')));
    files.insert("cut.siren", changed(&|b| b.truncate(b.len() - 9)));
    files.insert("flipped-header.siren", changed(&|b| b[13] ^= 1));
    files.insert("flipped-weights.siren", changed(&|b| b[60] ^= 4));
    files.insert("appended.siren", changed(&|b| b.extend([0; 7])));
    files.insert("newer.siren", forged(&|b| b[8] = 2));
    files.insert("representation.siren", forged(&|b| b[9] = 7));
    files.insert("coding.siren", forged(&|b| b[10] = 9));
    files.insert("reserved.siren", forged(&|b| b[11] |= 0x80));
    files.insert("zero-width.siren", forged(&|b| b[12] = 0));
    let critical = changed(&|b| {
        let chunk = b"NiCe\x00";
        let crc = crc32fast::hash(chunk).to_le_bytes();
        b.splice(HEADER + 4..HEADER + 4, [&chunk[..], &crc].concat()).for_each(drop);
    });
    files.insert("critical.siren", critical);
    // Of two bytes: 8,192 features.
    let mut wide = container(60, 40, uniform(Channels::Rgb, 2, 200), 5).write();
    wide[15..17].copy_from_slice(&[0x80, 0x40]);
    let crc = crc32fast::hash(&wide[..HEADER + 1]);
    wide[HEADER + 1..HEADER + 5].copy_from_slice(&crc.to_le_bytes());
    files.insert("features.siren", wide);
    let mut few = file.clone();
    few.weights.truncate(100);
    files.insert("too-few-weights.siren", few.write());
    let mut nan = file.clone();
    nan.weights[..2].copy_from_slice(&[0xff, 0x7e]);
    files.insert("nan.siren", nan.write());
    files.insert("huge.siren", Container { width: 1 << 16, height: 1 << 15, ..file }.write());

    let heavy = heavy_container().write();
    assert!(heavy.len() < 1000, "{}", heavy.len());
    files.insert("tiny-but-heavy.siren", heavy);

    let size = Size { width: 70, height: 45 };
    let grids = latents_container(size, 4, uniform(Channels::Rgb, 1, 6), (3, 3), 1);
    let whole = grids.write();
    let decoder = sirenc::Decoder::new(&whole).unwrap();
    let sizes = decoder.payload().unwrap().sizes();
    let two_planes = whole.len() - 4 - sizes.planes[0] - sizes.planes[1];
    files.insert("cut-grids.siren", whole[..two_planes + 5].to_vec());
    files.insert("cut-early.siren", whole[..whole.len() - grids.weights.len() + 20].to_vec());
    let mut latents = grids.clone();
    let end = latents.weights.len();
    // A stream may not end in a zero.
    latents.weights[end - 1] = 0;
    files.insert("latents.siren", latents.write());

    files.insert("empty-picture.png", vec![]);
    files.insert("text.png", b"hello, world, this is no picture".to_vec());
    files.insert("zero.pgm", b"P5\n0 0\n255\n".to_vec());
    let picture =
        image::RgbImage::from_fn(48, 32, |x, y| image::Rgb([x as u8 * 5, y as u8 * 7, 9]));
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = png.into_inner();
    files.insert("cut-picture.png", png[..png.len() / 2].to_vec());
    files.insert("picture.png", png);
    let clear = image::RgbaImage::from_pixel(48, 32, image::Rgba([9, 99, 199, 0]));
    let mut png = std::io::Cursor::new(Vec::new());
    clear.write_to(&mut png, image::ImageFormat::Png).unwrap();
    files.insert("clear.png", png.into_inner());
    let jpeg = made("baseline.jpg");
    files.insert("cut-picture.jpg", jpeg[..jpeg.len() * 3 / 4].to_vec());
    files.insert("cut-and-ended.jpg", [&jpeg[..jpeg.len() * 3 / 4], b"\xff\xd9"].concat());
    files.insert("unended.jpg", jpeg[..jpeg.len() - 2].to_vec());
    for name in [
        "zero-alpha.bmp",
        "thumbnail-first.tiff",
        "palette.tiff",
        "large-icc.png",
        "grey-icc-on-rgb.png",
        "gain-map.jpg",
        "exif-thumbnail.jpg",
        "gamma-1.png",
    ] {
        files.insert(name, made(name));
    }
    files.insert("good.siren", good);
    files
}

#[test]
fn every_row_is_what_happens() {
    let files = files();
    let rows = rows();
    assert!(rows.len() > 50);
    for name in files.keys() {
        let named = |row: &Row| row.command.split(' ').any(|word| word == *name);
        assert!(rows.iter().any(named), "{name} is in no row");
    }
    let wrong: Vec<String> = rows.iter().filter_map(|row| wrong(row, &files)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What of a row is not what happens.
fn wrong(row: &Row, files: &BTreeMap<&str, Vec<u8>>) -> Option<String> {
    let Row { command, says, code } = row;
    let w = Workplace::new();
    fs::create_dir(w.path("nothing")).unwrap();
    for (name, bytes) in files {
        fs::write(w.path(name), bytes).unwrap();
    }
    let quick = if command.starts_with("encode") { " --steps 9" } else { "" };
    let mut command_line = w.command(&format!("{command}{quick}"));
    // Whatever GPU the machine has, nothing finds it.
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command_line.env(variable, "/nonexistent");
    }
    let output = command_line.env("WGPU_BACKEND", "vulkan").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let wrong = |what: &str| Some(format!("{command}: {what}: {:?} {stderr}", output.status));
    if output.status.code() != Some(*code) || !stderr.contains(says) {
        return wrong("another end");
    }
    let lines = if command.contains("-o out") { 2 } else { 1 };
    if *code == 1 && !(stderr.starts_with("error: ") && stderr.lines().count() <= lines) {
        return wrong("more than one line");
    }
    if files.iter().any(|(name, bytes)| fs::read(w.path(name)).unwrap() != *bytes) {
        return wrong("a file has changed");
    }
    let names = fs::read_dir(w.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let new = names.filter(|name| !files.contains_key(name.to_str().unwrap()));
    let new = new.filter(|name| name != "nothing" && name != "out").count();
    if (*code == 1 || *code == 2) && new > 0 { wrong("a new file") } else { None }
}
