//! Pixels and the plane: sizes, crops and the coordinates of pixel centres (spec section 7).
//! Pure arithmetic in f64; evaluates nothing.

use crate::error::DecodeError;

/// Width and height in pixels, both at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

impl Size {
    /// Number of pixels.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// The longer side.
    pub fn longer_side(self) -> u32 {
        self.width.max(self.height)
    }
}

/// A rectangle in native pixels; bounds may be fractional. Pixel `i` covers `[i, i + 1)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width, greater than 0.
    pub width: f64,
    /// Height, greater than 0.
    pub height: f64,
}

/// How large a view is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Scale {
    /// One output pixel per native pixel.
    #[default]
    Native,
    /// So many output pixels per native pixel, on the grid of the whole picture at that
    /// scale: a crop shows the same samples as the whole render does there.
    Factor(f64),
    /// The longer side of the output; the other follows the aspect ratio.
    LongerSide(u32),
    /// Exactly this size; the view is stretched where the aspect ratio differs.
    Exact(Size),
}

/// The pixel centres of a render along both axes of the plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelGrid {
    /// Size of the render.
    pub size: Size,
    x: Axis,
    y: Axis,
}

/// Pixel centres along one axis: output pixel `i` stands at
/// `((2 (origin + i) + 1 - total) * native) / (total * longer)`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    /// First output pixel, counted in output pixels from the edge of the picture.
    origin: f64,
    /// Output pixels that the whole picture would take along this axis.
    total: f64,
    /// Native pixels along this axis.
    native: f64,
    /// The longer native side.
    longer: f64,
}

impl Axis {
    fn at(&self, i: u32) -> f64 {
        // Products of moderate integers are exact, so the one division decides the
        // rounding: equal places have equal coordinates in every crop and render.
        let place = 2.0 * (self.origin + f64::from(i)) + 1.0 - self.total;
        place * self.native / (self.total * self.longer)
    }

    /// See [`PixelGrid::refined`]; the axis has `pixels` pixels.
    fn refined(&self, pixels: u32, points: u32, margin: u32) -> (Self, Lattice) {
        let n = f64::from(points);
        let (origin, total) = (self.origin * n, self.total * n);
        let margin = f64::from(margin) * n;
        let lead = margin.min(origin.floor());
        let after = margin.min((total - origin - f64::from(pixels) * n).floor().max(0.0));
        let count = pixels * points + lead as u32 + after as u32;
        let axis = Self { origin: origin - lead, total, ..*self };
        (axis, Lattice { points, count, lead: lead as u32 })
    }

    /// The same in native pixels: `((2 (origin + i) + 1) * native) / (2 total)`.
    fn position(&self, i: u32) -> f64 {
        (2.0 * (self.origin + f64::from(i)) + 1.0) * self.native / (2.0 * self.total)
    }
}

/// How an axis of a refined grid lies to the one that it refines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lattice {
    /// Points in place of a pixel.
    pub points: u32,
    /// Points in all.
    pub count: u32,
    /// Points before those of the first pixel.
    pub lead: u32,
}

impl PixelGrid {
    /// The pixel centres of a part of a picture of `native` size at a scale, as [`PixelGrid::new`] has them.
    pub(crate) fn of(native: Size, crop: Option<Crop>, scale: Scale) -> Result<Self, DecodeError> {
        let (w, h) = (f64::from(native.width), f64::from(native.height));
        let crop = crop.unwrap_or(Crop { x: 0.0, y: 0.0, width: w, height: h });
        let inside = crop.x >= 0.0
            && crop.y >= 0.0
            && crop.width > 0.0
            && crop.height > 0.0
            && crop.x + crop.width <= w
            && crop.y + crop.height <= h;
        if !inside {
            return Err(DecodeError::InvalidView(
                "the crop must be a rectangle of positive size inside the picture",
            ));
        }
        match scale {
            Scale::Native => Self::scaled(native, crop, 1.0),
            Scale::Factor(factor) if factor > 0.0 && factor.is_finite() => {
                Self::scaled(native, crop, factor)
            }
            Scale::Factor(_) => Err(DecodeError::InvalidView("the scale must be a number above 0")),
            Scale::LongerSide(side) => {
                let side = pixel_count_exact(side)?;
                let ratio = f64::from(side) / crop.width.max(crop.height);
                let width =
                    if crop.width >= crop.height { side } else { pixel_count(crop.width * ratio)? };
                let height = if crop.height >= crop.width {
                    side
                } else {
                    pixel_count(crop.height * ratio)?
                };
                Self::sized(native, crop, Size { width, height })
            }
            Scale::Exact(size) => {
                pixel_count_exact(size.width)?;
                pixel_count_exact(size.height)?;
                Self::sized(native, crop, size)
            }
        }
    }

    /// A crop in so many pixels.
    fn sized(native: Size, crop: Crop, size: Size) -> Result<Self, DecodeError> {
        let longer = f64::from(native.longer_side());
        let axis = |pixels: u32, start: f64, length: f64, native: u32| {
            let (pixels, native) = (f64::from(pixels), f64::from(native));
            let scale = pixels / length;
            // Exact where the crop is the whole axis.
            let (origin, total) =
                if length == native { (0.0, pixels) } else { (start * scale, native * scale) };
            Axis { origin, total, native, longer }
        };
        let x = axis(size.width, crop.x, crop.width, native.width);
        let y = axis(size.height, crop.y, crop.height, native.height);
        if x.total > MOST_TOTAL || y.total > MOST_TOTAL {
            return Err(DecodeError::InvalidView("the crop is too small for so many pixels"));
        }
        Ok(Self { size, x, y })
    }

    /// A crop of the picture that is scaled by `factor` to whole pixels.
    fn scaled(native: Size, crop: Crop, factor: f64) -> Result<Self, DecodeError> {
        let longer = f64::from(native.longer_side());
        let axis = |start: f64, length: f64, native: u32| {
            let native = f64::from(native);
            let total = pixel_count(native * factor)?;
            let count = pixel_count(length * f64::from(total) / native)?;
            let total = f64::from(total);
            Ok((count, Axis { origin: start * total / native, total, native, longer }))
        };
        let (width, x) = axis(crop.x, crop.width, native.width)?;
        let (height, y) = axis(crop.y, crop.height, native.height)?;
        Ok(Self { size: Size { width, height }, x, y })
    }

    /// x coordinate of the pixel centres of column `column`.
    pub fn x(&self, column: u32) -> f64 {
        self.x.at(column)
    }

    /// y coordinate of the pixel centres of row `row`.
    pub fn y(&self, row: u32) -> f64 {
        self.y.at(row)
    }

    /// Native pixel position, from the left edge, of the pixel centres of column `column`.
    pub fn u(&self, column: u32) -> f64 {
        self.x.position(column)
    }

    /// Native pixel position, from the top edge, of the pixel centres of row `row`.
    pub fn v(&self, row: u32) -> f64 {
        self.y.position(row)
    }

    /// Native pixels for one of the whole picture's output pixels, along each axis.
    pub fn reductions(&self) -> [f64; 2] {
        [self.x, self.y].map(|axis| axis.native / axis.total)
    }

    /// The same along the axis where they are fewer.
    pub fn reduction(&self) -> f64 {
        let [x, y] = self.reductions();
        x.min(y)
    }

    /// The grid with `points` in place of each pixel along both axes, and with those that lie up
    /// to `margin` pixels beyond it, as far as they are inside the picture.
    pub(crate) fn refined(&self, points: [u32; 2], margin: [u32; 2]) -> (Self, [Lattice; 2]) {
        let (x, columns) = self.x.refined(self.size.width, points[0], margin[0]);
        let (y, rows) = self.y.refined(self.size.height, points[1], margin[1]);
        let size = Size { width: columns.count, height: rows.count };
        (Self { size, x, y }, [columns, rows])
    }

    /// Centre of pixel `index`, counted row by row, in the precision of the evaluator.
    pub fn centre(&self, index: u64) -> (f32, f32) {
        let width = u64::from(self.size.width);
        (self.x((index % width) as u32) as f32, self.y((index / width) as u32) as f32)
    }
}

/// The point of the plane at native pixel position (`u`, `v`); the centre of the first
/// pixel is (0.5, 0.5).
pub fn plane_point(native: Size, u: f64, v: f64) -> (f64, f64) {
    let longer = f64::from(native.longer_side());
    let x = (2.0 * u - f64::from(native.width)) / longer;
    let y = (2.0 * v - f64::from(native.height)) / longer;
    (x, y)
}

/// Beyond so many output pixels for the whole picture, places are no longer numbers.
const MOST_TOTAL: f64 = 1e100;
const TOO_LARGE: DecodeError = DecodeError::InvalidView("no side may exceed 2^31 - 1 pixels");

/// The nearest whole number of pixels, at least 1.
fn pixel_count(pixels: f64) -> Result<u32, DecodeError> {
    let rounded = pixels.round().max(1.0);
    if rounded < 2f64.powi(31) { Ok(rounded as u32) } else { Err(TOO_LARGE) }
}

fn pixel_count_exact(pixels: u32) -> Result<u32, DecodeError> {
    match pixels {
        0 => Err(DecodeError::InvalidView("no side may be 0 pixels")),
        1..=0x7fff_ffff => Ok(pixels),
        _ => Err(TOO_LARGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: Size = Size { width: 768, height: 512 };

    #[test]
    fn native_centres_are_the_formula_of_the_spec() {
        let grid = PixelGrid::of(NATIVE, None, Scale::Native).unwrap();
        assert_eq!(grid.size, NATIVE);
        for i in [0, 1, 300, 511] {
            assert_eq!(grid.x(i), (2.0 * f64::from(i) + 1.0 - 768.0) / 768.0);
            assert_eq!(grid.y(i), (2.0 * f64::from(i) + 1.0 - 512.0) / 768.0);
        }
    }

    #[test]
    fn positions_are_the_places_of_the_plane() {
        let crop = Some(Crop { x: 100.25, y: 30.0, width: 300.0, height: 200.5 });
        for (crop, scale, reduction) in [
            (None, Scale::Native, 1.0),
            (None, Scale::Exact(Size { width: 256, height: 256 }), 2.0),
            (None, Scale::Exact(Size { width: 16, height: 1024 }), 0.5),
            (crop, Scale::Native, 1.0),
            (crop, Scale::Factor(0.25), 4.0),
        ] {
            let grid = PixelGrid::of(NATIVE, crop, scale).unwrap();
            assert_eq!(grid.reduction(), reduction);
            let (column, row) = (grid.size.width - 1, grid.size.height / 2);
            let (x, y) = plane_point(NATIVE, grid.u(column), grid.v(row));
            assert!((x - grid.x(column)).abs() < 1e-12 && (y - grid.y(row)).abs() < 1e-12);
        }
        let native = PixelGrid::of(NATIVE, None, Scale::Native).unwrap();
        assert_eq!((native.u(7), native.v(500)), (7.5, 500.5));
    }

    #[test]
    fn a_crop_stands_on_the_grid_of_the_whole() {
        for scale in [Scale::Native, Scale::Factor(2.0), Scale::Factor(0.37), Scale::Factor(3.3)] {
            let whole = PixelGrid::of(NATIVE, None, scale).unwrap();
            // The left edge of output pixel 77 in native pixels.
            let edge = 77.0 * 768.0 / f64::from(whole.size.width);
            let crop = Some(Crop { x: edge, y: 0.0, width: 100.0, height: 512.0 });
            let part = PixelGrid::of(NATIVE, crop, scale).unwrap();
            for i in 0..part.size.width {
                let difference = part.x(i) - whole.x(77 + i);
                assert!(difference.abs() < 1e-15, "{scale:?} {i} {difference}");
                assert!((part.u(i) - whole.u(77 + i)).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn sizes_follow_the_aspect_ratio() {
        let size = |scale| PixelGrid::of(NATIVE, None, scale).unwrap().size;
        assert_eq!(size(Scale::LongerSide(2048)), Size { width: 2048, height: 1365 });
        assert_eq!(size(Scale::LongerSide(1)), Size { width: 1, height: 1 });
        assert_eq!(size(Scale::Factor(1e-9)), Size { width: 1, height: 1 });
        assert_eq!(size(Scale::Factor(0.5)), Size { width: 384, height: 256 });
    }

    #[test]
    fn impossible_views_are_errors() {
        let grid = |crop, scale| PixelGrid::of(NATIVE, crop, scale);
        let crop = |x, y, width, height| Some(Crop { x, y, width, height });
        for bad in [
            crop(0.0, 0.0, 0.0, 1.0),
            crop(-1.0, 0.0, 10.0, 10.0),
            crop(0.0, 0.0, 769.0, 10.0),
            crop(f64::NAN, 0.0, 1.0, 1.0),
            crop(0.0, f64::INFINITY, 1.0, 1.0),
        ] {
            assert!(grid(bad, Scale::Native).is_err(), "{bad:?}");
        }
        for bad in [
            Scale::Factor(0.0),
            Scale::Factor(-1.0),
            Scale::Factor(f64::NAN),
            Scale::Factor(1e30),
            Scale::LongerSide(0),
            Scale::LongerSide(u32::MAX),
            Scale::Exact(Size { width: 0, height: 3 }),
        ] {
            assert!(grid(None, bad).is_err(), "{bad:?}");
        }
        // Not finite where the size is stretched over it.
        let dot = crop(0.0, 0.0, 1e-320, 1e-320);
        for bad in [Scale::LongerSide(5), Scale::Exact(Size { width: 5, height: 5 })] {
            assert!(grid(dot, bad).is_err(), "{bad:?}");
        }
        assert!(grid(dot, Scale::Native).is_ok());
    }
}
