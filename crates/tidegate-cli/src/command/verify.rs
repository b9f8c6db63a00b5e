//! `tidegate verify`: our answer beside PyTorch's.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tidegate_weights::Layer;

use crate::args::VerifyArgs;
use crate::checkpoint::{Checkpoint, is_double, title};
use crate::command::run::check_output;
use crate::compare::{self, AgainstExact, Difference, Tolerance};
use crate::compute::Answer;
use crate::io::{self, Array, Arrays, Scalar};
use crate::{job, text};

/// PyTorch's recorded answer, in float64 whatever the file holds.
struct Expected {
    /// Those of `output`, `h_n`, `c_n` that the file has.
    arrays: Vec<(&'static str, Array<f64>)>,
    /// `output` or every k-th row of it, computed in float64.
    exact: Option<Array<f64>>,
}

/// Computes, prints the largest differences and fails beyond the tolerance.
pub(crate) fn run(args: &VerifyArgs) -> Result<()> {
    let expected = read_expected(&args.expected)?;
    let checkpoint = Checkpoint::open(&args.job.file)?;
    let layer = job::choose(&checkpoint, &args.options)?;
    if is_double(&layer) {
        run_as::<f64>(args, &expected, &checkpoint, &layer)
    } else {
        run_as::<f32>(args, &expected, &checkpoint, &layer)
    }
}

fn run_as<E: Scalar>(
    args: &VerifyArgs,
    expected: &Expected,
    checkpoint: &Checkpoint,
    layer: &Layer,
) -> Result<()> {
    let job = job::prepare::<E>(checkpoint, layer, &args.job, &args.options)?;
    if let Some(path) = &args.options.output {
        ensure!(
            path != Path::new("-"),
            "--output -: standard output is taken by the comparison; name a file"
        );
        let inputs = [args.options.inputs(&args.job), vec![&args.expected]].concat();
        check_output(path, &job.input.shape, &inputs)?;
    }
    let answer = job.run(args.options.quiet)?;
    if let Some(path) = &args.options.output {
        io::save(path, &answer.arrays())?;
    }
    let tolerance = Tolerance::new(args.tolerance);
    let differences = compare_all(&args.expected, expected, &answer, tolerance)?;
    let mut report = format!(
        "{}, {}, on {} {:?}\n\n",
        title(layer),
        E::NUMPY,
        args.job.input.display(),
        job.input.shape
    );
    report += &compare::table(&differences);
    report += &format!("\ntolerance: {tolerance}\n");
    if let Some(exact) = &expected.exact {
        let theirs =
            expected.arrays.iter().find(|(name, _)| *name == "output").map(|(_, array)| array);
        match AgainstExact::of(&answer.output, theirs, exact) {
            Some(comparison) => report += &format!("{}\n", comparison.line()),
            None => {
                report += &format!(
                    "output_f64 {:?} is not every k-th row of output: passed over\n",
                    exact.shape
                )
            }
        }
    }
    let beyond: usize = differences.iter().map(|difference| difference.beyond).sum();
    if beyond == 0 {
        report += "verified: every element is within the tolerance\n";
    }
    io::print(&report)?;
    match differences.into_iter().find_map(|difference| difference.complaint) {
        None => Ok(()),
        Some(complaint) => bail!(
            "{}: {complaint}; {} beyond",
            args.expected.display(),
            text::plural(beyond, "element")
        ),
    }
}

fn read_expected(path: &Path) -> Result<Expected> {
    let file = Arrays::open(path)?;
    let mut arrays = Vec::new();
    for name in ["output", "h_n", "c_n"] {
        if let Some(loaded) = file.get::<f64>(name)? {
            arrays.push((name, loaded.array));
        }
    }
    if arrays.is_empty() {
        bail!(
            "{}: none of output, h_n and c_n in it; it has {}",
            path.display(),
            text::list(&file.names())
        );
    }
    let exact = file.get::<f64>("output_f64")?.map(|loaded| loaded.array);
    Ok(Expected { arrays, exact })
}

fn compare_all<E: Scalar>(
    path: &Path,
    expected: &Expected,
    answer: &Answer<E>,
    tolerance: Tolerance,
) -> Result<Vec<Difference>> {
    let ours = answer.arrays();
    let mut differences = Vec::new();
    for (name, expected) in &expected.arrays {
        let array = ours.iter().find(|(ours, _)| ours == name).map(|(_, array)| array);
        let place = || path.display().to_string();
        let array = array.with_context(|| {
            format!("{}: {name} is of an LSTM, and this layer is none", place())
        })?;
        differences.push(Difference::of(name, array, expected, tolerance).with_context(place)?);
    }
    Ok(differences)
}
