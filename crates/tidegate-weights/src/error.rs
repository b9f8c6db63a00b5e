use core::fmt;
use std::io;
use std::path::PathBuf;

use crate::Dtype;

/// What can be wrong with a checkpoint, or with what is asked of it.
///
/// Messages are one line and name the tensor, the archive's entry or the byte of the file; names
/// out of a file are escaped and cut to a readable length. What the system or a layer says is the
/// `source()` and not in the message, so that a chain of errors says it once.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    Write {
        /// What the system says.
        source: io::Error,
    },
    /// The first bytes are those of no format that is read.
    UnknownFormat {
        /// The first bytes, at most eight.
        start: Vec<u8>,
    },
    /// The file is of a known kind that is not read.
    UnsupportedFile {
        /// What it is, and what to do instead.
        what: &'static str,
    },
    /// The file contradicts itself or its format.
    Malformed {
        /// The tensor, entry or byte.
        place: String,
        /// What is wrong there.
        problem: String,
    },
    /// A pickle breaks off or makes no sense.
    Pickle {
        /// The byte of the file.
        offset: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A pickle uses an opcode that is not on the list of those that `torch.save` needs.
    ForbiddenOpcode {
        /// The opcode.
        opcode: u8,
        /// Python's name of it.
        name: &'static str,
        /// The byte of the file.
        offset: usize,
    },
    /// A pickle names a function or class that is not on the list of those that `torch.save`
    /// needs, and that is not the class of a module either. Nothing of it was run.
    ForbiddenGlobal {
        /// Its name, such as `os.system`.
        name: String,
        /// The byte of the file.
        offset: usize,
    },
    /// Two tensors have the same name.
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// The elements of a tensor are not floating-point numbers that can be read.
    UnsupportedDtype {
        /// The tensor's name.
        tensor: String,
        /// What is read there.
        expected: &'static str,
        /// The file's name of the type.
        got: String,
    },
    /// Data would unpack or expand to more than a file of this size may.
    TooLarge {
        /// What would.
        what: String,
        /// To how many bytes.
        bytes: u64,
        /// How many it may.
        limit: u64,
    },
    /// There is not as much memory.
    OutOfMemory {
        /// How much was asked for.
        bytes: usize,
    },
    /// There is no tensor of this name.
    NoSuchTensor {
        /// The name.
        name: String,
    },
    /// A parameter of a layer is missing.
    MissingParameter {
        /// Its name, with the prefix.
        name: String,
        /// Its shape, such as `[16, 3]`, or what is known of it.
        expected: String,
    },
    /// A tensor lies among the parameters of a layer that has no such parameter.
    UnexpectedParameter {
        /// Its name, with the prefix.
        name: String,
    },
    /// A parameter of a layer has the wrong shape.
    ParameterShape {
        /// Its name, with the prefix.
        name: String,
        /// The shape that the other parameters call for.
        expected: String,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// There is no recurrent layer.
    NoLayer,
    /// A choice among several recurrent layers is needed.
    SeveralLayers {
        /// The prefixes to choose from.
        prefixes: Vec<String>,
    },
    /// There is no recurrent layer of this prefix.
    NoSuchLayer {
        /// The prefix asked for.
        prefix: String,
        /// The prefixes there are.
        prefixes: Vec<String>,
    },
    /// The parameters are those of no layer that can be built.
    Layer {
        /// The prefix of the layer.
        prefix: String,
        /// Why not.
        source: tidegate::Error,
    },
}

impl Error {
    /// [`Error::Malformed`] for a tensor.
    pub(crate) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Malformed { place: format!("tensor {}", quoted(name)), problem: problem.into() }
    }

    /// [`Error::Malformed`] for anything else.
    pub(crate) fn at(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Malformed { place: place.into(), problem: problem.into() }
    }

    /// [`Error::UnsupportedDtype`] for a tensor of type `dtype`, which the file calls `note`.
    pub(crate) fn dtype(
        tensor: &str,
        expected: &'static str,
        dtype: Dtype,
        note: Option<&str>,
    ) -> Self {
        let got = note.unwrap_or(dtype.name()).to_string();
        Self::UnsupportedDtype { tensor: tensor.to_string(), expected, got }
    }
}

/// `text` on one line, cut to `limit` characters as shown, without what a terminal would obey.
fn shown(text: &str, limit: usize) -> String {
    let escape = |c: char| match c {
        // Nothing a terminal obeys, and an explanation may hold a name that is escaped already.
        '"' | '\'' | '\\' => c.to_string(),
        _ => c.escape_debug().to_string(),
    };
    let (mut line, mut length) = (String::new(), 0);
    for escaped in text.chars().map(escape) {
        length += escaped.chars().count();
        if length > limit {
            line.push_str("...");
            break;
        }
        line.push_str(&escaped);
    }
    line
}

/// Characters of a name that a message shows.
const NAME: usize = 120;
/// Characters of an explanation that a message shows.
const PROBLEM: usize = 400;

/// A name on one line, in quotation marks: escaped, and cut to a readable length.
///
/// For messages about names out of a file, which may hold anything. Quotation marks in it stay.
///
/// ```
/// use tidegate_weights::quoted;
///
/// assert_eq!(quoted("encoder.weight_ih_l0"), "\"encoder.weight_ih_l0\"");
/// assert_eq!(quoted("two\nlines"), "\"two\\nlines\"");
/// assert!(quoted(&"x".repeat(1000)).ends_with("xxx...\""));
/// ```
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", shown(name, NAME))
}

/// Why a pickle may not use `name`.
fn refusal(name: &str) -> &'static str {
    match name.strip_prefix("torch.").unwrap_or_default() {
        "_utils._rebuild_qtensor"
        | "QInt8Storage"
        | "QUInt8Storage"
        | "QInt32Storage"
        | "QUInt4x2Storage"
        | "QUInt2x4Storage" => "quantised tensors are not supported",
        "_utils._rebuild_sparse_tensor" | "_utils._rebuild_sparse_csr_tensor" => {
            "sparse tensors are not supported"
        }
        _ => "it is no part of a state dict or module",
    }
}

/// Prefixes as a list to choose from, not too long.
fn choices(prefixes: &[String]) -> String {
    const LONGEST: usize = 800;
    let named = |prefix: &String| match prefix.as_str() {
        "" => "\"\" (no prefix)".to_string(),
        prefix => quoted(prefix),
    };
    let (mut list, mut length) = (Vec::new(), 0);
    for name in prefixes.iter().map(named) {
        length += name.chars().count() + 2;
        if length > LONGEST {
            list.push(format!("and {} more", prefixes.len() - list.len()));
            break;
        }
        list.push(name);
    }
    list.join(", ")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => {
                write!(f, "cannot read {}", shown(&path.display().to_string(), PROBLEM))
            }
            Self::Write { .. } => f.write_str("cannot write"),
            Self::UnknownFormat { start } => write!(
                f,
                "neither safetensors, torch.save's format, .npz nor .npy: the file begins with \
                 \"{}\"",
                start.escape_ascii()
            ),
            Self::UnsupportedFile { what } => f.write_str(what),
            Self::Malformed { place, problem } => write!(f, "{place}: {}", shown(problem, PROBLEM)),
            Self::Pickle { offset, problem } => {
                write!(f, "pickle, byte {offset}: {}", shown(problem, PROBLEM))
            }
            Self::ForbiddenOpcode { opcode, name, offset } => write!(
                f,
                "pickle, byte {offset}: opcode {name} (0x{opcode:02x}) is not allowed: no \
                 checkpoint needs it"
            ),
            Self::ForbiddenGlobal { name, offset } => write!(
                f,
                "pickle, byte {offset}: {} is not allowed: {} (nothing was run)",
                quoted(name),
                refusal(name)
            ),
            Self::DuplicateTensor { name } => write!(f, "two tensors are called {}", quoted(name)),
            Self::UnsupportedDtype { tensor, expected, got } => write!(
                f,
                "tensor {}: expected {expected}, got elements of type {}",
                quoted(tensor),
                shown(got, NAME)
            ),
            Self::TooLarge { what, bytes, limit } => write!(
                f,
                "{what} would grow to {bytes} bytes, a file of this size may come to {limit} (if it \
                 is right, write it uncompressed)"
            ),
            Self::OutOfMemory { bytes } => write!(f, "out of memory: {bytes} bytes are needed"),
            Self::NoSuchTensor { name } => write!(f, "there is no tensor {}", quoted(name)),
            Self::MissingParameter { name, expected } => {
                write!(f, "parameter {} is missing: expected shape {expected}", quoted(name))
            }
            Self::UnexpectedParameter { name } => {
                write!(f, "unexpected parameter {}: the layer has no such one", quoted(name))
            }
            Self::ParameterShape { name, expected, got } => write!(
                f,
                "size mismatch for {}: expected shape {expected}, got {}",
                quoted(name),
                shown(&format!("{got:?}"), PROBLEM)
            ),
            Self::NoLayer => write!(f, "there is no recurrent layer (no weight_ih, weight_hh)"),
            Self::SeveralLayers { prefixes } => {
                write!(f, "there are several recurrent layers, choose one: {}", choices(prefixes))
            }
            Self::NoSuchLayer { prefix, prefixes } => write!(
                f,
                "there is no recurrent layer {}; there is: {}",
                quoted(prefix),
                choices(prefixes)
            ),
            Self::Layer { prefix, .. } => write!(f, "layer {}", quoted(prefix)),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::Write { source } => Some(source),
            Self::Layer { source, .. } => Some(source),
            _ => None,
        }
    }
}
