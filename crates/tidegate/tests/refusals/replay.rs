//! The calls of the fixtures, made with this crate's functions.

use tidegate::{
    Config, Element, Error, Gru, GruCell, Layer, Lstm, LstmCell, Mode, Nonlinearity, Options,
    OutputMut, PaddingSide, Rnn, RnnBase, RnnCell, State, StateDict, Tensor, View, Workspace,
    pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence,
};
use tidegate_testing::fixtures::{Given, Refusal, Shaped};

/// Makes the call, which must have a counterpart.
pub(crate) fn replay<E: Element>(refusal: &Refusal) -> Result<(), Error> {
    match (refusal.stage.as_str(), refusal.class.ends_with("Cell")) {
        ("constructor", false) => construct::<E>(refusal),
        ("forward", false) => forward::<E>(refusal),
        ("forward", true) => forward_cell::<E>(refusal),
        ("load_state_dict", false) => load::<E>(refusal),
        ("pack_padded_sequence" | "pad_packed_sequence", _) => pack::<E>(refusal),
        ("pack_sequence" | "pad_sequence", _) => sequences::<E>(refusal),
        other => panic!("{}: no rule for {other:?}", refusal.name),
    }
}

/// The constructor's arguments.
pub(crate) fn config(refusal: &Refusal) -> Config {
    let size = |name, default| {
        refusal.integer(name).map_or(default, |size| usize::try_from(size).unwrap())
    };
    let mode = match refusal.class.trim_end_matches("Cell") {
        "LSTM" => Mode::Lstm,
        "GRU" => Mode::Gru,
        "RNN" => Mode::RnnTanh,
        other => panic!("{}: class {other}", refusal.name),
    };
    Config {
        num_layers: size("num_layers", 1),
        bias: flag(refusal, "bias", true),
        batch_first: flag(refusal, "batch_first", false),
        dropout: refusal.arguments.get("dropout").map_or(0.0, |value| value.as_f64().unwrap()),
        bidirectional: flag(refusal, "bidirectional", false),
        proj_size: size("proj_size", 0),
        ..Config::new(mode, size("input_size", 0), size("hidden_size", 0))
    }
}

/// The tensors of an input.
pub(crate) fn shapes(given: &Given) -> Vec<&Shaped> {
    match given {
        Given::Tensor(tensor) => vec![tensor],
        Given::Sequences(sequences) => sequences.iter().collect(),
    }
}

fn zeros<E: Element>(shaped: &Shaped) -> Tensor<E> {
    let data = vec![E::ZERO; shaped.shape.iter().product()];
    Tensor::new(&shaped.shape, data).expect("as many zeros as the shape says")
}

/// The input where it is one tensor.
fn input<E: Element>(refusal: &Refusal) -> Tensor<E> {
    match &refusal.input {
        Some(Given::Tensor(tensor)) => zeros(tensor),
        other => panic!("{}: the input is {other:?}", refusal.name),
    }
}

fn lengths(refusal: &Refusal) -> Vec<usize> {
    refusal.lengths.iter().flatten().map(|&length| usize::try_from(length).unwrap()).collect()
}

fn flag(refusal: &Refusal, name: &str, default: bool) -> bool {
    refusal.arguments.get(name).map_or(default, |value| value.as_bool().unwrap())
}

fn construct<E: Element>(refusal: &Refusal) -> Result<(), Error> {
    let config = config(refusal);
    let result = RnnBase::<E>::new(config).map(drop);
    assert_eq!(config.validate(), result);
    let dict = StateDict::<E>::new();
    assert_eq!(RnnBase::from_state_dict(config, &dict, "").map(drop), result);
    result
}

/// Calls the layer by every entrance, which must give one answer.
fn forward<E: Element>(refusal: &Refusal) -> Result<(), Error> {
    let layer = RnnBase::<E>::new(config(refusal)).expect("only the call is wrong");
    let x = input::<E>(refusal);
    let [h, c] = [&refusal.h_0, &refusal.c_0].map(|state| state.as_ref().map(zeros::<E>));
    let [h, c] = [&h, &c].map(|state| state.as_ref().map(View::from));
    let options = || Options { state: h.map(|h| State { h, c }), ..Options::default() };
    let same = "every layer has a type";
    if refusal.lengths.is_some() {
        let x = pack_padded_sequence(&x, &lengths(refusal), false, true).expect("it can be packed");
        let result = layer.forward_packed(&x, options()).map(drop);
        let typed = match layer.config().mode {
            Mode::Lstm => {
                Lstm::from_base(layer).expect(same).forward_packed(&x, h.zip(c)).map(drop)
            }
            Mode::Gru => Gru::from_base(layer).expect(same).forward_packed(&x, h).map(drop),
            _ => Rnn::from_base(layer).expect(same).forward_packed(&x, h).map(drop),
        };
        assert_eq!(typed, result);
        return result;
    }
    let result = layer.forward_with(&x, options()).map(drop);
    let out = OutputMut { output: &mut [], h_n: &mut [], c_n: &mut [] };
    assert_eq!(layer.forward_into(&x, options(), &mut Workspace::new(), out), result);
    let typed = match layer.config().mode {
        Mode::Lstm => Lstm::from_base(layer).expect(same).forward(&x, h.zip(c)).map(drop),
        Mode::Gru => Gru::from_base(layer).expect(same).forward(&x, h).map(drop),
        _ => Rnn::from_base(layer).expect(same).forward(&x, h).map(drop),
    };
    assert_eq!(typed, result);
    result
}

/// Calls the cell. PyTorch notices a parameter of a wrong shape in the call; here there is no way
/// to put one in, but to load it.
fn forward_cell<E: Element>(refusal: &Refusal) -> Result<(), Error> {
    let (x, made) = (input::<E>(refusal), "only the call is wrong");
    let [h, c] = [&refusal.h_0, &refusal.c_0].map(|state| state.as_ref().map(zeros::<E>));
    let [h, c] = [&h, &c].map(|state| state.as_ref().map(View::from));
    let Config { mode, input_size, hidden_size, bias, .. } = config(refusal);
    match mode {
        Mode::Lstm => {
            let mut cell = LstmCell::<E>::new(input_size, hidden_size, bias).expect(made);
            cell.load_state_dict(&changed(cell.state_dict(), refusal), "")?;
            cell.forward(&x, h.zip(c)).map(drop)
        }
        Mode::Gru => {
            let mut cell = GruCell::<E>::new(input_size, hidden_size, bias).expect(made);
            cell.load_state_dict(&changed(cell.state_dict(), refusal), "")?;
            cell.forward(&x, h).map(drop)
        }
        _ => {
            let tanh = Nonlinearity::Tanh;
            let mut cell = RnnCell::<E>::new(input_size, hidden_size, bias, tanh).expect(made);
            cell.load_state_dict(&changed(cell.state_dict(), refusal), "")?;
            cell.forward(&x, h).map(drop)
        }
    }
}

/// `dict` with the parameters that the call takes away, adds or replaces.
fn changed<E: Element>(dict: StateDict<E>, refusal: &Refusal) -> StateDict<E> {
    let changes: Vec<_> = refusal.parameters.iter().flatten().collect();
    let away = |name: &str| changes.iter().any(|(k, value)| *k == name && value.is_none());
    let mut result: StateDict<E> = dict
        .iter()
        .filter(|(name, _)| !away(name))
        .map(|(name, tensor)| (name, tensor.clone()))
        .collect();
    for (name, value) in changes {
        if let Some(value) = value {
            result.insert(name, zeros(value));
        }
    }
    result
}

fn load<E: Element>(refusal: &Refusal) -> Result<(), Error> {
    let mut layer = RnnBase::<E>::new(config(refusal)).expect("only the parameters are wrong");
    let before = layer.state_dict();
    let dict = changed(before.clone(), refusal);
    let result = layer.load_state_dict(&dict, "");
    assert_eq!(layer.state_dict(), before, "what was refused has changed the layer");
    let fresh = RnnBase::from_state_dict(*layer.config(), &dict, "").map(drop);
    assert_eq!(fresh, result);
    result
}

fn pack<E: Element>(refusal: &Refusal) -> Result<(), Error> {
    let batch_first = flag(refusal, "batch_first", false);
    let packed = pack_padded_sequence(&input::<E>(refusal), &lengths(refusal), batch_first, true);
    match refusal.stage.as_str() {
        "pack_padded_sequence" => packed.map(drop),
        _ => {
            let total =
                refusal.integer("total_length").map(|total| usize::try_from(total).unwrap());
            let packed = packed.expect("only the total length is wrong");
            pad_packed_sequence(&packed, false, E::ZERO, total).map(drop)
        }
    }
}

fn sequences<E: Element>(refusal: &Refusal) -> Result<(), Error> {
    let tensors: Vec<Tensor<E>> =
        shapes(refusal.input.as_ref().expect("sequences")).into_iter().map(zeros).collect();
    let views: Vec<View<'_, E>> = tensors.iter().map(View::from).collect();
    match refusal.stage.as_str() {
        "pack_sequence" => pack_sequence(&views, true).map(drop),
        _ => pad_sequence(&views, false, E::ZERO, PaddingSide::Right).map(drop),
    }
}
