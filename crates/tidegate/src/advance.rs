//! What a thread does in a call of a stream.
#![allow(unsafe_code, reason = "the rows handed to a scan are this stream's alone")]

use crate::Element;
use crate::batch::Batch;
use crate::carry::{Carry, Scratch};
use crate::rows::{RowsIn, RowsOut};
use crate::scan::{Others, Scan};
use crate::stack::Stack;

/// What one thread of a stream works on.
#[derive(Clone, Debug)]
pub(crate) struct Part<E> {
    /// One per layer.
    pub(crate) carries: Vec<Carry<E>>,
    pub(crate) scratch: Scratch<E>,
}

impl<E: Element> Part<E> {
    /// Room for the states, zero, and for a step of `batch` sequences.
    pub(crate) fn new(stack: &Stack<E>, batch: usize) -> Self {
        let step = Batch::Equal { steps: 1, rows: batch };
        let mut scratch = Scratch::default();
        let mut carries = vec![Carry::default(); stack.directions.len()];
        for (carry, direction) in carries.iter_mut().zip(&stack.directions) {
            carry.reserve(direction, stack.config.mode, batch);
            scratch.reserve(direction, &step, batch);
        }
        Self { carries, scratch }
    }
}

/// One call of a stream, for all threads that run it.
pub(crate) struct Advance<'a, E> {
    pub(crate) stack: &'a Stack<E>,
    pub(crate) batch: Batch<'a>,
    pub(crate) input: RowsIn<'a, E>,
    /// Outputs of the layers but the last, by turns, if there are others.
    pub(crate) between: Option<[RowsOut<'a, E>; 2]>,
    pub(crate) output: RowsOut<'a, E>,
}

impl<E: Element> Advance<'_, E> {
    /// Runs all layers, or the units in them that are not for others.
    ///
    /// # Safety
    /// No other thread may run the same units at the same time, and the others must run.
    pub(crate) unsafe fn run(&self, part: &mut Part<E>, others: Others<'_, E>) {
        let Stack { config, level, directions, .. } = self.stack;
        let mut input = self.input;
        for (layer, (direction, carry)) in directions.iter().zip(&mut part.carries).enumerate() {
            let output = match &self.between {
                Some(between) if layer + 1 < config.num_layers => between[layer % 2],
                _ => self.output,
            };
            let blocks = others.blocks(direction.w_hh.blocks);
            let units = direction.units_of(&blocks, config.hidden_size);
            let scan = Scan {
                direction,
                batch: self.batch,
                rows: 0..self.batch.rows(),
                blocks,
                others,
                positions: 0..self.batch.steps(),
                reverse: false,
                input,
                output: match direction.w_hr {
                    Some(_) => output,
                    None => output.columns(units.start, units.len()),
                },
                reset: None,
                keep: None,
            };
            // SAFETY: the caller's. What is read next was written before all met after the last
            // step.
            unsafe {
                scan.run(config.mode, *level, carry, &mut part.scratch);
                input = output.reader();
            }
        }
    }
}
