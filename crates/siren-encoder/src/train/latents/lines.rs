//! Which way a rectangle of pixels or latents is gone through. Knows no pixels and no latents.

use siren_kernel::LANES;

/// Longest line that is worked on at a time. Columns of what is wider lie too far apart in memory.
pub const LONGEST: usize = 256;

/// The lines of a rectangle, whose pixels or latents are the points of the kernels: its rows, or its
/// columns where rows are too short to fill the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    Rows,
    Columns,
}

impl Lines {
    /// Those of `width` x `height` that take less time.
    pub fn of(width: usize, height: usize) -> Self {
        // A line takes time for whole registers, and each piece of it as much again as the least.
        let time = |length: usize, count: usize| {
            count * (length.next_multiple_of(LANES) + length.div_ceil(LONGEST) * LANES)
        };
        let narrow = width < LONGEST && time(height, width) < time(width, height);
        if narrow { Self::Columns } else { Self::Rows }
    }

    /// Column and row as place in a line and number of the line, and back.
    pub fn turn<T>(self, (x, y): (T, T)) -> (T, T) {
        match self {
            Self::Rows => (x, y),
            Self::Columns => (y, x),
        }
    }

    /// From a place in a line to the next, and from a line to the next, in a plane of `width`.
    pub fn steps(self, width: usize) -> (usize, usize) {
        self.turn((1, width))
    }
}

/// Reads every `step`th number.
pub fn read(from: &[f32], step: usize, to: &mut [f32]) {
    match step {
        1 => to.copy_from_slice(&from[..to.len()]),
        _ => to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, from)| *to = *from),
    }
}
