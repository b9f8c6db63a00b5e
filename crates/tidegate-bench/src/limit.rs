//! The least time a machine can take.

use tidegate::Level;

use crate::machine;
use crate::{Cell, Kind, Row};

/// How fast a core reads a buffer again and again.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct ReadSpeed {
    /// Size of the buffer.
    pub bytes: f64,
    /// Bytes per second.
    pub speed: f64,
}

/// Sizes of buffers whose reading is timed, in KB: four for each doubling would say little more.
const SIZES: [usize; 13] =
    [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131_072];

/// What one core of a machine can do; the least time of a row follows from it.
///
/// It stands for the plain method: every weight is read once a step, in one direction, and nothing
/// but the products, the sigmoids and the hyperbolic tangents counts. A walk that turns round at the
/// end of the weights reads a part of them from a nearer cache, so where they just outgrow one a row
/// may pass 100 %.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Name of the instruction set.
    pub level: &'static str,
    /// Fused multiply-adds of `f32` per second.
    pub multiply_adds: f64,
    /// Reading speeds of buffers of growing size.
    pub reads: Vec<ReadSpeed>,
    /// `f32` in a vector.
    pub lanes: usize,
    /// Seconds for one vector of sigmoids. A hyperbolic tangent costs at least as much.
    pub activation: f64,
    /// Seconds until another core sees what one wrote.
    pub hop: f64,
}

impl Limit {
    /// Measures this machine on the calling thread, in about a second.
    ///
    /// Every figure is the best of many short rounds: what else the machine does can only slow one.
    pub fn calibrate() -> Self {
        let level = Level::best();
        Self {
            level: level.name(),
            multiply_adds: machine::multiply_adds(level),
            reads: reads(level),
            lanes: machine::lanes(level),
            activation: machine::activation(level),
            hop: machine::hop(),
        }
    }

    /// How many times as long as when it was measured the machine takes now: others share it, and its clock changes.
    pub fn pace(&self) -> f64 {
        let level = Level::available().into_iter().find(|level| level.name() == self.level);
        level.map_or(1.0, |level| self.multiply_adds / machine::multiply_adds_now(level))
    }

    /// The least seconds one call of `row` can take on `threads` cores, used in the best way: rows
    /// of the batch shared out; directions or stacked layers on different cores; or the units of
    /// every step shared out, which costs a hop a step.
    ///
    /// Of training it is the time of all products, shared out evenly, and of the activations forward.
    pub fn row(&self, row: &Row, threads: usize) -> f64 {
        if row.kind == Kind::Train {
            let rows: usize = row.lengths().iter().sum();
            let vectors = row.hidden_size.div_ceil(self.lanes) * row.num_layers * row.directions;
            let activations = (rows * vectors) as f64 * self.activation * activations(row.cell);
            return (row.multiply_adds() / self.multiply_adds + activations) / threads as f64;
        }
        let alone = self.input(row) + self.steps(row, 1, 1);
        let mut best = alone;
        for cores in 2..=threads {
            let input = self.input(row) / cores as f64;
            let chains = if row.directions > 1 { row.directions } else { row.num_layers };
            let hops = (row.num_layers * longest(row)) as f64 * self.hop;
            best = best
                .min(alone / chains.min(cores) as f64)
                .min(input + self.steps(row, cores, 1))
                .min(input + self.steps(row, 1, cores) + hops);
        }
        best
    }

    /// Seconds of the input products of all steps on one core; none where a call is one step, whose
    /// input weights are read like its recurrent ones.
    fn input(&self, row: &Row) -> f64 {
        if row.kind == Kind::Step {
            return 0.0;
        }
        let rows: usize = row.lengths().iter().sum();
        let inputs: usize = (0..row.num_layers).map(|layer| row.layer_input_size(layer)).sum();
        (rows * gate_units(row) * inputs) as f64 * row.directions as f64 / self.multiply_adds
    }

    /// Seconds of all steps of all layers and directions on each of `by_rows * by_units` cores.
    fn steps(&self, row: &Row, by_rows: usize, by_units: usize) -> f64 {
        let lengths = row.lengths();
        let mut total = 0.0;
        for layer in 0..row.num_layers {
            let hoisted = row.kind != Kind::Step;
            let inputs = row.hidden_size + if hoisted { 0 } else { row.layer_input_size(layer) };
            let weights = (gate_units(row) * inputs) as f64 / by_units as f64;
            // f32, 4 bytes each.
            let load = self.load(4.0 * weights);
            let vectors = row.hidden_size.div_ceil(self.lanes) as f64 / by_units as f64;
            let activations = vectors * self.activation * activations(row.cell);
            for t in 0..longest(row) {
                let alive = lengths.iter().filter(|&&length| length > t).count();
                let rows = alive.div_ceil(by_rows) as f64;
                total += load.max(rows * (weights / self.multiply_adds + activations));
            }
        }
        total * row.directions as f64
    }

    /// Seconds to read `bytes` that were read one step before: at the speed of a buffer of that
    /// size, between two sizes at a speed between theirs.
    fn load(&self, bytes: f64) -> f64 {
        let after = self.reads.partition_point(|read| read.bytes < bytes);
        let (Some(from), Some(to)) =
            (self.reads.get(after.saturating_sub(1)), self.reads.get(after).or(self.reads.last()))
        else {
            return 0.0;
        };
        let share = match from.bytes < to.bytes {
            true => (bytes / from.bytes).ln() / (to.bytes / from.bytes).ln(),
            false => 0.0,
        };
        bytes / (from.speed + share.clamp(0.0, 1.0) * (to.speed - from.speed))
    }
}

/// The speed of every size: that of a larger one, should it be higher, as what shares the machine
/// and where the buffers happen to lie can only slow one.
fn reads(level: Level) -> Vec<ReadSpeed> {
    let mut reads = SIZES.map(|size| {
        let bytes = size << 10;
        ReadSpeed { bytes: bytes as f64, speed: machine::read(level, bytes) }
    });
    for k in (1..reads.len()).rev() {
        reads[k - 1].speed = reads[k - 1].speed.max(reads[k].speed);
    }
    reads.into()
}

/// `G * H`.
fn gate_units(row: &Row) -> usize {
    row.cell.mode().gates() * row.hidden_size
}

/// Sigmoids and hyperbolic tangents per unit and step.
fn activations(cell: Cell) -> f64 {
    match cell {
        Cell::Lstm => 5.0,
        Cell::Gru => 3.0,
    }
}

fn longest(row: &Row) -> usize {
    row.lengths().into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid;

    /// Round numbers: multiply-adds and bytes per "second" as on a machine of one cycle a second.
    fn limit() -> Limit {
        let read = |(bytes, speed)| ReadSpeed { bytes, speed };
        let speeds =
            [(32e3, 64.0), (33e3, 32.0), (1e6, 32.0), (1.1e6, 16.0), (16e6, 16.0), (17e6, 4.0)];
        Limit {
            level: "none",
            multiply_adds: 16.0,
            reads: speeds.map(read).into(),
            lanes: 16,
            activation: 17.0,
            hop: 200.0,
        }
    }

    fn at(name: &str, threads: usize) -> f64 {
        let rows = grid();
        limit().row(rows.iter().find(|row| row.name == name).unwrap(), threads)
    }

    #[test]
    fn a_step_reads_all_weights() {
        // 4 * 128 * 256 weights of 4 bytes, from the level-2 cache; the products take less.
        assert_eq!(at("lstm-step-h128", 1), 524_288.0 / 32.0);
        // 3 * 16 * 32 weights: in level 1 as fast as the products, and three activations come on top.
        assert_eq!(at("gru-step-h16", 1), 1536.0 / 16.0 + 3.0 * 17.0);
    }

    #[test]
    fn sequences_hoist_the_input_product() {
        let input = 100.0 * 65_536.0 / 16.0;
        let step = 65_536.0 * 4.0 / 32.0;
        assert_eq!(at("lstm-seq-h128-t100-b1", 1), input + 100.0 * step);
        // Two cores: half of the units each, from level 2, and a hop.
        let split = input / 2.0 + 100.0 * (step / 2.0 + 200.0);
        assert_eq!(at("lstm-seq-h128-t100-b1", 2), split);
        // A direction each needs no hop.
        assert_eq!(at("lstm-seq-h128-bi-t100-b1", 1), 2.0 * (input + 100.0 * step));
        assert_eq!(at("lstm-seq-h128-bi-t100-b1", 2), input + 100.0 * step);
    }

    #[test]
    fn batches_are_arithmetic_and_halve() {
        let weights = 4.0 * 64.0 * 64.0;
        let step = 8.0 * (weights / 16.0 + 4.0 * 5.0 * 17.0);
        let expected = 800.0 * weights / 16.0 + 100.0 * step;
        assert_eq!(at("lstm-seq-h64-t100-b8", 1), expected);
        assert_eq!(at("lstm-seq-h64-t100-b8", 2), expected / 2.0);
    }

    #[test]
    fn ragged_rows_count_only_living_steps() {
        let (ragged, equal) = (at("gru-ragged-h64-t100-b8", 1), at("gru-seq-h64-t100-b8", 1));
        assert!(ragged < 0.7 * equal, "{ragged} {equal}");
    }

    #[test]
    fn large_weights_come_from_further_away() {
        assert_eq!(limit().load(32e3), 500.0);
        assert_eq!(limit().load(64e3), 2000.0);
        // Half-way between two speeds.
        let between = (32e3f64 * 33e3).sqrt();
        assert!((limit().load(between) * 48.0 / between - 1.0).abs() < 1e-12);
        assert_eq!(limit().load(16e6), 1e6);
        assert_eq!(limit().load(20e6), 5e6);
    }
}
