//! One checked call: layers times directions, shared out among threads.
#![allow(unsafe_code, reason = "results are shared out among threads by rows")]

use core::ops::Range;

use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::check::InitialState;
use crate::crew::Crew;
use crate::cuts::{Cuts, Reset};
use crate::exchange::{Exchange, Member, Watch};
use crate::pace::Pace;
use crate::plan::Plan;
use crate::rows::{Layout, RowsIn, RowsOut};
use crate::saved::{Keep, SavedScan};
use crate::scan::{Others, Scan};
use crate::stack::Stack;
use crate::weights::Direction;
use crate::workspace::Task;
use crate::{Element, Generator, memory, threads};

/// A call with everything checked, in terms of rows.
pub(crate) struct Job<'a, E> {
    pub(crate) batch: Batch<'a>,
    pub(crate) input: RowsIn<'a, E>,
    pub(crate) output: RowsOut<'a, E>,
    pub(crate) state: Option<InitialState<'a, E>>,
    /// Position in the states of each sequence of the batch.
    pub(crate) order: Option<&'a [usize]>,
    pub(crate) h_n: &'a mut [E],
    pub(crate) c_n: &'a mut [E],
    pub(crate) dropout: Option<&'a mut Generator>,
    /// The cuts of the sequences and the states after them.
    pub(crate) resets: Option<(Cuts<'a>, Option<InitialState<'a, E>>)>,
}

/// The memory of a call.
pub(crate) struct Memory<'a, E> {
    /// Outputs between layers: of two layers by turns, of all in training and where all run at once.
    pub(crate) between: &'a mut Buffer<E>,
    pub(crate) masks: &'a mut Buffer<E>,
    pub(crate) exchange: &'a mut Exchange<E>,
    pub(crate) tasks: &'a mut Vec<Task<E>>,
    /// In training, what backward needs of each layer and direction, and the steps between checkpoints if there are any.
    pub(crate) saved: Option<(&'a mut Vec<SavedScan<E>>, Option<usize>)>,
}

impl<E: Element> Stack<E> {
    /// Runs a checked call.
    pub(crate) fn run(&self, job: Job<'_, E>, memory: Memory<'_, E>) {
        let Memory { between, masks, exchange, tasks, saved } = memory;
        let config = &self.config;
        let (batch, rows) = (job.batch, job.batch.rows());
        let total = batch.rows_before(batch.steps());
        let width = config.num_directions() * config.output_size();

        let p = config.dropout;
        let masks: Option<&[E]> = match job.dropout {
            Some(generator) if p > 0.0 && config.num_layers > 1 => {
                let len = (config.num_layers - 1) * total * width;
                masks.reserve(len);
                draw_masks(&mut masks[..len], p, generator);
                Some(&masks[..len])
            }
            _ => None,
        };
        let keep = match saved {
            None => Vec::new(),
            Some((saved, span)) => {
                memory::lengthen(saved, self.directions.len());
                saved.truncate(self.directions.len());
                let scans = saved.iter_mut().zip(&self.directions);
                let steps = 0..batch.steps();
                let mut keep = memory::with_capacity(scans.len());
                keep.extend(scans.map(|(saved, direction)| match span {
                    Some(span) => saved.checkpoints(direction, config, &batch, span),
                    None => saved.rows(direction, config, &batch, steps.clone()),
                }));
                keep
            }
        };
        let crew = Crew::of_call(self.time(&batch));
        let plan = self.plan(&batch, masks.is_some(), crew.threads);
        let upper = config.num_layers - 1;
        // By turns where a layer is done before the next but one begins.
        let by_turns = keep.is_empty() && !matches!(plan, Plan::Layers(_));
        let slots = if by_turns { upper.min(2) } else { upper };
        between.reserve(slots * total * width);
        let state = job.state.map(|state| state.rows(job.order));
        let reset = job.resets.and_then(|(_, state)| state).map(|state| state.rows(job.order));
        let call = Call {
            stack: self,
            batch,
            input: job.input,
            output: job.output,
            between: (slots > 0).then(|| RowsOut::packed(between, &batch, width)),
            slots,
            h_0: state.map(|(h, _)| h),
            c_0: state.and_then(|(_, c)| c),
            h_n: state_rows(job.h_n, rows, config.output_size(), job.order),
            c_n: config
                .mode
                .has_cell_state()
                .then(|| state_rows(job.c_n, rows, config.hidden_size, job.order)),
            masks,
            keep: &keep,
            cuts: job.resets.map(|(cuts, _)| cuts),
            reset_h: reset.map(|(h, _)| h),
            reset_c: reset.and_then(|(_, c)| c),
        };
        call.run(plan, crew, tasks, exchange);
    }

    /// Elements of the longest row of `h`.
    fn widest_state(&self) -> usize {
        self.directions.iter().map(Direction::h_stride).max().unwrap_or(0)
    }
}

/// The rows of a final state `[D*L, B, size]`, with the step standing for layer and direction.
pub(crate) fn state_rows<'a, E: Element>(
    data: &'a mut [E],
    rows: usize,
    size: usize,
    order: Option<&'a [usize]>,
) -> RowsOut<'a, E> {
    let layout = Layout::strided((rows * size) as isize, size as isize, order);
    // SAFETY: the results' lengths were checked, and `order` is a permutation of the rows.
    unsafe { RowsOut::new(data, layout, size) }
}

/// What all threads of a call share.
struct Call<'a, E> {
    stack: &'a Stack<E>,
    batch: Batch<'a>,
    input: RowsIn<'a, E>,
    output: RowsOut<'a, E>,
    /// Outputs of `slots` layers, one after the other.
    between: Option<RowsOut<'a, E>>,
    slots: usize,
    h_0: Option<RowsIn<'a, E>>,
    c_0: Option<RowsIn<'a, E>>,
    h_n: RowsOut<'a, E>,
    c_n: Option<RowsOut<'a, E>>,
    masks: Option<&'a [E]>,
    /// One per layer and direction, or none.
    keep: &'a [Keep<'a, E>],
    cuts: Option<Cuts<'a>>,
    reset_h: Option<RowsIn<'a, E>>,
    reset_c: Option<RowsIn<'a, E>>,
}

impl<E: Element> Call<'_, E> {
    /// Runs the call on as many threads of `crew` as `plan` says, or on this one if they cannot be had.
    fn run(&self, plan: Plan, crew: Crew, tasks: &mut Vec<Task<E>>, exchange: &mut Exchange<E>) {
        let (config, rows) = (&self.stack.config, 0..self.batch.rows());
        if rows.is_empty() {
            return; // however many steps
        }
        let work = self.stack.time(&self.batch);
        memory::lengthen(tasks, plan.len());
        let tasks = &mut tasks[..plan.len()];
        let met = match plan {
            Plan::Rows(parts) => {
                crew.for_each(tasks, |k, task| {
                    // SAFETY: the parts are disjoint, so no two threads share a row.
                    unsafe { self.run_rows(self.batch.part(k, parts), task) }
                });
                true
            }
            Plan::Directions(_) => {
                for layer in 0..config.num_layers {
                    crew.for_each(tasks, |direction, task| {
                        // SAFETY: the directions write different columns, and the layer below is done.
                        unsafe {
                            self.run_direction(layer, direction, rows.clone(), task, Others::None)
                        }
                    });
                    // SAFETY: nothing else is running.
                    unsafe { self.finish_layer(layer, rows.clone()) }
                }
                true
            }
            Plan::Units(members) => {
                exchange.prepare(members, rows.len() * self.stack.widest_state());
                threads::together(tasks, work, |k, task| {
                    // SAFETY: each `k` below `members` is called once, all at the same time.
                    let member = unsafe { exchange.member(k, members) };
                    // SAFETY: the members share out the units of all rows.
                    unsafe { self.run_units(member, task) }
                })
            }
            Plan::Layers(layers) => {
                exchange.prepare(layers, 0);
                threads::together(tasks, work, |layer, task| {
                    // SAFETY: as above.
                    let member = unsafe { exchange.member(layer, layers) };
                    let _watch = Watch(member);
                    let pace = Pace::new(member, self.batch.steps());
                    // SAFETY: every layer is run once, at the pace of the layer below, and writes to a place of its own.
                    unsafe {
                        self.run_direction(layer, 0, rows.clone(), task, Others::Layers(pace))
                    }
                })
            }
        };
        if !met {
            // SAFETY: nothing else is running.
            unsafe { self.run_rows(rows, &mut tasks[0]) }
        }
    }

    /// Runs all layers and directions for `rows`.
    ///
    /// # Safety
    /// No other thread may run any of these rows at the same time.
    unsafe fn run_rows(&self, rows: Range<usize>, task: &mut Task<E>) {
        for layer in 0..self.stack.config.num_layers {
            for direction in 0..self.stack.config.num_directions() {
                // SAFETY: the caller's.
                unsafe { self.run_direction(layer, direction, rows.clone(), task, Others::None) }
            }
            // SAFETY: the caller's.
            unsafe { self.finish_layer(layer, rows.clone()) }
        }
    }

    /// Runs `member`'s units of all rows, in all layers and directions.
    ///
    /// # Safety
    /// The other members, and nobody else, must run their units at the same time.
    unsafe fn run_units(&self, member: Member<'_, E>, task: &mut Task<E>) {
        let _watch = Watch(member);
        let rows = 0..self.batch.rows();
        for layer in 0..self.stack.config.num_layers {
            for direction in 0..self.stack.config.num_directions() {
                // SAFETY: every member writes its own units. It reads what the layer below wrote
                // after all members have met at the end of its last step.
                unsafe {
                    self.run_direction(layer, direction, rows.clone(), task, Others::Units(member));
                }
            }
            if self.masks.is_some() {
                if member.is_first() {
                    // SAFETY: the others wait.
                    unsafe { self.finish_layer(layer, rows.clone()) }
                }
                member.meet();
            }
        }
    }

    /// Where the rows of `layer`'s output go.
    fn output_of(&self, layer: usize) -> RowsOut<'_, E> {
        let config = &self.stack.config;
        match self.between {
            Some(between) if layer + 1 < config.num_layers => {
                let width = config.num_directions() * config.output_size();
                let slot = self.batch.rows_before(self.batch.steps()) * width;
                // SAFETY: there are as many slots, of which each holds the rows of all steps.
                unsafe { between.shifted(layer % self.slots * slot) }
            }
            _ => self.output,
        }
    }

    /// Runs one direction of `layer` for `rows`.
    ///
    /// # Safety
    /// The layer below must be done with these rows, or be among the `others`, and no other thread may run them in this
    /// direction at the same time, but for these.
    unsafe fn run_direction(
        &self,
        layer: usize,
        direction: usize,
        rows: Range<usize>,
        task: &mut Task<E>,
        others: Others<'_, E>,
    ) {
        let config = &self.stack.config;
        let (index, size) = (layer * config.num_directions() + direction, config.output_size());
        let weights = &self.stack.directions[index];
        let blocks = others.blocks(weights.w_hh.blocks);
        let output = self.output_of(layer).columns(direction * size, size);
        let units = weights.units_of(&blocks, config.hidden_size);
        let scan = Scan {
            direction: weights,
            batch: self.batch,
            rows,
            output: match weights.w_hr {
                Some(_) => output,
                None => output.columns(units.start, units.len()),
            },
            blocks,
            others,
            positions: 0..self.batch.steps(),
            reverse: direction == 1,
            input: match layer.checked_sub(1) {
                // SAFETY: the caller's.
                Some(below) => unsafe { self.output_of(below).reader() },
                None => self.input,
            },
            reset: self.cuts.map(|cuts| Reset {
                cuts,
                h: self.reset_h,
                c: self.reset_c,
                index,
                has_c: config.mode.has_cell_state(),
            }),
            keep: self.keep.get(index).copied(),
        };
        // SAFETY: the caller's.
        unsafe { self.run_scan(scan, index, units, task) }
    }

    /// Applies dropout to the output of `layer`, if there is a layer above it.
    ///
    /// # Safety
    /// No other thread may access these rows at the same time.
    unsafe fn finish_layer(&self, layer: usize, rows: Range<usize>) {
        if let Some(masks) = self.masks
            && layer + 1 < self.stack.config.num_layers
        {
            // SAFETY: the caller's.
            unsafe { self.apply_mask(masks, layer, rows, &self.output_of(layer)) }
        }
    }

    /// Runs one layer in one direction, the `index`-th of the stack, from state to state.
    ///
    /// # Safety
    /// As [`run_rows`](Self::run_rows).
    unsafe fn run_scan(
        &self,
        scan: Scan<'_, E>,
        index: usize,
        units: Range<usize>,
        task: &mut Task<E>,
    ) {
        let Stack { config, level, .. } = self.stack;
        let (direction, rows) = (scan.direction, scan.rows.clone());
        let Task { carry, scratch } = task;
        carry.reserve(direction, config.mode, rows.len());
        carry.load(direction, index, rows.clone(), self.h_0, self.c_0);
        // SAFETY: the caller's.
        unsafe {
            scan.run(config.mode, *level, carry, scratch);
            carry.store(direction, index, rows, units, &self.h_n, self.c_n.as_ref());
        }
    }

    /// Multiplies the output of `layer` by its dropout mask.
    ///
    /// # Safety
    /// As [`run_rows`](Self::run_rows).
    unsafe fn apply_mask(
        &self,
        masks: &[E],
        layer: usize,
        rows: Range<usize>,
        output: &RowsOut<'_, E>,
    ) {
        let config = &self.stack.config;
        let width = config.num_directions() * config.output_size();
        let total = self.batch.rows_before(self.batch.steps());
        for t in 0..self.batch.steps() {
            for b in rows.start..rows.end.min(self.batch.rows_at(t)) {
                let row = layer * total + self.batch.rows_before(t) + b;
                // SAFETY: the caller's.
                unsafe { output.scale(t, b, &masks[row * width..]) }
            }
        }
    }
}

/// Fills `masks` with 0, with probability `p`, and `1 / (1 - p)` otherwise.
fn draw_masks<E: Element>(masks: &mut [E], p: f64, generator: &mut Generator) {
    let keep = E::from_f64(if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 });
    masks.fill_with(|| if generator.uniform::<f64>() < p { E::ZERO } else { keep });
}
