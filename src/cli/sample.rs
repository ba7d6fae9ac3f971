//! `sirenc sample`: the function and its derivatives at one place.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::{Outcome, input, output};

#[derive(Args)]
pub(super) struct Options {
    /// A .siren file; `-` is stdin
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Native pixels from the left edge; the centre of the first pixel is 0.5
    #[arg(allow_negative_numbers = true)]
    x: f64,
    /// Native pixels from the top edge; the centre of the first pixel is 0.5
    #[arg(allow_negative_numbers = true)]
    y: f64,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<Outcome> {
    let decoder = input::siren(&options.input)?;
    let (x, y) = (options.x, options.y);
    let size = decoder.size();
    let inside =
        (0.0..=f64::from(size.width)).contains(&x) && (0.0..=f64::from(size.height)).contains(&y);
    if !inside {
        bail!("({x:?}, {y:?}) lies outside the picture of {}x{} pixels", size.width, size.height);
    }
    let jets = decoder.sample(x, y)?;
    let names: &[&str] = match jets.len() {
        1 => &["grey"],
        2 => &["grey", "alpha"],
        3 => &["red", "green", "blue"],
        _ => &["red", "green", "blue", "alpha"],
    };
    let text = if options.json {
        let channels: Vec<_> = names
            .iter()
            .zip(&jets)
            .map(|(name, jet)| {
                json!({
                    "name": name,
                    "value": jet.value,
                    "gradient": [jet.dx, jet.dy],
                    "laplacian": jet.laplacian,
                })
            })
            .collect();
        format!("{:#}\n", json!({ "schema": 1, "x": x, "y": y, "channels": channels }))
    } else {
        let mut text = format!(
            "{:8} {:>5} {:>10} {:>12} {:>12} {:>12}\n",
            "channel", "8-bit", "value", "d/dx", "d/dy", "laplacian"
        );
        for (name, jet) in names.iter().zip(&jets) {
            let byte = (jet.value * 255.0 + 0.5) as u8;
            text.push_str(&format!(
                "{name:8} {byte:>5} {:>10.6} {:>12.6} {:>12.6} {:>12.6}\n",
                jet.value, jet.dx, jet.dy, jet.laplacian
            ));
        }
        text
    };
    output::print(text.as_bytes())
}
