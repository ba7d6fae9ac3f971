//! Writes the networks of a file of latents as the encoder starts from them
//! (`src/train/grid/start/`): `start_networks IN.siren OUT.bin`.

use std::error::Error;

use sirenc::Decoder;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, input, output] = arguments.as_slice() else {
        return Err("usage: start_networks IN.siren OUT.bin".into());
    };
    let decoder = Decoder::new(&std::fs::read(input)?)?;
    let payload = decoder.payload().ok_or("one SIREN has no such networks")?;
    std::fs::write(output, payload.networks().encode())?;
    Ok(())
}
