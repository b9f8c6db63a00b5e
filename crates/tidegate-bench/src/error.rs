use core::fmt;

/// Why a benchmark could not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A layer refused its shape.
    Layer(tidegate::Error),
    /// The results could not be written.
    Write(std::io::Error),
    /// No row of the grid has the text in its name.
    NoRow {
        /// The text.
        filter: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(error) => error.fmt(f),
            Self::Write(error) => write!(f, "the results could not be written: {error}"),
            Self::NoRow { filter } => write!(f, "no row of the grid has `{filter}` in its name"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Layer(error) => Some(error),
            Self::Write(error) => Some(error),
            Self::NoRow { .. } => None,
        }
    }
}

impl From<tidegate::Error> for Error {
    fn from(error: tidegate::Error) -> Self {
        Self::Layer(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Write(error)
    }
}
