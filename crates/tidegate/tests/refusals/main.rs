//! What PyTorch refuses is an error here too, with the same sizes in its message.

mod replay;
mod wanted;

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use replay::{config, replay, shapes};
use tidegate::{Config, Error, GruCell, LstmCell, Mode, Options, RnnBase, View};
use tidegate_testing::fixtures::{Dtype, Refusal, refusals};
use wanted::wanted;

/// Why a call that PyTorch refuses cannot be made in Rust, or is none to refuse.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Absent {
    /// An argument of another type.
    ArgumentType,
    /// An input or a state of another element type than the weights.
    ElementType,
    /// A size or a length below zero, where the type is `usize`.
    Negative,
    /// A mode, activation or side that the enum does not have.
    UnknownName,
    /// `proj_size=0` to a layer without projections: PyTorch refuses the name, whatever the value;
    /// here 0 is what the field holds where there is no projection.
    NoProjection,
    /// PyTorch warns and goes on.
    Warning,
}

/// Why the call has no counterpart, or `None` if it has one.
fn absent(refusal: &Refusal) -> Option<Absent> {
    if refusal.exception == "UserWarning" {
        return Some(Absent::Warning);
    }
    let inputs = refusal.input.as_ref().map_or(Vec::new(), shapes);
    let tensors = inputs.into_iter().chain(&refusal.h_0).chain(&refusal.c_0);
    if tensors.into_iter().any(|tensor| tensor.dtype != Dtype::F32) {
        return Some(Absent::ElementType);
    }
    if refusal.lengths.iter().flatten().any(|&length| length < 0) {
        return Some(Absent::Negative);
    }
    refusal.arguments.iter().find_map(|(name, value)| match name.as_str() {
        "input_size" | "hidden_size" | "num_layers" | "proj_size" | "total_length" => {
            match value.as_i64() {
                None => Some(Absent::ArgumentType),
                Some(..0) => Some(Absent::Negative),
                Some(0) if name == "proj_size" && refusal.class != "LSTM" => {
                    Some(Absent::NoProjection)
                }
                Some(_) => None,
            }
        }
        "dropout" => value.as_f64().is_none().then_some(Absent::ArgumentType),
        "bias" | "batch_first" | "bidirectional" => {
            value.as_bool().is_none().then_some(Absent::ArgumentType)
        }
        "mode" | "nonlinearity" | "padding_side" => Some(Absent::UnknownName),
        _ => panic!("{}: no rule for the argument {name}", refusal.name),
    })
}

/// What is wrong with our answer to the call, if anything.
fn fault(
    refusal: &Refusal,
    all: &[Refusal],
    replay: fn(&Refusal) -> Result<(), Error>,
) -> Option<String> {
    let message = match catch_unwind(|| replay(refusal)) {
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(())) => return Some(format!("{}: accepted", refusal.name)),
        Err(_) => return Some(format!("{}: panicked", refusal.name)),
    };
    let (wanted, mut rest) = (wanted(refusal, all), message.as_str());
    for part in &wanted {
        match rest.split_once(part.as_str()) {
            Some((_, after)) => rest = after,
            None => {
                let (name, theirs) = (&refusal.name, &refusal.message);
                return Some(format!(
                    "{name}\n  ours: {message}\n  PyTorch's: {theirs}\n  lacks: {wanted:?}"
                ));
            }
        }
    }
    None
}

#[test]
fn what_pytorch_refuses_is_an_error() {
    let all = refusals();
    let (mut counterparts, mut without) = (0, BTreeMap::new());
    let mut faults = Vec::new();
    for refusal in &all {
        if let Some(reason) = absent(refusal) {
            *without.entry(reason).or_insert(0) += 1;
            if matches!(reason, Absent::Warning | Absent::NoProjection) {
                assert_eq!(config(refusal).validate(), Ok(()), "{}", refusal.name);
            }
            continue;
        }
        counterparts += 1;
        faults.extend(fault(refusal, &all, replay::<f32>));
        faults.extend(fault(refusal, &all, replay::<f64>));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));

    // Exact, so that a call recorded later is looked at before it counts as impossible.
    let reasons = [
        (Absent::ArgumentType, 21),
        (Absent::ElementType, 15),
        (Absent::Negative, 8),
        (Absent::UnknownName, 4),
        (Absent::NoProjection, 2),
        (Absent::Warning, 3),
    ];
    assert_eq!(without, BTreeMap::from(reasons));
    assert_eq!(counterparts, 152);
    assert_eq!(counterparts + without.values().sum::<usize>(), all.len());
}

/// A cell's messages show the shapes that its caller gave, not those of the layer inside.
#[test]
fn a_cells_state_must_have_the_inputs_dimensions() {
    let cell = GruCell::<f32>::new(3, 4, true).unwrap();
    let (row, rows) = ([0.0; 3], [0.0; 6]);
    let (row, rows) = (View::new(&row, &[3]).unwrap(), View::new(&rows, &[2, 3]).unwrap());
    let (h, h_rows) = ([0.0; 4], [0.0; 8]);
    let (h, h_rows) = (View::new(&h, &[4]).unwrap(), View::new(&h_rows, &[2, 4]).unwrap());
    assert!(cell.forward(row, Some(h)).is_ok() && cell.forward(rows, Some(h_rows)).is_ok());
    for (x, h, message) in [
        (row, h_rows, "Expected h_0 to be 1D, as the input is unbatched, got 2D instead"),
        (rows, h, "Expected h_0 to be 2D, as the input is batched, got 1D instead"),
    ] {
        assert_eq!(cell.forward(x, Some(h)).unwrap_err().to_string(), message);
    }
}

/// Where PyTorch and this crate differ on purpose.
#[test]
fn deliberate_differences() {
    // PyTorch has no `lengths` beside a padded input; packed, it refuses a length of 0.
    let layer = RnnBase::<f32>::new(Config::new(Mode::Gru, 3, 4)).unwrap();
    let zeros = [0.0; 30];
    let x = View::new(&zeros, &[5, 2, 3]).unwrap();
    let options = |lengths| Options { lengths: Some(lengths), ..Options::default() };
    assert!(layer.forward_with(x, options(&[5, 0])).is_ok());
    // A length beyond the input PyTorch packs, and the layer fails.
    let beyond = "lengths[1] must be between 0 and 5, got 6";
    let error = layer.forward_with(x, options(&[5, 6])).unwrap_err();
    assert_eq!(error.to_string(), beyond);
    // PyTorch's cells have no check of their sizes.
    for (input_size, hidden_size, name) in [(0, 4, "input_size"), (3, 0, "hidden_size")] {
        let error = LstmCell::<f32>::new(input_size, hidden_size, true).unwrap_err();
        assert_eq!(error, Error::ZeroArgument { name });
    }
}
