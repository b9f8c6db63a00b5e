//! Calls over packed sequences: calls whose [`Options::packing`] is the sequence's.

use crate::{Element, Error, Options, Output, PackedSequence, RnnBase, Saved, Tensor};

/// The results of a packed call: the packed output, `h_n`, and `c_n` of an LSTM.
pub type PackedOutput<E> = (PackedSequence<E>, Tensor<E>, Option<Tensor<E>>);

impl<E: Element> RnnBase<E> {
    /// Runs the layer over a packed sequence of `data: [rows, I]`; `batch_first` has no meaning
    /// here. Initial and final states are in the order of the caller's sequences.
    ///
    /// # Errors
    /// If the rows or a state have the wrong shape; [`Error::InconsistentPack`] if `options`
    /// has lengths, since the sequence has its own.
    pub fn forward_packed<'a>(
        &self,
        x: &'a PackedSequence<E>,
        options: Options<'a, E>,
    ) -> Result<PackedOutput<E>, Error> {
        let options = Options { packing: Some(x.packing()), ..options };
        packed(x, self.forward_with(x.data(), options)?)
    }

    /// [`forward_packed`](Self::forward_packed), keeping in `saved` what [`backward`](Self::backward) needs, which
    /// takes `x.data()` and derivatives by the rows of the output then, and gives those by the rows of the input.
    ///
    /// ```
    /// use tidegate::{Config, Mode, Options, RnnBase, Saved, Tensor, Upstream, pack_sequence};
    /// let gru = RnnBase::<f32>::new(Config::new(Mode::Gru, 2, 3))?;
    /// let (long, short) = (Tensor::new(&[4, 2], vec![0.5; 8])?, Tensor::new(&[1, 2], vec![0.1; 2])?);
    /// let x = pack_sequence(&[(&long).into(), (&short).into()], true)?;
    /// let mut saved = Saved::new();
    /// let (output, _, _) = gru.forward_packed_train(&x, Options::default(), &mut saved)?;
    /// // The loss is half the sum of the squares of the output.
    /// let upstream = Upstream { output: Some(output.data().into()), ..Upstream::default() };
    /// let gradients = gru.backward(x.data(), upstream, &saved)?;
    /// assert_eq!(gradients.input.shape(), [5, 2]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward_packed`](Self::forward_packed).
    pub fn forward_packed_train<'a>(
        &self,
        x: &'a PackedSequence<E>,
        options: Options<'a, E>,
        saved: &mut Saved<E>,
    ) -> Result<PackedOutput<E>, Error> {
        let options = Options { packing: Some(x.packing()), ..options };
        packed(x, self.forward_train(x.data(), options, saved)?)
    }
}

/// The results of a call over `x`.
fn packed<E: Element>(x: &PackedSequence<E>, result: Output<E>) -> Result<PackedOutput<E>, Error> {
    let output = PackedSequence::with_packing(result.output, x.packing().clone())?;
    Ok((output, result.h_n, result.c_n))
}
