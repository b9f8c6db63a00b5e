//! Matrices that are not packed: a product packs one block, computes with it while it is in a near cache, and forgets it.
#![allow(unsafe_code, reason = "weights of the caller are read through pointers")]

use core::ops::Range;

use tidegate_simd::{Element, Kernel, Level, Simd};

use super::chains::{CHAINS, Division};
use super::pack::Packed;
use super::stored::Weights;
use crate::buffer::Buffer;

/// Where a thread packs the block that its next product reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room<E>(Buffer<E>);

impl<E: Element> Room<E> {
    /// Calls `product` with each of `blocks`, packed for rows of which there is one `alone`, or more: with a matrix that holds
    /// it, and the blocks that this is. A packed matrix is given as it is, with all of them at once.
    pub(super) fn each(
        &mut self,
        level: Level,
        w: &Packed<E>,
        blocks: Range<usize>,
        alone: bool,
        mut product: impl FnMut(&Packed<E>, Range<usize>),
    ) {
        let Weights::Given(given) = w.weights else { return product(w, blocks) };
        // SAFETY: whoever made `w` vouches for it.
        let weight = unsafe { given.read() };
        self.0.reserve(w.block_len());
        for block in blocks {
            let last_lanes = if alone && block + 1 == w.blocks { w.last_lanes } else { w.lanes };
            let to = &mut self.0[..];
            E::run(level, PackBlock { w, weight, block, alone, kept: last_lanes, to });
            let Packed { blocks, inputs, division, gates, lanes, units, last_lanes, .. } = *w;
            let weights = Weights::Held(core::mem::take(&mut self.0));
            let held = block..block + 1;
            let held =
                Packed { weights, held, blocks, inputs, division, gates, lanes, units, last_lanes };
            product(&held, block..block + 1);
            if let Weights::Held(room) = held.weights {
                self.0 = room;
            }
        }
    }
}

/// Packs `block` of `weight`, which has the form of `w`.
struct PackBlock<'a, E> {
    w: &'a Packed<E>,
    weight: &'a [E],
    block: usize,
    /// Whether the inputs are in the order for a row alone.
    alone: bool,
    /// Lanes of a vector.
    kept: usize,
    to: &'a mut [E],
}

/// Inputs that follow one another, and where they go.
struct Strip {
    inputs: Range<usize>,
    /// Position of the first.
    first: usize,
    /// Positions from one to the next.
    step: usize,
}

/// The inputs in strips: one, or one for each chain of a row alone.
#[inline(always)]
fn strips(inputs: usize, division: Division, alone: bool) -> impl Iterator<Item = Strip> {
    let divided = alone && division.undivided == 0;
    let count = if divided { CHAINS } else { 1 };
    (0..count).map(
        #[inline(always)]
        move |c| match divided {
            false => Strip { inputs: 0..inputs, first: 0, step: 1 },
            true => {
                let start = division.start(c);
                let first = division.position(c, 0);
                let step = division.position(c, 1) - first;
                Strip { inputs: start..start + division.inputs(c), first, step }
            }
        },
    )
}

impl<E: Element> Kernel<E> for PackBlock<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<E>>(self, s: S) {
        let Self { w, weight, block, alone, kept, to } = self;
        let Packed { inputs, gates, lanes, units, .. } = *w;
        let first = block * lanes;
        let count = (units - first).min(lanes);
        assert!(to.len() >= inputs * gates * kept && count <= kept);
        let whole = count == S::LANES && kept == S::LANES;
        if !whole {
            to[..inputs * gates * kept].fill(E::ZERO);
        }
        for gate in 0..gates {
            let rows = &weight[(gate * units + first) * inputs..][..count * inputs];
            for Strip { inputs: strip, first, step } in strips(inputs, w.division, alone) {
                // Of the first input, and from one to the next.
                let (start, step) = ((first * gates + gate) * kept, step * gates * kept);
                let many = strip.len();
                assert!(
                    strip.end <= inputs
                        && (many == 0 || start + (many - 1) * step + kept <= to.len())
                );
                if whole && many >= S::LANES {
                    for k in (0..many).step_by(S::LANES) {
                        // The last ones together with some that have been there already.
                        let k = k.min(many - S::LANES);
                        // SAFETY: as many whole rows are there, and a place for each of these inputs.
                        unsafe {
                            let (from, to) = (rows.as_ptr().add(strip.start + k), to.as_mut_ptr());
                            s.transpose(from, inputs, to.add(start + k * step), step);
                        }
                    }
                } else {
                    for (k, input) in strip.enumerate() {
                        let to = &mut to[start + k * step..][..count];
                        for (to, row) in to.iter_mut().zip(rows.chunks_exact(inputs)) {
                            *to = row[input];
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stored::Full;
    use super::*;

    #[test]
    fn a_block_is_what_packing_the_whole_matrix_makes_of_it() {
        for level in Level::available() {
            let lanes = [f32::lanes(level), f32::low_lanes(level)];
            for (gates, units, inputs) in [
                (4, 32, 32),
                (3, 35, 70),
                (1, 50, 20),
                (4, 7, 5),
                (3, 23, 64),
                (1, 16, 9),
                (4, 41, 71),
                (3, 16, 8),
            ] {
                let weight: Vec<f32> = (1..=gates * units * inputs).map(|w| w as f32).collect();
                let packed = Packed::new(&weight, gates, units, lanes, false);
                // SAFETY: the weights stay.
                let given = unsafe { Packed::given(&weight, gates, units, lanes) };
                for alone in [false, true] {
                    let (whole, mut room) = (packed.for_rows::<Full>(alone), Room::default());
                    let mut next = 0;
                    room.each(level, &given, 0..given.blocks, alone, |held, blocks| {
                        assert_eq!(blocks, next..next + 1);
                        let len = held.block_len();
                        let (got, want) =
                            (held.for_rows::<Full>(alone), &whole[next * len..][..len]);
                        // Of halves of vectors there are half as many elements.
                        let is_low =
                            alone && next + 1 == given.blocks && given.last_lanes < given.lanes;
                        let len = if is_low { len / 2 } else { len };
                        assert_eq!(got[..len], want[..len], "{level:?} {gates} {units} {inputs}");
                        next += 1;
                    });
                    assert_eq!(next, given.blocks);
                }
            }
        }
    }
}
