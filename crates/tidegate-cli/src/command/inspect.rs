//! `tidegate inspect`: the recurrent layers of a checkpoint.

use std::collections::HashSet;

use anyhow::Result;
use serde::Serialize;
use tidegate_weights::Layer;

use crate::args::InspectArgs;
use crate::checkpoint::{self, Checkpoint};
use crate::{io, text};

/// Prints the layers as aligned lines, or as JSON; fails where there is none, or one that is
/// broken.
pub(crate) fn run(args: &InspectArgs) -> Result<()> {
    let checkpoint = Checkpoint::open(&args.file)?;
    let (layers, errors) = checkpoint.layers();
    if layers.is_empty() && errors.is_empty() {
        checkpoint.choose(None).map(drop)?;
    }
    if args.json {
        let objects: Vec<_> = layers.iter().map(object).collect();
        io::print(&(serde_json::to_string_pretty(&objects)? + "\n"))?;
    } else {
        io::print(&listing(&checkpoint, &layers))?;
    }
    errors.into_iter().next().map_or(Ok(()), Err)
}

fn listing(checkpoint: &Checkpoint, layers: &[Layer]) -> String {
    let row = |layer: &Layer| {
        [
            checkpoint::name(layer),
            layer.to_string(),
            text::plural(layer.parameters, "parameter"),
            text::plural(layer.bytes as usize, "byte"),
            layer.dtype.to_string(),
        ]
    };
    let mut listing = text::table(&layers.iter().map(row).collect::<Vec<_>>(), &[2, 3]);
    if layers.iter().any(checkpoint::is_rnn) {
        listing += "\nA checkpoint does not say whether an RNN applies tanh or relu: \
                    tidegate run --nonlinearity chooses.\n";
    }
    let known: HashSet<_> = layers.iter().flat_map(Layer::names).collect();
    let others: Vec<_> = checkpoint.tensors().filter(|name| !known.contains(*name)).collect();
    if !others.is_empty() {
        listing += &format!(
            "\n{} of no recurrent layer: {}\n",
            text::plural(others.len(), "tensor"),
            text::list(&others)
        );
    }
    listing
}

/// A layer in the output of `--json`.
#[derive(Serialize)]
struct Object<'a> {
    prefix: &'a str,
    kind: &'static str,
    cell: bool,
    constructor: String,
    input_size: usize,
    hidden_size: usize,
    num_layers: usize,
    bias: bool,
    bidirectional: bool,
    proj_size: usize,
    parameters: usize,
    bytes: u64,
    dtype: &'static str,
}

fn object(layer: &Layer) -> Object<'_> {
    let config = &layer.config;
    Object {
        prefix: &layer.prefix,
        kind: config.mode.name(),
        cell: layer.cell,
        constructor: layer.to_string(),
        input_size: config.input_size,
        hidden_size: config.hidden_size,
        num_layers: config.num_layers,
        bias: config.bias,
        bidirectional: config.bidirectional,
        proj_size: config.proj_size,
        parameters: layer.parameters,
        bytes: layer.bytes,
        dtype: layer.dtype.name(),
    }
}
