//! The formats: one file each, told apart by the first bytes.

mod npy;
mod npz;
mod pickle;
mod safetensors;
mod torch;

use crate::archive::{self, Member};
use crate::entry::Entry;
use crate::{Dtype, Error};

/// A file format.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// `.safetensors`.
    Safetensors,
    /// `.pt`, `.pth`: the zip archive that `torch.save` writes since PyTorch 1.6.
    Torch,
    /// `.pt`, `.pth`: the sequence of pickles that `torch.save` wrote before.
    TorchLegacy,
    /// `.npz`: a zip archive of NumPy's arrays.
    Npz,
    /// `.npy`: one array, called `array` here.
    Npy,
}

/// First bytes that are enough to tell a format by.
pub(crate) const START: usize = 32;

/// What the first bytes tell.
pub(crate) enum Start {
    Archive,
    Single(Format),
}

/// Tells by its first [`START`] bytes what a file is.
///
/// # Errors
/// [`Error::UnknownFormat`], [`Error::UnsupportedFile`].
pub(crate) fn tell(file: &[u8]) -> Result<Start, Error> {
    Ok(Start::Single(match file {
        // A header's length may have any low bytes, those of other formats too; in those the ninth
        // byte is none of a header's.
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => Format::Safetensors,
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => return Ok(Start::Archive),
        _ if file.starts_with(npy::MAGIC) => Format::Npy,
        _ if torch::legacy_start(file).is_some() => Format::TorchLegacy,
        [0x80, 2..=5, ..] => {
            return Err(Error::UnsupportedFile {
                what: "a plain pickle, which holds no tensors of PyTorch: write the file with \
                       torch.save",
            });
        }
        [_, _, _, _, _, _, _, _, b'{', ..] => Format::Safetensors,
        _ => return Err(Error::UnknownFormat { start: file[..file.len().min(8)].to_vec() }),
    }))
}

/// The tensors of `file`, in its order, and what format it has.
///
/// # Errors
/// As [`tell`], or what the format's reader finds.
pub(crate) fn parse(file: &[u8]) -> Result<(Format, Vec<Entry>), Error> {
    let format = match tell(file)? {
        Start::Single(format) => format,
        Start::Archive => {
            let members = archive::members(file)?;
            return match kind_of_archive(&members)? {
                Format::Torch => Ok((Format::Torch, torch::parse_archive(file, &members)?)),
                _ => Ok((Format::Npz, npz::parse(file, members)?)),
            };
        }
    };
    let entries = match format {
        Format::Npy => vec![npy::parse(file)?],
        Format::TorchLegacy => torch::parse_legacy(file)?,
        _ => safetensors::parse(file)?,
    };
    Ok((format, entries))
}

/// Which format an archive is of.
fn kind_of_archive(members: &[Member]) -> Result<Format, Error> {
    let has = |name: &str| members.iter().any(|member| file_name(member) == name);
    if has("constants.pkl") {
        return Err(Error::UnsupportedFile {
            what: "a TorchScript archive: save the model's state_dict() with torch.save",
        });
    }
    if has("data.pkl") {
        return Ok(Format::Torch);
    }
    if members.is_empty() || members.iter().any(|member| member.name.ends_with(".npy")) {
        return Ok(Format::Npz);
    }
    Err(Error::UnsupportedFile {
        what: "a zip archive that is neither a checkpoint of torch.save (no data.pkl in it) nor an \
               .npz file (no .npy in it)",
    })
}

/// The last part of a member's path.
fn file_name(member: &Member) -> &str {
    member.name.rsplit('/').next().unwrap_or_default()
}
