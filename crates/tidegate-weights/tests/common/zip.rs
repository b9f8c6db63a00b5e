//! Writes zip archives, right ones and wrong ones.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// An archive that grows.
#[derive(Default)]
pub(crate) struct Zip {
    pub(crate) file: Vec<u8>,
    pub(crate) directory: Vec<u8>,
    pub(crate) count: u16,
}

/// What the directory says of a file.
pub(crate) struct Record<'a> {
    pub(crate) name: &'a str,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) packed: u32,
    pub(crate) size: u32,
    pub(crate) local: u32,
    pub(crate) extra: &'a [u8],
}

impl Zip {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a file as it is.
    pub(crate) fn stored(self, name: &str, data: &[u8]) -> Self {
        self.packed(name, 0, data, data, crc32fast::hash(data))
    }

    /// Adds a compressed file.
    pub(crate) fn deflated(self, name: &str, data: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        let packed = encoder.finish().unwrap();
        self.packed(name, 8, &packed, data, crc32fast::hash(data))
    }

    pub(crate) fn packed(
        self,
        name: &str,
        method: u16,
        packed: &[u8],
        data: &[u8],
        crc: u32,
    ) -> Self {
        let (size, local) = (data.len() as u32, self.file.len() as u32);
        let (flags, extra, packed_size) = (0, &[][..], packed.len() as u32);
        let record = Record { name, flags, method, crc, packed: packed_size, size, local, extra };
        self.local(&record, packed).record(&record)
    }

    /// Adds a file's own header and data.
    pub(crate) fn local(mut self, record: &Record<'_>, data: &[u8]) -> Self {
        self.file.extend(b"PK\x03\x04\x14\x00");
        for number in [record.flags, record.method, 0, 0x21] {
            self.file.extend(number.to_le_bytes());
        }
        for number in [record.crc, record.packed, record.size] {
            self.file.extend(number.to_le_bytes());
        }
        self.file.extend((record.name.len() as u16).to_le_bytes());
        self.file.extend(3u16.to_le_bytes());
        self.file.extend(record.name.as_bytes());
        self.file.extend(b"pad");
        self.file.extend(data);
        self
    }

    /// Adds a file to the directory.
    pub(crate) fn record(mut self, record: &Record<'_>) -> Self {
        self.directory.extend(b"PK\x01\x02\x14\x00\x14\x00");
        for number in [record.flags, record.method, 0, 0x21] {
            self.directory.extend(number.to_le_bytes());
        }
        for number in [record.crc, record.packed, record.size] {
            self.directory.extend(number.to_le_bytes());
        }
        for number in [record.name.len(), record.extra.len(), 0, 0, 0] {
            self.directory.extend((number as u16).to_le_bytes());
        }
        self.directory.extend(0u32.to_le_bytes());
        self.directory.extend(record.local.to_le_bytes());
        self.directory.extend(record.name.as_bytes());
        self.directory.extend(record.extra);
        self.count += 1;
        self
    }

    /// Adds the directory and its end.
    pub(crate) fn finish(self) -> Vec<u8> {
        let (count, size, start) = (self.count, self.directory.len(), self.file.len());
        self.finish_as(count, size as u32, start as u32)
    }

    /// Adds the directory and an end that says this of it.
    pub(crate) fn finish_as(self, count: u16, size: u32, start: u32) -> Vec<u8> {
        let mut file = [self.file, self.directory].concat();
        file.extend(b"PK\x05\x06\0\0\0\0");
        file.extend(count.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(size.to_le_bytes());
        file.extend(start.to_le_bytes());
        file.extend(0u16.to_le_bytes());
        file
    }

    /// Adds the directory and an end whose numbers are in the larger fields.
    pub(crate) fn finish_wide(self, count: u64, size: u64, start: u64) -> Vec<u8> {
        let mut file = [self.file, self.directory].concat();
        let end = file.len() as u64;
        file.extend(b"PK\x06\x06");
        file.extend(44u64.to_le_bytes());
        file.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [count, count, size, start] {
            file.extend(number.to_le_bytes());
        }
        file.extend(b"PK\x06\x07\0\0\0\0");
        file.extend(end.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
        file
    }
}
