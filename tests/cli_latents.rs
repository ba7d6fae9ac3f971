//! The binary on files of latents, which need no encoder.
#![cfg(feature = "cli")]

mod common;
mod workplace;

use std::fs;
use std::path::Path;

use common::{container, latents_container, planes_container, uniform, waves};
use safetensors::{Dtype, SafeTensors};
use sirenc::container::Container;
use sirenc::latents::{Bases, Basis};
use sirenc::{BitDepth, Channels, Decoder, Samples, Size, View};
use workplace::{Workplace, python_has_numpy};

const SIZE: Size = Size { width: 60, height: 40 };

impl Workplace {
    /// A small file of four levels.
    fn grid(&self, name: &str, channels: Channels) -> Vec<u8> {
        self.planes(name, SIZE, common::splines(4), channels)
    }

    /// A small file of such planes.
    fn planes(&self, name: &str, size: Size, bases: Bases, channels: Channels) -> Vec<u8> {
        let file = planes_container(size, bases, uniform(channels, 1, 9), (6, 5), 130);
        fs::write(self.path(name), file.write()).unwrap();
        file.write()
    }

    /// What `info` says of a file, in text and in JSON.
    fn info(&self, name: &str) -> (String, serde_json::Value) {
        let stdout = |command: &str| {
            let run = self.run(&format!("{command} {name}")).success();
            String::from_utf8(run.get_output().stdout.clone()).unwrap()
        };
        (stdout("info"), serde_json::from_str(&stdout("info --json")).unwrap())
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
fn info_tells_the_planes() {
    let w = Workplace::new();
    let splines = ("entropy models  splines: 6 and 5 hidden features\n", "networks        ");
    let both = "                waves: 6 and 5 hidden features\nnetworks        ";
    let with_waves = ("entropy models  splines: 6 and 5 hidden features\n", both);
    let levels = vec![("level", 0, 60, 40), ("level", 1, 30, 20), ("level", 2, 15, 10)];
    let planes =
        vec![("cell", 16, 64, 48), ("cell", 16, 64, 48), ("level", 2, 15, 10), ("level", 3, 8, 5)];
    for (bases, models, lines, planes) in [
        (
            common::splines(3),
            splines,
            ["planes          level 2: 15x10, ", "                level 0: 60x40, "],
            levels,
        ),
        (
            waves(2, 16, 2, 2),
            with_waves,
            ["planes          level 3: 8x5, ", "                waves of 16: 64x48, "],
            planes,
        ),
    ] {
        let bytes = w.planes("a.siren", SIZE, bases, Channels::Rgb);
        let (text, facts) = w.info("a.siren");
        let usual = ["representation  grid\n", "sines           9\n", models.0, models.1];
        for line in usual.iter().chain(&lines) {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(facts["representation"], "grid");
        assert!(facts["weights"].is_null() && facts["bits_per_weight"].is_null());
        let grids = &facts["grids"];
        let of_waves = (bases.waves() > 0).then_some([6, 5]);
        let hidden = serde_json::json!({ "splines": [6, 5], "waves": of_waves });
        assert_eq!(grids["entropy_model_hidden_features"], hidden);
        let found = grids["planes"].as_array().unwrap();
        assert_eq!(found.len(), planes.len());
        for (found, (kind, number, width, height)) in found.iter().zip(planes) {
            let bytes = &found["bytes"];
            let wanted = serde_json::json!({
                kind: number, "width": width, "height": height, "bytes": bytes
            });
            assert_eq!(*found, wanted);
        }
        let count = |value: &serde_json::Value| value.as_u64().unwrap();
        let parts = count(&grids["table_bytes"]) + count(&grids["network_bytes"]);
        let latents: u64 = found.iter().map(|plane| count(&plane["bytes"])).sum();
        let payload = Container::read(&bytes).unwrap().weights.len() as u64;
        assert_eq!(parts + latents, payload);
    }
}

#[test]
fn previews_show_the_coarsest_planes() {
    let w = Workplace::new();
    let bytes = w.planes("a.siren", SIZE, waves(1, 8, 1, 3), Channels::Rgb);
    let decoder = Decoder::new(&bytes).unwrap();
    for planes in 1..=4 {
        w.run(&format!("decode a.siren --planes {planes} -o a.png")).success().stderr("");
        let options = View::native().planes(planes);
        let raster = decoder.render(&options).unwrap();
        assert_eq!(Samples::U8(rgb(&w.path("a.png")).into_raw()), *raster.samples());
    }
    w.run("decode a.siren -o all.png").success();
    let pictures = ["a.png", "all.png"].map(|name| fs::read(w.path(name)).unwrap());
    assert_eq!(pictures[0], pictures[1]);
    w.run("decode a.siren --planes 9 -o b.png").success();
    w.run("decode a.siren --planes 0 -o c.png").code(2);
    w.run("decode a.siren --derivative laplacian --crop 3,4,5.5,6 --scale 7 -o c.png").success();
    let siren = container(60, 40, uniform(Channels::Rgb, 3, 9), 5);
    fs::write(w.path("b.siren"), siren.write()).unwrap();
    w.fails("decode b.siren --planes 2 -o d.png", "b.siren is one SIREN and has no planes");
    w.run("decode b.siren --allow-truncated -o d.png").success().stderr("");
}

#[test]
fn a_cut_file_is_rendered_when_asked_for() {
    let w = Workplace::new();
    let bytes = w.grid("a.siren", Channels::Rgb);
    let sizes = Decoder::new(&bytes).unwrap().payload().unwrap().sizes();
    // All but the finest plane, which is cut by one byte.
    fs::write(w.path("cut.siren"), &bytes[..bytes.len() - 5]).unwrap();
    w.fails("decode cut.siren -o cut.png", "truncated: the file ends at byte");
    w.fails("info cut.siren", "truncated");
    w.run("decode cut.siren --allow-truncated -o cut.png")
        .success()
        .stderr("cut.siren is cut short: 3 of 4 planes have arrived\n");
    w.run("decode a.siren --planes 3 -o three.png").success();
    let pictures = ["cut.png", "three.png"].map(|name| fs::read(w.path(name)).unwrap());
    assert_eq!(pictures[0], pictures[1]);
    let latents: usize = sizes.planes.iter().sum();
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
    // The last bytes belong to the finest plane.
    *file.weights.last_mut().unwrap() = 0;
    fs::write(w.path("bad.siren"), file.write()).unwrap();
    w.run("info bad.siren").success();
    let message = "malformed latents of plane 0, tile 0: a trailing zero";
    for command in [
        "decode bad.siren -o bad.png",
        "sample bad.siren 1 2",
        "export bad.siren -o bad.py",
        "export bad.siren -o bad.glsl",
    ] {
        w.fails(command, message);
    }
    w.run("decode bad.siren --planes 3 -o good.png").success();
    w.run("decode bad.siren --size 3 -o small.png").success();
    assert_eq!(w.names(), ["bad.siren", "good.png", "small.png"]);
}

#[test]
fn exports_hold_the_function() {
    let w = Workplace::new();
    let narrow = Size { width: 8, height: 40 };
    // At its own size, enlarged, reduced.
    let usual = [("60", "60x40"), ("90", "90x60"), ("13", "13x9")];
    let of_narrow = [("8", "8x40"), ("12", "12x60"), ("3", "3x15")];
    for (size, bases, channels, renders) in [
        (SIZE, common::splines(4), Channels::Grey, usual),
        (SIZE, common::splines(4), Channels::Rgba, usual),
        (SIZE, waves(2, 8, 1, 3), Channels::GreyAlpha, usual),
        (SIZE, waves(1, 16, 0, 2), Channels::Rgb, usual),
        // A single cell from left to right.
        (narrow, waves(1, 32, 2, 1), Channels::Rgb, of_narrow),
    ] {
        let decoder = Decoder::new(&w.planes("a.siren", size, bases, channels)).unwrap();
        w.run("export a.siren -o a.safetensors").success();
        tensors_hold(&decoder, &fs::read(w.path("a.safetensors")).unwrap());
        w.run("export a.siren -o a.py").success();
        if python_has_numpy() {
            for (width, size) in renders {
                w.python("py.pnm", width);
                w.run(&format!("decode a.siren --size {size} --sampling point -o a.png")).success();
                w.alike("a.png", "py.pnm");
            }
        }
    }
}

/// What was exported of a file is all that there is.
fn tensors_hold(decoder: &Decoder, exported: &[u8]) {
    let tensors = SafeTensors::deserialize(exported).unwrap();
    let function = decoder.latents().unwrap().unwrap();
    let mut count = 0;
    let mut tensor = |name: &str| {
        count += 1;
        tensors.tensor(name).unwrap()
    };
    for (index, plane) in function.planes().iter().enumerate() {
        let found = tensor(&match plane.basis() {
            Basis::Splines { level } => format!("splines.{level}"),
            Basis::Waves { .. } => format!("waves.{index}"),
        });
        assert_eq!(found.dtype(), Dtype::I16);
        assert_eq!(found.shape(), [plane.height(), plane.width()]);
        let expected: Vec<u8> = plane.values().iter().flat_map(|q| q.to_le_bytes()).collect();
        assert_eq!(found.data(), expected);
    }
    for (name, layer) in [("sines", function.sines()), ("output", function.output())] {
        let weight = tensor(&format!("{name}.weight"));
        assert_eq!(weight.shape(), [layer.outputs, layer.inputs]);
        let expected: Vec<u8> = layer.weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(weight.data(), expected);
        tensor(&format!("{name}.bias"));
    }
    let networks = decoder.payload().unwrap().networks();
    let models = [("splines", Some(&networks.splines)), ("waves", networks.waves.as_ref())];
    for (kind, model) in models {
        for (index, layer) in model.into_iter().flat_map(|m| m.layers().iter().enumerate()) {
            let mut tensor = |part| tensor(&format!("entropy.{kind}.{index}.{part}"));
            let expected: Vec<u8> = layer.weights().iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!(tensor("weight").data(), expected);
            assert_eq!(tensor("drop").data(), (layer.drop() as i32).to_le_bytes());
            tensor("bias");
        }
    }
    assert_eq!(count, tensors.len());
    let (_, facts) = SafeTensors::read_metadata(exported).unwrap();
    let cell = facts.metadata().as_ref().unwrap().get("cell").map(|cell| cell.parse().unwrap());
    assert_eq!(cell.unwrap_or(0), decoder.payload().unwrap().bases().cell());
}

#[test]
fn textures_hold_the_latents() {
    let w = Workplace::new();
    let levels = [(0, 0), (0, 40), (30, 40), (45, 40)];
    let planes = [(0, 0), (0, 40), (0, 80), (30, 80)];
    for (bases, places, size) in
        [(common::splines(4), levels, (60, 60)), (waves(2, 8, 1, 2), planes, (64, 100))]
    {
        let bytes = w.planes("a.siren", SIZE, bases, Channels::Rgb);
        w.run("export a.siren -o a.glsl --force").success();
        let shader = fs::read_to_string(w.path("a.glsl")).unwrap();
        assert!(shader.starts_with("#version 300 es\n") && shader.contains("a.latents.png"));
        assert_eq!(shader.contains("add_waves(position, f);"), bases.waves() > 0);
        let atlas = rgb(&w.path("a.latents.png"));
        assert_eq!(atlas.dimensions(), size);
        let function = Decoder::new(&bytes).unwrap().latents().unwrap().unwrap();
        for (plane, (left, top)) in function.planes().iter().zip(places) {
            for (at, &q) in plane.values().iter().enumerate() {
                let (x, y) = (at % plane.width(), at / plane.width());
                let [r, g, _] = atlas.get_pixel(left + x as u32, top + y as u32).0;
                assert_eq!(i32::from(r) + 256 * i32::from(g) - 32_768, i32::from(q));
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
