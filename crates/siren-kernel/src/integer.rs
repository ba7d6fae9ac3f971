//! Small networks in integers, 16 points at once: exact in f32 as long as every sum stays
//! below 2^24, so that all instruction sets agree.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch};

use super::Matrix;
use super::tile::{self, Epilogue};

/// Points evaluated together.
pub const INTEGER_POINTS: usize = 16;

/// Largest output of a hidden layer.
const LARGEST: f32 = 4095.0;

/// Layers one after the other, with working memory.
pub struct IntegerNetwork {
    layers: Vec<Layer>,
    /// Rows of what enters each layer, and at last of what leaves the network.
    rows: Vec<Vec<f32>>,
}

struct Layer {
    matrix: Matrix,
    /// With half of 2^drop, for the rounding.
    biases: Vec<f32>,
    /// 2^-drop.
    scale: f32,
}

impl IntegerNetwork {
    /// A network without layers and with `inputs` inputs.
    pub fn new(inputs: usize) -> Self {
        Self { layers: Vec::new(), rows: vec![vec![0.0; inputs * INTEGER_POINTS]] }
    }

    /// Appends a layer: `floor((W h + b + floor(2^drop / 2)) / 2^drop)`, which the layers
    /// before the last one clamp to 0 .. 4095.
    pub fn push(&mut self, drop: u32, biases: &[i32], weight: impl Fn(usize, usize) -> i32) {
        let inputs = self.rows[self.layers.len()].len() / INTEGER_POINTS;
        let half = (1 << drop) >> 1;
        let matrix = Matrix::new(biases.len(), inputs, |o, k| weight(o, k) as f32);
        let scale = 1.0 / (1 << drop) as f32;
        let biases: Vec<f32> = biases.iter().map(|&b| (b + half) as f32).collect();
        self.rows.push(vec![0.0; biases.len() * INTEGER_POINTS]);
        self.layers.push(Layer { matrix, biases, scale });
    }

    /// The inputs: a row of [`INTEGER_POINTS`] numbers each.
    pub fn inputs(&mut self) -> &mut [f32] {
        &mut self.rows[0]
    }

    /// The outputs for the inputs, a row of [`INTEGER_POINTS`] integers each.
    pub fn evaluate(&mut self, simd: Level) -> &[f32] {
        dispatch!(simd, simd => evaluate(simd, &self.layers, &mut self.rows));
        &self.rows[self.layers.len()]
    }
}

#[inline(always)]
fn evaluate<S: Simd>(simd: S, layers: &[Layer], rows: &mut [Vec<f32>]) {
    let last = layers.len() - 1;
    for (index, layer) in layers.iter().enumerate() {
        let (before, after) = rows.split_at_mut(index + 1);
        let (h, out) = (&before[index], &mut after[0]);
        if index < last {
            apply(simd, layer, h, out, Clamped(layer.scale));
        } else {
            apply(simd, layer, h, out, Rounded(layer.scale));
        }
    }
}

#[inline(always)]
fn apply<S: Simd>(simd: S, layer: &Layer, h: &[f32], out: &mut [f32], epilogue: impl Epilogue) {
    let packed = layer.matrix.packed(Some(&layer.biases));
    match S::f32s::LEN {
        16 => tile::apply_tiles::<S, 1>(simd, packed, INTEGER_POINTS, h, out, epilogue),
        _ if tile::has_many_registers::<S>() => {
            tile::apply_tiles::<S, 4>(simd, packed, INTEGER_POINTS, h, out, epilogue)
        }
        _ => tile::apply_tiles::<S, 2>(simd, packed, INTEGER_POINTS, h, out, epilogue),
    }
}

/// `floor(a scale)`.
struct Rounded(f32);

impl Epilogue for Rounded {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, _: usize, a: S::f32s) -> S::f32s {
        (a * S::f32s::splat(simd, self.0)).floor()
    }
}

/// The same in 0 .. 4095.
struct Clamped(f32);

impl Epilogue for Clamped {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, _: usize, a: S::f32s) -> S::f32s {
        let constant = |value| S::f32s::splat(simd, value);
        (a * constant(self.0)).floor().max(constant(0.0)).min(constant(LARGEST))
    }
}
