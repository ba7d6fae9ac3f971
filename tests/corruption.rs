//! No damage to a file goes unnoticed: every bit flip, truncation, insertion and deletion of a byte
//! in the samples, a random part of them in longer files, and garbage behind the end.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::Random;
use sirenc::{DecodeError, Decoder};

/// Files that are not damaged in every way are damaged in so many of each kind.
const RANDOM: usize = 20_000;

fn files(directory: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|p| p.extension() == Some("siren".as_ref())).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// A file in which damage must be noticed.
struct File<'a> {
    name: String,
    bytes: &'a [u8],
}

impl File<'_> {
    fn refused(&self, damaged: &[u8], what: impl Fn() -> String) -> DecodeError {
        match Decoder::new(damaged) {
            Ok(_) => panic!("{}: {}", self.name, what()),
            Err(error) => error,
        }
    }

    fn flip(&self, damaged: &mut [u8], bit: usize) {
        damaged[bit / 8] ^= 1 << (bit % 8);
        self.refused(damaged, || format!("bit {bit} flipped"));
        damaged[bit / 8] ^= 1 << (bit % 8);
    }

    fn cut(&self, len: usize) {
        let error = self.refused(&self.bytes[..len], || format!("cut to {len} bytes"));
        let truncated = matches!(error, DecodeError::Truncated { offset, .. } if offset == len);
        assert!(truncated || len == 0, "{}: {len}: {error}", self.name);
    }

    fn insert(&self, at: usize, byte: u8) {
        let damaged = [&self.bytes[..at], &[byte], &self.bytes[at..]].concat();
        self.refused(&damaged, || format!("{byte:02x} inserted at {at}"));
    }

    fn delete(&self, at: usize) {
        let damaged = [&self.bytes[..at], &self.bytes[at + 1..]].concat();
        self.refused(&damaged, || format!("byte {at} deleted"));
    }

    fn append(&self, garbage: &[u8]) {
        let damaged = [self.bytes, garbage].concat();
        let error = self.refused(&damaged, || format!("{garbage:?} appended"));
        let (offset, count) = (self.bytes.len(), garbage.len());
        assert_eq!(error, DecodeError::TrailingData { offset, count }, "{}", self.name);
    }
}

/// Damages files of fewer bytes than `exhaustive` in every way there is.
fn test(directory: &str, exhaustive: usize) {
    for (path, bytes) in files(directory) {
        let file = File { name: path.display().to_string(), bytes: &bytes };
        assert!(Decoder::new(&bytes).is_ok());
        let len = bytes.len();
        let mut damaged = bytes.clone();
        for garbage in [&[0][..], &[0x80; 5], b"WGHT", &bytes] {
            file.append(garbage);
        }
        if len <= exhaustive {
            (0..8 * len).for_each(|bit| file.flip(&mut damaged, bit));
            (0..len).for_each(|len| file.cut(len));
            (0..len).for_each(|at| file.delete(at));
            for at in 0..=len {
                (0..=255).for_each(|byte| file.insert(at, byte));
            }
            continue;
        }
        let mut random = Random(len as u64);
        let mut below = |count: usize| (random.next() * count as f64) as usize;
        for _ in 0..RANDOM {
            file.flip(&mut damaged, below(8 * len));
            file.cut(below(len));
            file.delete(below(len));
            file.insert(below(len + 1), below(256) as u8);
        }
    }
}

#[test]
fn damage_to_samples_is_refused() {
    test("samples", 8 << 10);
}

#[test]
fn damage_to_vectors_is_refused() {
    test("spec/conformance", 0);
}
