//! `tidegate convert`: a checkpoint, or one layer of it, as `.safetensors`.

use std::collections::HashSet;

use anyhow::Result;

use crate::args::ConvertArgs;
use crate::checkpoint::Checkpoint;
use crate::{io, text};

/// Writes the tensors under the names and in the element types that they have.
pub(crate) fn run(args: &ConvertArgs) -> Result<()> {
    io::check_no_input(&args.output, &[&args.file])?;
    let checkpoint = Checkpoint::open(&args.file)?;
    let names: HashSet<String> = match &args.layer {
        Some(layer) => checkpoint.choose(Some(layer))?.names().into_iter().collect(),
        None => checkpoint.tensors().map(String::from).collect(),
    };
    checkpoint.convert(&args.output, |name| names.contains(name))?;
    text::say(&format!("wrote {}: {}", args.output.display(), text::plural(names.len(), "tensor")));
    Ok(())
}
