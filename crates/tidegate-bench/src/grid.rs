//! The shapes that are measured.

use serde::{Deserialize, Serialize};
use tidegate::{Config, Mode};

/// The layers that are measured.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    /// `torch.nn.LSTM`.
    Lstm,
    /// `torch.nn.GRU`.
    Gru,
}

impl Cell {
    /// The library's name of the layer.
    pub fn mode(self) -> Mode {
        match self {
            Self::Lstm => Mode::Lstm,
            Self::Gru => Mode::Gru,
        }
    }
}

/// How a layer is called.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One step of a stream a call.
    Step,
    /// A batch of sequences a call.
    Sequence,
    /// A batch of sequences forward and back to the gradients of all parameters, which have changed since the
    /// call before.
    Train,
}

/// One shape of the grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Unique; made of what follows.
    pub name: String,
    /// Which layer.
    pub cell: Cell,
    /// `I`.
    #[serde(rename = "I")]
    pub input_size: usize,
    /// `H`.
    #[serde(rename = "H")]
    pub hidden_size: usize,
    /// `L`.
    #[serde(rename = "L")]
    pub num_layers: usize,
    /// `D`, 1 or 2.
    #[serde(rename = "D")]
    pub directions: usize,
    /// `T`; of ragged rows, the longest length there may be.
    #[serde(rename = "T")]
    pub steps: usize,
    /// `B`.
    #[serde(rename = "B")]
    pub batch: usize,
    /// How it is called.
    #[serde(rename = "mode")]
    pub kind: Kind,
    /// Whether the sequences have lengths of their own, in a padded batch.
    pub ragged: bool,
}

impl Row {
    /// A layer of `I = H` units.
    fn new(cell: Cell, kind: Kind, hidden: usize, steps: usize, batch: usize) -> Self {
        let row = Self {
            name: String::new(),
            cell,
            input_size: hidden,
            hidden_size: hidden,
            num_layers: 1,
            directions: 1,
            steps,
            batch,
            kind,
            ragged: false,
        };
        row.named()
    }

    fn stacked(self) -> Self {
        Self { num_layers: 2, ..self }.named()
    }

    fn bidirectional(self) -> Self {
        Self { directions: 2, ..self }.named()
    }

    fn ragged(self) -> Self {
        Self { ragged: true, ..self }.named()
    }

    fn named(mut self) -> Self {
        let cell = match self.cell {
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
        };
        self.name = match self.kind {
            Kind::Step => format!("{cell}-step-h{}", self.hidden_size),
            Kind::Sequence | Kind::Train => {
                let train = if self.kind == Kind::Train { "train-" } else { "" };
                let kind = if self.ragged { "ragged" } else { "seq" };
                let kind = if self.kind == Kind::Train && !self.ragged { "" } else { kind };
                let kind = format!("{train}{kind}");
                let kind = kind.trim_end_matches('-');
                let layers = if self.num_layers > 1 { "2x" } else { "" };
                let both = if self.directions > 1 { "-bi" } else { "" };
                let (hidden, steps, batch) = (self.hidden_size, self.steps, self.batch);
                format!("{cell}-{kind}-{layers}h{hidden}{both}-t{steps}-b{batch}")
            }
        };
        self
    }

    /// The layer's arguments.
    pub fn config(&self) -> Config {
        Config {
            num_layers: self.num_layers,
            bidirectional: self.directions == 2,
            ..Config::new(self.cell.mode(), self.input_size, self.hidden_size)
        }
    }

    /// Input size of a layer.
    pub fn layer_input_size(&self, layer: usize) -> usize {
        if layer == 0 { self.input_size } else { self.directions * self.hidden_size }
    }

    /// Steps of each sequence, `[B]`: of ragged rows uniform in `1..=T`, always the same ones.
    pub fn lengths(&self) -> Vec<usize> {
        if !self.ragged {
            return vec![self.steps; self.batch];
        }
        // Multiples of the golden ratio are spread evenly over the unit interval.
        let fraction = |b: usize| (b as f64 * 0.618_033_988_749_895).fract();
        (1..=self.batch).map(|b| 1 + (fraction(b) * self.steps as f64) as usize).collect()
    }

    /// Multiply-adds of the matrix products of one call: in training three times those forward, but for the
    /// gradient of the input.
    pub fn multiply_adds(&self) -> f64 {
        let forward = self.forward_multiply_adds();
        match self.kind {
            Kind::Train => {
                let rows: usize = self.lengths().iter().sum();
                let gates = self.cell.mode().gates() * self.hidden_size * self.directions;
                3.0 * forward - (rows * gates * self.input_size) as f64
            }
            _ => forward,
        }
    }

    fn forward_multiply_adds(&self) -> f64 {
        let rows: usize = self.lengths().iter().sum();
        let gates = self.cell.mode().gates() * self.hidden_size * self.directions;
        let inputs = |layer| self.layer_input_size(layer) + self.hidden_size;
        (0..self.num_layers).map(|layer| (rows * gates * inputs(layer)) as f64).sum()
    }
}

/// Every shape, LSTM and GRU each.
pub fn grid() -> Vec<Row> {
    [Cell::Lstm, Cell::Gru].into_iter().flat_map(shapes).collect()
}

fn shapes(cell: Cell) -> Vec<Row> {
    let row = |kind, (hidden, steps, batch)| Row::new(cell, kind, hidden, steps, batch);
    let sequence = |shape| row(Kind::Sequence, shape);
    let mut rows = Vec::new();
    rows.extend([8, 16, 32, 64, 128, 256, 384, 512].map(|h| row(Kind::Step, (h, 1, 1))));
    rows.extend(
        [(64, 100), (128, 100), (256, 150), (512, 25), (1024, 25)]
            .map(|(h, t)| sequence((h, t, 1))),
    );
    rows.push(sequence((256, 100, 1)).stacked());
    rows.push(sequence((128, 100, 1)).bidirectional());
    rows.extend([(64, 100, 8), (128, 100, 32), (256, 150, 16)].map(sequence));
    rows.push(sequence((256, 50, 32)).stacked());
    rows.extend([(512, 25, 16), (512, 25, 64), (1024, 25, 64), (1536, 50, 8)].map(sequence));
    // Sizes that are no multiple of any vector.
    rows.extend([20, 50, 100, 200, 300, 650].map(|h| sequence((h, 100, 1))));
    rows.extend(
        [(64, 100, 8), (128, 100, 32), (256, 150, 16)].map(|shape| sequence(shape).ragged()),
    );
    // Training: of reinforcement learning, then of the batches above.
    let train = |shape| row(Kind::Train, shape);
    rows.extend([1, 4, 8, 16, 32].map(|b| train((64, 128, b))));
    rows.extend([(128, 100, 32), (256, 150, 16)].map(train));
    rows.push(train((256, 50, 32)).stacked());
    rows.extend([(512, 25, 16), (512, 25, 64), (1024, 25, 64), (1536, 50, 8)].map(train));
    rows.extend([(64, 100, 8), (128, 100, 32), (256, 150, 16)].map(|shape| train(shape).ragged()));
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn both_layers_have_every_shape_once() {
        let rows = grid();
        assert_eq!(rows.len(), 2 * (8 + 5 + 2 + 8 + 6 + 3 + 15));
        let names: HashSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names.len(), rows.len());
        for name in [
            "lstm-step-h8",
            "gru-step-h512",
            "lstm-seq-h256-t150-b1",
            "gru-seq-2xh256-t100-b1",
            "lstm-seq-h128-bi-t100-b1",
            "gru-seq-2xh256-t50-b32",
            "lstm-seq-h1536-t50-b8",
            "gru-seq-h650-t100-b1",
            "lstm-ragged-h128-t100-b32",
            "gru-train-h64-t128-b1",
            "lstm-train-ragged-h128-t100-b32",
        ] {
            assert!(names.contains(name), "{name}");
        }
        assert!(rows.iter().all(|row| row.config().validate().is_ok()));
    }

    #[test]
    fn ragged_lengths_are_spread_over_all_there_may_be() {
        let rows = grid();
        let row = rows.iter().find(|row| row.name == "gru-ragged-h128-t100-b32").unwrap();
        let lengths = row.lengths();
        assert_eq!(lengths.len(), 32);
        assert!(lengths.iter().all(|length| (1..=100).contains(length)));
        let mean = lengths.iter().sum::<usize>() as f64 / 32.0;
        assert!((45.0..56.0).contains(&mean), "{mean}");
    }

    #[test]
    fn products_count_every_layer_and_direction() {
        let row = Row::new(Cell::Gru, Kind::Sequence, 4, 5, 2).stacked().bidirectional();
        // [T * B] rows, 3 gates of 4 units, 2 directions; 4 + 4 inputs below, 8 + 4 above.
        assert_eq!(row.multiply_adds(), f64::from(10 * 12 * 2 * (8 + 12)));
    }

    #[test]
    fn rows_are_read_as_they_are_written() {
        for row in grid() {
            let text = serde_json::to_string(&row).unwrap();
            assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
        }
    }
}
