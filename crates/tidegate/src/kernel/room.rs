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

/// Blocks, and whether to begin with the last of them.
pub(super) struct Walk {
    pub(super) blocks: Range<usize>,
    pub(super) backwards: bool,
}

impl<E: Element> Room<E> {
    /// Calls `product` with each block of `w`, packed for rows of which there is one `alone`, or more: with a matrix that holds
    /// it, and the blocks that this is. A packed matrix is given as it is, with all of them at once.
    pub(super) fn each(
        &mut self,
        level: Level,
        w: &Packed<E>,
        Walk { blocks, backwards }: Walk,
        alone: bool,
        mut product: impl FnMut(&Packed<E>, Range<usize>),
    ) {
        let Weights::Given(given) = w.weights else { return product(w, blocks) };
        // SAFETY: whoever made `w` vouches for it.
        let weight = unsafe { given.read() };
        self.0.reserve(w.block_len());
        for at in 0..blocks.len() {
            let block = if backwards { blocks.end - 1 - at } else { blocks.start + at };
            E::run(level, PackBlock { w, weight, block, alone, to: &mut self.0 });
            let held = w.holding(block, core::mem::take(&mut self.0));
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
        let Self { w, weight, block, alone, to } = self;
        let Packed { inputs, gates, division, .. } = *w;
        let (units, kept) = (w.units_of(block), w.lanes_of(block, alone));
        let (count, of_gate) = (units.len(), weight.len() / gates);
        assert!(to.len() >= inputs * gates * kept && count <= kept);
        let whole = count == S::LANES && kept == S::LANES;
        if !whole {
            to[..inputs * gates * kept].fill(E::ZERO);
        }
        for gate in 0..gates {
            let rows = &weight[gate * of_gate + units.start * inputs..][..count * inputs];
            for Strip { inputs: strip, first, step } in strips(inputs, division, alone) {
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
    use super::super::pack::{Layouts, Shape};
    use super::super::stored::Full;
    use super::*;

    /// Every block of a matrix of these sizes, forwards and backwards.
    fn check<E: Element>(level: Level, [gates, units, inputs]: [usize; 3]) {
        let lanes = [E::lanes(level), E::low_lanes(level)];
        let count = gates * units * inputs;
        let weight: Vec<E> = (1..=count).map(|w| E::from_f64(w as f64)).collect();
        let shape = Shape { gates, units, inputs, lanes };
        let (mut packed, mut works) = (Packed::within(Layouts::default(), shape), Vec::new());
        packed.pack(&weight, &mut works);
        works.into_iter().for_each(|work| work());
        // SAFETY: the weights stay.
        let given = unsafe { Packed::given(&weight, shape) };
        for (alone, backwards) in [(false, false), (false, true), (true, false), (true, true)] {
            let whole = packed.for_rows::<Full>(alone);
            let blocks = 0..given.blocks;
            let mut want: Vec<usize> = blocks.clone().collect();
            if backwards {
                want.reverse();
            }
            let (mut room, mut got) = (Room::default(), Vec::new());
            let walk = Walk { blocks, backwards };
            room.each(level, &given, walk, alone, |held, blocks| {
                let (block, len) = (blocks.start, held.block_len());
                assert_eq!(blocks, block..block + 1);
                // Of parts of vectors there are as many, and fewer elements.
                let there = len / given.lanes * given.lanes_of(block, alone);
                let (held, whole) = (held.for_rows::<Full>(alone), &whole[block * len..]);
                assert_eq!(held[..there], whole[..there], "{level:?} {gates} {units} {inputs}");
                got.push(block);
            });
            assert_eq!(got, want);
        }
    }

    #[test]
    fn a_block_is_what_packing_the_whole_matrix_makes_of_it() {
        for level in Level::available() {
            for sizes in [
                [4, 32, 32],
                [3, 35, 70],
                [1, 50, 20],
                [4, 7, 5],
                [3, 23, 64],
                [1, 16, 9],
                [4, 41, 71],
                [3, 16, 8],
            ] {
                check::<f32>(level, sizes);
                check::<f64>(level, sizes);
            }
        }
    }
}
