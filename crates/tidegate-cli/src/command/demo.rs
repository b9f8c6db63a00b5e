//! `tidegate demo`: two layers that PyTorch saved, with what PyTorch answered, inside the program.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidegate_weights::Layer;

use crate::checkpoint::Checkpoint;
use crate::compare::{Difference, Tolerance};
use crate::compute::{InitialState, Job};
use crate::io::{self, Array, Arrays};
use crate::text;

/// What an element of the demo may differ by from PyTorch's, beside 1e-6 of its value: the
/// tolerance of the fixtures.
const TOLERANCE: f64 = 2e-6;

/// Times each layer is run; the time that is printed is the one in the middle. A guess at what
/// settles it.
const REPETITIONS: usize = 101;

const HEADING: [&str; 5] = ["", "shape", "from PyTorch", "from float64", "PyTorch from float64"];

/// A checkpoint and a recording of PyTorch running it, made by `fixtures/demo.py`.
struct Case {
    checkpoint: &'static [u8],
    recording: &'static [u8],
}

const CASES: [Case; 2] = [
    Case {
        checkpoint: include_bytes!("../../demo/gru.pt"),
        recording: include_bytes!("../../demo/gru.npz"),
    },
    Case {
        checkpoint: include_bytes!("../../demo/lstm.pt"),
        recording: include_bytes!("../../demo/lstm.npz"),
    },
];

/// Runs both, prints how far they are from PyTorch, and fails beyond the tolerance.
pub(crate) fn run() -> Result<()> {
    let mut report = String::from(
        "Two layers that PyTorch 2.13 saved, run here without PyTorch. The largest \
         differences:\n\n",
    );
    let mut beyond = 0;
    for case in &CASES {
        let (text, elements) = run_case(case)?;
        report += &text;
        beyond += elements;
    }
    report += &format!("Next, on a checkpoint of your own:\n  {} inspect model.pt\n", program());
    io::print(&report)?;
    ensure!(beyond == 0, "{} beyond the tolerance", text::plural(beyond, "element"));
    Ok(())
}

/// The lines about one case, and how many elements are beyond the tolerance.
fn run_case(case: &Case) -> Result<(String, usize)> {
    let checkpoint = Checkpoint::from_bytes("demo checkpoint", case.checkpoint)?;
    let layer = checkpoint.choose(None)?;
    let recording = Arrays::from_bytes("demo recording", case.recording)?;
    let job = job(&checkpoint, &layer, &recording)?;
    let answer = job.run(true)?;
    let mut rows = vec![HEADING.map(String::from)];
    let mut beyond = 0;
    for (name, ours) in answer.arrays() {
        let theirs = recording.require::<f64>(name)?.array;
        let exact = recording.require::<f64>(&format!("{name}_f64"))?.array;
        let difference = |a, b| Difference::of(name, a, b, Tolerance::new(TOLERANCE));
        let ours = Array::<f64> {
            shape: ours.shape.clone(),
            data: ours.data.iter().map(|&x| x.into()).collect(),
        };
        let from_theirs = difference(&ours, &theirs)?;
        let errors = [
            from_theirs.largest,
            difference(&ours, &exact)?.largest,
            difference(&theirs, &exact)?.largest,
        ];
        let [first, second, third] = errors.map(text::error);
        rows.push([name.into(), format!("{:?}", ours.shape), first, second, third]);
        beyond += from_theirs.beyond;
    }
    let time = job.per_step(typical_time(&job)?);
    let input = &job.input.shape;
    let text = format!("{layer}, input {input:?}, {time}:\n\n{}\n", text::table(&rows, &[]));
    Ok((text, beyond))
}

/// The layer on what PyTorch was given.
fn job(checkpoint: &Checkpoint, layer: &Layer, recording: &Arrays) -> Result<Job<f32>> {
    let has_cell_state = layer.config.mode.has_cell_state();
    Ok(Job {
        layer: checkpoint.load(layer)?,
        input: recording.require("input")?.array,
        state: Some(InitialState {
            h: recording.require("h_0")?.array,
            c: if has_cell_state { Some(recording.require("c_0")?.array) } else { None },
        }),
        lengths: None,
        chunk: None,
    })
}

/// The median time of a run.
fn typical_time(job: &Job<f32>) -> Result<Duration> {
    let times = (0..REPETITIONS).map(|_| Ok(job.run(true)?.time));
    let mut times = times.collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    Ok(times[REPETITIONS / 2])
}

/// The program as it was called, so that the next command can be copied.
fn program() -> String {
    std::env::args_os().next().map_or("tidegate".into(), |name| name.to_string_lossy().into_owned())
}
