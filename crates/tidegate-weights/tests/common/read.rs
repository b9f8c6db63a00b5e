//! Asks for everything that is in a file.

use std::error::Error as _;

use tidegate_weights::{Checkpoint, Error};

/// Reads a file and everything in it; the first error, whose message must be one short line.
pub(crate) fn read_all(file: &[u8]) -> Result<(), Error> {
    let checked = |error: Error| {
        let message = told(&error);
        assert!(!message.contains(['\n', '\r', '\x1b', '\0']), "{message:?}");
        assert!(message.chars().count() < 1500, "{message}");
        error
    };
    let read = || {
        let checkpoint = Checkpoint::from_bytes(file)?;
        let mut first = Ok(());
        for name in checkpoint.names() {
            assert!(checkpoint.shape(name).is_some() && checkpoint.dtype(name).is_some());
            first = first.and(checkpoint.tensor::<f32>(name).map(drop).map_err(checked));
        }
        for (prefix, layer) in checkpoint.discover_each() {
            let layer = layer.and_then(|layer| checkpoint.load::<f32>(&layer).map(drop));
            first = first.and(layer.map_err(checked));
            first = first.and(checkpoint.layer(Some(&prefix)).map(drop).map_err(checked));
        }
        // Which layer, where there are several, is no fault of the file.
        let _ = checkpoint.layer(None).map_err(checked);
        let written = checkpoint.write_safetensors(std::io::sink(), |_| true);
        first.and(written.map_err(checked))
    };
    read().map_err(checked)
}

/// What an error and its cause say, as programs print them.
pub(crate) fn told(error: &Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
