//! Elements of a matrix written where products read them, in parts that can be done at the same time.

use tidegate_simd::Element;

use super::stored::Part;
use crate::buffer::Buffer;
use crate::memory;

/// A part of the work of packing.
pub(crate) type Work<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Adds to `works` that each of `parts` is written by `write`, from which block on.
pub(super) fn add<'a, T: Copy + Send + 'a>(
    works: &mut Vec<Work<'a>>,
    parts: impl ExactSizeIterator<Item = Part<'a, T>>,
    write: impl Fn(usize, &mut [T]) + Copy + Send + 'a,
) {
    memory::reserve(works, parts.len());
    works.extend(parts.map(|part| -> Work<'a> {
        Box::new(move || {
            write(part.first, part.items);
            part.finish();
        })
    }));
}

/// Packs one value per gate and unit, `value(gate, unit)`, as `[blocks, G, lanes]`.
pub(crate) fn pack_bias<E: Element>(
    [gates, units, lanes]: [usize; 3],
    to: &mut Buffer<E>,
    value: impl Fn(usize, usize) -> E,
) {
    to.reserve(units.div_ceil(lanes) * gates * lanes);
    for (vector, to) in to.chunks_exact_mut(lanes).enumerate() {
        let (block, gate) = (vector / gates, vector % gates);
        let of_block = block * lanes..((block + 1) * lanes).min(units);
        for (to, unit) in to.iter_mut().zip(of_block) {
            *to = value(gate, unit);
        }
    }
}

/// Writes blocks of `weight: [G * units, K]`, from block `first_block` on, to `data: [blocks, K, G, lanes]`, each element as `item`
/// says; lanes past the last unit are left as they are.
pub(super) fn pack<E: Copy, T: Copy>(
    weight: &[E],
    [gates, units, inputs, lanes]: [usize; 4],
    first_block: usize,
    data: &mut [T],
    item: impl Fn(E) -> T,
) {
    assert!(lanes <= TILE);
    let Some(&any) = weight.first() else { return };
    let mut tile = [[any; TILE]; TILE];
    for (block, data) in data.chunks_exact_mut(inputs * gates * lanes).enumerate() {
        let unit = (first_block + block) * lanes;
        let count = (units - unit).min(lanes);
        for gate in 0..gates {
            // The rows of a block's units.
            let rows = &weight[(gate * units + unit) * inputs..][..count * inputs];
            for first in (0..inputs).step_by(TILE) {
                let columns = first..(first + TILE).min(inputs);
                for (from, to) in rows.chunks_exact(inputs).zip(&mut tile) {
                    match from[columns.clone()].first_chunk() {
                        Some(whole) => *to = *whole,
                        None => to[..columns.len()].copy_from_slice(&from[columns.clone()]),
                    }
                }
                for (k, column) in columns.enumerate() {
                    let to = &mut data[(column * gates + gate) * lanes..][..count];
                    for (to, from) in to.iter_mut().zip(&tile) {
                        *to = item(from[k]);
                    }
                }
            }
        }
    }
}

/// Rows and columns of a matrix that are packed together: a cache line of `f32`, and as many units as the
/// longest vector has lanes. Element by element down the columns of the matrix it took five times as long.
const TILE: usize = 16;
