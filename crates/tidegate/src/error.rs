use core::fmt;

/// What can be wrong with a layer's arguments, parameters or inputs.
///
/// Messages say which argument or tensor, what was expected and what came, in PyTorch's words
/// where PyTorch has them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A constructor argument that must be greater than zero is zero.
    ZeroArgument {
        /// PyTorch's name of the argument.
        name: &'static str,
    },
    /// The dropout probability is outside `[0, 1]`.
    Dropout {
        /// What was given.
        got: f64,
    },
    /// `proj_size` is not smaller than `hidden_size`.
    ProjectionTooLarge {
        /// The projection size given.
        proj_size: usize,
        /// The hidden size it must be smaller than.
        hidden_size: usize,
    },
    /// `proj_size` was given for a layer other than an LSTM.
    ProjectionUnsupported {
        /// The projection size given.
        proj_size: usize,
    },
    /// The sizes of the layer multiply to more than the machine can address.
    TooLarge {
        /// What would be too large.
        what: &'static str,
    },
    /// There is not as much memory.
    OutOfMemory {
        /// How much was asked for.
        bytes: usize,
    },
    /// A tensor's data does not fill its shape.
    Length {
        /// The shape given.
        shape: Vec<usize>,
        /// The number of elements given.
        got: usize,
    },
    /// A tensor has the wrong number of dimensions.
    Dimensions {
        /// The tensor's name.
        tensor: &'static str,
        /// What is expected, such as `2D or 3D`.
        expected: &'static str,
        /// The number of dimensions given.
        got: usize,
    },
    /// The last dimension of the input is not the layer's input size.
    InputSize {
        /// The layer's input size.
        expected: usize,
        /// The size of the input's last dimension.
        got: usize,
    },
    /// A state or a buffer has the wrong shape.
    Shape {
        /// The tensor's name, such as `h_0`.
        tensor: &'static str,
        /// The shape the layer and the input call for.
        expected: Vec<usize>,
        /// The shape given.
        got: Vec<usize>,
    },
    /// A state was given with a cell state where there is none, or without where there is one.
    CellState {
        /// Whether the layer has a cell state.
        expected: bool,
    },
    /// A sequence of no steps.
    EmptySequence,
    /// An input without elements, of which nothing can be packed.
    EmptyInput {
        /// The shape given.
        shape: Vec<usize>,
    },
    /// The number of lengths is not the batch size.
    LengthsCount {
        /// The batch size.
        batch: usize,
        /// The number of lengths given.
        got: usize,
    },
    /// A length is larger than the number of steps, or too small.
    LengthOutOfRange {
        /// The row of the batch.
        row: usize,
        /// The length given.
        length: usize,
        /// The smallest length allowed.
        min: usize,
        /// The largest length allowed.
        max: usize,
    },
    /// `lengths` must decrease when `enforce_sorted` is set.
    UnsortedLengths {
        /// The first row that is longer than the one before it.
        row: usize,
    },
    /// The fields of a packed sequence contradict one another.
    InconsistentPack {
        /// What contradicts what.
        reason: &'static str,
    },
    /// `total_length` is smaller than the longest sequence.
    TotalLength {
        /// The total length given.
        total_length: usize,
        /// The length of the longest sequence.
        longest: usize,
    },
    /// A function of a list of sequences got none.
    NoSequences,
    /// A parameter is missing from a state dict, or from the parameters of a functional call.
    MissingParameter {
        /// Its name, with the prefix.
        name: String,
    },
    /// A state dict holds a parameter the layer does not have.
    UnexpectedParameter {
        /// Its name, with the prefix.
        name: String,
    },
    /// A parameter of a state dict or of a functional call has the wrong shape.
    ParameterShape {
        /// Its name, with the prefix.
        name: String,
        /// The layer's shape.
        expected: Vec<usize>,
        /// The state dict's shape; of a functional call the number of elements.
        got: Vec<usize>,
    },
    /// There are not as many parameters, or gradients of parameters, as the layer has.
    ParameterCount {
        /// The number of the layer's parameters.
        expected: usize,
        /// The number given.
        got: usize,
    },
    /// What backward got is not what forward of the same layer has saved.
    ForeignSaved {
        /// The layer whose call it is from, if any.
        saved: Option<String>,
    },
    /// Steps to look at that the call has not kept.
    NotSaved {
        /// What was asked for.
        what: &'static str,
        /// Why it is not there.
        reason: &'static str,
    },
    /// A stack of one mode where another is wanted.
    Mode {
        /// The type that was wanted.
        expected: &'static str,
        /// PyTorch's name of the stack's class.
        got: &'static str,
    },
    /// The layer cannot stream: the reverse direction needs the whole sequence first.
    BidirectionalStream,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroArgument { name } => write!(f, "{name} must be greater than zero"),
            Self::Dropout { got } => write!(
                f,
                "dropout should be a number in range [0, 1] representing the probability of an \
                 element being zeroed, but got {got}"
            ),
            Self::ProjectionTooLarge { proj_size, hidden_size } => write!(
                f,
                "proj_size has to be smaller than hidden_size, but got proj_size={proj_size} and \
                 hidden_size={hidden_size}"
            ),
            Self::ProjectionUnsupported { proj_size } => write!(
                f,
                "proj_size argument is only supported for LSTM, not RNN or GRU, but got \
                 proj_size={proj_size}"
            ),
            Self::OutOfMemory { bytes } => write!(f, "out of memory: {bytes} bytes are needed"),
            Self::TooLarge { what } => write!(f, "{what} is too large for this machine"),
            Self::Length { shape, got } => {
                write!(f, "a tensor of shape {shape:?} cannot hold {got} elements")
            }
            Self::Dimensions { tensor, expected, got } => {
                write!(f, "Expected {tensor} to be {expected}, got {got}D instead")
            }
            Self::InputSize { expected, got } => write!(
                f,
                "input.size(-1) must be equal to input_size. Expected {expected}, got {got}"
            ),
            Self::Shape { tensor, expected, got } => {
                write!(f, "Expected {tensor} size {expected:?}, got {got:?}")
            }
            Self::CellState { expected: true } => {
                write!(f, "lstm expects two hidden states, h_0 and c_0, but got h_0 only")
            }
            Self::CellState { expected: false } => {
                write!(f, "only an LSTM has a cell state: expected h_0, got h_0 and c_0")
            }
            Self::EmptySequence => {
                write!(f, "Expected sequence length to be larger than 0 in RNN")
            }
            Self::EmptyInput { shape } => {
                write!(f, "Cannot pack empty tensors, but got one of shape {shape:?}")
            }
            Self::LengthsCount { batch, got } => write!(
                f,
                "Expected `len(lengths)` to be equal to batch_size, but got {got} \
                 (batch_size={batch})"
            ),
            Self::LengthOutOfRange { row, length, min, max } => {
                write!(f, "lengths[{row}] must be between {min} and {max}, got {length}")
            }
            Self::UnsortedLengths { row } => write!(
                f,
                "`lengths` array must be sorted in decreasing order when `enforce_sorted` is \
                 true, but row {row} is longer than the row before it"
            ),
            Self::InconsistentPack { reason } => {
                write!(f, "inconsistent packed sequence: {reason}")
            }
            Self::TotalLength { total_length, longest } => write!(
                f,
                "Expected total_length to be at least the length of the longest sequence in \
                 input, but got total_length={total_length} and max sequence length being \
                 {longest}"
            ),
            Self::NoSequences => write!(f, "received an empty list of sequences"),
            Self::MissingParameter { name } => write!(f, "missing parameter {name}"),
            Self::UnexpectedParameter { name } => write!(f, "unexpected parameter {name}"),
            Self::ParameterShape { name, expected, got } => {
                write!(f, "size mismatch for {name}: expected shape {expected:?}, got {got:?}")
            }
            Self::ParameterCount { expected, got } => {
                write!(f, "expected one for each of {expected} parameters, got {got}")
            }
            Self::ForeignSaved { saved: None } => {
                write!(f, "backward needs what forward_train has saved, got nothing")
            }
            Self::ForeignSaved { saved: Some(saved) } => {
                write!(
                    f,
                    "backward needs what forward_train of this layer has saved, got {saved}'s"
                )
            }
            Self::NotSaved { what, reason } => write!(f, "no {what} of every step: {reason}"),
            Self::Mode { expected, got } => {
                write!(f, "expected the layer to be of type {expected}, got {got}")
            }
            Self::BidirectionalStream => write!(
                f,
                "a bidirectional layer cannot stream: its reverse direction starts at the end"
            ),
        }
    }
}

impl core::error::Error for Error {}
