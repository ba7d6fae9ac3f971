//! The learning rate over a run: linear warm-up, then a parabola down to zero.

use siren_image::network::Topology;

/// Steps of warm-up. A constant, not a share of the run, so that a run whose end is only
/// known after the warm-up (a time-out) is the run of that length.
pub(super) const WARM_UP: u32 = 20;

/// Peak learning rate for a topology of `n` hidden layers of `m` features on average:
/// 5.8 / (m^1.5 n^1.3), at most 0.006, for less than 12 features up to 0.01. Fitted to the
/// best rates of nine topologies (docs/experiments.md). From 700 weights on, where a PSNR of
/// less than 21 dB is `expected`, down to 0.6 times as much: there the rate ends in poor minima.
pub(super) fn peak(topology: &Topology, expected: f64) -> f64 {
    let hidden = topology.hidden();
    let layers = hidden.len() as f64;
    let features = hidden.iter().sum::<usize>() as f64 / layers;
    let most = (0.006 * (12.0 / features).powi(3)).clamp(0.006, 0.01);
    let tiny = topology.weight_count() < 700;
    let hard = if tiny { 1.0 } else { ((expected - 16.0) / 5.0).clamp(0.6, 1.0) };
    hard * (5.8 / (features.powf(1.5) * layers.powf(1.3))).min(most)
}

/// Share of the learning rate `step` steps after the start or a restart, counted from 0.
pub(super) fn warm_up(step: u32) -> f64 {
    f64::from((step + 1).min(WARM_UP)) / f64::from(WARM_UP)
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    peak: f64,
    steps: u32,
}

impl Schedule {
    pub fn new(peak: f64, steps: u32) -> Self {
        Self { peak, steps: steps.max(1) }
    }

    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Learning rate of step `step`, counted from 0, but for [`warm_up`].
    pub fn rate(&self, step: u32) -> f64 {
        let length = self.steps.saturating_sub(WARM_UP).max(1);
        let progress = f64::from(step.saturating_sub(WARM_UP)) / f64::from(length);
        // Most decibels come while the rate falls (docs/experiments.md).
        self.peak * (1.0 - progress.min(1.0)).powi(2)
    }

    /// Whether step `step` is one of about `count` marks before the last step. The k-th mark
    /// is at (k / count)^2 of the run.
    pub fn is_mark(&self, step: u32, count: u32) -> bool {
        let mark = |step: u32| {
            let progress = f64::from(step) / f64::from(self.steps);
            (progress.sqrt() * f64::from(count)) as u32
        };
        (WARM_UP + 1..self.steps).contains(&step) && mark(step) > mark(step - 1)
    }

    /// Ends the run in `share` of the time that `done` steps have taken, if that is
    /// earlier; a margin leaves time for measuring.
    pub fn shorten(&mut self, done: u32, share: f64) {
        const MARGIN: f64 = 0.95;
        let affordable = (f64::from(done) * share * MARGIN) as u32;
        self.steps = self.steps.min(affordable.max(done));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_zero() {
        let schedule = Schedule::new(1.0, 1000);
        assert!(warm_up(0) < warm_up(10) && warm_up(10) < warm_up(WARM_UP));
        assert_eq!((warm_up(WARM_UP), schedule.rate(WARM_UP)), (1.0, 1.0));
        for step in WARM_UP..999 {
            assert!(schedule.rate(step + 1) < schedule.rate(step));
        }
        assert!(schedule.rate(999) < 1e-5);
    }

    #[test]
    fn shortened_runs_start_like_their_length() {
        let mut shortened = Schedule::new(1.0, 100_000);
        shortened.shorten(20, 10.0);
        let planned = Schedule::new(1.0, shortened.steps());
        assert_eq!(shortened.steps(), 190);
        assert!((0..190).all(|i| shortened.rate(i) == planned.rate(i)));
    }
}
