//! What Adam keeps of latents, and of weights that SOAP does not train. Knows numbers only.

use super::archive::Archive;
use crate::error::EncodeError;

/// What Adam keeps.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Means of the gradients and of their squares.
    pub means: [Vec<f32>; 2],
    /// Updates so far.
    pub steps: u32,
}

impl Moments {
    /// Of so many numbers.
    pub fn new(len: usize) -> Self {
        Self { means: [vec![0.0; len], vec![0.0; len]], steps: 0 }
    }

    /// Saves or restores all of it.
    pub(crate) fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError> {
        archive.u32(&mut self.steps)?;
        self.means.iter_mut().try_for_each(|means| archive.f32s(means))
    }
}
