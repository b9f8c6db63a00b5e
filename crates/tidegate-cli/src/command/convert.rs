//! `tidegate convert`: a checkpoint, or one layer of it, as `.safetensors`.

use anyhow::Result;

use crate::args::ConvertArgs;
use crate::checkpoint::Checkpoint;
use crate::text;

/// Writes the tensors under the names and in the element types that they have.
pub(crate) fn run(args: &ConvertArgs) -> Result<()> {
    let checkpoint = Checkpoint::open(&args.file)?;
    let names: Vec<String> = match &args.layer {
        Some(layer) => checkpoint.choose(Some(layer))?.names(),
        None => checkpoint.tensors().map(String::from).collect(),
    };
    checkpoint.convert(&args.output, |name| names.iter().any(|kept| kept == name))?;
    text::say(&format!("wrote {}: {}", args.output.display(), text::plural(names.len(), "tensor")));
    Ok(())
}
