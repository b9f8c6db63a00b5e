//! What our messages must say where PyTorch says what it says.

use tidegate_testing::fixtures::Refusal;

use crate::replay::{config, shapes};

/// What the message must contain, in this order: PyTorch's text, where no rule says that we have
/// words of our own for the same fact.
pub(crate) fn wanted(refusal: &Refusal, all: &[Refusal]) -> Vec<String> {
    if refusal.class == "LSTM" && refusal.stage == "forward" && refusal.lengths.is_some() {
        // PyTorch leaves the checks to the matrix products here, but has words for a GRU.
        let name = refusal.name.replace("LSTM", "GRU");
        let twin = all.iter().find(|other| other.name == name);
        return wanted(twin.expect("every packed call is there for a GRU"), all);
    }
    let text = refusal.message.as_str();
    for (beginning, rule) in RULES {
        if text.starts_with(beginning) {
            return rule(refusal, &numbers(text));
        }
    }
    let named = text.strip_prefix(&format!("{}: ", refusal.class)).unwrap_or(text);
    let ours = named
        .replace("hidden to be", "h_0 to be")
        .replace("hx[0]", "h_0")
        .replace("hx[1]", "c_0")
        .replace("D tensor instead", "D instead");
    vec![ours.trim_end_matches('.').to_string()]
}

/// What our message says, given the call and the numbers in PyTorch's text.
type Rule = fn(&Refusal, &[usize]) -> Vec<String>;

/// PyTorch's texts, by their beginnings, that are not ours.
const RULES: [(&str, Rule); 15] = [
    ("Expected hidden", state_shape),
    // For batched 3-D input, hx and cx should also be 3-D but got (3-D, 2-D) tensors
    ("For ", |_, n| {
        let wrong = n[2..].iter().position(|dims| *dims != n[1]).expect("one is wrong");
        dimensions(["h_0", "c_0"][wrong], n[1], n[2 + wrong])
    }),
    // input must have 2 dimensions, got 3
    ("input must have", |_, n| dimensions("packed input", n[0], n[1])),
    // input has inconsistent input_size: got 5 expected 3
    ("input has inconsistent", |_, n| {
        vec![format!("must be equal to input_size. Expected {}, got {}", n[1], n[0])]
    }),
    ("Input batch size", cell_state),
    ("hidden0 has inconsistent", cell_state),
    ("hidden1 has inconsistent", cell_state),
    // weight_ih first dim must be 4 * hidden_size = 16, but got 5
    ("weight_ih first dim", |refusal, n| {
        let input = config(refusal).input_size;
        vec![format!("weight_ih: expected shape {:?}, got {:?}", [n[1], input], [n[2], input])]
    }),
    ("`lengths` array must be sorted", |refusal, _| {
        let text = "`lengths` array must be sorted in decreasing order when `enforce_sorted` is";
        let rising = lengths(refusal).windows(2).position(|pair| pair[0] < pair[1]);
        vec![text.to_string(), format!("row {} is longer", rising.expect("a longer row") + 1)]
    }),
    ("Length of all samples", length),
    // PyTorch packs a length beyond the input, and the layer fails: start (8) + length (1) ...
    ("start (", length),
    ("Dimension out of range", |refusal, _| {
        let got = input_shapes(refusal)[0].len();
        vec!["Expected input to be at least 2D".to_string(), format!("got {got}D")]
    }),
    // The size of tensor a (2) must match the size of tensor b (3) at non-singleton dimension 1
    ("The size of tensor a", |refusal, n| {
        let got = &input_shapes(refusal)[1];
        let mut expected = got.clone();
        expected[n[2]] = n[0];
        vec![format!("Expected sequence size {expected:?}, got {got:?}")]
    }),
    ("Cannot pack empty tensors", |refusal, _| {
        vec!["Cannot pack empty tensors".to_string(), format!("{:?}", input_shapes(refusal)[0])]
    }),
    ("Error(s) in loading", loading),
];

/// The wrong number of dimensions.
fn dimensions(tensor: &str, expected: usize, got: usize) -> Vec<String> {
    vec![format!("Expected {tensor} to be {expected}D"), format!("got {got}D instead")]
}

/// `Expected hidden[0] size (1, 2, 4), got [1, 3, 4]`
fn state_shape(refusal: &Refusal, _: &[usize]) -> Vec<String> {
    let (name, sizes) = refusal.message.split_once(" size ").expect("sizes");
    let tensor = if name.ends_with("[1]") { "c_0" } else { "h_0" };
    let (expected, got) = sizes.split_once(", got ").expect("two shapes");
    let [mut expected, mut got] = [expected, got].map(numbers);
    if input_shapes(refusal)[0].len() == 2 {
        // PyTorch has given the state a batch dimension by now; the caller's has none.
        expected.remove(1);
        got.remove(1);
    }
    if expected.len() != got.len() {
        return dimensions(tensor, expected.len(), got.len());
    }
    vec![format!("Expected {tensor} size {expected:?}, got {got:?}")]
}

/// A cell's state: PyTorch names the size that differs, we the shapes.
fn cell_state(refusal: &Refusal, n: &[usize]) -> Vec<String> {
    let expected = [input_shapes(refusal)[0][0], config(refusal).hidden_size];
    let (tensor, state) = match refusal.message.contains("hidden1") {
        true => ("c_0", &refusal.c_0),
        false => ("h_0", &refusal.h_0),
    };
    let got = &state.as_ref().expect("the state is wrong").shape;
    let both = [&expected[..], got].concat();
    assert!(n.iter().filter(|size| **size > 1).all(|size| both.contains(size)), "{n:?}");
    vec![format!("Expected {tensor} size {expected:?}, got {got:?}")]
}

/// A length that is zero or too large.
fn length(refusal: &Refusal, _: &[usize]) -> Vec<String> {
    let lengths = lengths(refusal);
    let steps = match refusal.stage.as_str() {
        "pack_sequence" => *lengths.iter().max().expect("a sequence"),
        _ => input_shapes(refusal)[0][0],
    };
    let row = lengths.iter().position(|length| !(1..=steps).contains(length));
    let row = row.expect("a wrong length");
    vec![format!("lengths[{row}] must be between 1 and {steps}, got {}", lengths[row])]
}

/// PyTorch lists all that is wrong; we name the first: what is too much, missing, misshapen.
fn loading(refusal: &Refusal, _: &[usize]) -> Vec<String> {
    let text = refusal.message.as_str();
    let quoted = |after: &str| text.split_once(after)?.1.split('"').nth(1);
    if let Some(name) = quoted("Unexpected key(s)") {
        return vec![format!("unexpected parameter {name}")];
    }
    if let Some(name) = quoted("Missing key(s)") {
        return vec![format!("missing parameter {name}")];
    }
    // size mismatch for bias_hh_l0: copying a param with shape torch.Size([5]) from checkpoint,
    // the shape in current model is torch.Size([16]).
    let (name, shapes) =
        text.split_once("size mismatch for ").and_then(|(_, rest)| rest.split_once(':')).unwrap();
    let (got, expected) = shapes.split_once(" from checkpoint").unwrap();
    let [got, expected] = [got, expected].map(numbers);
    vec![format!("size mismatch for {name}: expected shape {expected:?}, got {got:?}")]
}

/// The shape of every tensor of the input.
fn input_shapes(refusal: &Refusal) -> Vec<Vec<usize>> {
    let input = refusal.input.as_ref().expect("the call has an input");
    shapes(input).into_iter().map(|tensor| tensor.shape.clone()).collect()
}

/// The lengths given, or those of the sequences.
fn lengths(refusal: &Refusal) -> Vec<usize> {
    match &refusal.lengths {
        Some(lengths) => lengths.iter().map(|&length| length as usize).collect(),
        None => input_shapes(refusal).iter().map(|shape| shape[0]).collect(),
    }
}

/// The whole numbers in `text`, in order.
fn numbers(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}
