//! `.npz`: a zip archive of `.npy` files, compressed or not.

use super::npy::{Header, MAX_START};
use crate::Error;
use crate::archive::{Content, Member};
use crate::entry::{Entry, Storage};
use crate::limits::data_limit;

/// The arrays of an archive, without the `.npy` of their names.
pub(super) fn parse(file: &[u8], members: Vec<Member>) -> Result<Vec<Entry>, Error> {
    let limit = data_limit(file.len());
    let mut unpacked = 0u64;
    for member in &members {
        if let Content::Deflated(deflated) = &member.content {
            unpacked = unpacked.saturating_add(deflated.size as u64);
        }
        if unpacked > limit {
            let what = format!("entry {} of the archive", crate::error::quoted(&member.name));
            return Err(Error::TooLarge { what, bytes: unpacked, limit });
        }
    }
    members.into_iter().filter_map(|member| array(file, member).transpose()).collect()
}

/// The array in `member`, if it is one.
fn array(file: &[u8], member: Member) -> Result<Option<Entry>, Error> {
    let Some(name) = member.name.strip_suffix(".npy") else { return Ok(None) };
    let entry = match member.content {
        Content::Stored(range) => {
            let header = Header::parse(name, &file[range.clone()])?;
            let data = range.start + header.data..range.end;
            header.entry(name.to_string(), range.len(), Storage::Plain(data))
        }
        Content::Deflated(deflated) => {
            let start = deflated.start(file, MAX_START.min(deflated.size))?;
            let header = Header::parse(name, &start)?;
            let (size, skip) = (deflated.size, header.data);
            header.entry(name.to_string(), size, Storage::Deflated(deflated, skip))
        }
    };
    entry.map(Some)
}
