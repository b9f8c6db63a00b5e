//! The grid measured and printed.

use std::io::Write;

use serde::Serialize;

use crate::{Error, Limit, Measurement, Row, grid, measure};

/// One measured row, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The shape.
    #[serde(flatten)]
    pub row: Row,
    /// Threads it might use.
    pub threads: usize,
    /// See [`Measurement::us`].
    pub us: f64,
    /// See [`Measurement::gflops`].
    pub gflops: f64,
    /// See [`Measurement::limit_us`].
    pub limit_us: f64,
    /// See [`Measurement::percent`].
    pub percent: f64,
}

impl Record {
    /// A row with its time.
    pub fn new(row: Row, threads: usize, measurement: Measurement) -> Self {
        let Measurement { us, gflops, limit_us, percent } = measurement;
        Self { row, threads, us, gflops, limit_us, percent }
    }
}

/// The rows of the grid that have `text` in their name.
///
/// # Errors
/// If there is none.
pub fn select(text: &str) -> Result<Vec<Row>, Error> {
    let rows: Vec<Row> = grid().into_iter().filter(|row| row.name.contains(text)).collect();
    if rows.is_empty() {
        return Err(Error::NoRow { filter: text.to_owned() });
    }
    Ok(rows)
}

/// Measures `rows` and prints a line for each as soon as it is known: a table, or with `json` one
/// object a line.
///
/// # Errors
/// If `out` fails.
pub fn run(
    rows: Vec<Row>,
    threads: usize,
    json: bool,
    out: &mut (impl Write + ?Sized),
) -> Result<(), Error> {
    let threads = threads.max(1);
    let limit = Limit::calibrate();
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    if !json {
        heading(&limit, threads, width, out)?;
    }
    for row in rows {
        let measurement = measure(&row, threads, &limit)?;
        let record = Record::new(row, threads, measurement);
        if json {
            let text = serde_json::to_string(&record).map_err(std::io::Error::from)?;
            writeln!(out, "{text}")?;
        } else {
            line(&record, width, out)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// What the machine can do, and the names of the columns.
fn heading(
    limit: &Limit,
    threads: usize,
    width: usize,
    out: &mut (impl Write + ?Sized),
) -> Result<(), Error> {
    let Limit { level, multiply_adds, reads, activation, hop, .. } = limit;
    let per_core = 2e-9 * multiply_adds;
    writeln!(out, "one core ({level}): {per_core:.0} GFLOP/s; reads in GB/s:")?;
    for read in reads {
        write!(out, " {:.0} KB {:.0}", read.bytes / 1024.0, 1e-9 * read.speed)?;
    }
    writeln!(out)?;
    let (activation, hop) = (1e9 * activation, 1e9 * hop);
    writeln!(
        out,
        "a vector of sigmoids {activation:.1} ns; core to core {hop:.0} ns; threads: {threads}"
    )?;
    writeln!(out)?;
    let [us, gflops, least, percent] = ["us", "GFLOP/s", "limit us", "% of limit"];
    writeln!(out, "{:width$}  {us:>11}  {gflops:>8}  {least:>11}  {percent:>10}", "row")?;
    Ok(())
}

fn line(record: &Record, width: usize, out: &mut (impl Write + ?Sized)) -> Result<(), Error> {
    let Record { row, us, gflops, limit_us, percent, .. } = record;
    let name = &row.name;
    writeln!(out, "{name:width$}  {us:>11.3}  {gflops:>8.1}  {limit_us:>11.3}  {percent:>10.0}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_promised_keys() {
        let row = grid().remove(0);
        let measurement = Measurement { us: 2.0, gflops: 3.0, limit_us: 1.0, percent: 50.0 };
        let object = serde_json::to_value(Record::new(row, 2, measurement)).unwrap();
        let mut keys: Vec<&String> = object.as_object().unwrap().keys().collect();
        keys.sort();
        let expected = "B D H I L T cell gflops limit_us mode name percent ragged threads us";
        assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
        assert_eq!(object["cell"], "lstm");
        assert_eq!(object["mode"], "step");
        assert_eq!(object["threads"], 2);
    }

    #[test]
    fn a_row_is_measured_and_printed_both_ways() {
        let print = |json| {
            let mut out = Vec::new();
            run(select("gru-step-h8").unwrap(), 1, json, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let object: serde_json::Value = serde_json::from_str(&print(true)).unwrap();
        assert_eq!(object["name"], "gru-step-h8");
        let table = print(false);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[lines.len() - 1].starts_with("gru-step-h8 "), "{table}");
        // Aligned: all columns end where their names end.
        assert_eq!(lines[lines.len() - 1].len(), lines[lines.len() - 2].len(), "{table}");
    }

    #[test]
    fn a_text_that_no_name_has_is_an_error() {
        let error = select("gru-steps").unwrap_err();
        assert_eq!(error.to_string(), "no row of the grid has `gru-steps` in its name");
    }
}
