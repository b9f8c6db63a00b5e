//! Measures the layers on a fixed grid of shapes, and says how near to the machine's limit they are.
//!
//! [`grid`] names the shapes, [`Limit::calibrate`] measures what this machine can do, [`measure`]
//! times one shape and [`run`] is the program's `bench`: all of it, printed.
//!
//! ```
//! use tidegate_bench::grid;
//! let row = grid().into_iter().find(|row| row.name == "lstm-step-h128").unwrap();
//! assert_eq!((row.input_size, row.hidden_size, row.steps, row.batch), (128, 128, 1, 1));
//! ```

mod error;
mod grid;
mod job;
mod limit;
mod machine;
mod report;

pub use error::Error;
pub use grid::{Cell, Kind, Row, grid};
pub use job::{Job, Measurement, measure};
pub use limit::{Limit, ReadSpeed};
pub use report::{Record, run, select};
