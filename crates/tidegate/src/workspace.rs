use crate::Element;
use crate::backward::{BackMemory, TrainingWeights};
use crate::buffer::Buffer;
use crate::carry::{Carry, Scratch};
use crate::exchange::Exchange;

/// Every buffer a forward or backward call needs beside its arguments and results.
///
/// Made empty, it grows in the first call and is then reused: a second call of the same shapes
/// allocates nothing, in training little. One workspace serves any number of layers, one call at a time.
#[derive(Clone, Debug, Default)]
pub struct Workspace<E> {
    /// Outputs of up to two layers, by turns: `[2, rows of all steps, D*P]`.
    pub(crate) between: Buffer<E>,
    /// What dropout multiplies the outputs between layers with: `[L - 1, rows of all steps, D*P]`.
    pub(crate) masks: Buffer<E>,
    /// Position in the caller's batch of each sequence, longest first. `[B]`.
    pub(crate) order: Vec<usize>,
    /// Row number of the first row of each step, and the total. `[T + 1]`.
    pub(crate) offsets: Vec<usize>,
    /// Whether each row of all steps has a cut before it.
    pub(crate) cuts: Vec<bool>,
    /// Where threads that share out the units meet.
    pub(crate) exchange: Exchange<E>,
    /// One per thread.
    pub(crate) tasks: Vec<Task<E>>,
    /// The weights of training calls.
    pub(crate) training: TrainingWeights<E>,
    /// What the way back works in.
    pub(crate) back: BackMemory<E>,
}

/// The buffers of one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task<E> {
    pub(crate) carry: Carry<E>,
    pub(crate) scratch: Scratch<E>,
}

impl<E: Element> Workspace<E> {
    /// A workspace without memory.
    pub fn new() -> Self {
        Self::default()
    }
}
