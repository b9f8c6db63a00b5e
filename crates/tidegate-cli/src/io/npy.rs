//! NumPy's `.npy`: a small text header, then the elements.
//!
//! Source: NumPy's format description, numpy.lib.format (versions 1.0, 2.0 and 3.0).

mod header;

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};

use super::{Array, Loaded, Scalar};
use header::{DType, Header, MAGIC};

/// An array as the file holds it: bytes of one element type, already row-major.
pub(super) struct Raw {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Raw {
    /// The values as floats of the computation.
    pub(super) fn into_loaded<E: Scalar>(self) -> Loaded<E> {
        let data = self
            .bytes
            .chunks_exact(self.dtype.size)
            .map(|bytes| self.dtype.number(bytes))
            .collect();
        Loaded { stored: Some(self.dtype.name()), array: Array { shape: self.shape, data } }
    }

    /// The values as the lengths of sequences.
    pub(super) fn into_lengths(self) -> Result<Vec<usize>> {
        let name = self.dtype.name();
        ensure!(matches!(self.dtype.kind, 'i' | 'u'), "lengths are integers, got {name}");
        ensure!(self.shape.len() == 1, "lengths have one axis [B], got the shape {:?}", self.shape);
        let length = |(row, bytes)| {
            let value = self.dtype.integer(bytes);
            usize::try_from(value)
                .ok()
                .with_context(|| format!("the length of sequence {row} is {value}"))
        };
        self.bytes.chunks_exact(self.dtype.size).enumerate().map(length).collect()
    }
}

/// Reads one array.
///
/// # Errors
/// A header that is not NumPy's, an element type other than floats, integers and bool, or fewer
/// bytes than the shape needs. Memory grows with what the reader gives, not with what the header
/// claims.
pub(super) fn read(mut reader: impl Read) -> Result<Raw> {
    let Header { dtype, fortran_order, shape } = Header::read(&mut reader)?;
    let needed = shape.iter().try_fold(dtype.size, |bytes, &axis| bytes.checked_mul(axis));
    let needed = needed.with_context(|| format!("no memory holds an array of shape {shape:?}"))?;
    let mut bytes = Vec::new();
    reader.take(needed as u64).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() == needed,
        "cut short: {shape:?} of {} needs {needed} bytes, the file has {}",
        dtype.name(),
        bytes.len()
    );
    if fortran_order {
        bytes = row_major(&bytes, &shape, dtype.size);
    }
    Ok(Raw { dtype, shape, bytes })
}

/// Reorders elements of `size` bytes from first-axis-fastest to last-axis-fastest.
fn row_major(bytes: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut ordered = Vec::with_capacity(bytes.len());
    if bytes.is_empty() {
        return ordered;
    }
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = size;
    for &axis in shape {
        strides.push(stride);
        stride *= axis;
    }
    let mut index = vec![0; shape.len()];
    let mut from = 0;
    while ordered.len() < bytes.len() {
        ordered.extend_from_slice(&bytes[from..from + size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            from += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            from -= strides[axis] * index[axis];
            index[axis] = 0;
        }
    }
    ordered
}

/// Writes one array in format version 1.0, little-endian, row-major.
pub(super) fn write<E: Scalar>(
    writer: &mut impl Write,
    shape: &[usize],
    data: &[E],
) -> std::io::Result<()> {
    let axes = match shape {
        [one] => format!("{one},"),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut header =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({axes}), }}", E::DESCR);
    // The elements begin at a multiple of 64 bytes; 10 come before the header and a line feed ends
    // it.
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    writer.write_all(MAGIC)?;
    writer.write_all(&[1, 0])?;
    writer.write_all(&(header.len() as u16).to_le_bytes())?;
    writer.write_all(header.as_bytes())?;
    let mut bytes = Vec::new();
    for part in data.chunks(1 << 16) {
        bytes.clear();
        part.iter().for_each(|&value| value.append_bytes(&mut bytes));
        writer.write_all(&bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, fortran: bool, shape: &str, elements: &[u8]) -> Vec<u8> {
        let order = if fortran { "True" } else { "False" };
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(elements);
        bytes
    }

    #[test]
    fn what_is_written_is_read_back() {
        for shape in [vec![], vec![6], vec![2, 3], vec![1, 2, 3], vec![0, 4]] {
            let data: Vec<f32> =
                (0..shape.iter().product::<usize>()).map(|i| i as f32 - 0.1).collect();
            let mut bytes = Vec::new();
            write(&mut bytes, &shape, &data).unwrap();
            assert_eq!((bytes.len() - 4 * data.len()) % 64, 0);
            let loaded = read(&bytes[..]).unwrap().into_loaded::<f32>();
            assert_eq!(loaded.array, Array { shape, data });
            assert_eq!(loaded.stored.as_deref(), Some("float32"));
        }
    }

    #[test]
    fn column_major_arrays_are_reordered() {
        // [[0, 1, 2], [3, 4, 5]] stored column by column.
        let bytes = npy("|u1", true, "(2, 3)", &[0, 3, 1, 4, 2, 5]);
        assert_eq!(
            read(&bytes[..]).unwrap().into_loaded::<f64>().array.data,
            [0., 1., 2., 3., 4., 5.]
        );
        let cube: Vec<u8> = (0..24).map(|i| (i % 2) * 12 + (i / 2 % 3) * 4 + i / 6).collect();
        let loaded = read(&npy("|u1", true, "(2, 3, 4)", &cube)[..]).unwrap().into_loaded::<f32>();
        assert_eq!(loaded.array.data, (0..24u8).map(f32::from).collect::<Vec<_>>());
        assert!(read(&npy("<f4", true, "(0, 9223372036854775807, 3)", &[])[..]).is_ok());
    }

    #[test]
    fn every_prefix_of_a_file_is_an_error() {
        let bytes = npy("<f4", false, "(2, 3)", &[7; 24]);
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "{end} bytes");
        }
        assert!(read(&bytes[..]).is_ok());
    }

    #[test]
    fn a_shape_that_lies_is_an_error_without_the_memory() {
        for shape in ["(4611686018427387904, 4)", "(1099511627776,)", "(99999999999999999999,)"] {
            assert!(read(&npy("<f8", false, shape, &[0; 64])[..]).is_err(), "{shape}");
        }
    }

    #[test]
    fn lengths_are_integers_on_one_axis() {
        let lengths = |descr, shape, elements: &[u8]| {
            read(&npy(descr, false, shape, elements)[..])?.into_lengths()
        };
        assert_eq!(lengths("<i2", "(3,)", &[5, 0, 0, 0, 1, 1]).unwrap(), [5, 0, 257]);
        let message = |result: Result<Vec<usize>>| result.unwrap_err().to_string();
        assert_eq!(message(lengths("|i1", "(2,)", &[1, 0xfe])), "the length of sequence 1 is -2");
        assert_eq!(message(lengths("<f4", "(1,)", &[0; 4])), "lengths are integers, got float32");
        assert!(message(lengths("|u1", "(1, 1)", &[0])).contains("[1, 1]"));
    }
}
