//! How the program speaks: one line per complaint, aligned columns, numbers with units.

use std::io::Write;
use std::time::Duration;

/// Says on standard error, in one line, what went wrong.
pub(crate) fn complain(message: &str) {
    let line = message.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
    say(&format!("tidegate: {line}"));
}

/// Says on standard error what is worth knowing and not an error.
pub(crate) fn remark(line: &str) {
    say(&format!("tidegate: note: {line}"));
}

/// Says on standard error.
pub(crate) fn say(line: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Lines of columns, each column as wide as its widest cell and two spaces from the next; the
/// columns whose numbers are in `right` end where their widest cell does.
pub(crate) fn table<const N: usize>(rows: &[[String; N]], right: &[usize]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cell = |(column, cell): (usize, &String)| {
            let width = widths[column];
            if right.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            }
        };
        let cells = row.iter().enumerate().map(cell);
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A whole number with a comma between thousands: `153,600`.
pub(crate) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 step`, `5,998 steps`.
pub(crate) fn plural(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A name from a file as a terminal may have it: not too long, without characters that control it.
pub(crate) fn shown(name: &str) -> String {
    let quoted = tidegate_weights::quoted(name);
    quoted[1..quoted.len() - 1].into()
}

/// Names with commas between them: the first few, and how many more there are.
pub(crate) fn list(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 8;
    let few = names.iter().take(SHOWN).map(|name| self::shown(name.as_ref()));
    let shown = few.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 if names.is_empty() => "none".into(),
        0 => shown,
        more => format!("{shown} and {} more", count(more)),
    }
}

/// A time with three digits and the unit that suits it: `35.2 us`.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let decimals = match value {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// An error or a tolerance: `0`, `2.4e-6`.
pub(crate) fn error(value: f64) -> String {
    if value == 0.0 { "0".into() } else { format!("{value:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_trailing_spaces() {
        let rows = [["output", "[5998, 128]", "x"], ["h_n", "[4, 64]", ""]]
            .map(|row| row.map(String::from));
        assert_eq!(table(&rows, &[]), "output  [5998, 128]  x\nh_n     [4, 64]\n");
        assert_eq!(table(&rows, &[0, 1]), "output  [5998, 128]  x\n   h_n      [4, 64]\n");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            ["0", "999", "1,000", "153,600", "1,234,567"],
            [0, 999, 1000, 153_600, 1_234_567].map(count)[..]
        );
        assert_eq!(
            (plural(1, "step"), plural(5998, "step")),
            ("1 step".into(), "5,998 steps".into())
        );
        assert_eq!((list(&[""; 0]), list(&["a", "b"])), ("none".into(), "a, b".into()));
        assert_eq!(list(&["x"; 1010]), "x, x, x, x, x, x, x, x and 1,002 more");
        let times = [120, 35_240, 1_204_000, 210_000_000, 75_300_000_000]
            .map(Duration::from_nanos)
            .map(time);
        assert_eq!(times, ["120 ns", "35.2 us", "1.20 ms", "210 ms", "75.3 s"]);
        assert_eq!(
            [0.0, 5e-6, 2.41e-6, f64::INFINITY].map(error),
            ["0", "5.0e-6", "2.4e-6", "inf"]
        );
    }
}
