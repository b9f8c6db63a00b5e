//! A backward call: what it was asked, and which weights it needs for that.
#![allow(unsafe_code, reason = "weights are read through pointers")]

use tidegate_simd::Level;

use super::BackMemory;
use super::weights::{TrainingWeights, Wanted};
use crate::batch::Batch;
use crate::rows::{RowsIn, RowsOut};
use crate::saved::Saved;
use crate::{Config, Element};

/// A backward call with everything checked, in terms of rows. All gradients are added to what is there.
pub(crate) struct BackJob<'a, E> {
    pub(crate) batch: Batch<'a>,
    pub(crate) saved: &'a Saved<E>,
    pub(crate) dropout: bool,
    pub(crate) input: RowsIn<'a, E>,
    /// The derivatives to begin with; zeros if none. Of states, the step stands for layer and direction.
    pub(crate) d_output: Option<RowsIn<'a, E>>,
    pub(crate) d_h_n: Option<RowsIn<'a, E>>,
    pub(crate) d_c_n: Option<RowsIn<'a, E>>,
    pub(crate) d_input: Option<RowsOut<'a, E>>,
    /// Of `h_0`, `c_0`, and of the states after cuts.
    pub(crate) d_states: [Option<RowsOut<'a, E>>; 4],
    /// In the order of [`Config::parameters`](crate::Config::parameters), rows of step 0.
    pub(crate) parameters: Vec<Option<RowsOut<'a, E>>>,
}

/// Runs a checked call of a layer with these `parameters`, in the order of [`Config::parameters`].
pub(crate) fn run_back<E: Element>(
    config: &Config,
    level: Level,
    parameters: &[&[E]],
    job: BackJob<'_, E>,
    weights: &mut TrainingWeights<E>,
    memory: &mut BackMemory<E>,
) {
    if job.batch.rows() == 0 {
        return; // however many steps
    }
    let wanted = Wanted {
        directions: config.num_directions(),
        rows: job.batch.rows_before(job.batch.steps()),
        lowest: job.lowest_layer(config),
        input: job.d_input.is_some(),
        again: job.saved.every > 0,
    };
    // SAFETY: the parameters are borrowed until this returns, and what was made of them ends before.
    let mut back = unsafe { weights.back(config, level, parameters, wanted) };
    back.run(job, wanted.lowest, memory);
    weights.keep_back(back, wanted);
}

impl<E: Element> BackJob<'_, E> {
    /// The lowest layer of which something is wanted, or that something wanted depends on.
    fn lowest_layer(&self, config: &Config) -> usize {
        if self.d_input.is_some() || self.d_states.iter().any(Option::is_some) {
            return 0;
        }
        let each = config.direction_parameters(0).len() * config.num_directions();
        let wanted = self.parameters.iter().position(Option::is_some);
        wanted.map_or(config.num_layers, |first| first / each)
    }
}
