//! The binary on files of latents, which need no encoder.
#![cfg(feature = "cli")]

mod common;
mod workplace;

use std::fs;
use std::path::Path;

use common::{container, latents_container, uniform};
use sirenc::container::Container;
use sirenc::{BitDepth, Channels, Decoder, Samples, Size, View};
use workplace::{Workplace, python_has_numpy};

const SIZE: Size = Size { width: 60, height: 40 };

impl Workplace {
    /// A small file of four levels.
    fn grid(&self, name: &str, channels: Channels) -> Vec<u8> {
        let bytes = latents_container(SIZE, 4, uniform(channels, 1, 9), (6, 5), 130).write();
        fs::write(self.path(name), &bytes).unwrap();
        bytes
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn rgb(path: &Path) -> image::RgbImage {
    image::open(path).unwrap().into_rgb8()
}

#[test]
fn info_tells_the_levels() {
    let w = Workplace::new();
    let bytes = w.grid("a.siren", Channels::Rgb);
    let run = w.run("info a.siren").success();
    let text = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    for line in [
        "representation  grid\n",
        "sines           9\n",
        "entropy model   6 and 5 hidden features\n",
        "levels          3: 8x5, ",
        "                0: 60x40, ",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let run = w.run("info a.siren --json").success();
    let facts: serde_json::Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    assert_eq!(facts["representation"], "grid");
    assert!(facts["weights"].is_null() && facts["bits_per_weight"].is_null());
    let grids = &facts["grids"];
    assert_eq!(grids["entropy_model_hidden_features"], serde_json::json!([6, 5]));
    let levels = grids["levels"].as_array().unwrap();
    let sizes = [(60, 40), (30, 20), (15, 10), (8, 5)];
    for (number, (level, size)) in levels.iter().zip(sizes).enumerate() {
        assert_eq!(level["level"], number);
        assert_eq!((&level["width"], &level["height"]), (&size.0.into(), &size.1.into()));
    }
    let count = |value: &serde_json::Value| value.as_u64().unwrap();
    let parts = count(&grids["table_bytes"]) + count(&grids["network_bytes"]);
    let latents: u64 = levels.iter().map(|level| count(&level["bytes"])).sum();
    let payload = Container::read(&bytes).unwrap().weights.len() as u64;
    assert_eq!(parts + latents, payload);
}

#[test]
fn previews_show_the_coarsest_levels() {
    let w = Workplace::new();
    let bytes = w.grid("a.siren", Channels::Rgb);
    let decoder = Decoder::new(&bytes).unwrap();
    for levels in 1..=4 {
        w.run(&format!("decode a.siren --levels {levels} -o a.png")).success().stderr("");
        let options = View::native().levels(levels);
        let raster = decoder.render(&options).unwrap();
        assert_eq!(Samples::U8(rgb(&w.path("a.png")).into_raw()), *raster.samples());
    }
    w.run("decode a.siren -o all.png").success();
    let pictures = ["a.png", "all.png"].map(|name| fs::read(w.path(name)).unwrap());
    assert_eq!(pictures[0], pictures[1]);
    w.run("decode a.siren --levels 9 -o b.png").success();
    w.run("decode a.siren --levels 0 -o c.png").code(2);
    w.run("decode a.siren --derivative laplacian --crop 3,4,5.5,6 --scale 7 -o c.png").success();
    let siren = container(60, 40, uniform(Channels::Rgb, 3, 9), 5);
    fs::write(w.path("b.siren"), siren.write()).unwrap();
    w.fails("decode b.siren --levels 2 -o d.png", "b.siren is one SIREN and has no levels");
    w.run("decode b.siren --allow-truncated -o d.png").success().stderr("");
}

#[test]
fn a_cut_file_is_rendered_when_asked_for() {
    let w = Workplace::new();
    let bytes = w.grid("a.siren", Channels::Rgb);
    let sizes = Decoder::new(&bytes).unwrap().payload().unwrap().sizes();
    // All but the finest level, which is cut by one byte.
    fs::write(w.path("cut.siren"), &bytes[..bytes.len() - 5]).unwrap();
    w.fails("decode cut.siren -o cut.png", "truncated: the file ends at byte");
    w.fails("info cut.siren", "truncated");
    w.run("decode cut.siren --allow-truncated -o cut.png")
        .success()
        .stderr("cut.siren is cut short: 3 of 4 levels have arrived\n");
    w.run("decode a.siren --levels 3 -o three.png").success();
    let pictures = ["cut.png", "three.png"].map(|name| fs::read(w.path(name)).unwrap());
    assert_eq!(pictures[0], pictures[1]);
    let latents: usize = sizes.levels.iter().sum();
    fs::write(w.path("none.siren"), &bytes[..bytes.len() - 4 - latents]).unwrap();
    w.fails("decode none.siren --allow-truncated -o none.png", "truncated");
    assert!(!w.path("none.png").exists());
    w.run("decode a.siren --allow-truncated -o whole.png").success().stderr("");
}

#[test]
fn samples_are_printed() {
    let w = Workplace::new();
    let bytes = w.grid("a.siren", Channels::GreyAlpha);
    let run = w.run("sample a.siren 1.2 30.5 --json").success();
    let facts: serde_json::Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    let jets = Decoder::new(&bytes).unwrap().sample(1.2, 30.5).unwrap();
    assert_eq!(facts["channels"].as_array().unwrap().len(), 2);
    for (channel, jet) in facts["channels"].as_array().unwrap().iter().zip(&jets) {
        let near = |value: &serde_json::Value, b: f64| (value.as_f64().unwrap() - b).abs() < 1e-12;
        assert!(near(&channel["value"], jet.value) && near(&channel["gradient"][1], jet.dy));
    }
}

#[test]
fn damaged_latents_get_one_clear_line() {
    let w = Workplace::new();
    let mut file = latents_container(SIZE, 4, uniform(Channels::Rgb, 1, 9), (6, 5), 130);
    // The last bytes belong to the finest level.
    *file.weights.last_mut().unwrap() = 0;
    fs::write(w.path("bad.siren"), file.write()).unwrap();
    w.run("info bad.siren").success();
    let message = "malformed latents of level 0, tile 0: a trailing zero";
    for command in [
        "decode bad.siren -o bad.png",
        "sample bad.siren 1 2",
        "export bad.siren -o bad.py",
        "export bad.siren -o bad.glsl",
    ] {
        w.fails(command, message);
    }
    w.run("decode bad.siren --levels 3 -o good.png").success();
    w.run("decode bad.siren --size 3 -o small.png").success();
    assert_eq!(w.names(), ["bad.siren", "good.png", "small.png"]);
}

#[test]
fn exports_hold_the_function() {
    let w = Workplace::new();
    for channels in [Channels::Grey, Channels::GreyAlpha, Channels::Rgb, Channels::Rgba] {
        let bytes = w.grid("a.siren", channels);
        let decoder = Decoder::new(&bytes).unwrap();
        let grids = decoder.latents().unwrap().unwrap();
        w.run("export a.siren -o a.safetensors").success();
        let bytes = fs::read(w.path("a.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (level, plane) in grids.planes().iter().enumerate() {
            let tensor = tensors.tensor(&format!("levels.{level}")).unwrap();
            assert_eq!(tensor.dtype(), safetensors::Dtype::I16);
            assert_eq!(tensor.shape(), [plane.height(), plane.width()]);
            let expected: Vec<u8> = plane.values().iter().flat_map(|q| q.to_le_bytes()).collect();
            assert_eq!(tensor.data(), expected);
        }
        for (name, layer) in [("sines", grids.sines()), ("output", grids.output())] {
            let weight = tensors.tensor(&format!("{name}.weight")).unwrap();
            assert_eq!(weight.shape(), [layer.outputs, layer.inputs]);
            let expected: Vec<u8> = layer.weights.iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!(weight.data(), expected);
        }
        let context = &decoder.payload().unwrap().networks().context;
        for (index, layer) in context.layers().iter().enumerate() {
            let tensor = |part| tensors.tensor(&format!("entropy.{index}.{part}")).unwrap();
            let expected: Vec<u8> = layer.weights().iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!(tensor("weight").data(), expected);
            assert_eq!(tensor("drop").data(), (layer.drop() as i32).to_le_bytes());
        }

        w.run("export a.siren -o a.glsl --force").success();
        let shader = fs::read_to_string(w.path("a.glsl")).unwrap();
        assert!(shader.starts_with("#version 300 es\n") && shader.contains("a.latents.png"));
        let atlas = rgb(&w.path("a.latents.png"));
        assert_eq!(atlas.dimensions(), (60, 60));
        for (plane, (left, top)) in grids.planes().iter().zip([(0, 0), (0, 40), (30, 40), (45, 40)])
        {
            for (at, &q) in plane.values().iter().enumerate() {
                let (x, y) = (at % plane.width(), at / plane.width());
                let [r, g, _] = atlas.get_pixel(left + x as u32, top + y as u32).0;
                assert_eq!(i32::from(r) + 256 * i32::from(g) - 32_768, i32::from(q));
            }
        }

        w.run("export a.siren -o a.py").success();
        if python_has_numpy() {
            // At its own size, enlarged, reduced.
            for (width, size) in [("60", "60x40"), ("90", "90x60"), ("13", "13x9")] {
                w.python("py.pnm", width);
                w.run(&format!("decode a.siren --size {size} --sampling point -o a.png")).success();
                w.alike("a.png", "py.pnm");
            }
        }
    }
}

#[test]
fn shaders_and_their_textures_come_together() {
    let w = Workplace::new();
    w.grid("a.siren", Channels::Rgb);
    w.fails("export a.siren --format glsl -o -", "the shader needs a texture beside it");
    fs::write(w.path("a.latents.png"), "precious").unwrap();
    w.fails("export a.siren --format glsl", "a.latents.png exists");
    assert_eq!(w.names(), ["a.latents.png", "a.siren"]);
    assert_eq!(fs::read(w.path("a.latents.png")).unwrap(), b"precious");
    w.run("export a.siren --format glsl --force").success();
    fs::create_dir(w.path("b.glsl")).unwrap();
    // Into the directory, under its own name.
    w.run("export a.siren --format glsl -o b.glsl").success();
    assert!(w.path("b.glsl/a.latents.png").exists() && w.path("b.glsl/a.glsl").exists());
    // A shader that cannot be put in its place.
    let w = Workplace::new();
    w.grid("a.siren", Channels::Rgb);
    fs::create_dir(w.path("a.glsl")).unwrap();
    w.fails("export a.siren --format glsl --force", "cannot write a.glsl");
    assert_eq!(w.names(), ["a.glsl", "a.siren"]);
}

#[test]
fn sixteen_bits_are_kept() {
    let w = Workplace::new();
    let file = latents_container(SIZE, 3, uniform(Channels::Grey, 1, 9), (6, 5), 131);
    let file = Container { depth: BitDepth::Sixteen, ..file };
    fs::write(w.path("a.siren"), file.write()).unwrap();
    w.run("decode a.siren -o a.png").success();
    let picture = image::open(w.path("a.png")).unwrap();
    assert_eq!(picture.color(), image::ColorType::L16);
    let raster = Decoder::new(&file.write()).unwrap().render(&View::native()).unwrap();
    assert_eq!(Samples::U16(picture.into_luma16().into_raw()), *raster.samples());
}
