//! NumPy's `.npz`: a zip archive with one `.npy` file per array.

use std::io::{BufWriter, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use crate::text;

use super::{Array, Loaded, Scalar, npy, open};

/// What a zip archive can be read from.
trait Source: Read + Seek {}

impl<R: Read + Seek> Source for R {}

/// An open `.npz` file.
pub(crate) struct Npz {
    /// What to call it in errors.
    place: String,
    archive: ZipArchive<Box<dyn Source>>,
}

impl Npz {
    /// Opens `path` and reads its table of contents.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::new(&path.display().to_string(), open(path)?)
    }

    /// Reads the table of contents of `source`, which errors call `place`.
    pub(crate) fn new(place: &str, source: impl Read + Seek + 'static) -> Result<Self> {
        let source: Box<dyn Source> = Box::new(source);
        let archive =
            ZipArchive::new(source).with_context(|| format!("{place}: not a .npz file"))?;
        Ok(Self { place: place.into(), archive })
    }

    /// The array `name`, if the file has it.
    pub(crate) fn get<E: Scalar>(&mut self, name: &str) -> Result<Option<Loaded<E>>> {
        let place = || format!("{}: {name}", self.place);
        let entry = match self.archive.by_name(&format!("{name}.npy")) {
            Err(ZipError::FileNotFound) => return Ok(None),
            entry => entry.with_context(place)?,
        };
        Ok(Some(npy::read(entry).with_context(place)?.into_loaded()))
    }

    /// The array `name`.
    pub(crate) fn require<E: Scalar>(&mut self, name: &str) -> Result<Loaded<E>> {
        self.get(name)?.with_context(|| {
            format!("{}: no array '{name}' in it; it has {}", self.place, text::list(&self.names()))
        })
    }

    /// The names of the arrays, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let files = self.archive.file_names().filter_map(Result::ok);
        let mut names: Vec<_> =
            files.map(|file| file.strip_suffix(".npy").unwrap_or(&file).to_string()).collect();
        names.sort_unstable();
        names
    }
}

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
    use std::fs::File;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrays.npz");
        let first = Array { shape: vec![2, 2], data: vec![1.0f64, 2.0, 3.0, 0.1] };
        let second = Array { shape: vec![1], data: vec![-1.0f64] };
        let write_once = || {
            write(File::create(&path).unwrap(), &[("output", &first), ("h_n", &second)]).unwrap();
            std::fs::read(&path).unwrap()
        };
        assert_eq!(write_once(), write_once());
        let mut npz = Npz::open(&path).unwrap();
        assert_eq!(npz.names(), ["h_n", "output"]);
        assert_eq!(npz.require::<f64>("output").unwrap().array, first);
        assert_eq!(npz.require::<f64>("h_n").unwrap().array, second);
        assert!(npz.get::<f64>("c_n").unwrap().is_none());
        let message = npz.require::<f64>("c_n").err().unwrap().to_string();
        assert!(
            message.ends_with("arrays.npz: no array 'c_n' in it; it has h_n, output"),
            "{message}"
        );
    }
}
