//! `tidegate`: runs the recurrent layers of PyTorch checkpoints, without PyTorch.
//!
//! Results go to standard output, everything else to standard error. The exit status is 0 for
//! success, 1 for work that failed and 2 for bad usage.
//!
//! A library so that the fuzz targets reach what reads text; the only other user is the program.

mod args;
mod blocks;
mod checkpoint;
mod command;
mod compare;
mod compute;
mod io;
mod job;
mod progress;
mod text;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};

/// Runs the command line of this process; its exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let result = match &cli.command {
        None | Some(Command::Demo) => command::demo::run(),
        Some(Command::Inspect(args)) => command::inspect::run(args),
        Some(Command::Run(args)) => command::run::run(args),
        Some(Command::Convert(args)) => command::convert::run(args),
        Some(Command::Verify(args)) => command::verify::run(args),
        Some(Command::Bench(args)) => command::bench::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            text::complain(&format!("{error:#}"));
            ExitCode::from(1)
        }
    }
}

/// Prints the help that was asked for, or one line that says what is wrong with the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A reader of the help that has gone away has seen enough.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let rendered = error.to_string();
    let paragraph = rendered.lines().take_while(|line| !line.trim().is_empty());
    let message = paragraph
        .map(|line| line.trim().trim_start_matches("error: "))
        .collect::<Vec<_>>()
        .join(" ");
    text::complain(&format!("{message} (see {} --help)", command_name()));
    ExitCode::from(2)
}

/// The program and the command it was given, if that is one: `tidegate run`.
fn command_name() -> String {
    let first = std::env::args_os().nth(1).unwrap_or_default();
    match Cli::command().find_subcommand(first) {
        Some(command) => format!("tidegate {}", command.get_name()),
        None => "tidegate".into(),
    }
}

/// The numbers of a `.csv` text, row after row, and how many a row has.
///
/// # Errors
/// Text that is no rows of numbers, with the line.
pub fn read_csv(text: &[u8]) -> anyhow::Result<(usize, Vec<f64>)> {
    let array = io::read_rows::<f64>(text)?;
    Ok((array.row_len(), array.data))
}

/// Writes rows of `width` numbers as `.csv` text.
///
/// # Errors
/// What `writer` answers.
pub fn write_csv(writer: impl std::io::Write, width: usize, numbers: &[f64]) -> anyhow::Result<()> {
    io::write_rows(writer, width, numbers)
}
