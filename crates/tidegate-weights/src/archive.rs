//! Zip archives, as `torch.save` and NumPy write them: where each file in them lies.
//!
//! Strict where readers in general are not: the directory must end at its end record, files may
//! not overlap nor share a name, and nothing is read past what the directory says. Own code
//! because each of these must be an error that names the entry, and because a tensor is then a
//! slice of the file.

use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;

use flate2::read::DeflateDecoder;

use crate::Error;
use crate::dtype::reserve;
use crate::error::quoted;

/// A file in an archive.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// Where a file's bytes lie in the archive.
#[derive(Debug)]
pub(crate) enum Content {
    /// As they are.
    Stored(Range<usize>),
    /// Compressed.
    Deflated(Deflated),
}

/// A compressed file in an archive.
#[derive(Clone, Debug)]
pub(crate) struct Deflated {
    range: Range<usize>,
    /// Bytes that unpack, as the directory says.
    pub(crate) size: usize,
    crc: u32,
}

impl Deflated {
    /// What unpacks, without the first `skip` bytes. The caller has checked the size.
    ///
    /// # Errors
    /// [`Error::Malformed`] if data are broken or their size or checksum is not as recorded.
    pub(crate) fn inflate(&self, file: &[u8], skip: usize) -> Result<Vec<u8>, Error> {
        // One byte more would show data that are longer than recorded.
        let mut data = self.start(file, self.size.saturating_add(1))?;
        if data.len() != self.size {
            return Err(at(self.range.start, "data unpack to another size than recorded"));
        }
        if !is_checksum(self.crc, &data) {
            return Err(at(self.range.start, "the checksum of the data is wrong"));
        }
        data.drain(..skip);
        Ok(data)
    }

    /// The first `length` bytes of what unpacks, or fewer if there are not as many.
    ///
    /// # Errors
    /// [`Error::Malformed`] if data are broken.
    pub(crate) fn start(&self, file: &[u8], length: usize) -> Result<Vec<u8>, Error> {
        let mut data = reserve(length)?;
        DeflateDecoder::new(&file[self.range.clone()])
            .take(length as u64)
            .read_to_end(&mut data)
            .map_err(|e| at(self.range.start, format!("broken data: {e}")))?;
        Ok(data)
    }
}

/// A file as the directory has it.
struct Record {
    member: Member,
    /// All bytes that it occupies, its own header with them.
    whole: Range<usize>,
    crc: u32,
    /// Where the next entry of the directory begins.
    next: usize,
}

/// The files of an archive, in the order of its directory. The checksums of those that are stored
/// as they are have been checked.
///
/// # Errors
/// [`Error::Malformed`]; the message says which entry or byte.
pub(crate) fn members(file: &[u8]) -> Result<Vec<Member>, Error> {
    let (count, directory) = find_directory(file)?;
    let mut records = Vec::new();
    let mut start = directory.start;
    for _ in 0..count {
        let record = read_record(file, start, &directory)?;
        start = record.next;
        records.push(record);
    }
    if start != directory.end {
        return Err(at(start, "the directory holds more than the entries that are counted"));
    }
    check_distinct(&records)?;
    // Last, as only of files that share no byte is this work in proportion to the archive.
    for Record { member, crc, .. } in &records {
        if let Content::Stored(range) = &member.content
            && !is_checksum(*crc, &file[range.clone()])
        {
            let place = format!("zip archive, entry {}", quoted(&member.name));
            return Err(Error::at(place, "the checksum of the data is wrong"));
        }
    }
    Ok(records.into_iter().map(|record| record.member).collect())
}

/// Checks that no two files share bytes or a name.
fn check_distinct(records: &[Record]) -> Result<(), Error> {
    let mut by_place: Vec<&Record> = records.iter().collect();
    by_place.sort_unstable_by_key(|record| record.whole.start);
    if let Some(pair) = by_place.windows(2).find(|pair| pair[0].whole.end > pair[1].whole.start) {
        let [first, second] = [pair[0], pair[1]].map(|record| quoted(&record.member.name));
        return Err(Error::at("zip archive", format!("entries {first} and {second} overlap")));
    }
    let mut names = HashSet::with_capacity(records.len());
    let mut names_of = records.iter().map(|record| record.member.name.as_str());
    match names_of.find(|name| !names.insert(*name)) {
        Some(twice) => Err(Error::at("zip archive", format!("two entries {}", quoted(twice)))),
        None => Ok(()),
    }
}

/// Number of entries and place of the directory.
fn find_directory(file: &[u8]) -> Result<(usize, Range<usize>), Error> {
    const RECORD: usize = 22;
    const COMMENT: usize = u16::MAX as usize;
    let missing = || Error::at("zip archive", "no end record: the file is cut short");
    let last = file.len().checked_sub(RECORD).ok_or_else(missing)?;
    let end = (last.saturating_sub(COMMENT)..=last)
        .rev()
        // The comment must fill the rest of the file, or this is not the end record.
        .find(|&at| {
            file[at..].starts_with(b"PK\x05\x06")
                && u16_at(file, at + 20) as usize == file.len() - at - RECORD
        })
        .ok_or_else(missing)?;
    let small = [4, 6, 8, 10].map(|field| u64::from(u16_at(file, end + field)));
    let [size, start] = [12, 16].map(|field| u64::from(u32_at(file, end + field)));
    let locator = end.checked_sub(20).filter(|&at| file[at..].starts_with(b"PK\x06\x07"));
    let ([disk, first_disk, here, count], size, start, end) = match locator {
        None => (small, size, start, end),
        Some(locator) => {
            let at = usize::try_from(u64_at(file, locator + 8)).ok();
            let record = at
                .filter(|&at| at.checked_add(56).is_some_and(|end| end <= locator))
                .filter(|&at| file[at..].starts_with(b"PK\x06\x06"))
                .ok_or_else(|| {
                    Error::at("zip archive", "no zip64 end record where one should be")
                })?;
            let disks = [16, 20].map(|field| u64::from(u32_at(file, record + field)));
            let [here, count, size, start] =
                [24, 32, 40, 48].map(|field| u64_at(file, record + field));
            ([disks[0], disks[1], here, count], size, start, record)
        }
    };
    if disk != 0 || first_disk != 0 || here != count {
        return Err(at(end, "archives of several parts are not supported"));
    }
    let directory = start
        .checked_add(size)
        .filter(|&stop| stop == end as u64)
        .map(|stop| start as usize..stop as usize)
        .ok_or_else(|| at(end, "the directory does not end where its end record begins"))?;
    const ENTRY: usize = 46;
    match usize::try_from(count) {
        Ok(count) if count <= directory.len() / ENTRY => Ok((count, directory)),
        _ => Err(at(end, format!("{count} entries do not fit into the directory"))),
    }
}

/// The entry of the directory at `start`; the checksum of its data is not looked at.
fn read_record(file: &[u8], start: usize, directory: &Range<usize>) -> Result<Record, Error> {
    let cut = || at(start, "an entry of the directory is cut short");
    let fixed = file.get(start..directory.end).filter(|rest| rest.len() >= 46).ok_or_else(cut)?;
    if !fixed.starts_with(b"PK\x01\x02") {
        return Err(at(start, "no entry of the directory where one should be"));
    }
    let [name, extra, comment] = [28, 30, 32].map(|field| u16_at(fixed, field) as usize);
    let next = start + 46 + name + extra + comment;
    if next > directory.end {
        return Err(cut());
    }
    let raw_name = &fixed[46..46 + name];
    let name = std::str::from_utf8(raw_name)
        .map_err(|_| at(start, "the name of an entry is not UTF-8"))?;
    let place = || format!("zip archive, entry {}", quoted(name));
    let lies = |problem: &str| Error::at(place(), problem);

    let [flags, method] = [8, 10].map(|field| u16_at(fixed, field));
    let crc = u32_at(fixed, 16);
    let [packed, size, local] = wide_fields(fixed, 46 + raw_name.len(), extra)
        .ok_or_else(|| lies("sizes past 4 GiB are not recorded"))?;
    if flags & 1 != 0 {
        return Err(lies("encrypted files are not supported"));
    }
    let data = local_data(file, local, raw_name)
        .ok_or_else(|| lies("its own header is not where the directory says"))?;
    let range = data
        .checked_add(packed)
        .filter(|&end| end <= directory.start)
        .map(|end| data..end)
        .ok_or_else(|| lies("its data lie outside of the file"))?;
    let whole = local..range.end;
    let content = match method {
        0 if packed != size => return Err(lies("stored data must have the size they unpack to")),
        0 => Content::Stored(range),
        8 => Content::Deflated(Deflated { range, size, crc }),
        _ => return Err(lies(&format!("compression method {method} is not supported"))),
    };
    let member = Member { name: name.to_string(), content };
    Ok(Record { member, whole, crc, next })
}

/// Packed size, size and place of an entry of the directory: from its extra field `extra` bytes
/// long at `start` where 32 bits do not hold them.
fn wide_fields(entry: &[u8], start: usize, extra: usize) -> Option<[usize; 3]> {
    // In the order of the extra field, which is not that of the result.
    let mut fields = [24, 20, 42].map(|field| u64::from(u32_at(entry, field)));
    if fields.contains(&u64::from(u32::MAX)) {
        let mut blocks = entry.get(start..start + extra)?;
        let mut wide = loop {
            let length = u16_at(blocks.get(..4)?, 2) as usize;
            let block = blocks.get(4..4 + length)?;
            if u16_at(blocks, 0) == 1 {
                break block;
            }
            blocks = &blocks[4 + length..];
        };
        for field in fields.iter_mut().filter(|field| **field == u64::from(u32::MAX)) {
            *field = u64_at(wide.get(..8)?, 0);
            wide = &wide[8..];
        }
    }
    let [size, packed, local] = fields.map(usize::try_from);
    Some([packed.ok()?, size.ok()?, local.ok()?])
}

/// Where the data of the file begin whose own header lies at `local`.
fn local_data(file: &[u8], local: usize, name: &[u8]) -> Option<usize> {
    let header = file.get(local..)?.get(..30)?;
    let [named, extra] = [26, 28].map(|field| u16_at(header, field) as usize);
    let data = local + 30 + named + extra;
    let same = file.get(local + 30..local + 30 + named)? == name;
    (header.starts_with(b"PK\x03\x04") && same).then_some(data)
}

/// Whether `data` has the checksum `crc`. A file may be written without one, which records 0.
fn is_checksum(crc: u32, data: &[u8]) -> bool {
    crc == 0 || crc32fast::hash(data) == crc
}

fn at(byte: usize, problem: impl Into<String>) -> Error {
    Error::at(format!("zip archive, byte {byte}"), problem)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    // Callers have checked that the record these bytes belong to lies in the file.
    let mut number = [0; N];
    number.copy_from_slice(&bytes[at..at + N]);
    number
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(number(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number(bytes, at))
}
