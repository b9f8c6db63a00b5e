//! Rows of numbers as text: a line per row, commas between the values.

use std::io::{Read, Write};

use ::csv::{ReaderBuilder, StringRecord, Trim, WriterBuilder};
use anyhow::{Context, Result, bail, ensure};

use super::{Array, Scalar};

/// The longest line that is read, in bytes: a million numbers. Without a limit, a file without line feeds would be
/// taken into memory whole before its first number is looked at.
const LONGEST_LINE: usize = 16 << 20;

/// Passes bytes on, up to a line that is too long.
struct Lines<R> {
    from: R,
    /// Number of the line, from 1, and its bytes so far.
    line: usize,
    length: usize,
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.from.read(into)?;
        for &byte in &into[..count] {
            self.length += 1;
            if byte == b'\n' {
                (self.line, self.length) = (self.line + 1, 0);
            }
        }
        if self.length > LONGEST_LINE {
            let (line, most) = (self.line, LONGEST_LINE >> 20);
            let problem = format!("line {line} is longer than {most} MiB");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, problem));
        }
        Ok(count)
    }
}

/// Reads the rows `[T, I]`. A first line without any number in it is a header and is passed over.
///
/// # Errors
/// A value that is not a number, a row longer or shorter than the first, or no row at all: with the
/// line.
pub(crate) fn read<E: Scalar>(reader: impl Read) -> Result<Array<E>> {
    let reader = Lines { from: reader, line: 1, length: 0 };
    let mut lines =
        ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(reader);
    let mut record = StringRecord::new();
    let (mut rows, mut width, mut data) = (0, None, Vec::new());
    let mut first = true;
    while lines.read_record(&mut record)? {
        let is_header = first && record.iter().all(|field| field.parse::<E>().is_err());
        first = false;
        if is_header {
            continue;
        }
        let line = record.position().map_or(0, ::csv::Position::line);
        let width = *width.get_or_insert(record.len());
        ensure!(
            record.len() == width,
            "line {line} has {} values, the rows before it {width}",
            record.len()
        );
        for (column, field) in record.iter().enumerate() {
            let value = field.parse::<E>();
            data.push(value.ok().with_context(|| {
                format!("line {line}, value {}: '{field}' is not a number", column + 1)
            })?);
        }
        rows += 1;
    }
    match width {
        Some(width) => Ok(Array { shape: vec![rows, width], data }),
        None => bail!("no row of numbers in it"),
    }
}

/// Writes one line per row of `width` values: the shortest text that reads back as the same value.
pub(crate) fn write<E: Scalar>(writer: impl Write, width: usize, data: &[E]) -> Result<()> {
    let mut lines = WriterBuilder::new().from_writer(writer);
    for row in data.chunks(width.max(1)) {
        lines.write_record(row.iter().map(|value| format!("{value:?}")))?;
    }
    lines.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Array<f32>> {
        read(text.as_bytes())
    }

    #[test]
    fn rows_with_and_without_a_header() {
        let expected = Array { shape: vec![2, 3], data: vec![1.0, -2.5, 3e-4, 4.0, 5.0, 6.0] };
        for text in [
            "1,-2.5,3e-4\n4,5,6\n",
            "a, b, c\n1, -2.5, 3e-4\n4, 5, 6",
            "\u{feff}\"x\",y,z\r\n1,\"-2.5\",3e-4\r\n\r\n4,5,6\r\n",
        ] {
            assert_eq!(read_text(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn bad_text_names_the_line() {
        let cases = [
            ("", "no row"),
            ("a,b\n", "no row"),
            ("1,2\n3\n", "line 2 has 1 values, the rows before it 2"),
            ("a,b\n1,2\n3,x\n", "line 3, value 2: 'x' is not a number"),
            ("1,two\n", "line 1, value 2: 'two' is not a number"),
            ("1,\n", "line 1, value 2: '' is not a number"),
        ];
        for (text, expected) in cases {
            let message = read_text(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text:?}: {message}");
        }
        assert!(read::<f32>(&b"1,\xff\n"[..]).is_err());
    }

    #[test]
    fn every_prefix_and_every_changed_byte_is_read_or_refused() {
        let text = b"a,b\r\n1,\"-2.5\"\n3e-4, inf\n";
        for end in 0..=text.len() {
            let _ = read::<f32>(&text[..end]);
        }
        let mut changed = *text;
        for at in 0..text.len() {
            for byte in 0..=255 {
                changed[at] = byte;
                if let Ok(array) = read::<f32>(&changed[..]) {
                    assert_eq!(array.shape.iter().product::<usize>(), array.data.len());
                }
            }
            changed[at] = text[at];
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let endless = std::io::repeat(b'1').take(1 << 40);
        let message = format!("{:#}", read::<f32>(std::io::BufReader::new(endless)).unwrap_err());
        assert!(message.contains("line 1 is longer than 16 MiB"), "{message}");
        // Long files of short lines are read: only one line counts.
        let lines = b"1,2\n".repeat((LONGEST_LINE >> 2) + 1);
        assert_eq!(read::<f32>(&lines[..]).unwrap().shape, [(LONGEST_LINE >> 2) + 1, 2]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let data = vec![0.1f32, -1e-30, 3.4e38, f32::MIN_POSITIVE, 1.0, f32::INFINITY];
        let mut text = Vec::new();
        write(&mut text, 2, &data).unwrap();
        assert_eq!(text, b"0.1,-1e-30\n3.4e38,1.1754944e-38\n1.0,inf\n");
        assert_eq!(read::<f32>(&text[..]).unwrap(), Array { shape: vec![3, 2], data });
    }
}
