//! What a CPU computes in a second, and whether a GPU is worth its start. Rough figures: no device
//! is asked.

/// Operations, each a multiplication with an addition, that a core computes in a second: two cores
/// of an AMD EPYC with AVX2. Current ones do up to three times as many.
const CORE: f64 = 1e10;
/// Seconds in which a GPU is opened, and seconds of a step on it that has next to nothing to
/// compute (benches/README.md).
const START: f64 = 0.35;
const STEP: f64 = 3e-4;
/// A GPU is taken where it seems to be faster by this factor.
const MARGIN: f64 = 2.0;

/// Whether a GPU is expected to be faster, its start included, at so many operations that so many
/// threads share, with so many steps that wait for one another.
pub fn gpu_is_faster(operations: f64, threads: usize, steps: u32) -> bool {
    let cpu = operations / (threads.max(1) as f64 * CORE);
    cpu > MARGIN * (START + STEP * f64::from(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operations of 10x28, COIN's network for 0.3 bpp, at so many points.
    fn coin(points: f64) -> f64 {
        7479.0 * points
    }

    #[test]
    fn a_gpu_is_taken_where_it_is_worth_it() {
        // Training at efforts 1 and 3, whose batches occupy two and eight threads at most.
        let [quick, usual] = [3.0 * coin(400.0 * 1024.0), 3.0 * coin(4000.0 * 4096.0)];
        assert!(!gpu_is_faster(quick, 2, 400));
        assert!(gpu_is_faster(usual, 2, 4000) && gpu_is_faster(usual, 8, 4000));
        // Renders of 768x512 and 3840x2160 pixels.
        let [native, large] = [coin(768.0 * 512.0), coin(3840.0 * 2160.0)];
        assert!(!gpu_is_faster(native, 2, 0));
        assert!(gpu_is_faster(large, 2, 0) && !gpu_is_faster(large, 16, 0));
        // A small network leaves a GPU idle however long it is trained.
        assert!(!gpu_is_faster(3.0 * 700.0 * 12_000.0 * 10_240.0, 16, 12_000));
    }
}
