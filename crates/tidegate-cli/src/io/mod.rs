//! Arrays from files and into files: `.npy`, `.npz` and `.csv`.
//!
//! Reading converts to the element type of the computation; writing keeps it. A file is written
//! whole or not at all.

mod array;
mod arrays;
mod csv;
mod npy;
mod npz;
mod output;

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

pub(crate) use array::{Array, Scalar};
pub(crate) use arrays::{Arrays, Loaded, open_named};
pub(crate) use csv::{read as read_rows, write as write_rows};
pub(crate) use output::{check_no_input, check_writable, print, write_file, write_stdout};

/// The kinds of array file, told by the ending of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One array with its shape and element type.
    Npy,
    /// Several named arrays.
    Npz,
    /// Text, one line per row.
    Csv,
}

impl Format {
    /// The format that the ending of `path` names; upper case counts too.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "npy" => Some(Self::Npy),
            "npz" => Some(Self::Npz),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// The input of a layer: a `.npy` file, the array `input` of a `.npz` file, or a `.csv` file with a
/// row per step (`-`: the same text from standard input).
pub(crate) fn read_input<E: Scalar>(path: &Path) -> Result<Loaded<E>> {
    if path == Path::new("-") {
        let array = csv::read(std::io::stdin().lock()).context("standard input")?;
        return Ok(Loaded { array, stored: None });
    }
    if Format::of(path) != Some(Format::Csv) {
        return Arrays::open(path)?.first();
    }
    let array = csv::read(open(path)?).with_context(|| path.display().to_string())?;
    Ok(Loaded { array, stored: None })
}

/// Writes the file that the ending of `path` names: `.npz` holds all `arrays`, `.npy` and `.csv`
/// the first of them.
pub(crate) fn save<E: Scalar>(path: &Path, arrays: &[(&str, &Array<E>)]) -> Result<()> {
    let Some((_, first)) = arrays.first() else { return Ok(()) };
    write_file(path, |file| match Format::of(path) {
        Some(Format::Npz) => npz::write(file, arrays),
        Some(Format::Npy) => {
            let mut writer = BufWriter::new(file);
            npy::write(&mut writer, &first.shape, &first.data)?;
            Ok(writer.flush()?)
        }
        Some(Format::Csv) => csv::write(file, first.row_len(), &first.data),
        None => bail!("the name of an array file ends in .npy, .npz or .csv"),
    })
}

/// Writes rows `[T, D]` to standard output as text.
pub(crate) fn print_rows<E: Scalar>(array: &Array<E>) -> Result<()> {
    output::write_stdout(|stdout| csv::write(stdout, array.row_len(), &array.data))
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        bail!("{}: a folder, not a file", path.display());
    }
    Ok(BufReader::new(file))
}
