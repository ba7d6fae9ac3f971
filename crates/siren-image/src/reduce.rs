//! Renders below the native size: a finer lattice is evaluated and reduced by Lanczos's filter,
//! so that detail which the output cannot hold does not alias (spec section 8).
//! Knows lattices and weights; evaluates nothing and starts no threads.

use std::ops::Range;

use crate::geometry::{Lattice, PixelGrid, Size};
use crate::latents::{Bases, Basis};
use crate::network::Channels;

/// The filter's lobes to either side, each an output pixel wide.
const LOBES: u32 = 3;
/// Evaluated points along an axis: one for so many native pixels, but from 2 to 8 for an
/// output pixel, so that the work follows the output.
const SPACING: f64 = 1.5;
const POINTS: (f64, f64) = (2.0, 8.0);
/// A level of splines may be left out where the next one has so many latents along an axis for
/// an output pixel; the third level and coarser ones never, without which colours change. Waves
/// are as fine as level 0.
const FINEST: f64 = 8.0;
const MOST_LEFT_OUT: usize = 2;
/// What an allocator adds to a small piece of memory.
const ALLOCATION: u64 = 16;

/// The finer lattice that is evaluated for a render.
pub struct Refined {
    /// The lattice.
    pub grid: PixelGrid,
    /// The render's own size.
    size: Size,
    columns: Lattice,
    rows: Lattice,
}

/// How a finer lattice becomes the pixels of a render.
#[derive(Debug, Clone)]
pub struct Reduction {
    size: Size,
    columns: Vec<Taps>,
    /// Those of rows are made when they are needed, so that memory follows the width alone.
    rows: Lattice,
}

/// What an output pixel takes of the finer lattice along an axis.
#[derive(Debug, Clone)]
struct Taps {
    first: u32,
    /// They sum to 1.
    weights: Vec<f32>,
}

impl Refined {
    /// The lattice for a render of `grid`; `None` where no side of the picture is reduced.
    pub fn new(grid: &PixelGrid) -> Option<Self> {
        let points = grid.reductions().map(|reduction| {
            if reduction <= 1.0 {
                return 1;
            }
            (reduction / SPACING).ceil().clamp(POINTS.0, POINTS.1) as u32
        });
        if points == [1, 1] {
            return None;
        }
        let margin = points.map(|n| if n > 1 { LOBES } else { 0 });
        let (fine, [columns, rows]) = grid.refined(points, margin);
        Some(Self { grid: fine, size: grid.size, columns, rows })
    }

    /// Most rows of the lattice that so many rows of the render take.
    pub fn most_rows(&self, rows: u32) -> u32 {
        let margin = if self.rows.points > 1 { 2 * LOBES } else { 0 };
        let most = (u64::from(rows) + u64::from(margin)) * u64::from(self.rows.points) + 1;
        most.min(self.grid.size.height.into()) as u32
    }

    /// Bytes of a [`Reduction`].
    pub fn reduction_bytes(&self) -> u64 {
        let taps = 2 * LOBES * self.columns.points + 1;
        u64::from(self.size.width) * (size_of::<Taps>() as u64 + ALLOCATION + 4 * u64::from(taps))
    }
}

impl Reduction {
    /// What makes the render of it.
    pub fn new(refined: Refined) -> Self {
        let Refined { size, columns, rows, .. } = refined;
        let columns = (0..size.width).map(|i| Taps::new(i, &columns)).collect();
        Self { size, columns, rows }
    }

    /// Size of the render.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The rows of the finer lattice that rows of the render take.
    pub fn fine_rows(&self, rows: Range<u32>) -> Range<u32> {
        // First and last taps both rise from row to row.
        let [first, last] = [rows.start, rows.end - 1].map(|row| Taps::new(row, &self.rows));
        first.first..last.first + last.weights.len() as u32
    }

    /// Reduces one row of the finer lattice, `count` numbers a pixel, to the width of the render.
    pub fn across(&self, fine: &[f32], count: usize, out: &mut [f32]) {
        for (taps, out) in self.columns.iter().zip(out.chunks_exact_mut(count)) {
            taps.apply(fine[taps.first as usize * count..].chunks_exact(count), out);
        }
    }

    /// Row `row` of the render from rows that [`Reduction::across`] made, `first` being the first
    /// of them.
    pub fn down(&self, row: u32, fine: &[f32], first: u32, out: &mut [f32]) {
        let taps = Taps::new(row, &self.rows);
        taps.apply(fine.chunks_exact(out.len()).skip((taps.first - first) as usize), out);
    }
}

impl Taps {
    /// Of output pixel `index` along an axis.
    fn new(index: u32, lattice: &Lattice) -> Self {
        let points = f64::from(lattice.points);
        let centre = f64::from(lattice.lead) + (f64::from(index) + 0.5) * points - 0.5;
        let reach = if lattice.points > 1 { f64::from(LOBES) * points } else { 0.0 };
        let first = (centre - reach).ceil().max(0.0) as u32;
        let last = (centre + reach).floor().min(f64::from(lattice.count - 1)) as u32;
        let weights = (first..=last).map(|at| lanczos((f64::from(at) - centre) / points));
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        Self { first, weights: weights.iter().map(|weight| (weight / sum) as f32).collect() }
    }

    /// The weighted sum of the pixels or rows from the first tap on.
    fn apply<'a>(&self, parts: impl Iterator<Item = &'a [f32]>, out: &mut [f32]) {
        out.fill(0.0);
        for (weight, part) in self.weights.iter().zip(parts) {
            out.iter_mut().zip(part).for_each(|(out, value)| *out += weight * value);
        }
    }
}

/// Lanczos's window times the sinc, `x` in output pixels.
fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { x.sin() / x };
    let x = std::f64::consts::PI * x;
    sinc(x) * sinc(x / f64::from(LOBES))
}

/// How many of the finest planes a filtered render leaves out that takes one pixel for every
/// `reduction` native ones along an axis. Finer planes matter more than their place suggests:
/// what goes through a sine does not average out.
pub fn planes_left_out(reduction: f64, bases: Bases) -> usize {
    let may_go = |basis: &Basis| {
        let level = match *basis {
            Basis::Splines { level } => level,
            Basis::Waves { .. } => 0,
        };
        level < MOST_LEFT_OUT && FINEST * f64::from(2u32 << level) <= reduction
    };
    bases.iter().take(bases.count() - 1).take_while(may_go).count()
}

/// Multiplies the colours of pixels by their alpha, so that what is transparent does not bleed.
pub fn premultiply(channels: Channels, samples: &mut [f32]) {
    for_each_alpha(channels, samples, |colour, alpha| *colour *= alpha);
}

/// The inverse of [`premultiply`]; colours under no alpha are 0.
pub fn straighten(channels: Channels, samples: &mut [f32]) {
    let straight = |colour: f32, alpha: f32| if alpha > 0.0 { colour / alpha } else { 0.0 };
    for_each_alpha(channels, samples, |colour, alpha| *colour = straight(*colour, alpha));
}

fn for_each_alpha(channels: Channels, samples: &mut [f32], each: impl Fn(&mut f32, f32)) {
    if !channels.has_alpha() {
        return;
    }
    for pixel in samples.chunks_exact_mut(channels.count()) {
        let (alpha, colours) = pixel.split_last_mut().expect("colours and alpha");
        colours.iter_mut().for_each(|colour| each(colour, *alpha));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{Crop, Scale};
    use crate::latents::tests::bases;

    const NATIVE: Size = Size { width: 768, height: 512 };

    fn reduction(crop: Option<Crop>, scale: Scale) -> Option<(PixelGrid, Reduction)> {
        let refined = Refined::new(&PixelGrid::of(NATIVE, crop, scale).unwrap())?;
        Some((refined.grid, Reduction::new(refined)))
    }

    #[test]
    fn only_reduced_axes_are_filtered() {
        assert!(reduction(None, Scale::Native).is_none());
        assert!(reduction(None, Scale::Factor(3.0)).is_none());
        let size = Size { width: 96, height: 1024 };
        let (fine, reduction) = reduction(None, Scale::Exact(size)).unwrap();
        assert_eq!(fine.size, Size { width: 6 * 96, height: 1024 });
        assert!((0..1024).all(|row| Taps::new(row, &reduction.rows).weights == [1.0]));
        assert_eq!(reduction.fine_rows(3..9), 3..9);
    }

    #[test]
    fn weights_sum_to_one_and_are_centred() {
        for side in [1, 7, 64, 500, 767] {
            let (fine, reduction) = reduction(None, Scale::LongerSide(side)).unwrap();
            let per_pixel = f64::from(fine.size.width) / f64::from(side);
            for (i, taps) in reduction.columns.iter().enumerate() {
                assert!((taps.weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                if (3..side as usize - 3).contains(&i) && side > 6 {
                    let places = taps.weights.iter().zip(taps.first..);
                    let mean: f64 = places.map(|(w, at)| f64::from(*w) * f64::from(at)).sum();
                    assert!((mean + 0.5 - (i as f64 + 0.5) * per_pixel).abs() < 1e-3);
                }
            }
        }
    }

    #[test]
    fn a_crop_takes_what_the_whole_takes() {
        let (whole, of_whole) = reduction(None, Scale::Factor(0.25)).unwrap();
        let crop = Some(Crop { x: 40.0, y: 80.0, width: 200.0, height: 100.0 });
        let (part, of_part) = reduction(crop, Scale::Factor(0.25)).unwrap();
        for i in 0..of_part.size.width {
            let (of_part, of_whole) =
                (&of_part.columns[i as usize], &of_whole.columns[10 + i as usize]);
            assert_eq!(of_part.weights, of_whole.weights);
            assert_eq!(part.u(of_part.first), whole.u(of_whole.first));
        }
    }

    #[test]
    fn few_planes_are_left_out() {
        for (reduction, bases, wanted) in [
            (1.0, bases(0, 0, 0, 7), 0),
            (15.9, bases(0, 0, 0, 7), 0),
            (16.0, bases(0, 0, 0, 7), 1),
            (32.0, bases(0, 0, 0, 7), 2),
            (1e9, bases(0, 0, 0, 7), 2),
            (1e9, bases(0, 0, 0, 2), 1),
            (1e9, bases(0, 0, 0, 1), 0),
            (f64::NAN, bases(0, 0, 0, 7), 0),
            (15.9, bases(2, 8, 2, 5), 0),
            (16.0, bases(2, 8, 2, 5), 2),
            (1e9, bases(2, 8, 1, 5), 3),
            (1e9, bases(2, 8, 2, 5), 2),
        ] {
            assert_eq!(planes_left_out(reduction, bases), wanted, "{reduction} {bases:?}");
        }
    }

    #[test]
    fn alpha_comes_and_goes() {
        let mut samples = [0.5, 0.25, 1.0, 0.5, 0.9, 0.9, 0.9, 0.0];
        premultiply(Channels::Rgba, &mut samples);
        assert_eq!(samples, [0.25, 0.125, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]);
        straighten(Channels::Rgba, &mut samples);
        assert_eq!(samples, [0.5, 0.25, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
    }
}
