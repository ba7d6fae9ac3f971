//! Why an encode fails: each variant a rule that was broken. Prints nothing and decides nothing.

use siren_image::DecodeError;
use thiserror::Error;

/// Why an encode failed. No file exists in any of these cases.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The picture cannot be stored.
    #[error("cannot encode the picture: {0}")]
    Picture(String),
    /// Settings that contradict each other or the limits of the format.
    #[error("invalid settings: {0}")]
    Settings(String),
    /// The wanted file size leaves no room for a network.
    #[error("{wanted} bytes are too few: the smallest file, metadata included, takes {smallest}")]
    TooFewBytes {
        /// The size asked for.
        wanted: u64,
        /// The smallest possible size.
        smallest: u64,
    },
    /// The wanted PSNR was not reached at any size.
    #[error(
        "{wanted} dB is beyond reach: {best:.2} dB in {bytes} bytes was the best; \
         ask for less or for more effort"
    )]
    PsnrUnreached {
        /// The PSNR asked for, in dB.
        wanted: f64,
        /// The best PSNR reached, in dB.
        best: f64,
        /// Bytes of the file that reached it.
        bytes: u64,
    },
    /// Training was stopped before it had anything worth keeping.
    #[error("training ended before the first result: give it more time")]
    Cancelled,
    /// The finished file did not decode to the network that was written.
    #[error("the finished file failed verification: {0}")]
    Verification(String),
    /// The requested device is not in this build or on this machine.
    #[error("device {device}: {reason}")]
    Device {
        /// The device asked for.
        device: &'static str,
        /// What is missing.
        reason: String,
    },
    /// The file to train on does not decode.
    #[error("cannot resume: {0}")]
    Resume(#[from] DecodeError),
    /// A checkpoint to go on from is none, or its checksum does not match its bytes.
    #[error("not a checkpoint, or a damaged one")]
    CheckpointDamaged,
    /// A checkpoint to go on from is of another picture, of other options, or of another version
    /// of the encoder.
    #[error("the checkpoint is of another encode: {saved} there, {wanted} here")]
    CheckpointMismatch {
        /// The first thing that differs, as it was when the checkpoint was saved.
        saved: String,
        /// The same as it is now.
        wanted: String,
    },
}

impl EncodeError {
    /// The error of a device that needs a cargo feature of its name, which this build lacks.
    pub fn not_built(device: &'static str) -> Self {
        let reason =
            format!("this build has no {device} support; install with `--features {device}`");
        Self::Device { device, reason }
    }
}
