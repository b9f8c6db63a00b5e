//! Named tensors: where in a file their bytes lie, and how those bytes become a tensor.

use std::borrow::Cow;
use std::ops::Range;

use tidegate::{Element, Tensor};

use crate::archive::Deflated;
use crate::dtype::reserve;
use crate::limits::{MAX_DIMS, data_limit};
use crate::{Dtype, Error};

/// What parameters are made of.
pub(crate) const FLOATS: &str = "float16, bfloat16, float32 or float64";

/// All that is read.
pub(crate) const NUMBERS: &str = "floating-point numbers, integers or bool";

/// A tensor of a file. That its elements lie within its storage was checked when it was made.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    /// The file's name of the type, where it is [`Dtype::Other`].
    pub(crate) note: Option<Box<str>>,
    pub(crate) shape: Vec<usize>,
    storage: Storage,
    layout: Layout,
}

/// Where the bytes lie that a tensor is a view of.
#[derive(Debug)]
pub(crate) enum Storage {
    /// As they are, in the file.
    Plain(Range<usize>),
    /// Compressed in the file; of what unpacks, the first bytes are skipped.
    Deflated(Deflated, usize),
    /// Of a type that is not read.
    Unread,
}

/// How elements lie in their storage.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The element of the storage that is the tensor's first.
    pub(crate) offset: usize,
    /// Elements from one index to the next, for each dimension; `None` for row-major.
    pub(crate) strides: Option<Vec<usize>>,
    /// Whether an element's most significant byte comes first.
    pub(crate) big_endian: bool,
}

impl Layout {
    /// Row-major from the first element on, least significant byte first.
    pub(crate) const PLAIN: Self = Self { offset: 0, strides: None, big_endian: false };
}

impl Entry {
    /// A tensor over `storage`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if elements would lie outside of the storage or cannot be counted.
    pub(crate) fn new(
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        storage: Storage,
        layout: Layout,
    ) -> Result<Self, Error> {
        check_dims(&name, &shape)?;
        if let Some(size) = dtype.size() {
            let available = storage.len() / size;
            match last_element(&shape, &layout) {
                Some(end) if end <= available => {}
                Some(end) => {
                    return Err(Error::tensor(
                        &name,
                        format!(
                            "shape {shape:?} needs {end} elements of {dtype}, its storage holds \
                             {available}"
                        ),
                    ));
                }
                None => {
                    return Err(Error::tensor(
                        &name,
                        format!("shape {shape:?} has more elements than memory has addresses"),
                    ));
                }
            }
        }
        Ok(Self { name, dtype, note: None, shape, storage, layout })
    }

    /// A tensor whose elements are of a type that is not read, which the file calls `note`.
    ///
    /// # Errors
    /// [`Error::Malformed`] for too many dimensions.
    pub(crate) fn unread(name: String, note: &str, shape: Vec<usize>) -> Result<Self, Error> {
        check_dims(&name, &shape)?;
        let note = Some(note.into());
        let (dtype, storage) = (Dtype::Other, Storage::Unread);
        Ok(Self { name, dtype, note, shape, storage, layout: Layout::PLAIN })
    }

    /// Bytes of the tensor as it is stored, each element counted once; 0 for a type that is not
    /// read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_as(0)
    }

    /// Bytes of the tensor as it is stored or with elements of `size` bytes, whichever are more; 0
    /// for a type that is not read.
    pub(crate) fn bytes_as(&self, size: usize) -> u64 {
        // Both factors fit a usize, and so did their product over the storage, unless elements
        // repeat: hence u64, and saturating.
        let size = self.dtype.size().map_or(0, |stored| stored.max(size)) as u64;
        element_count(&self.shape).map_or(u64::MAX, |count| (count as u64).saturating_mul(size))
    }

    /// The elements as `E`, from the bytes of the whole `file`.
    ///
    /// # Errors
    /// [`Error::UnsupportedDtype`] if they are not floating-point numbers; [`Error::TooLarge`],
    /// [`Error::OutOfMemory`]; [`Error::Malformed`] if compressed data are broken.
    pub(crate) fn tensor<E: Element>(&self, file: &[u8]) -> Result<Tensor<E>, Error> {
        match self.dtype.is_float() {
            true => self.numbers(file),
            false => Err(self.expected(FLOATS)),
        }
    }

    /// The elements as `E`, whatever kind of number they are.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub(crate) fn numbers<E: Element>(&self, file: &[u8]) -> Result<Tensor<E>, Error> {
        self.check_limit(size_of::<E>(), file)?;
        let bytes = self.little_endian(file)?;
        let data = self.dtype.decode(&bytes).ok_or_else(|| self.expected(NUMBERS))??;
        Tensor::new(&self.shape, data).map_err(|e| Error::tensor(&self.name, e.to_string()))
    }

    /// The elements, which are integers, row-major.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub(crate) fn integers(&self, file: &[u8]) -> Result<Vec<i128>, Error> {
        self.check_limit(size_of::<i128>(), file)?;
        let bytes = self.little_endian(file)?;
        self.dtype.integers(&bytes).ok_or_else(|| self.expected("integers"))?
    }

    /// Checks that the elements, decoded to `size` bytes each, are not more than `file` may come to.
    fn check_limit(&self, size: usize, file: &[u8]) -> Result<(), Error> {
        let (bytes, limit) = (self.bytes_as(size), data_limit(file.len()));
        match bytes > limit {
            true => {
                let what = format!("tensor {}", crate::error::quoted(&self.name));
                Err(Error::TooLarge { what, bytes, limit })
            }
            false => Ok(()),
        }
    }

    /// The error that other elements are `expected`.
    pub(crate) fn expected(&self, expected: &'static str) -> Error {
        Error::dtype(&self.name, expected, self.dtype, self.note.as_deref())
    }

    /// The elements' bytes: row-major, least significant byte first.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub(crate) fn little_endian<'a>(&self, file: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
        let Some(size) = self.dtype.size() else { return Err(self.expected(NUMBERS)) };
        self.check_limit(size, file)?;
        let bytes = self.bytes();
        let stored = match &self.storage {
            Storage::Plain(range) => Cow::Borrowed(&file[range.clone()]),
            Storage::Deflated(deflated, skip) => Cow::Owned(deflated.inflate(file, *skip)?),
            Storage::Unread => Cow::Borrowed(&[][..]),
        };
        if bytes == 0 {
            // Of a tensor without elements the offset may be any.
            return Ok(Cow::Borrowed(&[]));
        }
        let (start, length) = (self.layout.offset * size, bytes as usize);
        let strides = self.layout.strides.as_deref();
        let contiguous = strides.is_none_or(|strides| is_row_major(&self.shape, strides));
        if contiguous && (size == 1 || !self.layout.big_endian) {
            return Ok(match stored {
                Cow::Borrowed(stored) => Cow::Borrowed(&stored[start..start + length]),
                Cow::Owned(mut stored) => {
                    stored.truncate(start + length);
                    stored.drain(..start);
                    Cow::Owned(stored)
                }
            });
        }
        let row_major;
        let strides = match strides {
            Some(strides) => strides,
            None => {
                row_major = row_major_strides(&self.shape);
                &row_major
            }
        };
        let mut gathered = reserve(length)?;
        gather(&stored[start..], &self.shape, strides, size, &mut gathered);
        if self.layout.big_endian {
            gathered.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        Ok(Cow::Owned(gathered))
    }
}

impl Storage {
    /// Bytes that a tensor may lie in.
    fn len(&self) -> usize {
        match self {
            Self::Plain(range) => range.len(),
            Self::Deflated(deflated, skip) => deflated.size.saturating_sub(*skip),
            Self::Unread => 0,
        }
    }
}

/// The strides of a row-major array; of one without elements they do not matter.
fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// The strides of a column-major array of `shape`, as `fortran_order` of NumPy.
pub(crate) fn column_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1].saturating_mul(shape[axis - 1]);
    }
    strides
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    // Where there is one index only, the stride is never taken.
    let expected = row_major_strides(shape);
    (0..shape.len()).all(|axis| shape[axis] == 1 || strides[axis] == expected[axis])
}

/// Appends the elements of `size` bytes at every index of `shape`, the last one running fastest.
fn gather(stored: &[u8], shape: &[usize], strides: &[usize], size: usize, out: &mut Vec<u8>) {
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    loop {
        out.extend_from_slice(&stored[at * size..(at + 1) * size]);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                at += strides[axis];
                break;
            }
            at -= strides[axis] * (shape[axis] - 1);
            index[axis] = 0;
        }
    }
}

/// The number of elements of `shape`, or `None` where it does not fit a `usize`.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n))
}

/// How many elements a storage must have for the tensor, or `None` where that does not fit.
fn last_element(shape: &[usize], layout: &Layout) -> Option<usize> {
    let count = element_count(shape)?;
    if count == 0 {
        return Some(0);
    }
    match &layout.strides {
        None => layout.offset.checked_add(count),
        Some(strides) => {
            let steps =
                shape.iter().zip(strides).try_fold(layout.offset, |at, (&n, &stride)| {
                    at.checked_add((n - 1).checked_mul(stride)?)
                })?;
            steps.checked_add(1)
        }
    }
}

fn check_dims(name: &str, shape: &[usize]) -> Result<(), Error> {
    match shape.len() {
        0..=MAX_DIMS => Ok(()),
        got => Err(Error::tensor(name, format!("{got} dimensions are more than {MAX_DIMS}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(shape: &[usize], offset: usize, strides: &[usize]) -> Result<Entry, Error> {
        let layout = Layout { offset, strides: Some(strides.to_vec()), big_endian: false };
        Entry::new("w".into(), Dtype::U8, shape.to_vec(), Storage::Plain(2..14), layout)
    }

    #[test]
    fn a_view_gathers_what_its_strides_say() {
        let file: Vec<u8> = (0..20).collect();
        let bytes = |entry: Result<Entry, Error>| {
            entry.expect("fits").little_endian(&file).expect("small").into_owned()
        };
        assert_eq!(bytes(entry(&[2, 3], 1, &[3, 1])), [3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes(entry(&[3, 2], 1, &[1, 3])), [3, 6, 4, 7, 5, 8]);
        assert_eq!(bytes(entry(&[2, 2], 0, &[0, 5])), [2, 7, 2, 7]);
        assert_eq!(bytes(entry(&[1, 2], 0, &[99, 1])), [2, 3]);
        assert!(bytes(entry(&[0, 2], 0, &[1, 1])).is_empty());
        assert_eq!(bytes(entry(&[], 11, &[])), [13]);
        let shape = [2, 3];
        let fortran = column_major_strides(&shape);
        assert_eq!(bytes(entry(&shape, 0, &fortran)), [2, 4, 6, 3, 5, 7]);
    }

    #[test]
    fn big_endian_elements_are_turned() {
        let layout = Layout { offset: 1, strides: None, big_endian: true };
        let entry =
            Entry::new("w".into(), Dtype::U16, vec![2], Storage::Plain(0..6), layout).unwrap();
        assert_eq!(&*entry.little_endian(&[1, 2, 3, 4, 5, 6]).unwrap(), [4, 3, 6, 5]);
    }

    #[test]
    fn a_tensor_without_elements_may_begin_anywhere() {
        let layout = Layout { offset: 1 << 62, strides: None, big_endian: false };
        let entry =
            Entry::new("w".into(), Dtype::F64, vec![0], Storage::Plain(0..8), layout).unwrap();
        assert!(entry.little_endian(&[0; 8]).unwrap().is_empty());
    }

    #[test]
    fn a_view_beyond_its_storage_is_refused() {
        let max = usize::MAX;
        for (shape, offset, strides) in [
            (&[13][..], 0, &[1][..]),
            (&[1], 12, &[1]),
            (&[2, 2], 0, &[11, 1]),
            (&[2], 0, &[max]),
            (&[max, max], 0, &[0, 0]),
            (&[max], max, &[1]),
            (&[1], max, &[1]),
        ] {
            let error = entry(shape, offset, strides).unwrap_err().to_string();
            assert!(error.starts_with("tensor \"w\": shape"), "{error}");
        }
        let error = entry(&[1; 65], 0, &[1; 65]).unwrap_err().to_string();
        assert_eq!(error, "tensor \"w\": 65 dimensions are more than 64");
    }

    #[test]
    fn a_view_that_repeats_elements_without_end_is_refused() {
        let error = entry(&[1 << 40], 0, &[0]).unwrap().little_endian(&[0; 14]).unwrap_err();
        assert!(matches!(error, Error::TooLarge { bytes: 0x100_0000_0000, .. }), "{error}");
    }
}
