//! How an encoder was set, as a file tells it in its `sett` chunk (spec section 4):
//! `sirenc 0.1.0 psnr=30 effort=5 seed=7`. Text to values and back. Knows no encoder and no command
//! line.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use thiserror::Error;

use crate::container::{Representation, WeightCoding};

/// The settings of an encode, as far as neither the header of the file nor the defaults of the
/// encoder tell them.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use siren_image::Settings;
///
/// let settings: Settings = "sirenc 0.1.0 psnr=30 effort=5".parse()?;
/// assert_eq!((settings.psnr, settings.effort, settings.seed), (Some(30.0), Some(5), None));
/// assert_eq!(settings.to_string(), "sirenc 0.1.0 psnr=30 effort=5");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Name of the encoder, without spaces.
    pub encoder: String,
    /// Its version, without spaces.
    pub version: String,
    /// The representation, where it was asked for and nothing else in the file tells that.
    pub representation: Option<Representation>,
    /// Whether training went on with the network of another file.
    pub resume: bool,
    /// The coding of the weights.
    pub coding: Option<WeightCoding>,
    /// Features of the hidden layers that were given.
    pub hidden: Option<Vec<usize>>,
    /// The wanted PSNR in dB.
    pub psnr: Option<f64>,
    /// Whether the best result was to be kept where the PSNR is not reached.
    pub best_effort: bool,
    /// The wanted quality.
    pub quality: Option<f64>,
    /// Most bytes of the file.
    pub bytes: Option<u64>,
    /// How long to train, 1 to 9.
    pub effort: Option<u8>,
    /// Steps of the training.
    pub steps: Option<u32>,
    /// The step after which training stopped.
    pub stop_after: Option<u32>,
    /// Pixels of each step.
    pub batch: Option<usize>,
    /// Peak learning rate.
    pub learning_rate: Option<f64>,
    /// Name of the optimizer: lower-case letters and digits.
    pub optimizer: Option<String>,
    /// Seed of all that is random.
    pub seed: Option<u64>,
}

/// What is on, and the only value of such a key.
const YES: &str = "yes";

impl Settings {
    /// No settings of an encoder of this name and version.
    pub fn new(encoder: impl Into<String>, version: impl Into<String>) -> Self {
        Self { encoder: encoder.into(), version: version.into(), ..Self::default() }
    }

    /// Sets what `key` stands for; `None` for a key or a value that is not known, or that has
    /// been set before.
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "representation" => once(&mut self.representation, representation(value)),
            "resume" => switch_on(&mut self.resume, value),
            "coding" => once(&mut self.coding, coding(value)),
            "hidden" => once(&mut self.hidden, list(value)),
            "psnr" => once(&mut self.psnr, finite(value)),
            "best_effort" => switch_on(&mut self.best_effort, value),
            "quality" => once(&mut self.quality, finite(value)),
            "bytes" => once(&mut self.bytes, value.parse().ok()),
            "effort" => once(&mut self.effort, value.parse().ok()),
            "steps" => once(&mut self.steps, value.parse().ok()),
            "stop_after" => once(&mut self.stop_after, value.parse().ok()),
            "batch" => once(&mut self.batch, value.parse().ok()),
            "learning_rate" => once(&mut self.learning_rate, finite(value)),
            "optimizer" => once(&mut self.optimizer, name(value)),
            "seed" => once(&mut self.seed, value.parse().ok()),
            _ => None,
        }
    }

    /// Sets what the words of early versions say: `--psnr 30 --effort 5`, a list with its length
    /// before it, and a name for the file that was resumed.
    fn set_early(&mut self, words: &[&str]) -> Option<()> {
        let mut words = words.iter().peekable();
        let mut layers = None;
        while let Some(word) = words.next() {
            let key = word.strip_prefix("--")?.replace('-', "_");
            let value = words.next_if(|word| !word.starts_with("--")).copied();
            match (&*key, value) {
                ("hidden_layers", Some(value)) => once(&mut layers, value.parse().ok())?,
                ("hidden_features", Some(value)) => self.set("hidden", value)?,
                ("resume", Some(_)) => self.set("resume", YES)?,
                (key, value) => self.set(key, value.unwrap_or(YES))?,
            }
        }
        (layers == self.hidden.as_ref().map(Vec::len)).then_some(())
    }
}

/// Sets what has not been set.
fn once<T>(setting: &mut Option<T>, value: Option<T>) -> Option<()> {
    let is_first = setting.is_none();
    *setting = value;
    (is_first && setting.is_some()).then_some(())
}

fn switch_on(setting: &mut bool, value: &str) -> Option<()> {
    let was_on = std::mem::replace(setting, true);
    (!was_on && value == YES).then_some(())
}

fn representation(text: &str) -> Option<Representation> {
    [Representation::Siren, Representation::Latents].into_iter().find(|r| r.to_string() == text)
}

fn coding(text: &str) -> Option<WeightCoding> {
    [WeightCoding::F16, WeightCoding::Compact].into_iter().find(|c| c.to_string() == text)
}

fn list(text: &str) -> Option<Vec<usize>> {
    text.split(',').map(|number| number.parse().ok()).collect()
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn name(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (!text.is_empty() && text.chars().all(is_part)).then(|| text.to_owned())
}

impl Display for Settings {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let hidden = self.hidden.as_ref().map(|hidden| {
            let features: Vec<String> = hidden.iter().map(usize::to_string).collect();
            features.join(",")
        });
        let yes = |is_on: bool| is_on.then_some(YES);
        write!(f, "{} {}", self.encoder, self.version)?;
        write_setting(f, "representation", &self.representation)?;
        write_setting(f, "resume", &yes(self.resume))?;
        write_setting(f, "coding", &self.coding)?;
        write_setting(f, "hidden", &hidden)?;
        write_setting(f, "psnr", &self.psnr)?;
        write_setting(f, "best_effort", &yes(self.best_effort))?;
        write_setting(f, "quality", &self.quality)?;
        write_setting(f, "bytes", &self.bytes)?;
        write_setting(f, "effort", &self.effort)?;
        write_setting(f, "steps", &self.steps)?;
        write_setting(f, "stop_after", &self.stop_after)?;
        write_setting(f, "batch", &self.batch)?;
        write_setting(f, "learning_rate", &self.learning_rate)?;
        write_setting(f, "optimizer", &self.optimizer)?;
        write_setting(f, "seed", &self.seed)
    }
}

fn write_setting(f: &mut Formatter, key: &str, value: &Option<impl Display>) -> fmt::Result {
    value.as_ref().map_or(Ok(()), |value| write!(f, " {key}={value}"))
}

/// Text that does not tell settings, or not those that this version knows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not settings of an encoder: {0}")]
pub struct SettingsError(String);

impl FromStr for Settings {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let words: Vec<&str> = text.split(' ').collect();
        let parsed = match words.as_slice() {
            [encoder, version, rest @ ..] if !encoder.is_empty() && !version.is_empty() => {
                let mut settings = Self::new(*encoder, *version);
                let known = match rest.first().is_some_and(|word| word.starts_with("--")) {
                    true => settings.set_early(rest),
                    false => rest.iter().try_for_each(|word| {
                        let (key, value) = word.split_once('=')?;
                        settings.set(key, value)
                    }),
                };
                known.map(|()| settings)
            }
            _ => None,
        };
        parsed.ok_or_else(|| SettingsError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "sirenc 0.1.0 representation=siren resume=yes coding=f16 hidden=12,10,8 \
        psnr=24.5 best_effort=yes quality=60 bytes=1500 effort=1 steps=60 stop_after=50 batch=300 \
        learning_rate=0.002 optimizer=adam seed=5";
    const ALL_EARLY: &str = "sirenc 0.1.0 --representation siren --resume FILE --coding f16 \
        --hidden-layers 3 --hidden-features 12,10,8 --psnr 24.5 --best-effort --quality 60 \
        --bytes 1500 --effort 1 --steps 60 --stop-after 50 --batch 300 --learning-rate 0.002 \
        --optimizer adam --seed 5";

    #[test]
    fn text_comes_back() {
        for text in [ALL, "sirenc 0.1.0", "other 7-beta seed=18446744073709551615"] {
            assert_eq!(text.parse::<Settings>().unwrap().to_string(), text);
        }
        let mut settings = Settings::new("sirenc", "0.1.0");
        settings.hidden = Some(vec![7]);
        settings.learning_rate = Some(1e-30);
        assert_eq!(settings.to_string().parse(), Ok(settings));
    }

    #[test]
    fn early_files_say_the_same() {
        assert_eq!(ALL_EARLY.parse::<Settings>(), ALL.parse());
        // Those of the samples.
        for (early, now) in [
            ("sirenc 0.1.0 --bytes 6100", "sirenc 0.1.0 bytes=6100"),
            (
                "sirenc 0.1.0 --representation grid --effort 7",
                "sirenc 0.1.0 representation=grid effort=7",
            ),
        ] {
            assert_eq!(early.parse::<Settings>().unwrap().to_string(), now);
        }
    }

    #[test]
    fn what_is_not_known_is_no_guess() {
        for rest in [
            "",
            "word",
            "=",
            "seed=",
            "seed=-1",
            "seed=1 seed=1",
            "seed=1  effort=2",
            "Seed=1",
            "psnr=nan",
            "psnr=inf",
            "psnr=1;ls",
            "hidden=",
            "hidden=1,",
            "hidden=1,,2",
            "optimizer=",
            "optimizer=a;b",
            "optimizer=--x",
            "resume=no",
            "resume=yes resume=yes",
            "coding=f32",
            "representation=none",
            "batch=99999999999999999999",
            "new=1",
            "effort=256",
            "--seed",
            "--seed 1 2",
            "--seed 1 effort=2",
            "--psnr $(ls)",
            "--new 1",
            "--hidden-features 4,4",
            "--hidden-layers 3 --hidden-features 4,4",
            "--hidden-layers 3",
            "--best-effort now",
            "-- 1",
            "seed=1 --effort 2",
        ] {
            let text = format!("sirenc 0.1.0 {rest}");
            let error = text.parse::<Settings>().expect_err(&text);
            assert_eq!(error.to_string(), format!("not settings of an encoder: {text}"));
        }
        for text in ["", " ", "sirenc", "sirenc ", " 0.1.0", "written by hand"] {
            assert!(text.parse::<Settings>().is_err(), "{text}");
        }
    }
}
