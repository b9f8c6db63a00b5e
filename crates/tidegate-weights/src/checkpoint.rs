//! A checkpoint: a file in memory and the tensors in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tidegate::{Element, Tensor};

use crate::dtype::reserve_more;
use crate::entry::Entry;
use crate::{Dtype, Error, Format, format};

/// The tensors of a file, by name.
///
/// Names are those of the file; where a checkpoint nests a state dict, the keys that lead to it
/// come first: `state_dict.encoder.weight_ih_l0`, and a number for what lies in a list. The one
/// tensor of a `.npy` file is called `array`, that of `torch.save(tensor)` `tensor`.
///
/// The file is held in memory; a tensor's elements are converted when they are asked for.
#[derive(Debug)]
pub struct Checkpoint {
    pub(crate) file: Vec<u8>,
    format: Format,
    entries: Vec<Entry>,
    /// Numbers of the entries, by name.
    by_name: Vec<usize>,
}

impl Checkpoint {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Read`], or as [`from_bytes`](Self::from_bytes).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let failed = |source| Error::Read { path: path.to_path_buf(), source };
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a file")));
        }
        let mut bytes = Vec::with_capacity(format::START);
        file.by_ref().take(format::START as u64).read_to_end(&mut bytes).map_err(failed)?;
        // Of a large file that is none of ours, nothing more is read.
        format::tell(&bytes)?;
        let rest = metadata.len().saturating_sub(bytes.len() as u64);
        reserve_more(&mut bytes, usize::try_from(rest).unwrap_or(usize::MAX))?;
        file.take(rest).read_to_end(&mut bytes).map_err(failed)?;
        Self::from_bytes(bytes)
    }

    /// Reads the contents of a file.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`], [`Error::UnsupportedFile`], [`Error::DuplicateTensor`], or what
    /// is wrong with the file.
    pub fn from_bytes(file: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let file = file.into();
        let (format, entries) = format::parse(&file)?;
        let mut by_name: Vec<usize> = (0..entries.len()).collect();
        by_name.sort_unstable_by_key(|&i| entries[i].name.as_str());
        if let Some(pair) = by_name.windows(2).find(|p| entries[p[0]].name == entries[p[1]].name) {
            return Err(Error::DuplicateTensor { name: entries[pair[0]].name.clone() });
        }
        Ok(Self { file, format, entries, by_name })
    }

    /// What format the file has.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The names of all tensors, in the file's order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Size of each dimension of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.find(name).map(|entry| &entry.shape[..])
    }

    /// The element type of a tensor.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.find(name).map(|entry| entry.dtype)
    }

    /// A tensor with its elements as `E`: those of fewer bits exactly, `f64` as `f32` rounded.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], [`Error::UnsupportedDtype`] if the elements are not floating-point
    /// numbers, [`Error::TooLarge`] if they unpack, repeat or decode to more than [`EXPANSION`] allows,
    /// [`Error::Malformed`] if compressed data are broken, [`Error::OutOfMemory`].
    ///
    /// [`EXPANSION`]: crate::EXPANSION
    pub fn tensor<E: Element>(&self, name: &str) -> Result<Tensor<E>, Error> {
        self.entry(name)?.tensor(&self.file)
    }

    /// A tensor as [`tensor`](Self::tensor), which may also hold integers, each rounded once to the
    /// nearest `E`, or truth values, 0 and 1: for inputs and masks, where the former is for parameters.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn numbers<E: Element>(&self, name: &str) -> Result<Tensor<E>, Error> {
        self.entry(name)?.numbers(&self.file)
    }

    /// The elements of a tensor of integers, row-major: lengths of sequences.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor); [`Error::UnsupportedDtype`] if they are none.
    pub fn integers(&self, name: &str) -> Result<Vec<i128>, Error> {
        self.entry(name)?.integers(&self.file)
    }

    /// The entry called `name`, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        let found = self.by_name.binary_search_by_key(&name, |&i| self.entries[i].name.as_str());
        found.ok().map(|at| &self.entries[self.by_name[at]])
    }

    /// The entry called `name`.
    pub(crate) fn entry(&self, name: &str) -> Result<&Entry, Error> {
        self.find(name).ok_or_else(|| Error::NoSuchTensor { name: name.to_string() })
    }

    /// All entries, in the file's order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
