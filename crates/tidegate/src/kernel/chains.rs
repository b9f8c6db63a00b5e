//! How the inputs of a sum are divided among its chains.

/// Chains per output, over contiguous parts of the inputs of almost equal length.
///
/// Four chains of a quarter of the length round about half as much as one, and one row of an LSTM
/// on AVX-512 has 16 independent accumulators, enough to keep two multiply-add units busy.
pub(super) const CHAINS: usize = 4;

/// Inputs from which on there are [`CHAINS`] chains; with fewer, the first chain has them all,
/// since adding up the chains would round more than one chain does.
const SPLIT_INPUTS: usize = 8;

/// How a number of inputs is divided among the chains.
#[derive(Copy, Clone, Debug)]
pub(super) struct Division {
    /// Inputs of each chain, but for the remainder.
    pub(super) length: usize,
    /// The first so many chains have one more.
    pub(super) longer: usize,
    /// Inputs before the division: all of them, if there are few.
    pub(super) undivided: usize,
    /// The first input of each chain but the first, which begins with the first input.
    starts: [usize; CHAINS - 1],
}

impl Division {
    #[inline(always)]
    pub(super) fn of(inputs: usize) -> Self {
        if inputs < SPLIT_INPUTS {
            return Self { length: 0, longer: 0, undivided: inputs, starts: [0; CHAINS - 1] };
        }
        let (length, longer) = (inputs / CHAINS, inputs % CHAINS);
        let starts = core::array::from_fn(
            #[inline(always)]
            |before| start(length, longer, before + 1),
        );
        Self { length, longer, undivided: 0, starts }
    }

    /// Inputs of chain `c`.
    #[inline(always)]
    pub(super) fn inputs(self, c: usize) -> usize {
        self.length + usize::from(c < self.longer)
    }

    /// The first input of chain `c`: looked up, since a small step would take long to compute them all.
    #[inline(always)]
    pub(super) fn start(self, c: usize) -> usize {
        if c == 0 { 0 } else { self.starts[c - 1] }
    }

    /// Where the weights of the `j`-th input of chain `c` lie for chains that run side by side: the
    /// first inputs of all chains, then the second ones, and so on. So they read one stream of
    /// memory; of four streams a core got half as much from its level-2 cache (Zen 5).
    #[inline(always)]
    pub(super) fn position(self, c: usize, j: usize) -> usize {
        j * CHAINS + c
    }

    /// The inputs in the order of [`position`](Self::position).
    pub(super) fn order(self) -> impl Iterator<Item = usize> {
        let longest = self.length + usize::from(self.longer > 0);
        let divided = (0..longest * CHAINS).filter_map(move |at| {
            let (j, c) = (at / CHAINS, at % CHAINS);
            (j < self.inputs(c)).then(|| self.start(c) + j)
        });
        (0..self.undivided).chain(divided)
    }
}

/// The first input of chain `c`, if the first `longer` chains have one input more than `length`.
#[inline(always)]
fn start(length: usize, longer: usize, c: usize) -> usize {
    c * length + if c < longer { c } else { longer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_lies_where_its_chain_looks() {
        for inputs in 0..40 {
            let division = Division::of(inputs);
            let order: Vec<usize> = division.order().collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..inputs), "{inputs}");
            for c in 0..CHAINS {
                for j in 0..division.inputs(c) {
                    assert_eq!(order[division.position(c, j)], division.start(c) + j, "{inputs}");
                }
            }
        }
    }
}
