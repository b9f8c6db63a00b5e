//! Writes NumPy's `.npy`: a small text header, then the elements.
//!
//! Source: NumPy's format description, numpy.lib.format (version 1.0).

use std::io::Write;

use super::Scalar;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

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
    use crate::io::{Array, Arrays};

    #[test]
    fn what_is_written_is_read_back() {
        for shape in [vec![], vec![6], vec![2, 3], vec![1, 2, 3], vec![0, 4]] {
            let data: Vec<f32> =
                (0..shape.iter().product::<usize>()).map(|i| i as f32 - 0.1).collect();
            let mut bytes = Vec::new();
            write(&mut bytes, &shape, &data).unwrap();
            assert_eq!((bytes.len() - 4 * data.len()) % 64, 0);
            let loaded = Arrays::from_bytes("it", &bytes).unwrap().first::<f32>().unwrap();
            assert_eq!(loaded.array, Array { shape, data });
            assert_eq!(loaded.stored.unwrap().name(), "float32");
        }
    }
}
