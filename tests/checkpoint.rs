//! Encodes that are broken off and gone on with: through the library and as a process.
#![cfg(all(feature = "cli", feature = "encode"))]

mod common;
mod workplace;

use std::fs;
use std::process::Child;
use std::time::Duration;

use common::{grid_options, picture_of_bytes};
use sirenc::{
    Channels, Checkpoints, Control, Decoder, EncodeError, EncodeOptions, Encoded, Metadata,
    Progress, Raster, Samples, Size, Target, encode, encode_with_checkpoints,
};
use workplace::Workplace;

/// The result of going on from a checkpoint, and those of every step after it.
fn go_on(
    raster: &Raster,
    options: &EncodeOptions,
    from: Option<&[u8]>,
    observe: impl FnMut(&Progress) -> Control,
) -> (Result<Encoded, EncodeError>, Vec<Vec<u8>>) {
    let mut saved = Vec::new();
    let mut save = |bytes: &[u8]| saved.push(bytes.to_vec());
    let checkpoints = Checkpoints { from, every: Duration::ZERO, save: &mut save };
    let encoded = encode_with_checkpoints(raster, options, checkpoints, observe);
    (encoded, saved)
}

/// Breaks an encode off after some of its steps, and compares what comes of going on. Gives the
/// numbers of its trainings and their steps.
fn goes_on_from(
    raster: &Raster,
    options: &EncodeOptions,
    picked: impl Fn(u32, u32) -> bool,
) -> Vec<(u32, u32)> {
    let whole = encode(raster, options, |_| Control::Continue).unwrap();
    let mut steps = Vec::new();
    let (encoded, saved) = go_on(raster, options, None, |progress| {
        steps.push((progress.run, progress.step));
        Control::Continue
    });
    assert!(encoded.unwrap().bytes == whole.bytes);
    assert_eq!(saved.len(), steps.len());
    for (at, &(run, step)) in steps.iter().enumerate().filter(|(_, s)| picked(s.0, s.1)) {
        let mut rest = steps[at + 1..].iter();
        let (encoded, again) = go_on(raster, options, Some(&saved[at]), |progress| {
            assert_eq!(rest.next(), Some(&(progress.run, progress.step)));
            Control::Continue
        });
        let encoded = encoded.unwrap();
        assert!(encoded.bytes == whole.bytes && rest.len() == 0, "run {run}, step {step}");
        let facts = |e: &Encoded| (e.psnr, e.steps_done, e.steps_planned, e.topology.clone());
        assert_eq!(facts(&encoded), facts(&whole));
        // Not only the result: the whole state, step after step.
        assert!(again == saved[at + 1..], "run {run}, step {step}");
    }
    steps
}

#[test]
fn a_size_is_gone_on_with_from_any_step() {
    // 25 steps each at a quarter and at a half of the size, 50 at full size, the last two of the
    // networks alone.
    let raster = picture_of_bytes(96, 64, Channels::Rgb);
    let mut options = grid_options(Target::Bytes(1500), 100);
    let picked = [1, 24, 25, 26, 49, 50, 51, 75, 97, 98, 99, 100];
    let steps = goes_on_from(&raster, &options, |_, step| picked.contains(&step));
    assert_eq!(steps.len(), 100);
    for stop_after in [20, 60, 99] {
        options.training.stop_after = Some(stop_after);
        let picked = [19, 20, 59, 60, 99];
        let steps = goes_on_from(&raster, &options, |_, step| picked.contains(&step));
        assert_eq!(steps.len(), stop_after as usize);
    }
}

#[test]
fn a_psnr_is_gone_on_with_in_any_round() {
    let raster = picture_of_bytes(64, 48, Channels::Grey);
    let mut options = grid_options(Target::Psnr(32.0), 60);
    options.best_effort = true;
    let picked = |run, step| run > 1 && step % 13 == 1 || run == 1 && step == 31;
    let steps = goes_on_from(&raster, &options, picked);
    assert!(steps.last().unwrap().0 > 1, "{:?}", steps.last());
}

#[test]
fn a_resumed_file_is_gone_on_with() {
    // Several tiles.
    let raster = picture_of_bytes(300, 80, Channels::GreyAlpha);
    let first =
        encode(&raster, &grid_options(Target::Bytes(2000), 20), |_| Control::Continue).unwrap();
    let mut more = grid_options(Target::Auto, 20);
    more.resume = Some(Decoder::new(&first.bytes).unwrap().container().clone());
    more.representation = None;
    let steps = goes_on_from(&raster, &more, |_, step| step == 4);
    assert_eq!(steps.len(), 10);
}

#[test]
fn a_run_that_is_stopped_can_be_gone_on_with() {
    let raster = picture_of_bytes(96, 64, Channels::Rgb);
    let options = grid_options(Target::Bytes(1500), 100);
    let whole = encode(&raster, &options, |_| Control::Continue).unwrap();
    let mut saved = Vec::new();
    let mut save = |bytes: &[u8]| saved.push(bytes.to_vec());
    let every = Duration::MAX;
    let checkpoints = Checkpoints { from: None, every, save: &mut save };
    let early = encode_with_checkpoints(&raster, &options, checkpoints, |progress| {
        if progress.step == 60 { Control::Stop } else { Control::Continue }
    });
    assert_eq!(early.unwrap().steps_done, 60);
    assert_eq!(saved.len(), 1);
    let (encoded, _) = go_on(&raster, &options, Some(&saved[0]), |_| Control::Continue);
    assert!(encoded.unwrap().bytes == whole.bytes);
}

#[test]
fn checkpoints_of_other_encodes_are_refused() {
    let raster = picture_of_bytes(24, 16, Channels::Rgb);
    let ours = grid_options(Target::Bytes(900), 8);
    let saved = go_on(&raster, &ours, None, |_| Control::Continue).1.pop().unwrap();
    let refused = |raster: &Raster, options: &EncodeOptions, saved: &[u8], what: &str| {
        let (encoded, again) = go_on(raster, options, Some(saved), |_| unreachable!());
        let Err(error) = encoded else { panic!("{what}") };
        assert!(matches!(error, EncodeError::CheckpointMismatch { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error} lacks {what}");
        assert!(again.is_empty());
    };
    let Samples::U8(mut samples) = raster.samples().clone() else { panic!() };
    samples[100] ^= 1;
    let other = Raster::new(raster.size(), Channels::Rgb, Samples::U8(samples)).unwrap();
    refused(&other, &ours, &saved, "picture 24x16 RGB");
    refused(&picture_of_bytes(16, 24, Channels::Rgb), &ours, &saved, "picture 16x24 RGB");
    type Change = fn(&mut EncodeOptions);
    let changes: [(&str, Change); 9] = [
        ("target Bytes(900) there, target Bytes(901) here", |o| o.target = Target::Bytes(901)),
        ("effort 3 there, effort 4 here", |o| o.training.effort = 4),
        ("steps 8 there, steps default here", |o| o.training.steps = None),
        ("stop after default there", |o| o.training.stop_after = Some(7)),
        ("seed 0 there, seed 1 here", |o| o.training.seed = 1),
        ("representation grid there", |o| {
            (o.representation, o.target) = (None, Target::Bytes(900));
            let file = common::uniform(Channels::Rgb, 1, 9);
            let size = Size { width: 24, height: 16 };
            o.resume = Some(common::grid_container(size, 3, file, (6, 5), 1));
        }),
        ("metadata", |o| o.metadata = Metadata { xmp: Some(vec![7]), ..Metadata::default() }),
        ("other options", |o| o.best_effort = true),
        ("other options", |o| o.omit_settings = true),
    ];
    for (what, change) in changes {
        let mut other = ours.clone();
        change(&mut other);
        refused(&raster, &other, &saved, what);
    }
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let at = saved.windows(version.len()).position(|bytes| bytes == version).unwrap();
    let mut older = saved[..saved.len() - 4].to_vec();
    older[at] += 1;
    refused(&raster, &ours, &sealed(&older), "encoder ");
}

/// With the checksum that belongs to it.
fn sealed(body: &[u8]) -> Vec<u8> {
    [body, &crc32fast::hash(body).to_le_bytes()].concat()
}

#[test]
fn damaged_checkpoints_are_refused() {
    let raster = picture_of_bytes(12, 8, Channels::Grey);
    let options = grid_options(Target::Psnr(40.0), 8);
    let saved = go_on(&raster, &options, None, |_| Control::Continue).1.pop().unwrap();
    let is_refused = |bytes: &[u8], what: &str| {
        let (encoded, again) = go_on(&raster, &options, Some(bytes), |_| unreachable!());
        assert!(matches!(encoded, Err(EncodeError::CheckpointDamaged)), "{what}: {encoded:?}");
        assert!(again.is_empty());
    };
    for len in 0..saved.len() {
        is_refused(&saved[..len], &format!("{len} bytes"));
    }
    for bit in (0..saved.len() * 8).step_by(5) {
        let mut damaged = saved.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        is_refused(&damaged, &format!("bit {bit}"));
    }
    // Whole by their checksums.
    let body = &saved[..saved.len() - 4];
    for len in (0..body.len()).step_by(61) {
        is_refused(&sealed(&body[..len]), &format!("{len} bytes, sealed"));
    }
    let mut long = body.to_vec();
    long[17..21].fill(255);
    is_refused(&sealed(&long), "a long length");
}

#[test]
fn some_encodes_have_no_checkpoints() {
    let raster = picture_of_bytes(48, 32, Channels::Rgb);
    let refused = |options: &EncodeOptions, what: &str| {
        let error = go_on(&raster, options, None, |_| unreachable!()).0.unwrap_err();
        assert!(matches!(error, EncodeError::Settings(_)), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    let mut automatic = grid_options(Target::Bytes(500), 8);
    automatic.representation = None;
    refused(&automatic, "give --representation grid");
    let mut timed = grid_options(Target::Bytes(900), 8);
    timed.training.timeout = Some(Duration::from_secs(9));
    refused(&timed, "time-out");
}

const ENCODE: &str = "encode a.pnm -o a.siren --bytes 1500 --representation grid --steps 1000";

impl Workplace {
    fn pnm(&self, name: &str) {
        let raster = picture_of_bytes(96, 64, Channels::Rgb);
        let Samples::U8(samples) = raster.samples() else { panic!() };
        fs::write(self.path(name), [b"P6 96 64 255\n", samples.as_slice()].concat()).unwrap();
    }

    /// Has `end` end an encode that has written a checkpoint. One that ended by itself before
    /// leaves none and is run again.
    fn broken_off(&self, end: fn(&mut Child)) {
        let arguments = format!("{ENCODE} --checkpoint a.ck --checkpoint-every 0.05");
        while !self.path("a.ck").exists() {
            let mut child = self.command(&arguments).spawn().unwrap();
            while !self.path("a.ck").exists() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            end(&mut child);
            child.wait().unwrap();
        }
    }
}

#[test]
fn a_process_that_is_killed_can_be_gone_on_with() {
    let w = Workplace::new();
    w.pnm("a.pnm");
    w.run(ENCODE).success();
    let whole = fs::read(w.path("a.siren")).unwrap();
    let ends: &[fn(&mut Child)] = &[
        |child| child.kill().unwrap(),
        #[cfg(unix)]
        |child| {
            let id = child.id().to_string();
            let mut kill = std::process::Command::new("kill");
            assert!(kill.args(["-INT", &id]).status().unwrap().success());
        },
    ];
    for end in ends {
        w.broken_off(*end);
        w.run(&format!("{ENCODE} --checkpoint a.ck")).success();
        assert!(fs::read(w.path("a.siren")).unwrap() == whole);
        assert!(!w.path("a.ck").exists());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_checkpoint_that_cannot_be_written_ends_no_training() {
    let w = Workplace::new();
    w.pnm("a.pnm");
    let encode = ENCODE.replace("--steps 1000", "--steps 20");
    let run = w.run(&format!("{encode} --checkpoint /proc/a.ck --checkpoint-every 0.001"));
    let stderr = String::from_utf8(run.success().get_output().stderr.clone()).unwrap();
    assert!(stderr.contains("warning: cannot write /proc/a.ck"), "{stderr}");
    assert!(w.path("a.siren").exists());
}

#[test]
fn foreign_files_are_no_checkpoints() {
    let w = Workplace::new();
    w.pnm("a.pnm");
    let before = fs::read(w.path("a.pnm")).unwrap();
    w.fails(&format!("{ENCODE} --checkpoint a.pnm"), "a.pnm: not a checkpoint, or a damaged one");
    assert!(fs::read(w.path("a.pnm")).unwrap() == before);
    w.fails(&format!("{ENCODE} --checkpoint ./a.siren"), "a.siren is the output");
    w.fails(&format!("{ENCODE} --checkpoint x/a.ck"), "there is no directory x");
    w.fails(&format!("{ENCODE} --checkpoint ."), ".: ");
    w.fails("encode a.pnm --bytes 500 --checkpoint a.ck", "give --representation grid");
    w.pnm("b.pnm");
    w.fails("encode a.pnm b.pnm --checkpoint a.ck -o out", "give one input");
    w.run(&format!("{ENCODE} --checkpoint a.ck --timeout 9")).code(2);
    w.run(&format!("{ENCODE} --checkpoint-every 9")).code(2);
    assert!(!w.path("a.siren").exists() && !w.path("a.ck").exists());
}
