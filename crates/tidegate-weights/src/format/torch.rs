//! What `torch.save` writes: a pickle that describes tensors, and their storages beside it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::pickle::{self, Found, Pickle, Storage as PickledStorage, Value};
use super::{Dtype, file_name};
use crate::Error;
use crate::archive::{Content, Member};
use crate::entry::{Entry, Layout, Storage};
use crate::error::quoted;
use crate::limits::Budget;

/// The number 0x1950a86a20f9469cfc6c and an end: the first pickle of a file of the old format.
const LEGACY_MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Where the first pickle of a file of the old format ends; `None` for another file.
pub(super) fn legacy_start(file: &[u8]) -> Option<usize> {
    let rest = match file {
        // From protocol 4 on, what is in a pickle is in a frame.
        [0x80, 4 | 5, 0x95, length, 0, 0, 0, 0, 0, 0, 0, rest @ ..]
            if usize::from(*length) == LEGACY_MAGIC.len() =>
        {
            rest
        }
        [0x80, 2..=5, rest @ ..] => rest,
        _ => return None,
    };
    Some(file.len() - rest.strip_prefix(LEGACY_MAGIC)?.len())
}

/// The tensors of an archive: `<name>/data.pkl`, and the storages in `<name>/data/`.
pub(super) fn parse_archive(file: &[u8], members: &[Member]) -> Result<Vec<Entry>, Error> {
    let mut pickles = members.iter().filter(|member| file_name(member) == "data.pkl");
    let (Some(found), None) = (pickles.next(), pickles.next()) else {
        return Err(Error::at("zip archive", "there must be one data.pkl"));
    };
    let root = found.name.strip_suffix("data.pkl").unwrap_or_default();
    // Without the folder, whose name may be long, before each of them.
    let contents: HashMap<&str, &Content> = members
        .iter()
        .filter_map(|member| Some((member.name.strip_prefix(root)?, &member.content)))
        .collect();
    let range = |name: &str| match contents.get(name) {
        Some(Content::Stored(range)) => Ok(range.clone()),
        Some(Content::Deflated(_)) => Err(Error::at(
            format!("zip archive, entry {}", quoted(&format!("{root}{name}"))),
            "it is compressed, which torch.save never does",
        )),
        None => {
            let entry = quoted(&format!("{root}{name}"));
            Err(Error::at("zip archive", format!("entry {entry} is missing")))
        }
    };
    let big_endian = match contents.contains_key("byteorder") {
        false => false,
        true => match &file[range("byteorder")?] {
            b"little" => false,
            b"big" => true,
            _ => return Err(Error::at("zip archive", "entry byteorder is neither little nor big")),
        },
    };
    let place = range("data.pkl")?;
    let text = &file[place.clone()];
    let budget = Budget::for_pickle(text.len());
    let pickle = pickle::read(text, place.start, &budget)?;
    if pickle.end != text.len() {
        let offset = place.start + pickle.end;
        return Err(Error::Pickle { offset, problem: "something follows its end".to_string() });
    }
    entries(&pickle, &budget, big_endian, |key| range(&format!("data/{key}")))
}

/// The tensors of a file of the old format: five pickles and the storages, one after the other.
pub(super) fn parse_legacy(file: &[u8]) -> Result<Vec<Entry>, Error> {
    // One budget for all: each pickle could only be told from what follows by reading it.
    let budget = Budget::for_pickle(file.len());
    let mut at = legacy_start(file).unwrap_or_default();
    let mut next = |expected: &str| {
        let pickle = pickle::read(&file[at..], at, &budget)?;
        let start = at;
        at += pickle.end;
        Ok::<_, Error>((pickle, at, Error::at(format!("pickle, byte {start}"), expected)))
    };
    let (version, _, unknown) = next("the version of the format is not 1001")?;
    if version.root() != Value::Int(1001) {
        return Err(unknown);
    }
    // The system that wrote it, with its byte order. Storages are little-endian on all of them, and
    // PyTorch does not look here either (`_legacy_load`; `THPStorage_writeFileRaw`).
    next("")?;
    let (object, ..) = next("")?;
    let (keys, end, unknown) = next("no list of storages")?;
    let Some(list) = keys.list(keys.root()) else { return Err(unknown) };
    let names: Option<Vec<Cow<'_, str>>> =
        list.iter().map(|key| keys.paid_name(*key, &budget)).collect::<Result<_, Error>>()?;
    let names = names.ok_or(unknown)?;
    let storages = legacy_storages(file, end, &object, &names, &budget)?;
    entries(&object, &budget, false, |key| match storages.get(key) {
        Some(range) => Ok(range.clone()),
        None => Err(Error::at("list of storages", format!("storage {} is missing", quoted(key)))),
    })
}

/// Where the storages lie that begin at `start`: for each key the number of its elements, and
/// these.
fn legacy_storages<'k>(
    file: &[u8],
    start: usize,
    object: &Pickle<'_>,
    keys: &'k [Cow<'k, str>],
    budget: &Budget,
) -> Result<HashMap<&'k str, Range<usize>>, Error> {
    let mut sizes = HashMap::new();
    for storage in object.storages() {
        let size = storage.element.map_or(1, |element| element.size);
        sizes.insert(object.key(storage, budget)?, size);
    }
    let mut ranges = HashMap::new();
    let mut at = start;
    for key in keys {
        let problem = |problem: &str| Err(Error::at(format!("storage {}", quoted(key)), problem));
        let Some(size) = sizes.get(key) else { return problem("no tensor uses it") };
        let Some(count) = file[at..].first_chunk::<8>() else { return problem("cut short") };
        let bytes = usize::try_from(u64::from_le_bytes(*count)).ok();
        let end = bytes.and_then(|n| n.checked_mul(*size)).and_then(|n| (at + 8).checked_add(n));
        match end {
            Some(end) if end <= file.len() => {
                if ranges.insert(&**key, at + 8..end).is_some() {
                    return problem("it is listed twice");
                }
                at = end;
            }
            _ => return problem("its data lie outside of the file"),
        }
    }
    match at == file.len() {
        true => Ok(ranges),
        false => Err(Error::at(format!("byte {at}"), "something follows the last storage")),
    }
}

/// The tensors of `pickle`, whose storages lie where `place` says.
fn entries(
    pickle: &Pickle<'_>,
    budget: &Budget,
    big_endian: bool,
    place: impl Fn(&str) -> Result<Range<usize>, Error>,
) -> Result<Vec<Entry>, Error> {
    pickle::tensors(pickle, budget)?
        .into_iter()
        .map(|found| entry(pickle, found, budget, big_endian, &place))
        .collect()
}

fn entry(
    pickle: &Pickle<'_>,
    found: Found<'_>,
    budget: &Budget,
    big_endian: bool,
    place: impl Fn(&str) -> Result<Range<usize>, Error>,
) -> Result<Entry, Error> {
    let Found { name, element, storage, offset, shape, strides } = found;
    let key = pickle.key(storage, budget)?;
    let range = place(&key).map_err(|e| Error::tensor(&name, e.to_string()))?;
    check_size(&name, &key, storage, range.len())?;
    match element.dtype {
        Dtype::Other => Entry::unread(name, element.name, shape.to_vec()),
        dtype => {
            let layout = Layout { offset, strides: Some(strides.to_vec()), big_endian };
            Entry::new(name, dtype, shape.to_vec(), Storage::Plain(range), layout)
        }
    }
}

/// Checks that a storage has the bytes that the pickle says.
fn check_size(name: &str, key: &str, storage: &PickledStorage, got: usize) -> Result<(), Error> {
    let size = storage.element.map_or(1, |element| element.size);
    if storage.count.checked_mul(size) == Some(got) {
        return Ok(());
    }
    Err(Error::tensor(
        name,
        format!(
            "its storage {} has {got} bytes, the pickle says {} elements of {size}",
            quoted(key),
            storage.count
        ),
    ))
}
