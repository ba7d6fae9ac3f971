//! Evaluation of a [`Siren`] at many points at once, values and derivatives, in f32.
//! One plain interface; the kernels behind it may be replaced, never by-passed. Starts
//! no threads and knows no pixels.

mod kernel;

use crate::network::Siren;
pub use kernel::BLOCK;

/// A network laid out for evaluation, in blocks of [`BLOCK`] points.
#[derive(Debug, Clone)]
pub struct Evaluator {
    siren: Siren,
    widest: usize,
}

/// Working memory of one thread, reused from block to block.
#[derive(Debug, Clone)]
pub struct Scratch {
    current: Vec<f32>,
    next: Vec<f32>,
}

impl Evaluator {
    /// Prepares `siren` for evaluation.
    pub fn new(siren: Siren) -> Self {
        let widest = siren.topology().layers().map(|(i, o)| i.max(o)).max().unwrap_or(2);
        Self { siren, widest }
    }

    /// The network.
    pub fn siren(&self) -> &Siren {
        &self.siren
    }

    /// Number of output channels.
    pub fn channels(&self) -> usize {
        self.siren.topology().channels().count()
    }

    /// Working memory for one thread.
    pub fn scratch(&self) -> Scratch {
        // Four rows per feature: value, both derivatives, Laplacian.
        let len = 4 * self.widest * BLOCK;
        Scratch { current: vec![0.0; len], next: vec![0.0; len] }
    }

    /// Values at a block of points.
    ///
    /// `out` receives one row of [`BLOCK`] values per channel. The result at a point
    /// depends on that point alone, not on its place in the block.
    pub fn values(&self, points: &Points, scratch: &mut Scratch, out: &mut [f32]) {
        kernel::values(self.siren.layers(), points, scratch, out);
    }

    /// Values and derivatives with respect to the plane at a block of points.
    ///
    /// `out` receives four rows of [`BLOCK`] numbers per channel: value, derivative to
    /// x, derivative to y, Laplacian.
    pub fn jets(&self, points: &Points, scratch: &mut Scratch, out: &mut [f32]) {
        kernel::jets(self.siren.layers(), points, scratch, out);
    }
}

/// A block of points of the plane.
#[derive(Debug, Clone)]
pub struct Points {
    /// x of each point.
    pub x: [f32; BLOCK],
    /// y of each point.
    pub y: [f32; BLOCK],
}

impl Default for Points {
    fn default() -> Self {
        Self { x: [0.0; BLOCK], y: [0.0; BLOCK] }
    }
}
