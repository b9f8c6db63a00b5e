//! Stacked layers on threads of their own: each runs some steps, then the layer above may read their outputs.

use crate::Element;
use crate::exchange::Member;

/// Most parts of a sequence: each layer begins a part later than the one below, and ends a part later.
const PARTS: usize = 32;

/// Fewest steps of a part: the products of as many inputs are computed at once with weights that are read once.
const LEAST: usize = 6;

/// Steps of a part, of `steps` in all.
pub(crate) fn part(steps: usize) -> usize {
    (steps / PARTS).max(LEAST)
}

/// How far a layer may go, and whom it tells how far it is.
#[derive(Debug)]
pub(crate) struct Pace<'a, E> {
    /// The members are the layers from the first on.
    member: Member<'a, E>,
    part: usize,
}

impl<E> Copy for Pace<'_, E> {}

impl<E> Clone for Pace<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<'a, E: Element> Pace<'a, E> {
    /// That of the layer of `member`, of sequences of `steps`.
    pub(crate) fn new(member: Member<'a, E>, steps: usize) -> Self {
        Self { member, part: part(steps) }
    }

    /// Steps of a part.
    pub(crate) fn part(self) -> usize {
        self.part
    }

    /// Waits until the outputs of the layer below, of the first `steps` steps, can be read.
    pub(crate) fn follow(self, steps: usize) {
        self.member.wait_for_previous(steps);
    }

    /// Says that this layer's outputs of the first `steps` steps can be read.
    pub(crate) fn lead(self, steps: usize) {
        self.member.has_done(steps);
    }
}
