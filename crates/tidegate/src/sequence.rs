//! Packing and padding sequences of different lengths, as `torch.nn.utils.rnn` does it.

use core::cmp::Reverse;

use crate::packing::PackedSequence;
use crate::{Element, Error, Tensor, View};

/// Packs `input: [T, B, *]` (`[B, T, *]` if `batch_first`) of which sequence `b` has
/// `lengths[b]` steps.
///
/// With `enforce_sorted` the lengths must not increase. Otherwise sequences are sorted, longest
/// first, equal ones in the caller's order (PyTorch's order of equal ones is unspecified).
///
/// # Errors
/// If there are no elements or not as many lengths as sequences, if a length is 0 or above `T`
/// (which PyTorch accepts, for an inconsistent result), or if lengths are not sorted.
pub fn pack_padded_sequence<'a, E: Element>(
    input: impl Into<View<'a, E>>,
    lengths: &[usize],
    batch_first: bool,
    enforce_sorted: bool,
) -> Result<PackedSequence<E>, Error> {
    let input = input.into();
    if input.ndim() < 2 {
        let (tensor, got) = ("input", input.ndim());
        return Err(Error::Dimensions { tensor, expected: "at least 2D", got });
    }
    if input.is_empty() {
        return Err(Error::EmptyInput { shape: input.shape().to_vec() });
    }
    let input = if batch_first { input.swapped(0, 1) } else { input };
    let (steps, batch) = (input.shape()[0], input.shape()[1]);
    if lengths.len() != batch {
        return Err(Error::LengthsCount { batch, got: lengths.len() });
    }
    let sorted = sorted_order(lengths, enforce_sorted)?;
    check_lengths(lengths, steps)?;
    let source = |b: usize| sorted.as_ref().map_or(b, |sorted| sorted[b]);

    let longest = lengths[source(0)];
    let batch_sizes: Vec<usize> =
        (0..longest).map(|t| lengths.iter().filter(|&&length| length > t).count()).collect();
    let rows = batch_sizes.iter().sum();
    let shape: Vec<usize> = [rows].iter().chain(&input.shape()[2..]).copied().collect();
    let mut data = Tensor::full(&shape, E::ZERO)?;
    let width = data.data().len() / rows;
    let mut to = data.data_mut().chunks_exact_mut(width);
    for (t, &size) in batch_sizes.iter().enumerate() {
        for (b, to) in (0..size).zip(&mut to) {
            input.at(t).at(source(b)).copy_into(to);
        }
    }
    PackedSequence::new(data, batch_sizes, sorted)
}

/// Checks that every length is from 1 to `steps`.
fn check_lengths(lengths: &[usize], steps: usize) -> Result<(), Error> {
    match lengths.iter().position(|length| !(1..=steps).contains(length)) {
        Some(row) => Err(Error::LengthOutOfRange { row, length: lengths[row], min: 1, max: steps }),
        None => Ok(()),
    }
}

/// The rows from longest to shortest, or `None` if `enforce_sorted` says that they are so.
fn sorted_order(lengths: &[usize], enforce_sorted: bool) -> Result<Option<Vec<usize>>, Error> {
    if enforce_sorted {
        return match lengths.windows(2).position(|pair| pair[0] < pair[1]) {
            Some(row) => Err(Error::UnsortedLengths { row: row + 1 }),
            None => Ok(None),
        };
    }
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| Reverse(lengths[row]));
    Ok(Some(order))
}

/// The inverse of [`pack_padded_sequence`]: `[T, B, *]` (`[B, T, *]` if `batch_first`) in the
/// caller's order, and the lengths.
///
/// `T` is the longest length, or `total_length`. Steps past a sequence's end hold
/// `padding_value`.
///
/// # Errors
/// [`Error::TotalLength`] if `total_length` is less than the longest length.
pub fn pad_packed_sequence<E: Element>(
    sequence: &PackedSequence<E>,
    batch_first: bool,
    padding_value: E,
    total_length: Option<usize>,
) -> Result<(Tensor<E>, Vec<usize>), Error> {
    let longest = sequence.batch_sizes().len();
    let steps = total_length.unwrap_or(longest);
    if steps < longest {
        return Err(Error::TotalLength { total_length: steps, longest });
    }
    let lengths = sequence.lengths();
    let data = sequence.data();
    let trailing = &data.shape()[1..];
    let width: usize = trailing.iter().product();
    let padded = gather(steps, lengths.len(), trailing, batch_first, padding_value, |t, b, to| {
        if t < lengths[b] {
            to.copy_from_slice(&data.data()[sequence.packing().row(t, b) * width..][..width]);
        }
    })?;
    Ok((padded, lengths))
}

/// A tensor `[steps, batch, *trailing]`, or batch first, filled with `padding`, then by `fill`
/// row by row.
fn gather<E: Element>(
    steps: usize,
    batch: usize,
    trailing: &[usize],
    batch_first: bool,
    padding: E,
    mut fill: impl FnMut(usize, usize, &mut [E]),
) -> Result<Tensor<E>, Error> {
    let (first, second) = if batch_first { (batch, steps) } else { (steps, batch) };
    let shape: Vec<usize> = [first, second].iter().chain(trailing).copied().collect();
    let count = crate::tensor::element_count(&shape);
    if count.is_none_or(|n| n > isize::MAX as usize / size_of::<E>()) {
        return Err(Error::TooLarge { what: "the padded sequence" });
    }
    let mut padded = Tensor::full(&shape, padding)?;
    let width: usize = trailing.iter().product();
    if width > 0 {
        for (row, to) in padded.data_mut().chunks_exact_mut(width).enumerate() {
            let (a, b) = (row / second, row % second);
            if batch_first { fill(b, a, to) } else { fill(a, b, to) }
        }
    }
    Ok(padded)
}

/// On which side of a sequence its padding goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum PaddingSide {
    /// Before the first step.
    Left,
    /// After the last step.
    Right,
}

/// Stacks sequences `[T_b, *]` of different lengths into `[T, B, *]` (`[B, T, *]` if
/// `batch_first`), with `padding_value` where there is no step.
///
/// # Errors
/// [`Error::NoSequences`]; [`Error::Dimensions`] or [`Error::Shape`] if their trailing
/// dimensions differ.
pub fn pad_sequence<E: Element>(
    sequences: &[View<'_, E>],
    batch_first: bool,
    padding_value: E,
    padding_side: PaddingSide,
) -> Result<Tensor<E>, Error> {
    let trailing = common_trailing(sequences)?;
    let steps = sequences.iter().map(|sequence| sequence.shape()[0]).max().unwrap_or(0);
    gather(steps, sequences.len(), &trailing, batch_first, padding_value, |t, b, to| {
        let length = sequences[b].shape()[0];
        let t = match padding_side {
            PaddingSide::Left => t.wrapping_sub(steps - length),
            PaddingSide::Right => t,
        };
        if t < length {
            sequences[b].at(t).copy_into(to);
        }
    })
}

/// The shape of one step, which all `sequences` must share.
fn common_trailing<E: Element>(sequences: &[View<'_, E>]) -> Result<Vec<usize>, Error> {
    let first = sequences.first().ok_or(Error::NoSequences)?;
    for sequence in sequences {
        let (expected, got) = (first.shape(), sequence.shape());
        if got.is_empty() || got.len() > crate::MAX_DIMS - 1 {
            let (tensor, got) = ("sequence", got.len());
            return Err(Error::Dimensions { tensor, expected: "at least 1D and at most 7D", got });
        }
        if expected.get(1..) != got.get(1..) {
            let expected = [&got[..1], &expected[1..]].concat();
            return Err(Error::Shape { tensor: "sequence", expected, got: got.to_vec() });
        }
    }
    Ok(first.shape()[1..].to_vec())
}

/// Packs sequences `[T_b, *]` of different lengths.
///
/// # Errors
/// As [`pad_sequence`] and [`pack_padded_sequence`].
pub fn pack_sequence<E: Element>(
    sequences: &[View<'_, E>],
    enforce_sorted: bool,
) -> Result<PackedSequence<E>, Error> {
    let lengths: Vec<usize> =
        sequences.iter().map(|sequence| sequence.shape().first().copied().unwrap_or(0)).collect();
    let padded = pad_sequence(sequences, false, E::ZERO, PaddingSide::Right)?;
    pack_padded_sequence(&padded, &lengths, false, enforce_sorted)
}

/// The sequences of `padded: [T, B, *]` (`[B, T, *]` if `batch_first`), each `[lengths[b], *]`.
///
/// # Errors
/// If there are not as many lengths as sequences, or one is above `T`; [`Error::OutOfMemory`].
pub fn unpad_sequence<'a, E: Element>(
    padded: impl Into<View<'a, E>>,
    lengths: &[usize],
    batch_first: bool,
) -> Result<Vec<Tensor<E>>, Error> {
    let padded = padded.into();
    if padded.ndim() < 2 {
        let (tensor, got) = ("padded_sequences", padded.ndim());
        return Err(Error::Dimensions { tensor, expected: "at least 2D", got });
    }
    let padded = if batch_first { padded } else { padded.swapped(0, 1) };
    let (batch, steps) = (padded.shape()[0], padded.shape()[1]);
    if lengths.len() != batch {
        return Err(Error::LengthsCount { batch, got: lengths.len() });
    }
    if let Some(row) = lengths.iter().position(|&length| length > steps) {
        return Err(Error::LengthOutOfRange { row, length: lengths[row], min: 0, max: steps });
    }
    let trailing = &padded.shape()[2..];
    let width: usize = trailing.iter().product();
    let sequence = |(b, &length): (usize, &usize)| {
        let shape: Vec<usize> = [length].iter().chain(trailing).copied().collect();
        let mut sequence = Tensor::full(&shape, E::ZERO)?;
        for (t, to) in sequence.data_mut().chunks_exact_mut(width.max(1)).enumerate() {
            padded.at(b).at(t).copy_into(to);
        }
        Ok(sequence)
    };
    lengths.iter().enumerate().map(sequence).collect()
}

/// The sequences of `sequence` in the caller's order, each `[length, *]`.
///
/// # Errors
/// As [`pad_packed_sequence`].
pub fn unpack_sequence<E: Element>(sequence: &PackedSequence<E>) -> Result<Vec<Tensor<E>>, Error> {
    let (padded, lengths) = pad_packed_sequence(sequence, true, E::ZERO, None)?;
    unpad_sequence(&padded, &lengths, true)
}
