//! `.npy`: one array of NumPy, a line of Python and the data.
//!
//! The readers on crates.io allocate what a header claims before they look for it, so this is our
//! own.

use super::Dtype;
use crate::Error;
use crate::entry::{Entry, Layout, Storage, column_major_strides, element_count};

/// What every file begins with.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Bytes that are enough to hold any header: NumPy itself reads headers up to 10,000 bytes.
pub(super) const MAX_START: usize = 12 + 10_000;

/// The array of a file, called `array`.
pub(super) fn parse(file: &[u8]) -> Result<Entry, Error> {
    let header = Header::parse("array", file)?;
    header.entry("array".to_string(), file.len(), Storage::Plain(header.data..file.len()))
}

/// What a header says.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    /// NumPy's name of the type, such as `<f4`.
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
    /// Where the data begin.
    pub(super) data: usize,
}

impl Header {
    /// Reads the header from the `start` of the array `name`.
    pub(super) fn parse(name: &str, start: &[u8]) -> Result<Self, Error> {
        let lies = |problem: &str| Error::tensor(name, format!(".npy header: {problem}"));
        let cut = || lies("cut short");
        let version = start.strip_prefix(MAGIC).ok_or_else(|| lies("no signature of NumPy"))?;
        let (length, text) = match version {
            [1, _, a, b, ..] => (u32::from_le_bytes([*a, *b, 0, 0]), 10),
            [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]), 12),
            [0 | 4.., ..] => return Err(lies(&format!("version {} is unknown", version[0]))),
            _ => return Err(cut()),
        };
        let length = length as usize;
        if length > MAX_START - 12 {
            return Err(lies(&format!("{length} bytes are more than NumPy reads")));
        }
        let data = text + length;
        let text = start.get(text..data).ok_or_else(cut)?;
        let text = match version[0] {
            3.. => std::str::from_utf8(text).map_err(|_| lies("not text"))?.to_string(),
            // Latin-1, whose bytes are the numbers of their characters.
            _ => text.iter().map(|&byte| char::from(byte)).collect(),
        };
        let (descr, fortran_order, shape) = Text(&text)
            .dictionary()
            .ok_or_else(|| lies(&format!("not the line that NumPy writes: {}", text.trim_end())))?;
        Ok(Self { descr, fortran_order, shape, data })
    }

    /// The array, in a file of `size` bytes whose data are `storage`.
    pub(super) fn entry(
        &self,
        name: String,
        size: usize,
        storage: Storage,
    ) -> Result<Entry, Error> {
        let shape = self.shape.clone();
        let Some((dtype, big_endian)) = dtype(&self.descr) else {
            return Entry::unread(name, &self.descr, shape);
        };
        let needed = element_count(&shape).and_then(|count| count.checked_mul(dtype.size()?));
        let data = size.saturating_sub(self.data);
        if needed != Some(data) || size < self.data {
            let shape = &shape[..shape.len().min(crate::MAX_DIMS)];
            let needed = needed.map_or("too many".to_string(), |n| n.to_string());
            return Err(Error::tensor(
                &name,
                format!("shape {shape:?} of {dtype} needs {needed} bytes, the file has {data}"),
            ));
        }
        let strides = self.fortran_order.then(|| column_major_strides(&shape));
        Entry::new(name, dtype, shape, storage, Layout { offset: 0, strides, big_endian })
    }
}

/// The type that NumPy calls `descr`, and whether its bytes are in reverse.
fn dtype(descr: &str) -> Option<(Dtype, bool)> {
    let (order, name) = descr.split_at_checked(1)?;
    let dtype = match name {
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        "b1" => Dtype::Bool,
        "u1" => Dtype::U8,
        "i1" => Dtype::I8,
        "u2" => Dtype::U16,
        "i2" => Dtype::I16,
        "u4" => Dtype::U32,
        "i4" => Dtype::I32,
        "u8" => Dtype::U64,
        "i8" => Dtype::I64,
        _ => return None,
    };
    match order {
        "<" | "|" | "=" => Some((dtype, false)),
        ">" => Some((dtype, true)),
        _ => None,
    }
}

/// The part of a header that is still to be read: a dictionary of Python, of which only what
/// NumPy writes is understood.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn dictionary(mut self) -> Option<(String, bool, Vec<usize>)> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect("{")?;
        while !self.accept("}") {
            let key = self.string()?;
            self.expect(":")?;
            let new = match key {
                "descr" => descr.replace(self.descr()?).is_none(),
                "fortran_order" => fortran_order.replace(self.truth()?).is_none(),
                "shape" => shape.replace(self.shape()?).is_none(),
                _ => false,
            };
            if !new {
                return None;
            }
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.0.trim().is_empty().then_some((descr?, fortran_order?, shape?))
    }

    fn accept(&mut self, token: &str) -> bool {
        let rest = self.0.trim_start().strip_prefix(token);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Option<()> {
        self.accept(token).then_some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = if self.accept("\"") { '"' } else { '\'' };
        if quote == '\'' {
            self.expect("'")?;
        }
        let (inside, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(inside)
    }

    /// A type's name, or `records` for the list of a structured array.
    fn descr(&mut self) -> Option<String> {
        if !self.accept("[") {
            return self.string().map(str::to_string);
        }
        let mut open = 1usize;
        while open > 0 {
            let at = self.0.find(['[', ']', '\'', '"'])?;
            let (_, rest) = self.0.split_at(at);
            match rest.as_bytes()[0] {
                b'[' => open += 1,
                b']' => open -= 1,
                _ => {
                    self.0 = rest;
                    self.string()?;
                    continue;
                }
            }
            self.0 = &rest[1..];
        }
        Some("records".to_string())
    }

    fn truth(&mut self) -> Option<bool> {
        match self.accept("True") {
            true => Some(true),
            false => self.expect("False").map(|()| false),
        }
    }

    fn shape(&mut self) -> Option<Vec<usize>> {
        let mut shape = Vec::new();
        self.expect("(")?;
        while !self.accept(")") {
            self.0 = self.0.trim_start();
            let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let (digits, rest) = self.0.split_at(end);
            shape.push(digits.parse().ok()?);
            // Python 2 wrote `3L`.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Some(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        let read = |text| Text(text).dictionary();
        assert_eq!(
            read("{'descr': '<f4', 'fortran_order': False, 'shape': (5998, 40), }   \n"),
            Some(("<f4".to_string(), false, vec![5998, 40]))
        );
        assert_eq!(
            read("{\"shape\": (3L,), \"fortran_order\": True, \"descr\": \">i8\"}"),
            Some((">i8".to_string(), true, vec![3]))
        );
        assert_eq!(
            read(
                "{'descr': [('a]', '<f4'), ('b', [('c', '|u1')])], 'fortran_order': False, 'shape': ()}"
            ),
            Some(("records".to_string(), false, vec![]))
        );
        for text in [
            "",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
            "{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': ()}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': ()} + 1",
            "{'descr: 1}",
            "{'descr': [[[, 'fortran_order': False, 'shape': ()}",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn types_have_numpys_names() {
        assert_eq!(dtype("<f4"), Some((Dtype::F32, false)));
        assert_eq!(dtype(">f8"), Some((Dtype::F64, true)));
        assert_eq!(dtype("|b1"), Some((Dtype::Bool, false)));
        for unknown in ["", "<", "f4", "<f16", "|O", "<U3", "<V2", "äf4"] {
            assert_eq!(dtype(unknown), None, "{unknown}");
        }
    }
}
