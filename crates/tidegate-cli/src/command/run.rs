//! `tidegate run`: a layer of a checkpoint on an array.

use std::path::Path;

use anyhow::{Result, ensure};
use tidegate_weights::Layer;

use crate::args::RunArgs;
use crate::checkpoint::{Checkpoint, is_double, title};
use crate::compute::{Answer, Job};
use crate::io::{self, Array, Format, Scalar};
use crate::{job, text};

/// Values of each array that the summary shows.
const SHOWN: usize = 4;

/// Computes and writes the answer, or prints a summary where no place for it was named.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let checkpoint = Checkpoint::open(&args.job.file)?;
    let layer = job::choose(&checkpoint, &args.options)?;
    if is_double(&layer) {
        run_as::<f64>(args, &checkpoint, &layer)
    } else {
        run_as::<f32>(args, &checkpoint, &layer)
    }
}

fn run_as<E: Scalar>(args: &RunArgs, checkpoint: &Checkpoint, layer: &Layer) -> Result<()> {
    let job = job::prepare::<E>(checkpoint, layer, &args.job, &args.options)?;
    let Some(path) = &args.options.output else {
        let answer = job.run(args.options.quiet)?;
        return io::print(&summary(args, layer, &job, &answer));
    };
    check_output(path, &job.input.shape, &args.options.inputs(&args.job))?;
    let answer = job.run(args.options.quiet)?;
    if path == Path::new("-") {
        return io::print_rows(&answer.output);
    }
    io::save(path, &answer.arrays())?;
    if !args.options.quiet {
        let arrays = if Format::of(path) == Some(Format::Npz) {
            answer.arrays()
        } else {
            vec![("output", &answer.output)]
        };
        let arrays = arrays
            .iter()
            .map(|(name, array)| format!("{name} {:?}", array.shape))
            .collect::<Vec<_>>();
        text::say(&format!(
            "wrote {}: {}; {}",
            path.display(),
            arrays.join(", "),
            timing(&job, &answer)
        ));
    }
    Ok(())
}

/// Fails before the work if its answer could not be kept, or would replace one of the files `inputs`.
pub(crate) fn check_output(path: &Path, input: &[usize], inputs: &[&Path]) -> Result<()> {
    let is_text = path == Path::new("-") || Format::of(path) == Some(Format::Csv);
    ensure!(
        !is_text || input.len() == 2,
        "--output {}: text holds one sequence [T, D], and the input {input:?} is a batch: \
         choose .npz or .npy",
        path.display()
    );
    if path != Path::new("-") {
        io::check_no_input(path, inputs)?;
        io::check_writable(path)?;
    }
    Ok(())
}

fn summary<E: Scalar>(args: &RunArgs, layer: &Layer, job: &Job<E>, answer: &Answer<E>) -> String {
    let head = [
        ["layer".into(), format!("{}, {}", title(layer), E::NUMPY)],
        ["input".into(), format!("{} {:?}", args.job.input.display(), job.input.shape)],
    ];
    let rows: Vec<_> =
        answer.arrays().into_iter().map(|(name, array)| describe(name, array)).collect();
    format!(
        "{}\n{}\n{}\nNothing was written; --output result.npz keeps the answer.\n",
        text::table(&head, &[]),
        text::table(&rows, &[]),
        timing(job, answer)
    )
}

/// The name, the shape and the first values of an array.
fn describe<E: Scalar>(name: &str, array: &Array<E>) -> [String; 3] {
    let mut values: Vec<_> =
        array.data.iter().take(SHOWN).map(|value| format!("{:>10.6}", value.to_f64())).collect();
    if array.data.len() > SHOWN {
        values.push("...".into());
    }
    [name.into(), format!("{:?}", array.shape), values.join(" ")]
}

fn timing<E: Scalar>(job: &Job<E>, answer: &Answer<E>) -> String {
    let steps = text::plural(job.steps(), "step");
    format!("{steps} in {}, {}", text::time(answer.time), job.per_step(answer.time))
}
