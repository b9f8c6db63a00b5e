//! How many threads a call uses.
#![allow(unsafe_code, reason = "the items of a slice go to different threads")]

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::team;
use crate::threads::{Items, LONG, num_threads};

/// Multiply-adds below which a second thread costs more than it saves: about ten microseconds' work
/// of a fast core.
const WORTH_A_THREAD: usize = if cfg!(miri) { 100 } else { 1_000_000 };

/// Multiply-adds of a call that wakes the team however long it has slept.
static WAKES: AtomicUsize = AtomicUsize::new(LONG);

/// Lets calls of so many multiply-adds wake the team: for tests, whose calls are short and are to be shared out.
#[doc(hidden)]
pub fn wake_from(work: usize) {
    WAKES.store(work, Ordering::Relaxed);
}

/// Which of the calls that are too short to wake the team do so all the same.
///
/// Whoever is woken comes late, and multiplies slowly at first: on an Ice Lake, at a quarter of the speed for a tenth of a
/// millisecond and more. Two threads instead of one, for calls 0.4 and 2 ms apart that woke the team: 1.6 and 1.1 times as
/// long with 2,000,000 multiply-adds, 1.14 and 1.05 with 8, 0.95 and 0.98 with 17, 0.45 and 0.9 with 34; for calls
/// without a pause, which find it awake, 0.65 with 2,000,000. So that such calls do, one in [`TRIES`] wakes it, and the first
/// one after many that have found it awake.
struct Wakes {
    /// Calls that have found the team asleep.
    asleep: AtomicUsize,
    /// Calls that have found it awake since.
    awake: AtomicUsize,
}

/// See [`Wakes`].
const TRIES: usize = 32;

/// Fewest calls that are many.
const MANY: usize = 4;

impl Wakes {
    const fn new() -> Self {
        Self { asleep: AtomicUsize::new(0), awake: AtomicUsize::new(0) }
    }

    /// Whether a short call wakes the team, should it not be `awake`.
    fn wakes(&self, awake: bool) -> bool {
        if awake {
            self.awake.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let found_awake = self.awake.swap(0, Ordering::Relaxed);
        let found_asleep = self.asleep.fetch_add(1, Ordering::Relaxed);
        found_awake >= MANY || found_asleep.is_multiple_of(TRIES)
    }
}

/// The threads that a call may use.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Crew {
    /// How many, at least one.
    pub(crate) threads: usize,
    /// Whether those that are asleep are woken.
    wakes: bool,
}

impl Crew {
    /// That of a call of `work` multiply-adds.
    pub(crate) fn of_call(work: usize) -> Self {
        static SHORT: Wakes = Wakes::new();
        let alone = Self { threads: 1, wakes: false };
        let threads = num_threads().min(work / WORTH_A_THREAD);
        if threads <= 1 {
            return alone;
        }
        if work >= WAKES.load(Ordering::Relaxed) {
            return Self { threads, wakes: true };
        }
        let awake = team::is_awake();
        let wakes = SHORT.wakes(awake);
        if awake || wakes { Self { threads, wakes } } else { alone }
    }

    /// How many, at least one, are worth using for `items` items that take `work` multiply-adds in all.
    pub(crate) fn worth(self, items: usize, work: usize) -> usize {
        worth(self.threads, items, work)
    }

    /// Calls `f` with every item and its index, shared out among them.
    pub(crate) fn for_each<T: Send>(self, items: &mut [T], f: impl Fn(usize, &mut T) + Sync) {
        let count = items.len();
        let items = Items(items.as_mut_ptr());
        team::run(self.threads, count, self.wakes, &|k| {
            // SAFETY: `k < count`, and the team calls with every number once.
            f(k, unsafe { items.get(k) });
        });
    }
}

/// How many of `threads`, at least one, are worth using for `items` items that take `work` multiply-adds in all.
pub(crate) fn worth(threads: usize, items: usize, work: usize) -> usize {
    threads.min(items).min(work / WORTH_A_THREAD).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_calls_wake_the_team_where_that_has_paid_or_now_and_then() {
        let wakes = Wakes::new();
        let found = |awake, count| (0..count).filter(|_| wakes.wakes(awake)).count();
        assert_eq!(found(false, 2 * TRIES), 2); // calls that are far apart
        assert_eq!([found(false, 1), found(false, TRIES - 1)], [1, 0]);
        assert_eq!([found(false, 1), found(true, 100)], [1, 0]); // awake, it need not be woken
        assert_eq!(found(false, TRIES - 1), 1); // the first, since many were close to one another
        assert_eq!([found(false, 1), found(true, MANY - 1)], [1, 0]);
        assert_eq!(found(false, TRIES - 1), 0); // too few were
    }
}
