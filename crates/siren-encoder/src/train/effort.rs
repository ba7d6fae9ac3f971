//! Effort levels: how long to train. Plain data.

/// Length of a training run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Length {
    pub steps: u32,
    /// Pixels of a step.
    pub batch: usize,
}

/// Levels 1 to 9: more steps and larger batches, which serve best together.
const LEVELS: [Length; 9] = [
    Length { steps: 400, batch: 1024 },
    Length { steps: 1500, batch: 2048 },
    Length { steps: 4000, batch: 4096 },
    Length { steps: 5000, batch: 5120 },
    Length { steps: 6000, batch: 6144 },
    Length { steps: 6500, batch: 6656 },
    Length { steps: 7000, batch: 7168 },
    Length { steps: 9000, batch: 9216 },
    Length { steps: 12000, batch: 10240 },
];

/// The length of a run of effort 1 to 9.
pub(super) fn length(effort: u8) -> Length {
    LEVELS[usize::from(effort.clamp(1, 9)) - 1]
}

/// Steps of latents at the picture's size, and at half and at a quarter of it. At efforts 1
/// and 3 they are to take 8 and 40 seconds per megapixel on two cores.
const GRID_LEVELS: [(u32, u32); 9] = [
    (24, 50),
    (90, 80),
    (240, 100),
    (400, 120),
    (700, 150),
    (1200, 200),
    (2200, 300),
    (5000, 400),
    (11_000, 500),
];

/// The length of a run on latents of effort 1 to 9.
pub(super) fn grid_length(effort: u8) -> (u32, u32) {
    GRID_LEVELS[usize::from(effort.clamp(1, 9)) - 1]
}
