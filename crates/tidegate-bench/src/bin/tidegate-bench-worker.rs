//! Times rows of the grid for a program that interleaves several engines, round by round.
//!
//! ```text
//! tidegate-bench-worker                                        the protocol below
//! tidegate-bench-worker rows [TEXT]                            the grid, one JSON object a line
//! ```
//!
//! The protocol: lines in, one line out for each.
//! - a JSON object with the keys of a row, `threads`, `folder` and `seconds`: prepares the row. Writes
//!   raw little-endian f32 to the folder: `x`, the parameters by their names, in training `d_output`, and our
//!   `answer`, in training the gradients of all parameters. Replies
//!   `{"calls": K, "lengths": [..], "limit_us": .., "level": ".."}`, with as many calls a round as take
//!   about `seconds`.
//! - `go`: runs one round and replies with the seconds of one call.
//! - `pace`: replies how many times as long as when the limit was measured the machine takes now.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tidegate_bench::{Job, Limit, Row, grid};

#[derive(Deserialize)]
struct Request {
    #[serde(flatten)]
    row: Row,
    threads: usize,
    folder: PathBuf,
    seconds: f64,
}

#[derive(Serialize)]
struct Reply {
    calls: usize,
    lengths: Vec<usize>,
    limit_us: f64,
    level: &'static str,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => serve(),
        ["rows"] => rows(""),
        ["rows", filter] => rows(filter),
        _ => Err(format!("no command `{}`", arguments.join(" ")).into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-bench-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn rows(filter: &str) -> Result<(), Box<dyn Error>> {
    for row in grid().iter().filter(|row| row.name.contains(filter)) {
        println!("{}", serde_json::to_string(row)?);
    }
    Ok(())
}

fn serve() -> Result<(), Box<dyn Error>> {
    let limit = Limit::calibrate();
    let mut prepared: Option<(Job, usize)> = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let reply = match (line.as_str(), &mut prepared) {
            ("go", Some((job, calls))) => {
                job.round(1)?; // what others have displaced from the caches comes back
                (job.round(*calls)? / *calls as f64).to_string()
            }
            ("pace", _) => limit.pace().to_string(),
            ("go", None) => return Err("`go` before a row".into()),
            (request, _) => {
                let request: Request = serde_json::from_str(request)?;
                let Request { row, threads, folder, seconds } = request;
                tidegate::set_num_threads(threads);
                let mut job = Job::new(&row)?;
                write_all(&mut job, &folder)?;
                let calls = job.calls_in(seconds)?;
                prepared = Some((job, calls));
                let limit_us = 1e6 * limit.row(&row, threads);
                let reply = Reply { calls, lengths: row.lengths(), limit_us, level: limit.level };
                serde_json::to_string(&reply)?
            }
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{reply}")?;
        out.flush()?;
    }
    Ok(())
}

/// Everything another engine needs to compute the same, and the answer.
fn write_all(job: &mut Job, folder: &Path) -> Result<(), Box<dyn Error>> {
    // Bit by bit: what large copies leave in the heap would count as memory of the calls that come after.
    let write = |name: &str, data: &[f32]| -> io::Result<()> {
        let mut file = BufWriter::new(File::create(folder.join(name))?);
        data.iter().try_for_each(|x| file.write_all(&x.to_le_bytes()))?;
        file.flush()
    };
    for (name, tensor) in job.layer().named_parameters() {
        write(&name, tensor.data())?;
    }
    write("x", job.x())?;
    if !job.upstream().is_empty() {
        write("d_output", job.upstream())?;
    }
    write("answer", &job.answer()?)?;
    Ok(())
}
