//! The file around a payload: header, metadata and settings, and the room that they leave. Trains
//! nothing and chooses nothing.

use super::options::Target;
use super::size::Job;
use crate::train::latents::Length;
use crate::train::{OptimizerChoice, SirenTraining, Training};
use siren_image::Settings;
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
        metadata.settings = (!omit).then(|| self.settings().to_string());
        let (representation, coding, omega) = match self.kind {
            Kind::Siren(SirenTraining { omega, .. }) => {
                (Representation::Siren, options.coding(), Some(*omega))
            }
            Kind::Latents(_) => (Representation::Latents, WeightCoding::Compact, None),
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

    /// The encoder and those of its settings that neither the header nor the defaults tell.
    fn settings(&self) -> Settings {
        let options = self.job.options;
        let mut settings = Settings::new("sirenc", env!("CARGO_PKG_VERSION"));
        settings.resume = options.resume.is_some();
        match self.kind {
            Kind::Siren(siren) => {
                self.tell_siren(siren, &mut settings);
                self.tell_training(&siren.common, Training::steps, &mut settings);
            }
            Kind::Latents(training) => {
                match options.target {
                    Target::Psnr(_) => self.tell_psnr(&mut settings),
                    // There are no bytes to keep to then.
                    Target::Quality(quality) => settings.quality = Some(quality),
                    _ => settings.bytes = self.bytes,
                }
                let steps = |training: &Training| Length::new(training).all();
                self.tell_training(training, steps, &mut settings);
            }
        }
        settings
    }

    /// What a SIREN has been told.
    fn tell_siren(&self, siren: &SirenTraining, settings: &mut Settings) {
        let options = self.job.options;
        let is_f16 = options.coding() == WeightCoding::F16;
        settings.coding = is_f16.then_some(WeightCoding::F16);
        settings.batch = siren.batch;
        settings.learning_rate = siren.learning_rate;
        let is_adam = siren.optimizer == OptimizerChoice::Adam;
        settings.optimizer = is_adam.then(|| "adam".into());
        if let Target::Psnr(_) = options.target {
            // The topology follows from the search, unless a file is resumed, which has it.
            if let Some(told) = options.siren().filter(|_| options.resume.is_none()) {
                settings.hidden = options.hidden().map(<[usize]>::to_vec);
                let named = !told.implies_siren();
                settings.representation = named.then_some(Representation::Siren);
            }
            self.tell_psnr(settings);
        } else if !is_f16 {
            settings.bytes = self.bytes;
        }
    }

    fn tell_psnr(&self, settings: &mut Settings) {
        let options = self.job.options;
        if let Target::Psnr(psnr) = options.target {
            settings.psnr = Some(psnr);
            settings.best_effort = options.best_effort;
        }
    }

    /// How long the training is by `steps`, and its seed.
    fn tell_training(
        &self,
        training: &Training,
        steps: impl Fn(&Training) -> u32,
        settings: &mut Settings,
    ) {
        let default = Training::default();
        let of_effort = Training { effort: training.effort, ..Training::default() };
        let differs = |a: u32, b: u32| (a != b).then_some(a);
        settings.effort = Some(training.effort).filter(|&effort| effort != default.effort);
        settings.steps = differs(steps(training), steps(&of_effort));
        settings.stop_after = training.stop_after;
        settings.seed = Some(training.seed).filter(|&seed| seed != default.seed);
    }
}
