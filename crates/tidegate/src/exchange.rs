//! What the threads that share out one batch tell one another: `h` after every step if they share out its units, on the
//! way back only that a step's derivatives are there, and how far they are if each runs a layer.
#![allow(unsafe_code, reason = "a buffer that several threads read and write by turns")]

use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::hint::spin_loop;

use crate::{Element, memory};

/// Turns of spinning before the core is offered to another thread: longer than a step of a large
/// layer, since a waiting thread that gives its core away is late for the next step.
const TURNS: usize = 1 << 14;

/// The place where members meet. One for a call.
#[derive(Debug)]
pub(crate) struct Exchange<E> {
    /// `h` after even and after odd steps, `[rows, h_stride]` each.
    slots: [Slot<E>; 2],
    /// How many steps each member has shared, or done.
    turns: Vec<Turn>,
}

/// Elements of which each is written by one member, then read by the others.
#[derive(Debug)]
struct Slot<E>(Box<[UnsafeCell<E>]>);

// SAFETY: `Member::share` says who reads and writes what when.
unsafe impl<E: Send + Sync> Sync for Slot<E> {}

impl<E> Slot<E> {
    /// Where the elements lie, and how many.
    fn place(&self) -> (*mut E, usize) {
        (UnsafeCell::raw_get(self.0.as_ptr()), self.0.len())
    }
}

/// A counter with cache lines of its own: two, as some machines fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Turn(AtomicUsize);

impl Turn {
    /// Waits until it has come to `turns`.
    #[inline]
    fn wait(&self, turns: usize) {
        let mut spins = 0;
        while self.0.load(Ordering::Acquire) < turns {
            spins += 1;
            if spins % TURNS == 0 { std::thread::yield_now() } else { spin_loop() }
        }
    }
}

impl<E: Element> Exchange<E> {
    /// Prepares for `members` that share up to `len` elements a step.
    pub(crate) fn prepare(&mut self, members: usize, len: usize) {
        memory::lengthen(&mut self.turns, members);
        for turn in &mut self.turns {
            *turn.0.get_mut() = 0;
        }
        for slot in &mut self.slots {
            if slot.0.len() < len {
                slot.0 = memory::zeros::<E>(len).into_iter().map(UnsafeCell::new).collect();
            }
        }
    }

    /// Member `index` of `count`, which must be at most as many as were prepared for.
    ///
    /// # Safety
    /// Each index must be taken once between two calls of [`prepare`](Self::prepare), by threads
    /// that run at the same time.
    pub(crate) unsafe fn member(&self, index: usize, count: usize) -> Member<'_, E> {
        assert!(index < count && count <= self.turns.len());
        Member { exchange: self, index, count }
    }
}

/// One of the threads that share out the units, or the layers.
#[derive(Debug)]
pub(crate) struct Member<'a, E> {
    exchange: &'a Exchange<E>,
    index: usize,
    count: usize,
}

impl<E> Copy for Member<'_, E> {}

impl<E> Clone for Member<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

/// The blocks of units of member `index` of `count`, of `blocks` in all.
pub(crate) fn share_of(index: usize, count: usize, blocks: usize) -> Range<usize> {
    blocks * index / count..blocks * (index + 1) / count
}

impl<E: Element> Member<'_, E> {
    /// The blocks of units that are this member's, of `blocks` in all.
    pub(crate) fn blocks(self, blocks: usize) -> Range<usize> {
        share_of(self.index, self.count, blocks)
    }

    /// Whether this is the member that does what only one may do.
    pub(crate) fn is_first(self) -> bool {
        self.index == 0
    }

    /// Gives the others this member's blocks of `h: [rows, stride]`, and gets theirs.
    #[inline]
    pub(crate) fn share(
        self,
        h: &mut [E],
        stride: usize,
        rows: usize,
        blocks: usize,
        lanes: usize,
    ) {
        if self.count == 1 {
            return;
        }
        let turn = self.exchange.turns[self.index].0.load(Ordering::Relaxed);
        let (to, len) = self.exchange.slots[turn % 2].place();
        assert!(rows * stride <= len.min(h.len()) && blocks * lanes <= stride);
        let pieces = move |index| {
            let Range { start, end } = share_of(index, self.count, blocks);
            (0..rows).map(move |row| (row * stride + start * lanes, (end - start) * lanes))
        };
        for (at, count) in pieces(self.index) {
            // SAFETY: within both, as was just compared. The elements are this member's; the others
            // read them two steps ago at the latest, and have since counted a step, which this
            // member saw before it went on.
            unsafe { core::ptr::copy_nonoverlapping(h.as_ptr().add(at), to.add(at), count) }
        }
        self.meet();
        for index in (0..self.count).filter(|&index| index != self.index) {
            for (at, count) in pieces(index) {
                // SAFETY: within both. The member whose elements these are counted the step after
                // it wrote them, and writes them again only after this one has counted another.
                unsafe { core::ptr::copy_nonoverlapping(to.add(at), h.as_mut_ptr().add(at), count) }
            }
        }
    }

    /// Waits until all members have come here; what they wrote before can then be read.
    #[inline]
    pub(crate) fn meet(self) {
        let turns = &self.exchange.turns[..self.count];
        let now = turns[self.index].0.load(Ordering::Relaxed) + 1;
        turns[self.index].0.store(now, Ordering::Release);
        turns.iter().for_each(|turn| turn.wait(now));
    }

    /// Says that this member has done its first `steps` steps; what it wrote in them can then be read.
    pub(crate) fn has_done(self, steps: usize) {
        self.exchange.turns[self.index].0.store(steps, Ordering::Release);
    }

    /// Waits until the member before this one, if there is one, [`has_done`](Self::has_done) `steps`.
    pub(crate) fn wait_for_previous(self, steps: usize) {
        if let Some(previous) = self.index.checked_sub(1) {
            self.exchange.turns[previous].wait(steps);
        }
    }
}

/// Lets nobody wait for a member that has panicked.
pub(crate) struct Watch<'a, E>(pub(crate) Member<'a, E>);

impl<E> Drop for Watch<'_, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.exchange.turns[self.0.index].0.store(usize::MAX / 2, Ordering::Release);
        }
    }
}

impl<E> Default for Exchange<E> {
    fn default() -> Self {
        Self { slots: [(); 2].map(|()| Slot(Box::default())), turns: Vec::new() }
    }
}

impl<E: Clone> Clone for Exchange<E> {
    /// One with as much room, so that a call of the clone allocates no more than one of this.
    fn clone(&self) -> Self {
        let slots = self.slots.each_ref().map(|slot| {
            let (from, len) = slot.place();
            // SAFETY: a call has what this belongs to alone, so none is running.
            let elements = unsafe { core::slice::from_raw_parts(from, len) };
            Slot(elements.iter().cloned().map(UnsafeCell::new).collect())
        });
        Self { slots, turns: self.turns.iter().map(|_| Turn::default()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members count up their own units and must see the others' of the same step.
    #[test]
    fn every_member_sees_every_step_whole() {
        const STEPS: usize = if cfg!(miri) { 10 } else { 2000 };
        for (members, blocks, rows) in [(1, 3, 1), (2, 2, 1), (2, 5, 3), (3, 4, 2)] {
            let (lanes, stride) = (4, blocks * 4 + 4);
            let mut exchange = Exchange::<f32>::default();
            exchange.prepare(members, rows * stride);
            std::thread::scope(|scope| {
                for index in 0..members {
                    // SAFETY: each index once, each on a thread of its own.
                    let member = unsafe { exchange.member(index, members) };
                    scope.spawn(move || {
                        let mut h = vec![-1.0; rows * stride];
                        for step in 0..STEPS {
                            let own = member.blocks(blocks);
                            for row in 0..rows {
                                let at = row * stride;
                                h[at + own.start * lanes..at + own.end * lanes].fill(step as f32);
                            }
                            member.share(&mut h, stride, rows, blocks, lanes);
                            for row in h.chunks(stride) {
                                assert!(row[..blocks * lanes].iter().all(|&x| x == step as f32));
                                assert!(row[blocks * lanes..].iter().all(|&x| x == -1.0));
                            }
                        }
                    });
                }
            });
        }
    }
}
