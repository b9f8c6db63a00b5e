//! The text header of a `.npy` file: `{'descr': '<f4', 'fortran_order': False, 'shape': (5998, 40),
//! }`.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

use crate::io::Scalar;

pub(super) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The longest header that is read. NumPy itself refuses more than 10,000 bytes
/// (`max_header_size`).
const MAX_HEADER: usize = 10_000;

/// What a header says about the bytes that follow it.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    pub(super) dtype: DType,
    /// Whether the first axis runs fastest.
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<usize>,
}

/// What the elements are: one letter of NumPy (`f`, `i`, `u`, `b`) and the bytes of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DType {
    pub(super) kind: char,
    pub(super) size: usize,
    big_endian: bool,
}

impl DType {
    fn parse(descr: &str) -> Result<Self> {
        let unsupported = || {
            format!("the element type '{descr}' is not supported: floats, integers and bool are")
        };
        let mut letters = descr.chars();
        let order = letters.next().with_context(unsupported)?;
        let kind = letters.next().with_context(unsupported)?;
        let size: usize = letters.as_str().parse().ok().with_context(unsupported)?;
        let known = match kind {
            'f' => matches!(size, 2 | 4 | 8),
            'i' | 'u' => matches!(size, 1 | 2 | 4 | 8),
            'b' => size == 1,
            _ => false,
        };
        ensure!(known && matches!(order, '<' | '>' | '|' | '='), unsupported());
        Ok(Self { kind, size, big_endian: order == '>' })
    }

    /// NumPy's name, such as `float32`.
    pub(super) fn name(self) -> String {
        let word = match self.kind {
            'f' => "float",
            'i' => "int",
            'u' => "uint",
            _ => return "bool".into(),
        };
        format!("{word}{}", 8 * self.size)
    }

    /// The element in `bytes`, which are `size` long, as it would lie in a register.
    fn bits(self, bytes: &[u8]) -> u64 {
        let mut register = [0; 8];
        register[..self.size].copy_from_slice(bytes);
        if self.big_endian {
            register[..self.size].reverse();
        }
        u64::from_le_bytes(register)
    }

    /// The integer or truth value in `bytes`, which are `size` long.
    pub(super) fn integer(self, bytes: &[u8]) -> i128 {
        let bits = self.bits(bytes);
        let unused = 64 - 8 * self.size as u32;
        if self.kind == 'i' {
            i128::from((bits << unused) as i64 >> unused)
        } else {
            i128::from(bits)
        }
    }

    /// The number in `bytes`, which are `size` long.
    pub(super) fn number<E: Scalar>(self, bytes: &[u8]) -> E {
        let bits = self.bits(bytes);
        match (self.kind, self.size) {
            ('f', 2) => E::from_f64(half::f16::from_bits(bits as u16).to_f64()),
            ('f', 4) => E::from_f64(f64::from(f32::from_bits(bits as u32))),
            ('f', _) => E::from_f64(f64::from_bits(bits)),
            _ => E::from_integer(self.integer(bytes)),
        }
    }
}

impl Header {
    /// Reads up to the first byte of the elements.
    pub(super) fn read(reader: &mut impl Read) -> Result<Self> {
        let mut start = [0; 8];
        let not_npy = "not a .npy file: it does not begin with NumPy's signature";
        reader.read_exact(&mut start).ok().context(not_npy)?;
        ensure!(start.starts_with(MAGIC), not_npy);
        let width = match start[6] {
            1 => 2,
            2 | 3 => 4,
            version => bail!(".npy format version {version} is not supported: 1, 2 and 3 are"),
        };
        let mut length = [0; 4];
        reader.read_exact(&mut length[..width]).ok().context("cut short in the .npy header")?;
        let length = u32::from_le_bytes(length) as usize;
        ensure!(
            length <= MAX_HEADER,
            "the .npy header claims {length} bytes, the limit is {MAX_HEADER}"
        );
        let mut text = vec![0; length];
        reader.read_exact(&mut text).ok().context("cut short in the .npy header")?;
        let text = String::from_utf8(text).ok().context("the .npy header is not text")?;
        Self::parse(&text).with_context(|| format!("the .npy header {:?}", text.trim_end()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut rest = Cursor(text);
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        rest.expect('{')?;
        while !rest.accept('}') {
            let key = rest.string()?;
            rest.expect(':')?;
            match key {
                "descr" if rest.accept('[') => bail!("an array of records is not supported"),
                "descr" => descr = Some(DType::parse(rest.string()?)?),
                "fortran_order" => fortran_order = Some(rest.truth()?),
                "shape" => shape = Some(rest.shape()?),
                _ => bail!("the unknown key '{key}'"),
            }
            if !rest.accept(',') {
                rest.expect('}')?;
                break;
            }
        }
        Ok(Self {
            dtype: descr.context("'descr' is missing")?,
            fortran_order: fortran_order.context("'fortran_order' is missing")?,
            shape: shape.context("'shape' is missing")?,
        })
    }
}

/// The part of a header that is still to be read.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn accept(&mut self, letter: char) -> bool {
        self.0 = self.0.trim_start();
        match self.0.strip_prefix(letter) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, letter: char) -> Result<()> {
        ensure!(self.accept(letter), "expected {letter} before {:?}", self.0.trim_end());
        Ok(())
    }

    fn string(&mut self) -> Result<&'a str> {
        let quote = if self.accept('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.expect(quote)?;
        }
        let (inside, rest) = self.0.split_once(quote).context("a string without an end")?;
        self.0 = rest;
        Ok(inside)
    }

    /// The letters and digits that follow.
    fn word(&mut self) -> &'a str {
        self.0 = self.0.trim_start();
        let end = self.0.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    fn truth(&mut self) -> Result<bool> {
        match self.word() {
            "True" => Ok(true),
            "False" => Ok(false),
            other => bail!("expected True or False, got '{other}'"),
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            // Python 2 wrote `5998L`.
            let word = self.word();
            let axis = word.strip_suffix('L').unwrap_or(word);
            shape.push(
                axis.parse()
                    .ok()
                    .with_context(|| format!("'{word}' is not the length of an axis"))?,
            );
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_numpy_version_parse() {
        let header =
            Header::parse("{'descr': '<f4', 'fortran_order': False, 'shape': (5998, 40), }   \n")
                .unwrap();
        assert_eq!(header.dtype, DType { kind: 'f', size: 4, big_endian: false });
        assert_eq!((header.fortran_order, header.shape), (false, vec![5998, 40]));
        let old = Header::parse("{\"shape\": (3L,), \"fortran_order\": True, \"descr\": \">i8\"}")
            .unwrap();
        assert_eq!(old.dtype, DType { kind: 'i', size: 8, big_endian: true });
        assert_eq!((old.fortran_order, old.shape), (true, vec![3]));
        assert!(
            Header::parse("{'descr': '|b1', 'fortran_order': False, 'shape': ()}")
                .unwrap()
                .shape
                .is_empty()
        );
    }

    #[test]
    fn a_header_that_is_not_numpys_says_what_is_wrong() {
        let cases = [
            ("", "expected {"),
            ("{'descr': '<f4', 'fortran_order': False}", "'shape' is missing"),
            ("{'descr': '<c8', 'fortran_order': False, 'shape': ()}", "'<c8' is not supported"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': ()}", "'|O' is not supported"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}", "records"),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", "True or False, got '0'"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
                "'' is not the length of an axis",
            ),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}", "expected )"),
            ("{'descr': '<f4', 'order': False}", "unknown key 'order'"),
            ("{'descr: 1}", "a string without an end"),
        ];
        for (text, expected) in cases {
            let message = Header::parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn numbers_of_every_type_are_read() {
        let read = |descr: &str, bytes: &[u8]| DType::parse(descr).unwrap().number::<f64>(bytes);
        assert_eq!(read("<f2", &[0x00, 0xc0]), -2.0);
        assert_eq!(read(">f4", &1.5f32.to_be_bytes()), 1.5);
        assert_eq!(read("<f8", &(-0.1f64).to_le_bytes()), -0.1);
        assert_eq!(read("|i1", &[0xff]), -1.0);
        assert_eq!(read("|u1", &[0xff]), 255.0);
        assert_eq!(read(">i2", &[0xff, 0xfe]), -2.0);
        assert_eq!(read("<i4", &i32::MIN.to_le_bytes()), f64::from(i32::MIN));
        assert_eq!(read("<u8", &u64::MAX.to_le_bytes()), u64::MAX as f64);
        assert_eq!(read("<i8", &i64::MIN.to_le_bytes()), i64::MIN as f64);
        assert_eq!(read("|b1", &[1]), 1.0);
    }
}
