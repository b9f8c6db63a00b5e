//! Runs rows of the grid in one Rust library, for bench/peers.py.
//!
//! ```text
//! tidegate-bench-peers burn|candle|rten|tract
//! ```
//!
//! Speaks the protocol of bench/engines.py.

mod burn_engine;
mod candle_engine;
mod row;
mod rten_engine;
mod tract_engine;

use std::io::{BufRead, Write};
use std::time::Instant;

use rayon::ThreadPool;
use serde::Serialize;

use row::Row;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// A row made ready in a library.
trait Ready: Send {
    /// Runs the sequence or, of a row of steps, the next one.
    fn call(&mut self) -> Result<()>;

    /// Forgets the state that steps carry.
    fn reset(&mut self) -> Result<()>;

    /// What the last call answered, [T, B, D H].
    fn answer(&self) -> Result<Vec<f32>>;
}

struct Engine {
    version: &'static str,
    prepare: fn(&Row) -> Result<Box<dyn Ready>>,
}

fn engine(name: &str) -> Option<Engine> {
    Some(match name {
        "burn" => Engine { version: "0.22.1", prepare: burn_engine::prepare },
        "candle" => Engine { version: "0.11.1", prepare: candle_engine::prepare },
        "rten" => Engine { version: "0.27.0", prepare: rten_engine::prepare },
        "tract" => Engine { version: "0.23.9", prepare: tract_engine::prepare },
        _ => return None,
    })
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reply {
    Ready { calls: usize, difference: f32, version: &'static str },
    Seconds(f64),
    Skip { skip: String },
}

/// The largest difference between the row's answer and the library's.
fn difference(row: &Row, ready: &mut dyn Ready) -> Result<f32> {
    let mut answer = Vec::new();
    ready.reset()?;
    for _ in 0..if row.step() { row::STREAM_STEPS } else { 1 } {
        ready.call()?;
        answer.extend(ready.answer()?);
    }
    if answer.len() != row.answer.len() {
        return Err(format!("{} numbers, not {}", answer.len(), row.answer.len()).into());
    }
    let differences = answer.iter().zip(&row.answer).map(|(a, b)| (a - b).abs());
    Ok(differences.fold(0.0, |most, d| if d.is_nan() { d } else { most.max(d) }))
}

/// The number of calls that take about `seconds`, at least one.
fn calls_in(ready: &mut dyn Ready, seconds: f64) -> Result<usize> {
    ready.call()?;
    let mut calls = 1;
    loop {
        let took = round(ready, calls)?;
        if took > seconds / 4.0 {
            return Ok((calls as f64 * seconds / took).max(1.0) as usize);
        }
        calls *= 2;
    }
}

/// Seconds of `calls` calls.
fn round(ready: &mut dyn Ready, calls: usize) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..calls {
        ready.call()?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// A row in a pool with as many threads as it asks for: three of the libraries share out their work in
/// the pool they are called from.
struct Prepared {
    pool: ThreadPool,
    ready: Box<dyn Ready>,
    calls: usize,
}

impl Prepared {
    fn new(engine: &Engine, row: &Row) -> Result<(Self, f32)> {
        // SAFETY: no other thread runs that would read the environment: pools are dropped with their row.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", row.threads.to_string()) }; // candle reads it at every product
        let pool = rayon::ThreadPoolBuilder::new().num_threads(row.threads).build()?;
        let (ready, difference, calls) = pool.install(|| -> Result<_> {
            let mut ready = (engine.prepare)(row)?;
            let difference = difference(row, &mut *ready)?;
            let calls = calls_in(&mut *ready, row.seconds)?;
            Ok((ready, difference, calls))
        })?;
        Ok((Self { pool, ready, calls }, difference))
    }

    fn round(&mut self) -> Result<f64> {
        let (ready, calls) = (&mut self.ready, self.calls);
        self.pool.install(|| {
            ready.call()?; // what others have displaced from the caches comes back
            Ok(round(&mut **ready, calls)? / calls as f64)
        })
    }
}

fn main() -> Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let engine = engine(&name).ok_or_else(|| format!("no engine `{name}`"))?;
    let mut prepared = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let reply = if line == "go" {
            let prepared: &mut Prepared = prepared.as_mut().ok_or("`go` before a row")?;
            Reply::Seconds(prepared.round()?)
        } else {
            drop(prepared.take());
            match Row::read(&line).and_then(|row| Prepared::new(&engine, &row)) {
                Ok((ready, difference)) => {
                    let calls = ready.calls;
                    prepared = Some(ready);
                    Reply::Ready { calls, difference, version: engine.version }
                }
                Err(error) => {
                    Reply::Skip { skip: error.to_string().lines().next().unwrap_or("").into() }
                }
            }
        };
        println!("{}", serde_json::to_string(&reply)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}
