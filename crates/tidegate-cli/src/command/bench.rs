//! `tidegate bench`: the grid of shapes, measured against the limit of the machine.

use anyhow::Result;

use crate::args::BenchArgs;
use crate::io;

/// Prints every row as soon as it is measured.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let rows = tidegate_bench::select(args.filter.as_deref().unwrap_or_default())?;
    io::write_stdout(|stdout| Ok(tidegate_bench::run(rows, args.threads, args.json, stdout)?))
}
