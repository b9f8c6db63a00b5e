//! The least time a machine can take.

use crate::machine::{self, Caches};
use crate::{Cell, Kind, Row};

/// Bytes a core reads per second where the data lie in each place.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Bandwidth {
    /// Level-1 cache.
    pub l1: f64,
    /// Level-2 cache.
    pub l2: f64,
    /// Level-3 cache.
    pub l3: f64,
    /// Main memory.
    pub dram: f64,
}

/// What one core of a machine can do; the least time of a row follows from it.
///
/// It stands for the plain method: every output is one chain over its inputs, every weight is read
/// once a step, and nothing but the products, the sigmoids and the hyperbolic tangents counts. A
/// walk that turns round at the end of the weights reads a part of them from a nearer cache, so
/// where they just outgrow one a row may pass 100 %.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Limit {
    /// Name of the instruction set.
    pub level: &'static str,
    /// Fused multiply-adds of `f32` per second.
    pub multiply_adds: f64,
    /// Reading speeds.
    pub bandwidth: Bandwidth,
    /// Sizes up to which data stay in the level-1, 2 and 3 cache, in bytes.
    pub resident: [f64; 3],
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
        let level = tidegate::Level::best();
        let caches = Caches::detect();
        Self {
            level: level.name(),
            multiply_adds: machine::multiply_adds(level),
            bandwidth: Bandwidth {
                l1: machine::read(level, 24 << 10),
                l2: machine::read(level, 512 << 10),
                l3: machine::read(level, 8 << 20),
                dram: machine::read(level, 256 << 20),
            },
            resident: caches.resident(),
            lanes: machine::lanes(level),
            activation: machine::activation(level),
            hop: machine::hop(),
        }
    }

    /// The least seconds one call of `row` can take on `threads` cores, used in the best way: rows
    /// of the batch shared out; directions or stacked layers on different cores; or the units of
    /// every step shared out, which costs a hop a step.
    pub fn row(&self, row: &Row, threads: usize) -> f64 {
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

    /// Seconds to read `bytes` that were read one step before.
    fn load(&self, bytes: f64) -> f64 {
        let Bandwidth { l1, l2, l3, dram } = self.bandwidth;
        let nearest = self.resident.iter().position(|&size| bytes <= size);
        bytes / nearest.map_or(dram, |place| [l1, l2, l3][place])
    }
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
    const LIMIT: Limit = Limit {
        level: "none",
        multiply_adds: 16.0,
        bandwidth: Bandwidth { l1: 64.0, l2: 32.0, l3: 16.0, dram: 4.0 },
        resident: [32e3, 1e6, 16e6],
        lanes: 16,
        activation: 17.0,
        hop: 200.0,
    };

    fn at(name: &str, threads: usize) -> f64 {
        let rows = grid();
        LIMIT.row(rows.iter().find(|row| row.name == name).unwrap(), threads)
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
        assert_eq!(LIMIT.load(32e3), 500.0);
        assert_eq!(LIMIT.load(64e3), 2000.0);
        assert_eq!(LIMIT.load(16e6), 1e6);
        assert_eq!(LIMIT.load(20e6), 5e6);
    }
}
