//! How many threads there are, and threads that wait for one another.
#![allow(unsafe_code, reason = "the items of a slice go to different threads")]

use core::sync::atomic::{AtomicUsize, Ordering};
use std::hint::spin_loop;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::team;

/// The number of threads set, or 0 for the usual number.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The number of threads the machine offers. Asked once: the system's answer takes files to be read
/// and memory to be allocated.
static OFFERED: OnceLock<usize> = OnceLock::new();

/// The usual number of threads, asked for once.
static USUAL: OnceLock<usize> = OnceLock::new();

/// Sets how many threads a call may use; 0, as at the start, stands for the environment variable `TIDEGATE_NUM_THREADS`,
/// and where that says nothing for as many as the machine runs at once.
///
/// The results have the same bits with any number. On Linux threads that share a call are kept off the core of the
/// thread that wakes them, by the system call `sched_setaffinity`; `TIDEGATE_AFFINITY=0` in the environment lets the
/// system choose, for sandboxes that end a process for this call.
pub fn set_num_threads(threads: usize) {
    THREADS.store(threads, Ordering::Relaxed);
}

/// How many threads a call may use.
pub fn num_threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => *USUAL.get_or_init(|| wanted().unwrap_or_else(offered)),
        threads => threads,
    }
}

/// The number of threads that the environment asks for.
fn wanted() -> Option<usize> {
    let wanted = std::env::var("TIDEGATE_NUM_THREADS").ok()?;
    wanted.trim().parse().ok().filter(|&threads| threads > 0)
}

/// How many threads the machine runs at once.
pub(crate) fn offered() -> usize {
    *OFFERED.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// How many tries of [`together`] in a row have missed a thread.
static MISSED: AtomicUsize = AtomicUsize::new(0);

/// How many calls of [`together`] there have been.
static TURNS: AtomicUsize = AtomicUsize::new(0);

/// Multiply-adds of a call of half a millisecond, beside which it costs little to wake a thread in vain.
pub(crate) const LONG: usize = 500_000 * SPEED;

/// Whether to try for threads with a call that takes as long as `work` multiply-adds, if tries were `missed` in a row, at the `turn`-th call.
///
/// Steps of a stream a millisecond apart find the team parked every time (other calls leave it so: [`crate::crew::Crew`]),
/// and on a busy machine any call may find it awake and late. To wake it in vain took 40 microseconds of each (Granite
/// Rapids, a virtual machine): most go without. Two in a row try, since the first wakes the team, and the second may find
/// it awake.
fn is_worth_a_try(work: usize, missed: usize, turn: usize) -> bool {
    work >= LONG || missed < 4 || turn % 32 < 2
}

/// A thread that spins takes less than this to come.
const LEAST_PATIENCE: Duration = Duration::from_micros(if cfg!(miri) { 1 << 30 } else { 2 });

/// A thread that is parked takes less than this to come, unless the machine is busy.
const MOST_PATIENCE: Duration = Duration::from_micros(if cfg!(miri) { 1 << 30 } else { 500 });

/// Multiply-adds of one thread in a nanosecond, roughly: 22 to 42 for a single row on a Zen 5.
const SPEED: usize = 32;

/// How long to wait for other threads with a call that takes as long as `work` multiply-adds, after `missed` calls in a
/// row without success: as long as they would save at first, then a quarter of it, so that a busy
/// machine costs an eighth at most.
fn patience(work: usize, missed: usize) -> Duration {
    let saved = Duration::from_nanos((work / SPEED / 2) as u64);
    (saved / (1 << missed.min(2))).clamp(LEAST_PATIENCE, MOST_PATIENCE)
}

/// Calls `f(k, item)` with every item at the same time, each on a thread of its own, so that they may
/// wait for one another, and returns true. If the threads cannot be had soon, because the team is in
/// use or the machine is, calls nothing and returns false. `work` is how long all items take, in
/// multiply-adds of weights that are near.
pub(crate) fn together<T: Send>(
    items: &mut [T],
    work: usize,
    f: impl Fn(usize, &mut T) + Sync,
) -> bool {
    let count = items.len();
    let missed = MISSED.load(Ordering::Relaxed);
    if !is_worth_a_try(work, missed, TURNS.fetch_add(1, Ordering::Relaxed)) {
        return false;
    }
    let patience = patience(work, missed);
    let roll = Roll { here: AtomicUsize::new(0), decision: AtomicUsize::new(OPEN) };
    let items = Items(items.as_mut_ptr());
    let ran = team::try_run(count, count, true, &|k| {
        if roll.call(count, patience) {
            // SAFETY: the team calls with every `k < count` once.
            f(k, unsafe { items.get(k) });
        }
    });
    let met = ran && roll.decision.into_inner() == TOGETHER;
    if ran && !met {
        MISSED.store(missed.wrapping_add(1), Ordering::Relaxed);
    } else if met && missed > 0 {
        MISSED.store(0, Ordering::Relaxed);
    }
    met
}

/// Finds out whether all threads are here.
struct Roll {
    here: AtomicUsize,
    /// One of the three below.
    decision: AtomicUsize,
}

const OPEN: usize = 0;
const TOGETHER: usize = 1;
const GIVEN_UP: usize = 2;

impl Roll {
    /// Waits until all `count` are here, or one of them has waited for as long as its patience lasts; returns whether
    /// all are here.
    fn call(&self, count: usize, patience: Duration) -> bool {
        if self.here.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.decide(TOGETHER);
        }
        let start = Instant::now();
        loop {
            for _ in 0..100 {
                match self.decision.load(Ordering::Acquire) {
                    OPEN => spin_loop(),
                    decision => return decision == TOGETHER,
                }
            }
            if start.elapsed() > patience {
                self.decide(GIVEN_UP);
            }
        }
    }

    /// Decides, if nobody has.
    fn decide(&self, decision: usize) {
        let _ = self.decision.compare_exchange(OPEN, decision, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// The items of a slice, of which each thread takes its own.
pub(crate) struct Items<T>(pub(crate) *mut T);

// SAFETY: an item is handed to one thread only.
unsafe impl<T: Send> Sync for Items<T> {}

impl<T> Items<T> {
    /// The `k`-th item.
    ///
    /// # Safety
    /// There must be such an item, and nobody else may have it.
    #[allow(clippy::mut_from_ref, reason = "each item is taken once")]
    pub(crate) unsafe fn get(&self, k: usize) -> &mut T {
        // SAFETY: the caller's.
        unsafe { &mut *self.0.add(k) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_calls_that_miss_threads_go_without_for_most_of_the_time() {
        let tries =
            |work, missed| (0..64).filter(|&turn| is_worth_a_try(work, missed, turn)).count();
        assert_eq!([tries(0, 0), tries(0, 3), tries(0, 4), tries(0, 99)], [64, 64, 4, 4]);
        assert_eq!(tries(LONG, 99), 64);
    }

    #[test]
    fn patience_is_a_part_of_the_call() {
        let microseconds = |work, missed| patience(work, missed).as_micros();
        assert_eq!(
            [0, 1, 2, 99].map(|missed| microseconds(160_000 * SPEED, missed)),
            [80, 40, 20, 20]
        );
        assert_eq!(microseconds(0, 0), LEAST_PATIENCE.as_micros());
        assert_eq!(microseconds(usize::MAX, 0), MOST_PATIENCE.as_micros());
    }
}
