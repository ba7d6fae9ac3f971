//! What `sirenc info` says of a file, in text and in JSON. Reads no files and prints nothing.

use serde_json::json;
use sirenc::coding;
use sirenc::coding::payload::Hidden;
use sirenc::container::Container;
use sirenc::latents::Basis;
use sirenc::{DecodeError, Decoder};

use super::command;
use super::terminal::harmless;

/// What there is to say of a file.
pub(super) struct Description<'a> {
    decoder: &'a Decoder,
    bytes: usize,
    /// Of each layer of a SIREN.
    bits_per_weight: Vec<f64>,
    input: String,
}

impl<'a> Description<'a> {
    /// Of a file of so many bytes that is called `input`.
    ///
    /// # Errors
    /// None, for a file that a decoder has opened.
    pub fn new(decoder: &'a Decoder, bytes: usize, input: String) -> Result<Self, DecodeError> {
        let Container { coding, topology, weights, .. } = decoder.container();
        let bits_per_weight = match decoder.payload() {
            Some(_) => Vec::new(),
            None => coding::bits_per_weight(*coding, topology, weights)?,
        };
        Ok(Self { decoder, bytes, bits_per_weight, input })
    }

    fn bpp(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.decoder.size().pixels() as f64
    }

    fn bits_by_layer(&self) -> String {
        let bits: Vec<String> = self.bits_per_weight.iter().map(|b| format!("{b:.1}")).collect();
        format!("by layer {}", bits.join(", "))
    }

    /// For people.
    pub fn text(&self) -> String {
        let container = self.decoder.container();
        let topology = &container.topology;
        let mut lines = vec![
            ("file", self.input.clone()),
            ("size", format!("{}x{} pixels", container.width, container.height)),
            ("channels", format!("{}, {} bits", topology.channels(), container.depth.bits())),
            ("representation", container.representation.to_string()),
        ];
        match self.decoder.payload() {
            None => lines.extend([
                ("topology", format!("{topology} ({} hidden layers)", topology.hidden().len())),
                ("weights", format!("{} as {}", topology.weight_count(), container.coding)),
                ("bits per weight", self.bits_by_layer()),
            ]),
            Some(payload) => {
                let sizes = payload.sizes();
                let Hidden { splines, waves } = payload.networks().hidden();
                lines.push(("sines", topology.hidden()[0].to_string()));
                let models = [("splines", Some(splines)), ("waves", waves)];
                for (index, (kind, hidden)) in models.into_iter().enumerate() {
                    let Some([h1, h2]) = hidden else { continue };
                    let name = if index == 0 { "entropy models" } else { "" };
                    lines.push((name, format!("{kind}: {h1} and {h2} hidden features")));
                }
                lines.push(("networks", format!("{} bytes", sizes.networks)));
                let planes = payload.bases().iter().zip(&sizes.planes).enumerate();
                for (index, (basis, bytes)) in planes.rev() {
                    let (width, height) = payload.plane_size(index);
                    let name = if index + 1 == sizes.planes.len() { "planes" } else { "" };
                    lines.push((name, format!("{basis}: {width}x{height}, {bytes} bytes")));
                }
            }
        }
        lines.push(("bytes", format!("{} ({:.4} bpp)", self.bytes, self.bpp())));
        if let Some(omega) = container.omega {
            let text = format!("{} first layer, {} hidden layers", omega.first, omega.hidden);
            lines.push(("omega_0", text));
        }
        let metadata = &container.metadata;
        if let Some(cicp) = metadata.cicp {
            let text = format!(
                "primaries {}, transfer {}, matrix {}, full range {}",
                cicp.primaries, cicp.transfer, cicp.matrix, cicp.full_range
            );
            lines.push(("cICP", text));
        }
        for (name, block) in
            [("ICC profile", &metadata.icc), ("EXIF", &metadata.exif), ("XMP", &metadata.xmp)]
        {
            if let Some(block) = block {
                lines.push((name, format!("{} bytes", block.len())));
            }
        }
        if let Some(settings) = &metadata.settings {
            lines.push(("encoder", settings.clone()));
        }
        if let Some(command) = command::of(container) {
            lines.push(("made by", command));
        }
        lines.iter().map(|(name, value)| format!("{name:15} {}\n", harmless(value))).collect()
    }

    /// For scripts.
    pub fn json(&self) -> serde_json::Value {
        let container = self.decoder.container();
        let topology = &container.topology;
        let metadata = &container.metadata;
        let length = |block: &Option<Vec<u8>>| block.as_ref().map(Vec::len);
        let grids = self.decoder.payload().map(|payload| {
            let sizes = payload.sizes();
            let planes = payload.bases().iter().zip(&sizes.planes).enumerate();
            let planes = planes.map(|(index, (basis, bytes))| {
                let (width, height) = payload.plane_size(index);
                let (kind, number) = match basis {
                    Basis::Splines { level } => ("level", level),
                    Basis::Waves { cell } => ("cell", cell),
                };
                json!({ kind: number, "width": width, "height": height, "bytes": bytes })
            });
            let Hidden { splines, waves } = payload.networks().hidden();
            json!({
                "entropy_model_hidden_features": { "splines": splines, "waves": waves },
                "table_bytes": sizes.table,
                "network_bytes": sizes.networks,
                "planes": planes.collect::<Vec<_>>(),
            })
        });
        let siren = grids.is_none();
        json!({
            "schema": 1,
            "file": self.input,
            "width": container.width,
            "height": container.height,
            "channels": topology.channels().count(),
            "bit_depth": container.depth.bits(),
            "representation": container.representation.to_string(),
            "weight_coding": container.coding.to_string(),
            "hidden_layers": topology.hidden().len(),
            "hidden_features": topology.hidden(),
            "weights": siren.then(|| topology.weight_count()),
            "bits_per_weight": siren.then_some(&self.bits_per_weight),
            "grids": grids,
            "bytes": self.bytes,
            "bpp": self.bpp(),
            "omega_0": container.omega.map(|o| json!({ "first": o.first, "hidden": o.hidden })),
            "cicp": metadata.cicp.map(|c| [c.primaries, c.transfer, c.matrix, c.full_range]),
            "icc_bytes": length(&metadata.icc),
            "exif_bytes": length(&metadata.exif),
            "xmp_bytes": length(&metadata.xmp),
            "settings": metadata.settings,
            "command": command::of(container),
        })
    }
}
