//! A checkpoint, the recurrent layers in it, and errors that name its file.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use tidegate::{Mode, RnnBase};
use tidegate_weights::{Dtype, Layer};

use crate::io::{self, Scalar};
use crate::text;

/// A checkpoint in memory.
pub(crate) struct Checkpoint {
    /// What errors call it.
    place: String,
    file: tidegate_weights::Checkpoint,
}

impl Checkpoint {
    /// Reads the file `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        Ok(Self { file: io::open_named(path, &place)?, place })
    }

    /// Reads the contents of a file, which errors call `place`.
    pub(crate) fn from_bytes(place: &str, bytes: &[u8]) -> Result<Self> {
        let file = tidegate_weights::Checkpoint::from_bytes(bytes).context(place.to_string())?;
        Ok(Self { place: place.into(), file })
    }

    /// The layer with the prefix `name`, or the only one.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<Layer> {
        match self.file.layer(name) {
            Err(error @ tidegate_weights::Error::NoLayer) => {
                let names: Vec<_> = self.tensors().collect();
                bail!("{}: {error}; its tensors: {}", self.place, text::list(&names))
            }
            Err(error @ tidegate_weights::Error::SeveralLayers { .. }) => {
                bail!("{}: {error} (--layer PREFIX)", self.place)
            }
            layer => layer.with_context(|| self.place.clone()),
        }
    }

    /// Every recurrent layer that is whole, and what is wrong with the others.
    pub(crate) fn layers(&self) -> (Vec<Layer>, Vec<Error>) {
        let (mut layers, mut errors) = (Vec::new(), Vec::new());
        for (_, layer) in self.file.discover_each() {
            match layer {
                Ok(layer) => layers.push(layer),
                Err(error) => errors.push(Error::new(error).context(self.place.clone())),
            }
        }
        (layers, errors)
    }

    /// The names of all tensors.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &str> {
        self.file.names()
    }

    /// The layer with its parameters.
    pub(crate) fn load<E: Scalar>(&self, layer: &Layer) -> Result<RnnBase<E>> {
        self.file.load(layer).with_context(|| self.place.clone())
    }

    /// Writes the tensors that `keep` chooses by name as the `.safetensors` file `path`.
    pub(crate) fn convert(&self, path: &Path, keep: impl FnMut(&str) -> bool) -> Result<()> {
        io::write_file(path, |file: &mut File| {
            Ok(self.file.write_safetensors(BufWriter::new(file), keep)?)
        })
    }
}

/// The name of a layer for a terminal: its prefix without the last dot, which is what `--layer` takes unless it is so long or odd
/// that it is shown in part or escaped; of one without a prefix, what says so.
pub(crate) fn name(layer: &Layer) -> String {
    match layer.prefix.as_str() {
        "" => "(no prefix)".into(),
        prefix => text::shown(prefix.strip_suffix('.').unwrap_or(prefix)),
    }
}

/// The name of a layer, if it has one, and how PyTorch constructs it.
pub(crate) fn title(layer: &Layer) -> String {
    match layer.prefix.as_str() {
        "" => layer.to_string(),
        _ => format!("{}: {layer}", name(layer)),
    }
}

/// Whether the layer is computed in float64.
pub(crate) fn is_double(layer: &Layer) -> bool {
    layer.dtype == Dtype::F64
}

/// Whether the layer may apply tanh or relu: a checkpoint does not say which.
pub(crate) fn is_rnn(layer: &Layer) -> bool {
    matches!(layer.config.mode, Mode::RnnTanh | Mode::RnnRelu)
}
