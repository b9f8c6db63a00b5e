//! From the words of a command line to a computation whose shapes fit.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tidegate::Mode;
use tidegate_weights::{Dtype, Layer};

use crate::args::{JobArgs, JobOptions, Nonlinearity};
use crate::blocks::Axes;
use crate::checkpoint::{Checkpoint, is_rnn, title};
use crate::compute::{InitialState, Job};
use crate::io::{self, Array, Arrays, Scalar};
use crate::text;

/// The layer that the options choose, with the arguments that a checkpoint does not hold.
pub(crate) fn choose(checkpoint: &Checkpoint, options: &JobOptions) -> Result<Layer> {
    let mut layer = checkpoint.choose(options.layer.as_deref())?;
    layer.config.batch_first = options.batch_first;
    match options.nonlinearity {
        Some(_) if !is_rnn(&layer) => {
            bail!("--nonlinearity is for an RNN, and {} is none", title(&layer))
        }
        Some(Nonlinearity::Tanh) => layer.config.mode = Mode::RnnTanh,
        Some(Nonlinearity::Relu) => layer.config.mode = Mode::RnnRelu,
        None if is_rnn(&layer) && !options.quiet => text::remark(
            "a checkpoint does not say what an RNN applies; taking tanh (--nonlinearity relu is the \
             other)",
        ),
        None => {}
    }
    if options.chunk.is_some() && layer.config.bidirectional {
        bail!(
            "--chunk: {} is bidirectional, and its reverse direction begins at the last step",
            title(&layer)
        );
    }
    Ok(layer)
}

/// Reads everything that the computation needs.
pub(crate) fn prepare<E: Scalar>(
    checkpoint: &Checkpoint,
    layer: &Layer,
    files: &JobArgs,
    options: &JobOptions,
) -> Result<Job<E>> {
    if let Some(threads) = options.threads {
        tidegate::set_num_threads(threads);
    }
    let mut parameters = checkpoint.load(layer)?;
    if options.bf16_weights {
        parameters = E::with_bf16_weights(&parameters).with_context(|| {
            format!("--bf16-weights is for float32, and {} is {}", title(layer), E::NUMPY)
        })?;
    }
    let loaded = io::read_input::<E>(&files.input)?;
    if E::NUMPY == "float32" && loaded.stored == Some(Dtype::F64) && !options.quiet {
        text::remark(&format!(
            "{}: float64, rounded to the layer's float32",
            files.input.display()
        ));
    }
    let axes = check_input(&files.input, &loaded.array.shape, layer)?;
    let state = match &options.state {
        Some(path) => Some(read_state(path, layer, axes)?),
        None => None,
    };
    let lengths = match &options.lengths {
        Some(path) => Some(read_lengths(path, axes)?),
        None => None,
    };
    Ok(Job { layer: parameters, input: loaded.array, state, lengths, chunk: options.chunk })
}

fn check_input(path: &Path, shape: &[usize], layer: &Layer) -> Result<Axes> {
    let config = &layer.config;
    let width = config.input_size;
    let batch =
        if config.batch_first { format!("[B, T, {width}]") } else { format!("[T, B, {width}]") };
    let mismatch = || {
        format!("{}: {} takes [T, {width}] or {batch}, got {shape:?}", path.display(), title(layer))
    };
    let axes = Axes::of(shape, config.batch_first).with_context(mismatch)?;
    ensure!(shape.last() == Some(&width), mismatch());
    ensure!(axes.steps > 0, "{}: no step in it, its shape is {shape:?}", path.display());
    Ok(axes)
}

fn read_state<E: Scalar>(path: &Path, layer: &Layer, axes: Axes) -> Result<InitialState<E>> {
    let config = &layer.config;
    let file = Arrays::open(path)?;
    let read = |name: &str, width: usize| -> Result<Array<E>> {
        let array = file.require::<E>(name)?.array;
        let mut expected = vec![config.num_layers * config.num_directions(), width];
        expected.splice(1..1, axes.batch);
        ensure!(
            array.shape == expected,
            "{}: {name} of {} has the shape {expected:?} for this input, got {:?}",
            path.display(),
            title(layer),
            array.shape
        );
        Ok(array)
    };
    let h = read("h_0", config.output_size())?;
    let c =
        if config.mode.has_cell_state() { Some(read("c_0", config.hidden_size)?) } else { None };
    if c.is_none() && file.get::<E>("c_0")?.is_some() {
        bail!("{}: c_0 is the cell state of an LSTM, and {} is none", path.display(), title(layer));
    }
    Ok(InitialState { h, c })
}

fn read_lengths(path: &Path, axes: Axes) -> Result<Vec<usize>> {
    let lengths = Arrays::open(path)?.lengths()?;
    let place = path.display();
    let batch = axes.batch.with_context(|| {
        format!("{place}: lengths belong to a batch, and the input is one sequence")
    })?;
    ensure!(lengths.len() == batch, "{place}: {} lengths for a batch of {batch}", lengths.len());
    if let Some((row, length)) =
        lengths.iter().enumerate().find(|&(_, &length)| length > axes.steps)
    {
        bail!(
            "{place}: the length of sequence {row} is {length}, the input has {} steps",
            axes.steps
        );
    }
    Ok(lengths)
}
