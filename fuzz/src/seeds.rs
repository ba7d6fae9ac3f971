//! Writes the seed corpora: `seeds CORPUS FILE.siren...`. Files as they are for the targets that
//! take files, their payloads for those that take payloads.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sirenc::container::{Container, Representation, WeightCoding};

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let corpus = arguments.next().expect("a directory");
    for file in arguments {
        let bytes = fs::read(&file)?;
        let name = file.file_stem().expect("a file");
        let write = |target: &str, bytes: &[u8]| {
            let directory = corpus.join(target);
            fs::create_dir_all(&directory)?;
            fs::write(directory.join(Path::new(name)), bytes)
        };
        for target in ["container", "file", "info", "plugin"] {
            write(target, &bytes)?;
        }
        let Ok(Container { width, height, topology, representation, coding, weights, .. }) =
            Container::read(&bytes)
        else {
            continue;
        };
        let hidden: Vec<u8> = topology.hidden().iter().map(|n| (n - 1) as u8).collect();
        let channels = topology.channels().count() as u8 - 1;
        match representation {
            Representation::Siren => {
                let compact = u8::from(coding == WeightCoding::Compact) << 2;
                let kind = channels | compact | (hidden.len() as u8 - 1) << 3;
                write("weights", &[&[kind], &hidden[..], &weights].concat())?;
            }
            Representation::Latents => {
                let side = |side: u32| (side / 3) as u8;
                let start = [side(width), side(height), channels | hidden[0] << 2];
                write("latents", &[&start, &weights[..]].concat())?;
            }
        }
    }
    Ok(())
}
