//! The file around a payload: header, metadata and settings, and the room that they leave. Trains
//! nothing and chooses nothing.

use super::options::{self, Target};
use super::size::Job;
use crate::train::latents::Length;
use crate::train::{OptimizerChoice, SirenTraining, Training};
use siren_image::container::{Container, Representation, WeightCoding, write_varint};
use siren_image::network::Topology;

/// Smaller files carry no settings.
pub(super) const SETTINGS_FROM: u64 = 1024;

/// A file but for its payload.
#[derive(Clone, Copy)]
pub(super) struct Blank<'a> {
    pub job: Job<'a>,
    /// Most bytes of the file, where they are set.
    pub bytes: Option<u64>,
    pub kind: Kind<'a>,
}

/// What the payload is of, and how that was trained.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    Siren(&'a SirenTraining),
    Latents(&'a Training),
}

impl Blank<'_> {
    /// The file of this payload.
    pub fn container(&self, topology: &Topology, weights: Vec<u8>) -> Container {
        let Job { raster, options } = self.job;
        let omit = options.omit_settings || self.bytes.is_some_and(|bytes| bytes < SETTINGS_FROM);
        let mut metadata = options.metadata.clone();
        metadata.settings = (!omit).then(|| self.settings());
        let (representation, coding, omega) = match self.kind {
            Kind::Siren(SirenTraining { omega, .. }) => {
                (Representation::Siren, options.coding(), Some(*omega))
            }
            Kind::Latents(_) => (Representation::Grid, WeightCoding::Compact, None),
        };
        Container {
            width: raster.size().width,
            height: raster.size().height,
            depth: raster.depth(),
            topology: topology.clone(),
            omega: omega.filter(|_| !omit),
            representation,
            coding,
            metadata,
            weights,
        }
    }

    /// Bytes of the file with so many bytes of weights.
    pub fn size(&self, topology: &Topology, weights: usize) -> u64 {
        let empty = self.container(topology, Vec::new()).write();
        // In which the length takes a byte.
        let mut length = Vec::new();
        write_varint(weights as u32, &mut length);
        (empty.len() - 1 + length.len() + weights) as u64
    }

    /// Most bytes of weights in a file of `bytes`.
    pub fn room(&self, topology: &Topology, bytes: u64) -> usize {
        let mut room = bytes.saturating_sub(self.size(topology, 0)) as usize;
        while room > 0 && self.size(topology, room) > bytes {
            room -= 1;
        }
        room
    }

    /// The encoder and those of its settings that neither the header nor the defaults tell,
    /// as options of `sirenc encode`.
    fn settings(&self) -> String {
        let options = self.job.options;
        let (training, siren) = match self.kind {
            Kind::Siren(siren) => (&siren.common, Some(siren)),
            Kind::Latents(training) => (training, None),
        };
        let of_effort = Training { effort: training.effort, ..Training::default() };
        let steps = |training: &Training| match self.kind {
            Kind::Siren(_) => training.steps(),
            Kind::Latents(_) => Length::new(training).all(),
        };
        let mut text = concat!("sirenc ", env!("CARGO_PKG_VERSION")).to_owned();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!(" --{name}"));
                text.extend((!value.is_empty()).then(|| format!(" {value}")));
            }
        };
        let differs = |a: u64, b: u64| (a != b).then(|| a.to_string());
        let named = match &options.representation {
            _ if options.resume.is_some() => None,
            options::Representation::Siren(siren) if !siren.show() => Some("siren"),
            options::Representation::Latents(_) => Some("grid"),
            _ => None,
        };
        add("representation", named.map(str::to_owned));
        add("resume", options.resume.as_ref().map(|_| "FILE".into()));
        let is_f16 = siren.is_some() && options.coding() == WeightCoding::F16;
        add("coding", is_f16.then(|| "f16".into()));
        match options.target {
            // Topology and bytes follow from the search.
            Target::Psnr(psnr) => {
                if let Some(hidden) = options.hidden() {
                    let features: Vec<String> = hidden.iter().map(usize::to_string).collect();
                    add("hidden-layers", Some(hidden.len().to_string()));
                    add("hidden-features", Some(features.join(",")));
                }
                add("psnr", Some(psnr.to_string()));
                add("best-effort", options.best_effort.then(String::new));
            }
            // Latent grids have no bytes to keep to then.
            Target::Quality(quality) if siren.is_none() => {
                add("quality", Some(quality.to_string()));
            }
            _ if is_f16 => {}
            _ => add("bytes", self.bytes.map(|bytes| bytes.to_string())),
        }
        add("effort", differs(training.effort.into(), Training::default().effort.into()));
        add("steps", differs(steps(training).into(), steps(&of_effort).into()));
        add("stop-after", training.stop_after.map(|s| s.to_string()));
        if let Some(siren) = siren {
            add("batch", siren.batch.map(|pixels| pixels.to_string()));
            add("learning-rate", siren.learning_rate.map(|rate| rate.to_string()));
            add("optimizer", (siren.optimizer == OptimizerChoice::Adam).then(|| "adam".into()));
        }
        add("seed", differs(training.seed, 0));
        text
    }
}
