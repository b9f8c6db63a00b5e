//! The weights of all layers and directions, as products read them: what a call computes with.

use tidegate_simd::Level;

use crate::crew::Crew;
use crate::kernel::pack::{Layouts, Packed, Shape, Work};
use crate::weights::{Direction, weights_of};
use crate::{Config, Element, memory};

/// Multiply-adds in the time that a weight takes to be packed: 0.35 to 0.5 ns where it comes from memory (Granite Rapids).
const PACKING: usize = 10;

/// The parameters of a stack of layers, packed for one instruction set, or to be packed by every product.
#[derive(Clone, Debug)]
pub(crate) struct Stack<E> {
    pub(crate) config: Config,
    pub(crate) level: Level,
    /// `[L * D]`.
    pub(crate) directions: Vec<Direction<E>>,
}

impl<E: Element> Stack<E> {
    /// Of matrices that `matrix` makes: the `k`-th of each layer and direction, `W_ih`, `W_hh` and, with a projection, `W_hr`.
    pub(crate) fn new(
        config: Config,
        level: Level,
        mut matrix: impl FnMut(usize, usize, Shape) -> Packed<E>,
    ) -> Self {
        // Found out here, as that takes memory and a step may not.
        let _ = tidegate_simd::prefetch();
        let count = config.num_layers * config.num_directions();
        let mut directions = memory::with_capacity(count);
        directions.extend((0..count).map(|index| {
            Direction::new(&config, index, level, |k, shape| matrix(index, k, shape))
        }));
        Self { config, level, directions }
    }

    /// Packs `parameters`, in the order of [`Config::parameters`]; as bf16 if `half`, which they must have been rounded to.
    pub(crate) fn packed(config: Config, level: Level, half: bool, parameters: &[&[E]]) -> Self {
        let mut stack = Self::new(config, level, |_, _, shape| match half {
            true => Packed::half(shape),
            false => Packed::within(Layouts::default(), shape),
        });
        stack.set(parameters);
        stack
    }

    /// With matrices that are not packed.
    ///
    /// # Safety
    /// The `parameters` must stay, and nobody may write to them, as long as calls run.
    #[allow(unsafe_code, reason = "passes the caller's promise on")]
    pub(crate) unsafe fn given(config: Config, level: Level, parameters: &[&[E]]) -> Self {
        let each = config.direction_parameters(0).len();
        let mut stack = Self::new(config, level, |index, k, shape| {
            let own = &parameters[index * each..][..each];
            // SAFETY: the caller's.
            unsafe { Packed::given(weights_of(own)[k], shape) }
        });
        stack.set(parameters);
        stack
    }

    /// Packs `parameters`, on several threads if they are many; those that are given as they are stay so.
    pub(crate) fn set(&mut self, parameters: &[&[E]]) {
        let Self { config, directions, .. } = self;
        let each = config.direction_parameters(0).len();
        let (mut works, mut weights) = (Vec::new(), 0);
        for (direction, own) in directions.iter_mut().zip(parameters.chunks_exact(each)) {
            weights += direction.work();
            direction.set(config, own, &mut works);
        }
        pack_all(works, weights);
    }
}

/// Does what is to be done to pack about so many `weights`, on several threads if they are many.
pub(crate) fn pack_all(works: Vec<Work<'_>>, weights: usize) {
    if works.is_empty() {
        return; // a crew that has nothing to do would count as a call that found the team asleep
    }
    let mut todo = memory::with_capacity(works.len());
    todo.extend(works.into_iter().map(Some));
    Crew::of_call(weights.saturating_mul(PACKING)).for_each(&mut todo, |_, work| {
        if let Some(work) = work.take() {
            work();
        }
    });
}
