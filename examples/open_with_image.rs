//! Opens a `.siren` file with the `image` crate and saves a PNG:
//! `cargo run --release --example open_with_image -- samples/coffee.siren coffee.png`

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [input, output] = std::env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: open_with_image IN.siren OUT.png")?;
    sirenc::register();
    image::open(input)?.save(output)?;
    Ok(())
}
