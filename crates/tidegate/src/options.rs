//! What a forward call takes beside its input, and what it returns.

use crate::{Element, Generator, Packing, Tensor, View};

/// A state to begin with: `h: [D*L, B, P]` and, for an LSTM, `c: [D*L, B, H]`; without `B` where
/// the input has none.
#[derive(Copy, Clone, Debug)]
pub struct State<'a, E> {
    /// PyTorch's `h_0`.
    pub h: View<'a, E>,
    /// PyTorch's `c_0`.
    pub c: Option<View<'a, E>>,
}

/// Where sequences are cut: in a batch of episodes that end and begin anew within it, say.
#[derive(Copy, Clone, Debug)]
pub struct Resets<'a, E> {
    /// In the layout of the input, `[T, B]` (`[B, T]` if `batch_first`, `[T]` unbatched, `[rows]` packed): true where
    /// the state is replaced before the step. The reverse direction replaces it after that step.
    pub before: &'a [bool],
    /// What it is replaced by, shaped as [`Options::state`]; zeros if none.
    pub state: Option<State<'a, E>>,
}

/// The optional arguments of a forward call.
///
/// ```
/// use tidegate::{Config, Mode, Options, RnnBase, View};
/// let gru = RnnBase::<f32>::new(Config::new(Mode::Gru, 2, 3))?;
/// let x = [0.5; 4 * 2 * 2];
/// let options = Options { lengths: Some(&[4, 1]), ..Options::default() };
/// let result = gru.forward_with(View::new(&x, &[4, 2, 2])?, options)?;
/// assert_eq!(result.output.shape(), [4, 2, 3]);
/// assert_eq!(result.output.data()[3 * 6 + 3..], [0.0; 3]); // step 3 of the shorter sequence
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Debug)]
pub struct Options<'a, E> {
    /// The state to begin with; zeros if none.
    pub state: Option<State<'a, E>>,
    /// The number of steps of each sequence, `[B]`, from 0 to `T`; all `T` if none.
    ///
    /// Steps past a sequence's end are not computed, and the reverse direction begins at that
    /// end. The final state is the one at each sequence's own end; of an empty sequence, the
    /// state it began with.
    pub lengths: Option<&'a [usize]>,
    /// How the sequences are packed in the input, which is `[rows, I]` then, as the output is
    /// `[rows, D*P]`; not with `lengths`. `batch_first` has no meaning, and states are in the order of the
    /// caller's sequences.
    pub packing: Option<&'a Packing>,
    /// Where the state is replaced by another; nowhere if none.
    pub resets: Option<Resets<'a, E>>,
    /// What `output` holds past a sequence's end.
    pub padding_value: E,
    /// The generator to draw dropout from: given means training mode, `None` evaluation mode.
    pub dropout: Option<&'a mut Generator>,
}

impl<E: Element> Default for Options<'_, E> {
    fn default() -> Self {
        let (state, lengths, packing, resets) = (None, None, None, None);
        Self { state, lengths, packing, resets, padding_value: E::ZERO, dropout: None }
    }
}

/// The results of a forward call.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<E> {
    /// `h` of the last layer at every step: `[T, B, D*P]`, in the order of the input.
    pub output: Tensor<E>,
    /// The final `h` of every layer and direction: `[D*L, B, P]`.
    pub h_n: Tensor<E>,
    /// The final `c` of every layer and direction: `[D*L, B, H]`, for an LSTM.
    pub c_n: Option<Tensor<E>>,
}

/// Where a forward call's results go: row-major, all of them overwritten.
#[derive(Debug)]
pub struct OutputMut<'a, E> {
    /// As [`Output::output`].
    pub output: &'a mut [E],
    /// As [`Output::h_n`].
    pub h_n: &'a mut [E],
    /// As [`Output::c_n`]; empty where there is none.
    pub c_n: &'a mut [E],
}
