//! How a call is shared out among threads.

use tidegate_simd::{meeting, sharing};

use crate::Element;
use crate::batch::Batch;
use crate::crew;
use crate::pace;
use crate::stack::Stack;
use crate::threads;
use crate::weights::Direction;

/// Multiply-adds of a step's recurrent product below which meeting after every step costs more than a second thread
/// saves.
fn worth_meeting() -> usize {
    if cfg!(miri) { 100 } else { meeting() }
}

/// Multiply-adds that a thread could do in the time that a meeting after a step takes: the same figure is near enough.
/// Measured on a Zen 4, two layers on two threads, 100 steps: as fast with units as with layers at 333,000 multiply-adds
/// of a layer's step, and a sixth faster with layers at 33,000.
fn meeting_takes() -> usize {
    if cfg!(miri) { 1_000_000 } else { meeting() }
}

/// Rows whose multiply-adds take about as long as to read weights from where [`sharing`] says that they are far. Two threads
/// instead of one for single steps of 384 units: 0.37 (GRU) and 0.46 (LSTM) of the time, GRU of 512: 0.57 (Granite Rapids).
const WAITED_FOR: usize = 4;

/// Multiply-adds in the time that a weight takes to be packed for the step that reads it: 0.18 to 0.23 ns, LSTMs of 128 and 512
/// units, f32 with AVX-512 (Ice Lake).
const PACKED_FOR_STEP: usize = 8;

/// What each thread of a call does.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Plan {
    /// Everything for one of so many parts of the rows, without waiting for another.
    Rows(usize),
    /// One of so many directions, layer by layer.
    Directions(usize),
    /// One of so many parts of the units, for all rows; all meet after every step.
    Units(usize),
    /// One of so many layers, for all rows, some steps behind the layer below.
    Layers(usize),
}

impl Plan {
    /// Number of threads.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Rows(count)
            | Self::Directions(count)
            | Self::Units(count)
            | Self::Layers(count) => *count,
        }
    }
}

impl<E: Element> Stack<E> {
    /// How to share out a call among up to so many `threads`. Where something is done `between` the layers, one is complete
    /// before the next begins.
    pub(crate) fn plan(&self, batch: &Batch<'_>, between: bool, threads: usize) -> Plan {
        let config = &self.config;
        let work = self.time(batch);
        let worth = |items, work| crew::worth(threads, items, work);
        let rows = worth(batch.rows(), work);
        let directions = worth(config.num_directions(), work / config.num_layers);
        let meet = threads.min(threads::offered());
        let units = self.members(batch, work, meet);
        let layers = self.layers_worth_a_thread(batch, work, units, meet);
        if rows == 1 && layers > 1 && !between {
            Plan::Layers(layers)
        } else if directions < units && (rows < units || self.prefers_units(batch, rows)) {
            Plan::Units(units)
        } else if rows < directions {
            Plan::Directions(directions)
        } else {
            Plan::Rows(rows)
        }
    }

    /// Number of multiply-adds of `rows` rows of all steps.
    pub(crate) fn work(&self, rows: usize) -> usize {
        self.directions
            .iter()
            .map(Direction::work)
            .fold(0, usize::saturating_add)
            .saturating_mul(rows)
    }

    /// How long a call takes, in multiply-adds: of few rows as long as of [`WAITED_FOR`], if they wait for far weights, and
    /// longer by [`PACKED_FOR_STEP`] each if every step packs them.
    pub(crate) fn time(&self, batch: &Batch<'_>) -> usize {
        let waits = |d: &Direction<E>| sharing().pays(d.w_hh.bytes(), batch.rows());
        let least = if self.directions.iter().any(waits) { WAITED_FOR } else { 0 };
        let rows = batch.rows_before(batch.steps()).max(batch.steps().saturating_mul(least));
        let packed = if self.packs() { batch.steps().saturating_mul(PACKED_FOR_STEP) } else { 0 };
        self.work(rows.saturating_add(packed))
    }

    /// Whether every step packs the weights that it reads.
    fn packs(&self) -> bool {
        self.directions.iter().any(|d| d.w_hh.is_given())
    }

    /// How many of `threads` should share out the units of every step, for a call of `work`
    /// multiply-adds; 1 where that does not pay.
    fn members(&self, batch: &Batch<'_>, work: usize, threads: usize) -> usize {
        let recurrent = self.directions.iter().map(|d| d.w_hh.len());
        let step = batch.rows().saturating_mul(recurrent.min().unwrap_or(0));
        let projected = self.config.proj_size > 0;
        if projected || step < worth_meeting() {
            return 1;
        }
        let blocks = self.directions.iter().map(|d| d.w_hh.blocks).min().unwrap_or(1);
        crew::worth(threads, blocks, work)
    }

    /// Whether sharing out units is better than sharing out rows among `threads` even where there are rows enough:
    /// weights are far, every thread with rows would pack them all, or the longest sequences would leave one thread with
    /// more than its share.
    fn prefers_units(&self, batch: &Batch<'_>, threads: usize) -> bool {
        let rows = batch.rows().div_ceil(threads);
        let far = |d: &Direction<E>| sharing().pays(d.w_hh.bytes(), rows);
        let most = (0..threads).map(|k| batch.rows_of(batch.part(k, threads))).max().unwrap_or(0);
        let is_even = 4 * threads * most <= 5 * batch.rows_before(batch.steps());
        !is_even || self.packs() || self.directions.iter().any(far)
    }

    /// The number of layers if one of `threads` for each is better than `units` of them that share out the units; else 1.
    fn layers_worth_a_thread(
        &self,
        batch: &Batch<'_>,
        work: usize,
        units: usize,
        threads: usize,
    ) -> usize {
        let (layers, steps) = (self.config.num_layers, batch.steps());
        let most = crew::worth(threads, layers, work);
        if self.config.bidirectional || most < layers {
            return 1;
        }
        // Of a step of all rows; the last layer begins `layers - 1` parts late.
        let of_layer = |d: &Direction<E>| d.work().saturating_mul(batch.rows());
        let longest = self.directions.iter().map(of_layer).max().unwrap_or(0);
        let late = longest.saturating_mul((layers - 1) * pace::part(steps)) / steps.max(1);
        let by_layers = longest.saturating_add(late);
        let all = self.work(batch.rows());
        let by_units =
            if units > 1 { (all / units).saturating_add(layers * meeting_takes()) } else { all };
        if by_layers < by_units { layers } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Mode, RnnBase};

    #[test]
    fn a_call_is_shared_out_by_what_it_has_enough_of() {
        if threads::offered() < 2 {
            return;
        }
        let plan_of = |config: Config, steps, rows, between| {
            let layer = RnnBase::<f32>::new(config).unwrap();
            let plan = layer.stack().plan(&Batch::Equal { steps, rows }, between, 2);
            format!("{plan:?}")
        };
        let plan = |config, rows, between| plan_of(config, 100, rows, between);
        let one = Config::new(Mode::Lstm, 96, 96);
        let two = Config { num_layers: 2, ..one };
        assert_eq!(plan(two, 1, false), "Layers(2)");
        assert_eq!(plan(two, 1, true), "Units(2)");
        assert_eq!(plan(one, 1, false), "Units(2)");
        assert_eq!(plan(Config { bidirectional: true, ..two }, 1, false), "Directions(2)");
        assert_eq!(plan(two, 8, false), "Rows(2)");
        // Meeting is a small part of such a step, and waiting for the first part of a layer is not.
        let large = Config { num_layers: 2, ..Config::new(Mode::Lstm, 512, 512) };
        assert_eq!(plan(large, 1, false), "Units(2)");
        let small = Config { num_layers: 2, ..Config::new(Mode::Lstm, 16, 16) };
        assert_eq!(plan(small, 1, false), "Rows(1)");
        // A step alone.
        let step = |units| plan_of(Config::new(Mode::Lstm, units, units), 1, 1, false);
        assert_eq!(step(512), "Units(2)");
        assert_eq!(step(256), "Rows(1)");
        // Worth a second thread where it waits for weights.
        let waits = sharing().pays(4 * 384 * 384 * size_of::<f32>(), 1);
        let want = if waits { "Units(2)" } else { "Rows(1)" };
        assert_eq!(step(384), want);
    }
}
