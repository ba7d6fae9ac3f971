//! `sirenc devices`: what can train and render on this machine.

use anyhow::Result;

use super::{Outcome, output};

pub(super) fn run() -> Result<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut lines = vec![format!("cpu: {threads} threads")];
    lines.extend(adapters());
    #[cfg(feature = "encode")]
    for (name, choice) in
        [("cuda", sirenc::DeviceChoice::Cuda), ("metal", sirenc::DeviceChoice::Metal)]
    {
        lines.push(match choice.check() {
            Ok(()) => format!("{name}: candle's reference path"),
            Err(sirenc::EncodeError::Device { reason, .. }) => format!("{name}: {reason}"),
            Err(error) => format!("{name}: {error}"),
        });
    }
    output::print((lines.join("\n") + "\n").as_bytes())
}

#[cfg(feature = "gpu")]
fn adapters() -> Vec<String> {
    use sirenc::gpu::{ADAPTER_VARIABLE, Adapter};
    let line = |adapter: Adapter| {
        let Adapter { name, driver, backend, software } = adapter;
        let software = match software {
            true => format!(" (software: used only where {ADAPTER_VARIABLE} names it)"),
            false => String::new(),
        };
        format!("gpu: {name}, {driver}, {backend}{software}")
    };
    let lines: Vec<String> = sirenc::gpu::adapters().into_iter().map(line).collect();
    if lines.is_empty() { vec!["gpu: none was found".into()] } else { lines }
}

#[cfg(not(feature = "gpu"))]
fn adapters() -> Vec<String> {
    vec!["gpu: this build has no gpu support; install with `--features gpu`".into()]
}
