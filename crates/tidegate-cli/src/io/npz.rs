//! Writes NumPy's `.npz`: a zip archive with one `.npy` file per array.

use std::io::{BufWriter, Seek, Write};

use anyhow::Result;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{Array, Scalar, npy};

/// Writes arrays under their names, uncompressed, as `numpy.savez` does. Equal arrays give equal
/// bytes.
pub(super) fn write<E: Scalar>(
    writer: impl Write + Seek,
    arrays: &[(&str, &Array<E>)],
) -> Result<()> {
    let mut archive = ZipWriter::new(BufWriter::new(writer));
    for (name, array) in arrays {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            // Entries past 4 GiB need the larger fields; NumPy always writes them.
            .large_file(true);
        archive.start_file(format!("{name}.npy"), options)?;
        npy::write(&mut archive, &array.shape, &array.data)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::io::Arrays;

    #[test]
    fn what_is_written_is_read_back() {
        let first = Array { shape: vec![2, 2], data: vec![1.0f64, 2.0, 3.0, 0.1] };
        let second = Array { shape: vec![1], data: vec![-1.0f64] };
        let write_once = || {
            let mut file = Cursor::new(Vec::new());
            write(&mut file, &[("output", &first), ("h_n", &second)]).unwrap();
            file.into_inner()
        };
        let bytes = write_once();
        assert_eq!(bytes, write_once());
        let arrays = Arrays::from_bytes("it", &bytes).unwrap();
        assert_eq!(arrays.names(), ["h_n", "output"]);
        assert_eq!(arrays.require::<f64>("output").unwrap().array, first);
        assert_eq!(arrays.require::<f64>("h_n").unwrap().array, second);
        assert!(arrays.get::<f64>("c_n").unwrap().is_none());
        let message = arrays.require::<f64>("c_n").err().unwrap().to_string();
        assert_eq!(message, "it: no array 'c_n' in it; it has h_n, output");
    }
}
