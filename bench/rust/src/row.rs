//! A row of the grid with its input, parameters and our answer.

use std::path::PathBuf;

use serde::Deserialize;

use crate::Result;

/// A row of steps repeats the inputs of this many.
pub(crate) const STREAM_STEPS: usize = 8;

#[derive(Deserialize)]
#[expect(non_snake_case, reason = "the names of the protocol")]
pub(crate) struct Row {
    pub(crate) cell: String,
    pub(crate) mode: String,
    pub(crate) I: usize,
    pub(crate) H: usize,
    pub(crate) L: usize,
    pub(crate) D: usize,
    pub(crate) T: usize,
    pub(crate) B: usize,
    pub(crate) ragged: bool,
    pub(crate) threads: usize,
    pub(crate) seconds: f64,
    folder: PathBuf,
    /// [T, B, I]; of a row of steps T is [`STREAM_STEPS`].
    #[serde(skip)]
    pub(crate) x: Vec<f32>,
    /// [T, B, D H].
    #[serde(skip)]
    pub(crate) answer: Vec<f32>,
}

impl Row {
    /// The row that `request` describes, with its files.
    pub(crate) fn read(request: &str) -> Result<Self> {
        let mut row: Self = serde_json::from_str(request)?;
        row.x = row.file("x")?;
        row.answer = row.file("answer")?;
        Ok(row)
    }

    fn file(&self, name: &str) -> Result<Vec<f32>> {
        let bytes = std::fs::read(self.folder.join(name))?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// The parameter `name` of a layer, in PyTorch's words and layout.
    pub(crate) fn parameter(&self, name: &str, layer: usize, direction: usize) -> Result<Vec<f32>> {
        self.file(&format!("{name}_l{layer}{}", ["", "_reverse"][direction]))
    }

    pub(crate) fn onnx(&self) -> PathBuf {
        self.folder.join("model.onnx")
    }

    pub(crate) fn step(&self) -> bool {
        self.mode == "step"
    }

    pub(crate) fn lstm(&self) -> bool {
        self.cell == "lstm"
    }

    /// Inputs of a layer.
    pub(crate) fn inputs(&self, layer: usize) -> usize {
        if layer == 0 { self.I } else { self.D * self.H }
    }

    /// Input of step `t`, [B, I].
    pub(crate) fn x_of(&self, t: usize) -> &[f32] {
        &self.x[t * self.B * self.I..][..self.B * self.I]
    }

    /// `x` as [B, T, I], for libraries that put the batch first.
    pub(crate) fn x_batch_first(&self) -> Vec<f32> {
        swapped(&self.x, self.T, self.B, self.I)
    }
}

/// [M, N, K] as [N, M, K].
pub(crate) fn swapped(x: &[f32], m: usize, n: usize, k: usize) -> Vec<f32> {
    let mut y = Vec::with_capacity(x.len());
    for j in 0..n {
        for i in 0..m {
            y.extend(&x[(i * n + j) * k..][..k]);
        }
    }
    y
}
