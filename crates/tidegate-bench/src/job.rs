//! One row of the grid, ready to be called, and its time.

use std::time::Instant;

use tidegate::{
    Generator, GradientsMut, Options, Output, OutputMut, RnnBase, Saved, Stream, Tensor, Upstream,
    View, Workspace, num_threads,
};

use crate::{Error, Kind, Limit, Row};

/// Steps of a stream's input that are run through again and again.
const STREAM_STEPS: usize = 8;

/// A layer with random parameters and its input: one [`call`](Job::call) is what a row measures.
#[derive(Debug)]
pub struct Job {
    row: Row,
    layer: RnnBase<f32>,
    /// `[T, B, I]`; for a stream `[8, B, I]`.
    x: Vec<f32>,
    lengths: Vec<usize>,
    call: Call,
}

/// What a call needs beside the layer.
#[derive(Debug)]
enum Call {
    Step {
        stream: Stream<f32>,
        at: usize,
    },
    Train(Box<Training>),
    Sequence {
        workspace: Box<Workspace<f32>>,
        output: Tensor<f32>,
        h_n: Tensor<f32>,
        c_n: Vec<f32>,
    },
}

/// How long one call of a row takes.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Microseconds of one call: the median of many rounds.
    pub us: f64,
    /// Products per second, two operations a multiply-add, in thousand millions.
    pub gflops: f64,
    /// The least microseconds the machine could take.
    pub limit_us: f64,
    /// `100 * limit_us / us`.
    pub percent: f64,
}

impl Measurement {
    /// What follows from the seconds of a call of `row` and the least there could be.
    pub fn new(row: &Row, seconds: f64, limit: f64) -> Self {
        Self {
            us: 1e6 * seconds,
            gflops: 2e-9 * row.multiply_adds() / seconds,
            limit_us: 1e6 * limit,
            percent: 100.0 * limit / seconds,
        }
    }
}

/// What a training step needs beside the layer.
#[derive(Debug)]
struct Training {
    workspace: Workspace<f32>,
    saved: Saved<f32>,
    result: Output<f32>,
    d_output: Tensor<f32>,
    /// Of all parameters, one after the other.
    gradients: Vec<f32>,
}

impl Training {
    fn new(
        row: &Row,
        layer: &RnnBase<f32>,
        x: &[f32],
        generator: &mut Generator,
    ) -> Result<Self, Error> {
        let result = layer.empty_output(View::new(x, &[row.steps, row.batch, row.input_size])?)?;
        let mut d_output = result.output.clone();
        d_output.data_mut().fill_with(|| 2.0 * generator.uniform::<f32>() - 1.0);
        let parameters = layer.named_parameters();
        let count = parameters.map(|(_, parameter)| parameter.data().len()).sum();
        Ok(Self {
            workspace: Workspace::new(),
            saved: Saved::new(),
            result,
            d_output,
            gradients: vec![0.0; count],
        })
    }

    /// New parameters, which happen to be the old ones; forward; back.
    fn call(
        &mut self,
        row: &Row,
        layer: &mut RnnBase<f32>,
        x: &[f32],
        lengths: &[usize],
    ) -> Result<&[f32], Error> {
        let Self { workspace, saved, result, d_output, gradients } = self;
        layer.update_parameters(|parameters| _ = core::hint::black_box(parameters));
        let x = View::new(x, &[row.steps, row.batch, row.input_size])?;
        let lengths = row.ragged.then_some(lengths);
        let options = Options { lengths, ..Options::default() };
        let out = OutputMut {
            output: result.output.data_mut(),
            h_n: result.h_n.data_mut(),
            c_n: result.c_n.as_mut().map_or(&mut [], Tensor::data_mut),
        };
        layer.forward_train_into(x, options, workspace, saved, out)?;
        let mut rest = &mut gradients[..];
        let parameters = layer.named_parameters().map(|(_, parameter)| {
            let (gradient, after) = core::mem::take(&mut rest).split_at_mut(parameter.data().len());
            rest = after;
            Some(gradient)
        });
        let into = GradientsMut { parameters: parameters.collect(), ..GradientsMut::default() };
        let upstream = Upstream { output: Some((&*d_output).into()), ..Upstream::default() };
        layer.backward_into(x, upstream, saved, workspace, into)?;
        Ok(gradients)
    }
}

impl Job {
    /// A layer for `row`; the same parameters and input every time.
    ///
    /// # Errors
    /// If the row is no shape of a layer, or a step of a bidirectional one.
    pub fn new(row: &Row) -> Result<Self, Error> {
        let mut generator = Generator::manual_seed(1);
        let layer = RnnBase::with_generator(row.config(), &mut generator)?;
        let steps = if row.kind == Kind::Step { STREAM_STEPS } else { row.steps };
        let x: Vec<f32> = (0..steps * row.batch * row.input_size)
            .map(|_| 2.0 * generator.uniform::<f32>() - 1.0)
            .collect();
        let call = match row.kind {
            Kind::Step => {
                let mut stream = layer.stream(row.batch)?;
                stream.set_num_threads(num_threads());
                Call::Step { stream, at: 0 }
            }
            Kind::Train => Call::Train(Box::new(Training::new(row, &layer, &x, &mut generator)?)),
            Kind::Sequence => {
                let view = View::new(&x, &[row.steps, row.batch, row.input_size])?;
                let result = layer.empty_output(view)?;
                Call::Sequence {
                    workspace: Box::default(),
                    output: result.output,
                    h_n: result.h_n,
                    c_n: result.c_n.map_or(Vec::new(), Tensor::into_data),
                }
            }
        };
        Ok(Self { lengths: row.lengths(), row: row.clone(), layer, x, call })
    }

    /// The layer, for its parameters.
    pub fn layer(&self) -> &RnnBase<f32> {
        &self.layer
    }

    /// The input: `[T, B, I]`; for a stream `[8, B, I]`, one step a call.
    pub fn x(&self) -> &[f32] {
        &self.x
    }

    /// In training, the derivatives by the output, `[T, B, D*H]`; otherwise none.
    pub fn upstream(&self) -> &[f32] {
        match &self.call {
            Call::Train(training) => training.d_output.data(),
            _ => &[],
        }
    }

    /// The answer to the whole input from a zero state: `[T, B, D*H]`, zero past a sequence's end;
    /// for a stream `[8, B, H]`. In training, the gradients of all parameters one after the other.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn answer(&mut self) -> Result<Vec<f32>, Error> {
        let mut answer = Vec::new();
        let calls = match &mut self.call {
            Call::Step { stream, at } => {
                stream.reset();
                *at = 0;
                STREAM_STEPS
            }
            Call::Sequence { .. } | Call::Train(_) => 1,
        };
        for _ in 0..calls {
            answer.extend_from_slice(self.call()?);
        }
        Ok(answer)
    }

    /// One call: the next step of the stream, or the whole batch. Returns the output.
    ///
    /// # Errors
    /// Those of the layer; there are none once a call went well.
    pub fn call(&mut self) -> Result<&[f32], Error> {
        let Self { row, layer, x, lengths, call } = self;
        match call {
            Call::Step { stream, at } => {
                let width = row.batch * row.input_size;
                let step = &x[*at * width..][..width];
                *at = (*at + 1) % STREAM_STEPS;
                Ok(stream.step(step)?)
            }
            Call::Train(training) => training.call(row, layer, x, lengths),
            Call::Sequence { workspace, output, h_n, c_n } => {
                let view = View::new(x, &[row.steps, row.batch, row.input_size])?;
                let lengths = row.ragged.then_some(&lengths[..]);
                let options = Options { lengths, ..Options::default() };
                let out = OutputMut { output: output.data_mut(), h_n: h_n.data_mut(), c_n };
                layer.forward_into(view, options, workspace, out)?;
                Ok(output.data())
            }
        }
    }

    /// Seconds of `calls` calls.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn round(&mut self, calls: usize) -> Result<f64, Error> {
        let start = Instant::now();
        if let Call::Step { stream, at } = &mut self.call {
            // A loop of its own, as a program that streams has: what `call` does beside takes a part of a small step.
            let steps = self.x.chunks_exact(self.row.batch * self.row.input_size).cycle();
            for step in steps.skip(*at).take(calls) {
                core::hint::black_box(stream.step(step)?);
            }
            *at = (*at + calls) % STREAM_STEPS;
        } else {
            for _ in 0..calls {
                core::hint::black_box(self.call()?);
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// The number of calls that take about `seconds`, at least one; warms the layer up on the way.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn calls_in(&mut self, seconds: f64) -> Result<usize, Error> {
        self.round(1)?;
        let mut calls = 1;
        loop {
            let took = self.round(calls)?;
            if took > seconds / 4.0 {
                return Ok(((calls as f64 * seconds / took) as usize).max(1));
            }
            calls *= 2;
        }
    }
}

/// Times `row` on `threads` threads, to which it sets the whole process.
///
/// Rounds of about five milliseconds, one call at least: of 31 rounds, or as many as go into two
/// seconds but never fewer than five, the median. Between them the machine's [pace](Limit::pace) is taken, so that the
/// limit is that of the same moments.
///
/// # Errors
/// As [`Job::new`].
pub fn measure(row: &Row, threads: usize, limit: &Limit) -> Result<Measurement, Error> {
    tidegate::set_num_threads(threads);
    let mut job = Job::new(row)?;
    let calls = job.calls_in(5e-3)?;
    let start = Instant::now();
    let (mut times, mut paces) = (Vec::new(), Vec::new());
    while times.len() < 5 || times.len() < 31 && start.elapsed().as_secs_f64() < 2.0 {
        paces.push(limit.pace());
        times.push(job.round(calls)? / calls as f64);
    }
    Ok(Measurement::new(row, median(times), median(paces) * limit.row(row, threads)))
}

/// The one in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid;

    fn row(name: &str) -> Row {
        grid().into_iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn calls_of_a_stream_are_the_steps_of_a_sequence() {
        let mut job = Job::new(&row("gru-step-h16")).unwrap();
        for _ in 0..3 {
            job.call().unwrap();
        }
        let answer = job.answer().unwrap();
        let view = View::new(job.x(), &[STREAM_STEPS, 1, 16]).unwrap();
        let result = job.layer().forward_with(view, Options::default()).unwrap();
        assert_eq!(answer, result.output.data());
    }

    #[test]
    fn ragged_answers_are_zero_past_the_end() {
        let row = row("lstm-ragged-h64-t100-b8");
        let answer = Job::new(&row).unwrap().answer().unwrap();
        for (b, length) in row.lengths().into_iter().enumerate() {
            for t in 0..100 {
                let zero = answer[(t * 8 + b) * 64..][..64].iter().all(|&y| y == 0.0);
                assert_eq!(zero, t >= length, "sequence {b} step {t}");
            }
        }
    }

    #[test]
    fn figures_follow_from_the_time() {
        let row = row("lstm-step-h128");
        let measurement = Measurement::new(&row, 8e-6, 4e-6);
        assert!((measurement.us - 8.0).abs() < 1e-9 && (measurement.limit_us - 4.0).abs() < 1e-9);
        assert!((measurement.percent - 50.0).abs() < 1e-9);
        // 2 * 4 * 128 * 256 operations in 8 us.
        assert!((measurement.gflops - 32.768).abs() < 1e-9);
    }
}
