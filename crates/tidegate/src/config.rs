use core::fmt;

use crate::Error;

/// Which recurrence a layer computes, as the `mode` of PyTorch's `RNNBase`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Long short-term memory.
    Lstm,
    /// Gated recurrent unit.
    Gru,
    /// Elman network with `tanh`.
    RnnTanh,
    /// Elman network with `relu`.
    RnnRelu,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 4] = [Mode::Lstm, Mode::Gru, Mode::RnnTanh, Mode::RnnRelu];

    /// Number of gates: `weight_ih` has this many times `hidden_size` rows.
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::RnnTanh | Self::RnnRelu => 1,
        }
    }

    /// Whether the state has a cell state `c` beside `h`.
    pub fn has_cell_state(self) -> bool {
        self == Self::Lstm
    }

    /// PyTorch's class name: `LSTM`, `GRU` or `RNN`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lstm => "LSTM",
            Self::Gru => "GRU",
            Self::RnnTanh | Self::RnnRelu => "RNN",
        }
    }
}

/// The constructor's arguments, under PyTorch's names.
///
/// ```
/// use tidegate::{Config, Mode};
/// let config = Config { num_layers: 2, bidirectional: true, ..Config::new(Mode::Lstm, 40, 64) };
/// assert!(config.validate().is_ok());
/// assert_eq!(config.to_string(), "LSTM(40, 64, num_layers=2, bidirectional=True)");
/// ```
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Config {
    /// Which recurrence.
    pub mode: Mode,
    /// Number of features of the input, `I`.
    pub input_size: usize,
    /// Number of hidden units of one layer and direction, `H`.
    pub hidden_size: usize,
    /// Number of stacked layers, `L`.
    pub num_layers: usize,
    /// Whether there are `bias_ih` and `bias_hh`.
    pub bias: bool,
    /// Whether input and output are `[B, T, *]` rather than `[T, B, *]`. States never are.
    pub batch_first: bool,
    /// Probability with which an element between two layers is zeroed in training mode.
    pub dropout: f64,
    /// Whether every layer also runs backwards in time (`D` = 2 directions).
    pub bidirectional: bool,
    /// Size `P` of the projected `h` of an LSTM; 0 for none.
    pub proj_size: usize,
}

impl Config {
    /// The arguments PyTorch's constructor assumes when only the sizes are given.
    pub fn new(mode: Mode, input_size: usize, hidden_size: usize) -> Self {
        Self {
            mode,
            input_size,
            hidden_size,
            num_layers: 1,
            bias: true,
            batch_first: false,
            dropout: 0.0,
            bidirectional: false,
            proj_size: 0,
        }
    }

    /// Checks the arguments as PyTorch's constructor does, in its order.
    ///
    /// # Errors
    /// The first argument that PyTorch would refuse, or sizes whose parameters cannot exist.
    pub fn validate(&self) -> Result<(), Error> {
        if !(0.0..=1.0).contains(&self.dropout) {
            return Err(Error::Dropout { got: self.dropout });
        }
        for (name, size) in [
            ("input_size", self.input_size),
            ("hidden_size", self.hidden_size),
            ("num_layers", self.num_layers),
        ] {
            if size == 0 {
                return Err(Error::ZeroArgument { name });
            }
        }
        if self.proj_size > 0 && self.mode != Mode::Lstm {
            return Err(Error::ProjectionUnsupported { proj_size: self.proj_size });
        }
        if self.proj_size >= self.hidden_size {
            return Err(Error::ProjectionTooLarge {
                proj_size: self.proj_size,
                hidden_size: self.hidden_size,
            });
        }
        self.validate_size()
    }

    /// Refuses sizes whose parameters would not fit into half of the address space, so that no
    /// later arithmetic on sizes can wrap.
    fn validate_size(&self) -> Result<(), Error> {
        // Padding to whole vectors and packing at most triples what is counted here.
        let limit = (isize::MAX / 64) as u128;
        let [input, hidden, layers] =
            [self.input_size, self.hidden_size, self.num_layers].map(|n| n as u128);
        let widest = input.saturating_add(hidden.saturating_mul(2)).saturating_add(2 + 64);
        let elements = widest
            .saturating_mul(hidden.saturating_add(64))
            .saturating_mul(layers)
            .saturating_mul(8);
        if elements > limit {
            return Err(Error::TooLarge { what: "the number of parameters" });
        }
        Ok(())
    }

    /// Number of directions, `D`: 2 if bidirectional, otherwise 1.
    pub fn num_directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// Size of `h` in one direction: `proj_size` where there is one, otherwise `hidden_size`.
    pub fn output_size(&self) -> usize {
        if self.proj_size > 0 { self.proj_size } else { self.hidden_size }
    }

    /// Input size of layer `layer`: `I` for the first, `D * output_size` for those above.
    pub fn layer_input_size(&self, layer: usize) -> usize {
        if layer == 0 { self.input_size } else { self.num_directions() * self.output_size() }
    }

    /// Names and shapes of the parameters, in the order of PyTorch's `named_parameters()`.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let mut parameters = Vec::new();
        for layer in 0..self.num_layers {
            for direction in 0..self.num_directions() {
                for (name, shape) in self.direction_parameters(layer) {
                    parameters.push((parameter_name(name, layer, direction), shape));
                }
            }
        }
        parameters
    }

    /// Names without suffix and shapes of the parameters of one layer and direction.
    pub(crate) fn direction_parameters(&self, layer: usize) -> Vec<(&'static str, Vec<usize>)> {
        let rows = self.mode.gates() * self.hidden_size;
        let mut parameters = vec![
            ("weight_ih", vec![rows, self.layer_input_size(layer)]),
            ("weight_hh", vec![rows, self.output_size()]),
        ];
        if self.bias {
            parameters.push(("bias_ih", vec![rows]));
            parameters.push(("bias_hh", vec![rows]));
        }
        if self.proj_size > 0 {
            parameters.push(("weight_hr", vec![self.proj_size, self.hidden_size]));
        }
        parameters
    }
}

/// Writes the layer as the line of Python that constructs it.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}, {}", self.mode.name(), self.input_size, self.hidden_size)?;
        // The order in which PyTorch prints them.
        if self.proj_size != 0 {
            write!(f, ", proj_size={}", self.proj_size)?;
        }
        if self.num_layers != 1 {
            write!(f, ", num_layers={}", self.num_layers)?;
        }
        if self.mode == Mode::RnnRelu {
            write!(f, ", nonlinearity='relu'")?;
        }
        if !self.bias {
            write!(f, ", bias=False")?;
        }
        if self.batch_first {
            write!(f, ", batch_first=True")?;
        }
        if self.dropout != 0.0 {
            write!(f, ", dropout={}", self.dropout)?;
        }
        if self.bidirectional {
            write!(f, ", bidirectional=True")?;
        }
        write!(f, ")")
    }
}

/// PyTorch's name of a parameter of one layer and direction.
pub(crate) fn parameter_name(name: &str, layer: usize, direction: usize) -> String {
    let reverse = if direction == 1 { "_reverse" } else { "" };
    format!("{name}_l{layer}{reverse}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lstm() -> Config {
        Config::new(Mode::Lstm, 3, 4)
    }

    #[test]
    fn refuses_what_pytorch_refuses() {
        let table = [
            (Config { dropout: 1.5, ..lstm() }, "dropout should be a number in range [0, 1]"),
            (Config { dropout: f64::NAN, ..lstm() }, "dropout should be a number in range"),
            (Config { input_size: 0, ..lstm() }, "input_size must be greater than zero"),
            (Config { hidden_size: 0, ..lstm() }, "hidden_size must be greater than zero"),
            (Config { num_layers: 0, ..lstm() }, "num_layers must be greater than zero"),
            (Config { proj_size: 4, ..lstm() }, "proj_size has to be smaller than hidden_size"),
            (
                Config { proj_size: 2, mode: Mode::Gru, ..lstm() },
                "proj_size argument is only supported for LSTM, not RNN or GRU",
            ),
            (Config { hidden_size: usize::MAX / 2, ..lstm() }, "too large"),
            (Config { num_layers: usize::MAX, ..lstm() }, "too large"),
        ];
        for (config, message) in table {
            let error = config.validate().expect_err(message).to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn prints_as_pytorch_does() {
        let config =
            Config { num_layers: 2, bias: false, batch_first: true, dropout: 0.25, ..lstm() };
        let config = Config { bidirectional: true, proj_size: 2, ..config };
        let want = "LSTM(3, 4, proj_size=2, num_layers=2, bias=False, batch_first=True, dropout=0.25, \
                    bidirectional=True)";
        assert_eq!(config.to_string(), want);
    }

    #[test]
    fn parameters_have_pytorchs_names_shapes_and_order() {
        let config = Config { num_layers: 2, bidirectional: true, proj_size: 2, ..lstm() };
        let parameters = config.parameters();
        let names: Vec<_> = parameters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names[..6],
            [
                "weight_ih_l0",
                "weight_hh_l0",
                "bias_ih_l0",
                "bias_hh_l0",
                "weight_hr_l0",
                "weight_ih_l0_reverse"
            ]
        );
        assert_eq!(parameters[0].1, [16, 3]);
        assert_eq!(parameters[1].1, [16, 2]);
        assert_eq!(parameters[4].1, [2, 4]);
        assert_eq!(parameters[10], ("weight_ih_l1".to_string(), vec![16, 4]));
        assert_eq!(parameters.len(), 20);
    }
}
