//! Encodes that are broken off and gone on with: through the library and as a process.
#![cfg(all(feature = "cli", feature = "encode"))]

mod common;
mod workplace;

use std::fs;
use std::process::Child;
use std::time::Duration;

use common::{latents_encoder, picture_of_bytes};
use sirenc::Representation;
use sirenc::container::WeightCoding;
use sirenc::{
    Channels, Checkpoints, Control, Decoder, EncodeError, Encoded, Encoder, LatentOptions,
    Metadata, OptimizerChoice, Progress, Raster, Samples, SirenOptions, Size, Target,
};
use workplace::Workplace;

/// Encodes as one SIREN in so many steps.
fn siren_encoder(target: Target, steps: u32) -> Encoder {
    let siren = SirenOptions::new().batch(128);
    Encoder::new().target(target).representation(siren).steps(steps)
}

/// The result of going on from a checkpoint, and those of every step after it.
fn go_on(
    raster: &Raster,
    encoder: &Encoder,
    from: Option<&[u8]>,
    observe: impl FnMut(&Progress) -> Control,
) -> (Result<Encoded, EncodeError>, Vec<Vec<u8>>) {
    let mut saved = Vec::new();
    let mut save = |bytes: &[u8]| saved.push(bytes.to_vec());
    let checkpoints = Checkpoints { from, every: Duration::ZERO, save: &mut save };
    let encoding = encoder.clone().on_progress(observe).checkpoints(checkpoints);
    (encoding.encode(raster), saved)
}

/// Breaks an encode off after some of its steps, and compares what comes of going on. Gives the
/// numbers of its trainings and their steps.
fn goes_on_from(
    raster: &Raster,
    encoder: &Encoder,
    picked: impl Fn(u32, u32) -> bool,
) -> Vec<(u32, u32)> {
    let whole = encoder.encode(raster).unwrap();
    let mut steps = Vec::new();
    let (encoded, saved) = go_on(raster, encoder, None, |progress| {
        steps.push((progress.run, progress.step));
        Control::Continue
    });
    assert!(encoded.unwrap().bytes == whole.bytes);
    assert_eq!(saved.len(), steps.len());
    for (at, &(run, step)) in steps.iter().enumerate().filter(|(_, s)| picked(s.0, s.1)) {
        let mut rest = steps[at + 1..].iter();
        let (encoded, again) = go_on(raster, encoder, Some(&saved[at]), |progress| {
            assert_eq!(rest.next(), Some(&(progress.run, progress.step)));
            Control::Continue
        });
        let encoded = encoded.unwrap();
        assert!(encoded.bytes == whole.bytes && rest.len() == 0, "run {run}, step {step}");
        let facts = |e: &Encoded| {
            let steps = (e.steps_done, e.steps_planned);
            (e.psnr, steps, e.topology.clone(), e.recoveries, e.single_colour, e.device.clone())
        };
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
    let encoder = latents_encoder(Target::Bytes(1500), 100);
    let picked = [1, 24, 25, 26, 49, 50, 51, 75, 97, 98, 99, 100];
    let steps = goes_on_from(&raster, &encoder, |_, step| picked.contains(&step));
    assert_eq!(steps.len(), 100);
    for stop_after in [20, 60, 99] {
        let encoder = encoder.clone().stop_after(stop_after);
        let picked = [19, 20, 59, 60, 99];
        let steps = goes_on_from(&raster, &encoder, |_, step| picked.contains(&step));
        assert_eq!(steps.len(), stop_after as usize);
    }
}

#[test]
fn all_starts_of_a_small_siren_are_gone_on_with() {
    let raster = picture_of_bytes(24, 16, Channels::Rgb);
    let encoder = siren_encoder(Target::Bytes(160), 60);
    // Weights are rounded from step 48 on, their steps fixed from step 57 on.
    let picked = [1, 20, 21, 30, 47, 48, 50, 57, 60];
    let steps = goes_on_from(&raster, &encoder, |_, step| picked.contains(&step));
    assert_eq!(steps.last(), Some(&(4, 60)));
    assert_eq!(steps.len(), 240);
}

#[test]
fn a_siren_is_gone_on_with_from_any_step() {
    let raster = picture_of_bytes(40, 24, Channels::Rgba);
    let encoder = siren_encoder(Target::Bytes(900), 130);
    let picked = [1, 21, 49, 50, 51, 99, 100, 104, 110, 124, 129, 130];
    let steps = goes_on_from(&raster, &encoder, |_, step| picked.contains(&step));
    assert_eq!(steps.len(), 130);
    let encoder = encoder.stop_after(107);
    let steps = goes_on_from(&raster, &encoder, |_, step| [90, 105, 107].contains(&step));
    assert_eq!(steps.len(), 107);
    // Every batch is the whole picture.
    let encoder = encoder.representation(SirenOptions::new());
    goes_on_from(&raster, &encoder, |_, step| step == 60);
    let adam = SirenOptions::new().batch(300).optimizer(OptimizerChoice::Adam);
    goes_on_from(&raster, &encoder.representation(adam), |_, step| [40, 105].contains(&step));
}

#[test]
fn a_siren_that_diverges_is_gone_on_with() {
    let raster = picture_of_bytes(40, 24, Channels::Grey);
    let siren = SirenOptions::new().batch(128).hidden([16; 3]).coding(WeightCoding::F16);
    let encoder = Encoder::new().representation(siren.learning_rate(1.0)).steps(200);
    assert!(encoder.encode(&raster).unwrap().recoveries > 0);
    goes_on_from(&raster, &encoder, |_, step| step % 14 == 1);
}

#[test]
fn a_psnr_is_gone_on_with_in_any_run_of_a_siren() {
    let raster = picture_of_bytes(32, 24, Channels::Grey);
    let encoder = siren_encoder(Target::Psnr(33.0), 60).best_effort(true);
    let steps = goes_on_from(&raster, &encoder, |_, step| step % 23 == 8);
    assert!(steps.last().unwrap().0 > 1, "{:?}", steps.last());
}

#[test]
fn a_resumed_siren_is_gone_on_with() {
    let raster = picture_of_bytes(40, 24, Channels::GreyAlpha);
    let first = siren_encoder(Target::Bytes(600), 60).encode(&raster).unwrap();
    let file = Decoder::new(&first.bytes).unwrap().container().clone();
    let more = siren_encoder(Target::Auto, 40).resume(file);
    let steps = goes_on_from(&raster, &more, |_, step| [1, 25, 36].contains(&step));
    assert_eq!(steps.len(), 40);
}

#[test]
fn a_psnr_is_gone_on_with_in_any_round() {
    let raster = picture_of_bytes(64, 48, Channels::Grey);
    let encoder = latents_encoder(Target::Psnr(32.0), 60).best_effort(true);
    let picked = |run, step| run > 1 && step % 13 == 1 || run == 1 && step == 31;
    let steps = goes_on_from(&raster, &encoder, picked);
    assert!(steps.last().unwrap().0 > 1, "{:?}", steps.last());
}

#[test]
fn a_resumed_file_is_gone_on_with() {
    // Several tiles.
    let raster = picture_of_bytes(300, 80, Channels::GreyAlpha);
    let first = latents_encoder(Target::Bytes(2000), 20).encode(&raster).unwrap();
    let file = Decoder::new(&first.bytes).unwrap().container().clone();
    let more = Encoder::new().steps(20).resume(file);
    let steps = goes_on_from(&raster, &more, |_, step| step == 4);
    assert_eq!(steps.len(), 10);
}

#[test]
fn a_run_that_is_stopped_can_be_gone_on_with() {
    let raster = picture_of_bytes(96, 64, Channels::Rgb);
    for encoder in [latents_encoder, siren_encoder].map(|of| of(Target::Bytes(1500), 100)) {
        let whole = encoder.encode(&raster).unwrap();
        let mut saved = Vec::new();
        let mut save = |bytes: &[u8]| saved.push(bytes.to_vec());
        let every = Duration::MAX;
        let checkpoints = Checkpoints { from: None, every, save: &mut save };
        let early = encoder.clone().checkpoints(checkpoints).on_progress(|progress| {
            if progress.step == 60 { Control::Stop } else { Control::Continue }
        });
        assert_eq!(early.encode(&raster).unwrap().steps_done, 60);
        assert_eq!(saved.len(), 1);
        let (encoded, _) = go_on(&raster, &encoder, Some(&saved[0]), |_| Control::Continue);
        assert!(encoded.unwrap().bytes == whole.bytes);
    }
}

#[test]
fn a_siren_that_is_stopped_before_any_result_can_be_gone_on_with() {
    let raster = picture_of_bytes(24, 16, Channels::Rgb);
    let encoder = siren_encoder(Target::Bytes(160), 40);
    let whole = encoder.encode(&raster).unwrap();
    let (encoded, saved) = go_on(&raster, &encoder, None, |_| Control::Stop);
    assert!(matches!(encoded, Err(EncodeError::Cancelled)));
    let (encoded, _) = go_on(&raster, &encoder, Some(&saved[0]), |_| Control::Continue);
    assert!(encoded.unwrap().bytes == whole.bytes);
}

#[test]
fn checkpoints_of_other_encodes_are_refused() {
    let raster = picture_of_bytes(24, 16, Channels::Rgb);
    let ours = latents_encoder(Target::Bytes(900), 8);
    let saved = go_on(&raster, &ours, None, |_| Control::Continue).1.pop().unwrap();
    let refused = |raster: &Raster, encoder: &Encoder, saved: &[u8], what: &str| {
        let (encoded, again) = go_on(raster, encoder, Some(saved), |_| unreachable!());
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
    type Change = fn(Encoder) -> Encoder;
    let by_default = Encoder::new().bytes(900).representation(LatentOptions::new());
    refused(&raster, &by_default, &saved, "steps 8 there, steps default here");
    let changes: [(&str, Change); 8] = [
        ("target Bytes(900) there, target Bytes(901) here", |e| e.bytes(901)),
        ("effort 3 there, effort 4 here", |e| e.effort(4)),
        ("stop after default there", |e| e.stop_after(7)),
        ("seed 0 there, seed 1 here", |e| e.seed(1)),
        ("representation grid there", |e| {
            let file = common::uniform(Channels::Rgb, 1, 9);
            let size = Size { width: 24, height: 16 };
            let file = common::latents_container(size, 3, file, (6, 5), 1);
            e.representation(Representation::Auto).resume(file)
        }),
        ("metadata", |e| e.metadata(Metadata { xmp: Some(vec![7]), ..Metadata::default() })),
        ("other options", |e| e.best_effort(true)),
        ("other options", |e| e.omit_settings(true)),
    ];
    for (what, change) in changes {
        refused(&raster, &change(ours.clone()), &saved, what);
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
    are_refused_where_damaged(&latents_encoder(Target::Psnr(40.0), 8));
    are_refused_where_damaged(&siren_encoder(Target::Bytes(90), 8));
}

fn are_refused_where_damaged(encoder: &Encoder) {
    let raster = picture_of_bytes(12, 8, Channels::Grey);
    let saved = go_on(&raster, encoder, None, |_| Control::Continue).1.pop().unwrap();
    let is_refused = |bytes: &[u8], what: &str| {
        let (encoded, again) = go_on(&raster, encoder, Some(bytes), |_| unreachable!());
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
    let refused = |encoder: &Encoder, what: &str| {
        let error = go_on(&raster, encoder, None, |_| unreachable!()).0.unwrap_err();
        assert!(matches!(error, EncodeError::Settings(_)), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    let timed = latents_encoder(Target::Bytes(900), 8).timeout(Duration::from_secs(9));
    refused(&timed, "time-out");
}

const ENCODE: &str = "encode a.pnm -o a.siren --bytes 1500 --representation grid --steps 1000";
const ENCODE_SIREN: &str = "encode a.pnm -o a.siren --bytes 900 --batch 512 --steps 1000";

impl Workplace {
    fn pnm(&self, name: &str) {
        let raster = picture_of_bytes(96, 64, Channels::Rgb);
        let Samples::U8(samples) = raster.samples() else { panic!() };
        fs::write(self.path(name), [b"P6 96 64 255\n", samples.as_slice()].concat()).unwrap();
    }

    /// Has `end` end an encode that has written a checkpoint. One that ended by itself before
    /// leaves none and is run again.
    fn broken_off(&self, encode: &str, end: fn(&mut Child)) {
        let arguments = format!("{encode} --checkpoint a.ck --checkpoint-every 0.05");
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
    let ends: &[fn(&mut Child)] = &[
        |child| child.kill().unwrap(),
        #[cfg(unix)]
        |child| {
            let id = child.id().to_string();
            let mut kill = std::process::Command::new("kill");
            assert!(kill.args(["-INT", &id]).status().unwrap().success());
        },
    ];
    for encode in [ENCODE, ENCODE_SIREN] {
        w.run(encode).success();
        let whole = fs::read(w.path("a.siren")).unwrap();
        for end in ends {
            w.broken_off(encode, *end);
            w.run(&format!("{encode} --checkpoint a.ck")).success();
            assert!(fs::read(w.path("a.siren")).unwrap() == whole);
            assert!(!w.path("a.ck").exists());
        }
    }
}

#[cfg(unix)]
#[test]
fn a_checkpoint_that_finds_no_room_ends_no_training() {
    use assert_cmd::assert::OutputAssertExt;
    let w = Workplace::new();
    w.pnm("a.pnm");
    let encode = ENCODE.replace("--steps 1000", "--steps 20");
    // There is room for the output.
    let limit = "POSIXLY_CORRECT=1; ulimit -f 4";
    let line = format!("{limit}; sirenc {encode} --checkpoint a.ck --checkpoint-every 0.001");
    let run = w.shell(&line).assert().success();
    let stderr = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(stderr.contains("warning: cannot write a.ck: File too large"), "{stderr}");
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
    w.pnm("b.pnm");
    w.fails("encode a.pnm b.pnm --checkpoint a.ck -o out", "give one input");
    w.run(&format!("{ENCODE} --checkpoint a.ck --timeout 9")).code(2);
    w.run(&format!("{ENCODE} --checkpoint-every 9")).code(2);
    assert!(!w.path("a.siren").exists() && !w.path("a.ck").exists());
}
