//! What is written is read again: integer weights and latents.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use sirenc::coding::compact::{self, QuantizedLayer, Steps};
use sirenc::coding::latents::{Context, IntegerLayer};
use sirenc::coding::payload::{self, Networks, Payload, splines_shape, waves_shape};
use sirenc::container::{BitDepth, Container, Metadata, Representation, WeightCoding};
use sirenc::latents::{Bases, Plane};
use sirenc::{Channels, Siren, Size, Topology};
use sirenc_fuzz::on_this_thread;

fn topology(u: &mut Unstructured, layers: usize) -> Result<Topology> {
    let channels = Channels::from_count(u.int_in_range(1..=4)?).expect("one to four");
    let hidden = (0..layers).map(|_| u.int_in_range(1..=4)).collect::<Result<_>>()?;
    Ok(Topology::new(channels, hidden).expect("small"))
}

fn integers(u: &mut Unstructured, count: usize, bits: u32) -> Result<Vec<i32>> {
    (0..count).map(|_| Ok(i32::from_le_bytes(u.arbitrary()?) >> (32 - bits))).collect()
}

fn steps(u: &mut Unstructured) -> Result<Steps> {
    let mut code = || u.int_in_range(compact::STEP_CODES);
    Ok(Steps { weights: code()?, biases: code()? })
}

fn siren(u: &mut Unstructured) -> Result<()> {
    let layers = u.int_in_range(1..=2)?;
    let topology = topology(u, layers)?;
    let weights: Vec<f32> =
        (0..topology.weight_count()).map(|_| u.arbitrary()).collect::<Result<_>>()?;
    let Ok(siren) = Siren::from_weights(topology.clone(), &weights) else { return Ok(()) };
    let steps: Vec<Steps> = (0..=layers).map(|_| steps(u)).collect::<Result<_>>()?;
    let quantized = compact::Quantized::nearest(&siren, &steps);
    let written = compact::encode(&quantized);
    let read = compact::decode(&topology, &written).expect("what was written is read");
    // Features come back in an order of their own.
    assert_eq!(compact::encode(&read), written);
    let sorted = |quantized: &compact::Quantized| {
        let layers = quantized.layers().iter().flat_map(|layer| &layer.weights);
        let mut weights: Vec<u32> = layers.map(|weight| weight.unsigned_abs()).collect();
        weights.sort_unstable();
        weights
    };
    assert_eq!(sorted(&read), sorted(&quantized));
    Ok(())
}

/// An entropy model, if the format allows what comes out.
fn context(
    u: &mut Unstructured,
    shape: impl Fn([usize; 2]) -> [usize; 4],
) -> Result<Option<Context>> {
    let shape = shape([u.int_in_range(1..=3)?, u.int_in_range(1..=3)?]);
    let [inputs, h1, h2, outputs] = shape;
    let mut layer = |inputs: usize, outputs: usize| -> Result<_> {
        let drop = u.int_in_range(0..=15)?;
        let weights = integers(u, inputs * outputs, 9)?;
        Ok(IntegerLayer::new(drop, weights, integers(u, outputs, 12)?))
    };
    let [Ok(a), Ok(b), Ok(c)] = [layer(inputs, h1)?, layer(h1, h2)?, layer(h2, outputs)?] else {
        return Ok(None);
    };
    Ok(Context::new(shape, [a, b, c]).ok())
}

fn latents(u: &mut Unstructured) -> Result<()> {
    let size = Size { width: u.int_in_range(1..=5)?, height: u.int_in_range(1..=5)? };
    let (waves, cell) = (u.int_in_range(0..=2)?, *u.choose(&[8, 16, 32])?);
    let (finest, levels) = (u.int_in_range(0..=7)?, u.int_in_range(1..=3)?);
    let bases = Bases::new(waves, cell, finest, levels).expect("planes of the format");
    let count = bases.count();
    let topology = topology(u, 1)?;
    let (sines, channels) = (topology.hidden()[0], topology.channels().count());
    let mut layer = |inputs: usize, outputs: usize| -> Result<QuantizedLayer> {
        Ok(QuantizedLayer {
            steps: steps(u)?,
            weights: integers(u, inputs * outputs, 12)?,
            biases: integers(u, outputs, 20)?,
        })
    };
    let (first, output) = (layer(count, sines)?, layer(sines + count, channels)?);
    let Some(splines) = context(u, splines_shape)? else { return Ok(()) };
    let of_waves = if waves > 0 { context(u, waves_shape)? } else { None };
    if of_waves.is_some() != (waves > 0) {
        return Ok(());
    }
    let networks = Networks { sines: first, output, splines, waves: of_waves };
    let mut planes = Vec::new();
    for basis in bases.iter() {
        let mut plane = Plane::new(basis, size);
        for q in plane.values_mut() {
            *q = u.arbitrary::<i16>()?.max(-i16::MAX);
        }
        planes.push(plane);
    }
    let container = Container {
        width: size.width,
        height: size.height,
        depth: BitDepth::Eight,
        omega: None,
        representation: Representation::Latents,
        coding: WeightCoding::Compact,
        metadata: Metadata::default(),
        weights: payload::encode(&planes, &networks),
        topology: topology.clone(),
    };
    assert_eq!(Container::read(&container.write()).as_ref(), Ok(&container));
    let payload = Payload::read(container.weights, size, &topology).expect("what was written");
    assert_eq!(payload.bases(), bases);
    assert_eq!(payload.networks().splines, networks.splines);
    assert_eq!(payload.networks().waves, networks.waves);
    assert_eq!(payload.decode(0, None), Ok(planes));
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    on_this_thread();
    let mut u = Unstructured::new(bytes);
    let _ = match bool::arbitrary(&mut u) {
        Ok(true) => siren(&mut u),
        _ => latents(&mut u),
    };
});
