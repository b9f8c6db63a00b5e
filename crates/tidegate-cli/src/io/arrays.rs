//! Arrays out of `.npy` and `.npz` files, which the reader of checkpoints reads too.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tidegate_weights::{Checkpoint, Dtype, Error, Format};

use super::{Array, Scalar};
use crate::text;

/// An array read from a file, and the element type that the file stores it in.
pub(crate) struct Loaded<E> {
    /// The values, converted.
    pub(crate) array: Array<E>,
    /// The type in the file; none for text.
    pub(crate) stored: Option<Dtype>,
}

/// The arrays of a file.
pub(crate) struct Arrays {
    /// What to call it in errors.
    place: String,
    file: Checkpoint,
}

impl Arrays {
    /// Reads the file `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        Ok(Self { file: open_named(path, &place)?, place })
    }

    /// Reads the contents of a file, which errors call `place`.
    pub(crate) fn from_bytes(place: &str, bytes: &[u8]) -> Result<Self> {
        let file = Checkpoint::from_bytes(bytes).context(place.to_string())?;
        Ok(Self { place: place.into(), file })
    }

    /// The array `name`, if the file has it.
    pub(crate) fn get<E: Scalar>(&self, name: &str) -> Result<Option<Loaded<E>>> {
        let Some(stored) = self.file.dtype(name) else { return Ok(None) };
        let tensor = self.file.numbers::<E>(name).with_context(|| self.place.clone())?;
        let array = Array { shape: tensor.shape().to_vec(), data: tensor.into_data() };
        Ok(Some(Loaded { array, stored: Some(stored) }))
    }

    /// The array `name`.
    pub(crate) fn require<E: Scalar>(&self, name: &str) -> Result<Loaded<E>> {
        self.get(name)?.with_context(|| {
            format!("{}: no array '{name}' in it; it has {}", self.place, text::list(&self.names()))
        })
    }

    /// The only array of a `.npy` file, or `input` of another.
    pub(crate) fn first<E: Scalar>(&self) -> Result<Loaded<E>> {
        self.require(if self.file.format() == Format::Npy { "array" } else { "input" })
    }

    /// The only array of a `.npy` file, as the length of each sequence of a batch.
    pub(crate) fn lengths(&self) -> Result<Vec<usize>> {
        let place = &self.place;
        let integers = self.file.integers("array").with_context(|| place.clone())?;
        let shape = self.file.shape("array").unwrap_or_default();
        ensure!(shape.len() == 1, "{place}: lengths have one axis [B], got the shape {shape:?}");
        let length = |(row, &length): (usize, &i128)| {
            usize::try_from(length)
                .ok()
                .with_context(|| format!("{place}: the length of sequence {row} is {length}"))
        };
        integers.iter().enumerate().map(length).collect()
    }

    /// The names of the arrays, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.file.names().map(String::from).collect();
        names.sort_unstable();
        names
    }
}

/// Reads the file `path`, which errors call `place`, once.
pub(crate) fn open_named(path: &Path, place: &str) -> Result<Checkpoint> {
    match Checkpoint::open(path) {
        Err(Error::Read { source, .. }) => Err(source).context(place.to_string()),
        file => file.context(place.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), elements].concat()
    }

    #[test]
    fn lengths_are_integers_on_one_axis() {
        let lengths = |descr, shape, elements: &[u8]| {
            Arrays::from_bytes("it", &npy(descr, shape, elements))?.lengths()
        };
        assert_eq!(lengths("<i2", "(3,)", &[5, 0, 0, 0, 1, 1]).unwrap(), [5, 0, 257]);
        let message = |result: Result<Vec<usize>>| format!("{:#}", result.unwrap_err());
        assert_eq!(
            message(lengths("|i1", "(2,)", &[1, 0xfe])),
            "it: the length of sequence 1 is -2"
        );
        assert!(message(lengths("<f4", "(1,)", &[0; 4])).contains("expected integers"));
        assert!(message(lengths("|b1", "(1,)", &[1])).contains("expected integers"));
        assert!(message(lengths("|u1", "(1, 1)", &[0])).contains("[1, 1]"));
    }

    #[test]
    fn integers_are_inputs_too() {
        let loaded = Arrays::from_bytes("it", &npy(">i2", "(1, 2)", &[0, 3, 0xff, 0xfe])).unwrap();
        let loaded = loaded.first::<f32>().unwrap();
        assert_eq!(loaded.array, Array { shape: vec![1, 2], data: vec![3.0, -2.0] });
        assert_eq!(loaded.stored, Some(Dtype::I16));
    }
}
