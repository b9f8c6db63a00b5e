//! One computation: in one call, or in pieces, which gives the same bits.

use std::time::Duration;

use anyhow::{Context, Result};
use tidegate::{Options, RnnBase, State, Tensor, View};

use crate::blocks::{Axes, Block, Layout, state_rows};
use crate::io::{Array, Scalar};
use crate::progress::Progress;
use crate::text;

/// Multiplications past which work is long enough to be done in pieces, so that its progress can be
/// shown: about a second on one core. A guess; the result is the same on either side of it.
const LONG: u128 = 15_000_000_000;

/// Steps of a piece where nobody asked for a number. A guess: long enough that the calls cost
/// nothing, short enough that the bar moves.
const PIECE: usize = 256;

/// Sequences of a piece, for each thread. A guess: enough that the weights are read for many
/// sequences at once.
const SEQUENCES: usize = 16;

/// A layer and what it is to run on. The shapes have been checked against the layer.
pub(crate) struct Job<E: Scalar> {
    /// The layer.
    pub(crate) layer: RnnBase<E>,
    /// `[T, I]`, `[T, B, I]` or, with `batch_first`, `[B, T, I]`.
    pub(crate) input: Array<E>,
    /// `h_0` and, for an LSTM, `c_0`, in PyTorch's shapes; zeros without.
    pub(crate) state: Option<InitialState<E>>,
    /// The length of each sequence `[B]`.
    pub(crate) lengths: Option<Vec<usize>>,
    /// Stream so many steps at a time.
    pub(crate) chunk: Option<usize>,
}

/// The state before the first step.
pub(crate) struct InitialState<E> {
    /// `[D*L, B, P or H]`, without B for one sequence.
    pub(crate) h: Array<E>,
    /// `[D*L, B, H]`, without B for one sequence.
    pub(crate) c: Option<Array<E>>,
}

/// What the layer answered, in PyTorch's shapes.
pub(crate) struct Answer<E> {
    pub(crate) output: Array<E>,
    pub(crate) h_n: Array<E>,
    pub(crate) c_n: Option<Array<E>>,
    /// How long the computation took.
    pub(crate) time: Duration,
}

impl<E> Answer<E> {
    /// The arrays under PyTorch's names.
    pub(crate) fn arrays(&self) -> Vec<(&'static str, &Array<E>)> {
        let mut arrays = vec![("output", &self.output), ("h_n", &self.h_n)];
        arrays.extend(self.c_n.as_ref().map(|c_n| ("c_n", c_n)));
        arrays
    }
}

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Not at all.
    Whole,
    /// So many steps at a time, streamed.
    Steps(usize),
    /// So many sequences at a time.
    Sequences(usize),
}

type Arrays<E> = (Array<E>, Array<E>, Option<Array<E>>);

impl<E: Scalar> Job<E> {
    /// The number of steps.
    pub(crate) fn steps(&self) -> usize {
        self.axes().map_or(0, |axes| axes.steps)
    }

    /// What `time` comes to for a step, in words.
    pub(crate) fn per_step(&self, time: Duration) -> String {
        let each = text::time(time.div_f64(self.steps().max(1) as f64));
        match self.axes().and_then(|axes| axes.batch) {
            Some(batch) => format!("{each} per step of {}", text::plural(batch, "sequence")),
            None => format!("{each} per step"),
        }
    }

    /// Computes, with a bar on a terminal for long work unless `quiet`.
    pub(crate) fn run(&self, quiet: bool) -> Result<Answer<E>> {
        let axes = self.axes().context("an input has two or three axes")?;
        let long = self.multiplications(axes) > LONG;
        let mut progress = Progress::new(quiet);
        let (output, h_n, c_n) = match self.cut(axes, long) {
            Cut::Steps(steps) => self.by_steps(axes, steps, &mut progress)?,
            Cut::Sequences(rows) => self.by_sequences(axes, rows, &mut progress)?,
            Cut::Whole => {
                if long {
                    progress.spin(axes.steps);
                }
                self.forward(&self.input, self.state.as_ref(), self.lengths.as_deref())?
            }
        };
        Ok(Answer { output, h_n, c_n, time: progress.finish() })
    }

    fn axes(&self) -> Option<Axes> {
        Axes::of(&self.input.shape, self.layer.config().batch_first)
    }

    /// Multiplications of the whole work: each weight once per step and sequence.
    fn multiplications(&self, axes: Axes) -> u128 {
        let parameters = self.layer.named_parameters();
        let weights: usize = parameters.map(|(_, tensor)| tensor.data().len()).sum();
        weights as u128 * axes.steps as u128 * axes.rows() as u128
    }

    fn cut(&self, axes: Axes, long: bool) -> Cut {
        // A call uses a thread for each sequence at most, and a stream one in all.
        let sequences = SEQUENCES * tidegate::num_threads();
        let streams = !self.layer.config().bidirectional && self.lengths.is_none();
        match self.chunk {
            Some(steps) => Cut::Steps(steps),
            None if long && axes.rows() > sequences => Cut::Sequences(sequences),
            None if long && streams && axes.rows() == 1 => Cut::Steps(PIECE),
            None => Cut::Whole,
        }
    }

    fn forward(
        &self,
        input: &Array<E>,
        state: Option<&InitialState<E>>,
        lengths: Option<&[usize]>,
    ) -> Result<Arrays<E>> {
        let state = state.map(|state| state.view(&state.h.shape)).transpose()?;
        let options = Options { state, lengths, ..Options::default() };
        let answer = self.layer.forward_with(view(input)?, options)?;
        Ok((array(answer.output), array(answer.h_n), answer.c_n.map(array)))
    }

    fn by_steps(&self, axes: Axes, steps: usize, progress: &mut Progress) -> Result<Arrays<E>> {
        let (config, rows) = (self.layer.config(), axes.rows());
        let mut stream = self.layer.stream(rows)?;
        if let Some(state) = &self.state {
            stream.set_state(state.view(&[config.num_layers, rows, config.output_size()])?)?;
        }
        let (width_in, width_out) = (config.input_size, config.output_size());
        let mut output = zeros(axes.shape(width_out));
        let (mut x, mut y) = (vec![], vec![]);
        // Of no sequences there may be any number of steps.
        let all = if rows == 0 { 0 } else { axes.steps };
        for start in (0..all).step_by(steps) {
            let steps = steps.min(axes.steps - start);
            let (whole, piece) = (axes.layout().from(start, 0), Layout::time_major(rows));
            x.resize(steps * rows * width_in, E::ZERO);
            y.resize(steps * rows * width_out, E::ZERO);
            Block { steps, rows, width: width_in }.copy(&self.input.data, whole, &mut x, piece);
            stream.push(&x, &mut y)?;
            Block { steps, rows, width: width_out }.copy(&y, piece, &mut output.data, whole);
            progress.update(start + steps, axes.steps, "steps");
        }
        let (h, c) = stream.state();
        let unbatch = |state| {
            let mut state = array(state);
            if axes.batch.is_none() {
                state.shape.remove(1);
            }
            state
        };
        Ok((output, unbatch(h), c.map(unbatch)))
    }

    fn by_sequences(&self, axes: Axes, rows: usize, progress: &mut Progress) -> Result<Arrays<E>> {
        let config = self.layer.config();
        let layers = config.num_layers * config.num_directions();
        let width = config.num_directions() * config.output_size();
        let mut output = zeros(axes.shape(width));
        let mut h_n = zeros(vec![layers, axes.rows(), config.output_size()]);
        let mut c_n = config
            .mode
            .has_cell_state()
            .then(|| zeros(vec![layers, axes.rows(), config.hidden_size]));
        for start in (0..axes.rows()).step_by(rows) {
            let rows = rows.min(axes.rows() - start);
            let part = axes.with_rows(rows);
            let (whole, piece) = (axes.layout().from(0, start), part.layout());
            let mut x = zeros(part.shape(config.input_size));
            let block = |width| Block { steps: axes.steps, rows, width };
            block(config.input_size).copy(&self.input.data, whole, &mut x.data, piece);
            let state = self.state.as_ref().map(|state| state.rows(start, rows));
            let lengths = self.lengths.as_ref().map(|lengths| &lengths[start..start + rows]);
            let answer = self.forward(&x, state.as_ref(), lengths)?;
            block(width).copy(&answer.0.data, piece, &mut output.data, whole);
            let copy_state = |from: &Array<E>, to: &mut Array<E>| {
                let block = Block { steps: layers, rows, width: from.shape[2] };
                let place = Layout::time_major(axes.rows()).from(0, start);
                block.copy(&from.data, Layout::time_major(rows), &mut to.data, place);
            };
            copy_state(&answer.1, &mut h_n);
            if let (Some(from), Some(to)) = (&answer.2, &mut c_n) {
                copy_state(from, to);
            }
            progress.update(start + rows, axes.rows(), "sequences");
        }
        Ok((output, h_n, c_n))
    }
}

impl<E: Scalar> InitialState<E> {
    /// A view of it in which `h` has `shape`: with a batch axis or without.
    fn view(&self, shape: &[usize]) -> Result<State<'_, E>> {
        let c = self.c.as_ref().map(|c| {
            let mut shape = shape.to_vec();
            if let (Some(width), Some(&own)) = (shape.last_mut(), c.shape.last()) {
                *width = own;
            }
            View::new(&c.data, &shape)
        });
        Ok(State { h: View::new(&self.h.data, shape)?, c: c.transpose()? })
    }

    /// That of the sequences `row..row + rows`.
    fn rows(&self, row: usize, rows: usize) -> Self {
        let part = |state| state_rows(state, row, rows, E::ZERO);
        Self { h: part(&self.h), c: self.c.as_ref().map(part) }
    }
}

fn zeros<E: Scalar>(shape: Vec<usize>) -> Array<E> {
    Array { data: vec![E::ZERO; shape.iter().product()], shape }
}

fn view<E: Scalar>(array: &Array<E>) -> Result<View<'_, E>> {
    Ok(View::new(&array.data, &array.shape)?)
}

fn array<E: Scalar>(tensor: Tensor<E>) -> Array<E> {
    Array { shape: tensor.shape().to_vec(), data: tensor.into_data() }
}

#[cfg(test)]
mod tests {
    use tidegate::{Config, Mode};

    use super::*;

    fn wave(shape: &[usize]) -> Array<f32> {
        let data = (0..shape.iter().product()).map(|i: usize| (i as f32).sin()).collect();
        Array { shape: shape.to_vec(), data }
    }

    fn job(config: Config, batch: Option<usize>) -> Job<f32> {
        tidegate::manual_seed(1);
        let axes = Axes::of(&[9, 1], false).unwrap();
        let (axes, layers) = (
            match batch {
                Some(rows) if config.batch_first => Axes::of(&[rows, 9, 1], true).unwrap(),
                Some(rows) => axes.with_rows(rows),
                None => axes,
            },
            config.num_layers * config.num_directions(),
        );
        let state = |width| {
            let mut shape = vec![layers, width];
            shape.splice(1..1, batch);
            wave(&shape)
        };
        let c = config.mode.has_cell_state().then(|| state(config.hidden_size));
        Job {
            layer: RnnBase::new(config).unwrap(),
            input: wave(&axes.shape(config.input_size)),
            state: Some(InitialState { h: state(config.output_size()), c }),
            lengths: None,
            chunk: None,
        }
    }

    #[test]
    fn every_cut_gives_the_same_bits() {
        let lstm = Config { num_layers: 2, proj_size: 2, ..Config::new(Mode::Lstm, 3, 5) };
        for config in [lstm, Config { batch_first: true, ..lstm }, Config::new(Mode::Gru, 3, 4)] {
            for batch in [None, Some(1), Some(7)] {
                let job = job(config, batch);
                let axes = job.axes().unwrap();
                let whole = job.forward(&job.input, job.state.as_ref(), None).unwrap();
                for size in [1, 2, 4, 100] {
                    let mut progress = Progress::new(true);
                    assert_eq!(
                        job.by_steps(axes, size, &mut progress).unwrap(),
                        whole,
                        "{size} steps"
                    );
                    if batch.is_some() {
                        let parts = job.by_sequences(axes, size, &mut progress).unwrap();
                        assert_eq!(parts, whole, "{size} sequences");
                    }
                }
            }
        }
    }

    #[test]
    fn sequences_keep_their_lengths_in_both_directions() {
        let config = Config { bidirectional: true, ..Config::new(Mode::Lstm, 3, 5) };
        let mut job = job(config, Some(5));
        job.lengths = Some(vec![9, 0, 3, 9, 1]);
        let whole = job.forward(&job.input, job.state.as_ref(), job.lengths.as_deref()).unwrap();
        for size in [1, 2, 3] {
            let parts =
                job.by_sequences(job.axes().unwrap(), size, &mut Progress::new(true)).unwrap();
            assert_eq!(parts, whole, "{size} sequences");
        }
    }

    #[test]
    fn long_work_is_cut_where_it_can_be() {
        let gru = Config::new(Mode::Gru, 3, 4);
        let both = Config { bidirectional: true, ..gru };
        let cut = |config, batch, long| {
            let job = job(config, batch);
            job.cut(job.axes().unwrap(), long)
        };
        let threads = tidegate::num_threads();
        assert_eq!(cut(gru, None, false), Cut::Whole);
        assert_eq!(cut(gru, None, true), Cut::Steps(PIECE));
        assert_eq!(cut(both, None, true), Cut::Whole);
        assert_eq!(cut(both, Some(1000 * threads), true), Cut::Sequences(SEQUENCES * threads));
        assert_eq!(cut(both, Some(1000 * threads), false), Cut::Whole);
        assert_eq!(cut(gru, Some(2), true), Cut::Whole);
    }
}
