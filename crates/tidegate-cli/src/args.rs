//! What can be said on the command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::io::Format;

/// PyTorch's recurrent layers (LSTM, GRU, RNN) on the CPU: a checkpoint and an array in, PyTorch's
/// answer out.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    after_help = "Without a command: tidegate demo.",
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run two layers that PyTorch saved and compare with what PyTorch answered; needs no files
    #[command(after_help = "Example:\n  tidegate demo")]
    Demo,
    /// List the recurrent layers of a checkpoint
    #[command(after_help = "Example:\n  tidegate inspect model.pt")]
    Inspect(InspectArgs),
    /// Run a recurrent layer of a checkpoint on an array
    #[command(after_help = "Examples:\n  \
        tidegate run model.pt features.npy --output result.npz\n  \
        tidegate run model.safetensors steps.csv --layer encoder --output - > output.csv")]
    Run(RunArgs),
    /// Write a checkpoint, or one layer of it, as .safetensors
    #[command(after_help = "Example:\n  tidegate convert model.pt model.safetensors")]
    Convert(ConvertArgs),
    /// Compare with arrays that PyTorch answered; fails beyond the tolerance
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),
    /// Time the layers on a grid of shapes, and say how near to this machine's limit they are
    #[command(after_help = BENCH_HELP)]
    Bench(BenchArgs),
}

const VERIFY_HELP: &str = "\
EXPECTED may hold `output`, `h_n` and `c_n`, in PyTorch's shapes; each that is there is compared, \
and at least one must be. An element may differ by 5e-6 + 1e-6 * |expected|; --tolerance replaces \
the 5e-6. NaN must meet NaN, and an infinity the same infinity. If EXPECTED also holds \
`output_f64` (output in float64, or every k-th row of it), the error against it is printed beside \
that of EXPECTED's own output.

Example:
  tidegate verify model.pt features.npy expected.npz";

const BENCH_HELP: &str = "\
The limit is what this machine's cores could do at best, measured at the start: the multiply-adds, \
the reading of the weights once a step, the sigmoids and the hyperbolic tangents. It is scaled by the \
machine's pace between the rounds of a row, as others may share the machine. Times are medians in microseconds of \
a call; GFLOP/s counts two operations for a multiply-add of the matrix products.

Examples:
  tidegate bench --filter step
  tidegate bench --filter gru-seq --threads 2 --json";

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Only rows with this text in their names
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Threads to use
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    pub(crate) threads: usize,
    /// Print one JSON object a row
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Checkpoint: .pt, .pth, .safetensors or .npz
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Print a JSON array with one object per layer
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) options: JobOptions,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// What PyTorch answered: .npz with `output`, `h_n`, `c_n` (any of them; other names are
    /// ignored)
    #[arg(value_name = "EXPECTED", value_parser = npz_file)]
    pub(crate) expected: PathBuf,
    #[command(flatten)]
    pub(crate) options: JobOptions,
    /// Largest difference allowed to an expected value of 0; 1e-6 * |expected| is allowed on top
    #[arg(long, value_name = "X", default_value = "5e-6", value_parser = tolerance)]
    #[arg(allow_negative_numbers = true)] // so that it is the number that is refused
    pub(crate) tolerance: f64,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Checkpoint: .pt, .pth, .safetensors or .npz
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// File to write: .safetensors
    #[arg(value_name = "OUT", value_parser = safetensors_file)]
    pub(crate) output: PathBuf,
    /// Only the tensors of the layer with this prefix, under the names that they have
    #[arg(long, value_name = "PREFIX")]
    pub(crate) layer: Option<String>,
}

/// The files that a computation needs.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Checkpoint: .pt, .pth, .safetensors or .npz
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Input: .npy, .npz (its array `input`) or .csv (a row per step; - is .csv from standard
    /// input); two axes [T, I] are one sequence, three are a batch [T, B, I]
    #[arg(value_name = "INPUT", value_parser = array_or_pipe)]
    pub(crate) input: PathBuf,
}

/// The options of a computation.
#[derive(Debug, Args)]
pub(crate) struct JobOptions {
    /// Layer to run, by its prefix in the checkpoint; needed only where there are several
    #[arg(long, value_name = "PREFIX")]
    pub(crate) layer: Option<String>,
    /// Where the answer goes: .npz (`output`, `h_n`, `c_n`), .npy or .csv (output only; - is .csv
    /// on standard output)
    #[arg(short, long, value_name = "OUT", value_parser = array_or_pipe)]
    pub(crate) output: Option<PathBuf>,
    /// Initial state: .npz with `h_0` and, for an LSTM, `c_0`; zeros without
    #[arg(long, value_name = "IN", value_parser = npz_file)]
    pub(crate) state: Option<PathBuf>,
    /// Length of each sequence of the batch: .npy with integers [B]; outputs past a length are 0
    #[arg(long, value_name = "LENGTHS", value_parser = npy_file, conflicts_with = "chunk")]
    pub(crate) lengths: Option<PathBuf>,
    /// The axes of a batch are [B, T, I], and those of its output too
    #[arg(long)]
    pub(crate) batch_first: bool,
    /// What an RNN applies (a checkpoint does not say) [default: tanh]
    #[arg(long, value_name = "NAME")]
    pub(crate) nonlinearity: Option<Nonlinearity>,
    /// Stream N steps at a time: the same bits; not for bidirectional layers
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) chunk: Option<usize>,
    /// Threads to use [default: TIDEGATE_NUM_THREADS, or one per core]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Round the weight matrices to bf16 and keep them so: half the memory, the rest in float32
    #[arg(long)]
    pub(crate) bf16_weights: bool,
    /// No progress and no remarks on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl JobOptions {
    /// All files that a computation reads.
    pub(crate) fn inputs<'a>(&'a self, job: &'a JobArgs) -> Vec<&'a Path> {
        let own = [&self.state, &self.lengths].into_iter().flatten();
        [&job.file, &job.input].into_iter().chain(own).map(PathBuf::as_path).collect()
    }
}

/// What `torch.nn.RNN` applies to its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Nonlinearity {
    Tanh,
    Relu,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number".into()),
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number >= 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err("not a number of at least 0".into()),
    }
}

fn array_or_pipe(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if text == "-" || Format::of(path).is_some() {
        return Ok(path.to_path_buf());
    }
    Err("the name ends in .npy, .npz or .csv, or is -".into())
}

fn npy_file(text: &str) -> Result<PathBuf, String> {
    ending_in(text, "npy")
}

fn npz_file(text: &str) -> Result<PathBuf, String> {
    ending_in(text, "npz")
}

fn safetensors_file(text: &str) -> Result<PathBuf, String> {
    ending_in(text, "safetensors")
}

fn ending_in(text: &str, ending: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case(ending) => Ok(path.to_path_buf()),
        _ => Err(format!("the name ends in .{ending}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains(&format!("\n  tidegate {}", command.get_name())),
                "{}",
                command.get_name()
            );
        }
    }
}
