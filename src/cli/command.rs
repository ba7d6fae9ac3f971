//! The command that makes a file again, from its header and its settings. Knows the options of
//! `sirenc encode` by name; reads no files and prints nothing.

use sirenc::Settings;
use sirenc::container::{Container, Representation, TrainingOmega, WeightCoding};

/// The command; the input, and a file that was resumed, are left to the reader. `None` where the
/// file does not tell. Settings are numbers and known words, so that what a stranger wrote does no
/// harm in a shell.
pub(super) fn of(container: &Container) -> Option<String> {
    let settings: Settings = container.metadata.settings.as_ref()?.parse().ok()?;
    if settings.encoder != "sirenc" {
        return None;
    }
    let mut command = Command("sirenc encode IN".into());
    if settings.resume {
        // The resumed file has representation, topology and omega_0.
        command.add("resume", Some("FILE"));
    } else if container.representation == Representation::Latents {
        command.add("representation", Some("grid"));
    } else {
        command.add_siren(container, &settings)?;
    }
    command.add_settings(&settings);
    Some(command.0)
}

struct Command(String);

impl Command {
    fn add(&mut self, option: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0.push_str(&format!(" --{option} {}", value.to_string()));
        }
    }

    /// A list of features, and how many there are; one number stands for equal ones.
    fn add_hidden(&mut self, layers: usize, features: &[usize]) {
        let features: Vec<String> = features.iter().map(usize::to_string).collect();
        self.add("hidden-layers", Some(layers));
        self.add("hidden-features", Some(features.join(",")));
    }

    /// What the header tells of one SIREN.
    fn add_siren(&mut self, container: &Container, settings: &Settings) -> Option<()> {
        let TrainingOmega { first, hidden } = container.omega?;
        let topology = &container.topology;
        // A search for a PSNR finds the topology again.
        let is_found = settings.psnr.is_some();
        match topology.uniform_features() {
            _ if is_found => {}
            Some(features) => self.add_hidden(topology.hidden().len(), &[features]),
            None => self.add_hidden(topology.hidden().len(), topology.hidden()),
        }
        self.add("omega0", Some(first));
        self.add("omega0-hidden", Some(hidden).filter(|_| hidden != first));
        // Hidden layers are those of a SIREN and do not go with its name.
        self.add("representation", settings.representation.filter(|_| is_found));
        Some(())
    }

    fn add_settings(&mut self, settings: &Settings) {
        self.add("coding", settings.coding.filter(|&coding| coding == WeightCoding::F16));
        if let Some(hidden) = &settings.hidden {
            self.add_hidden(hidden.len(), hidden);
        }
        self.add("psnr", settings.psnr);
        if settings.best_effort {
            self.0.push_str(" --best-effort");
        }
        self.add("quality", settings.quality);
        self.add("bytes", settings.bytes);
        self.add("effort", settings.effort);
        self.add("steps", settings.steps);
        self.add("stop-after", settings.stop_after);
        self.add("batch", settings.batch);
        self.add("learning-rate", settings.learning_rate);
        self.add("optimizer", settings.optimizer.as_ref());
        self.add("seed", settings.seed);
    }
}
