//! A small team of threads that shares out the parts of a call.
//!
//! Members spin for a moment after a call, since the next one is often close, and then park. The
//! team belongs to the process that made it: after a fork the child has none of its threads, so
//! it makes a team of its own and leaves the parent's memory alone.
#![allow(unsafe_code, reason = "a job borrows from the stack of the caller, who waits for it")]

use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cores::Parked;
use crate::float_mode::FloatMode;

/// How long a member looks for the next call before it parks: several times the pause between two
/// calls of a program that does little else.
const SPIN: Duration = Duration::from_micros(200);

/// How long it looks if it came too late for the last call: longer than one takes that was not shared, or it would be parked
/// again when the next begins, and late every time. Calls of half a millisecond and more wait for it
/// ([`crate::threads::together`]).
const SPIN_LATE: Duration = Duration::from_micros(600);

/// The parts of one call.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// A job that members may join, and the mode of its caller's arithmetic.
type Shared = (Job<'static>, FloatMode);

/// The process's team, or null; never freed.
static TEAM: AtomicPtr<Team> = AtomicPtr::new(core::ptr::null_mut());

struct Team {
    /// The process whose threads the members are.
    process: u32,
    /// Whether a call is using the team.
    busy: AtomicBool,
    /// Number of members there are, beside the callers.
    members: AtomicUsize,
    /// Counts the calls; members wait for it to change.
    call: AtomicUsize,
    /// Members that have parked for the first time.
    arrived: AtomicUsize,
    /// Members that are parked, or about to be.
    asleep: AtomicUsize,
    /// The current call's job while members may still join it.
    job: Mutex<Option<Shared>>,
    /// The part to take next.
    next: AtomicUsize,
    /// Number of parts of the current call.
    parts: AtomicUsize,
    /// Members that have joined the current call and not finished. Grows under the lock of `job`.
    working: AtomicUsize,
    /// What the first part of the current call that panicked on a member panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// The members that are parked, or about to be. What they wait for is a change of `call`.
    parked: Mutex<Vec<Parked>>,
    wake: Condvar,
}

/// Calls `job` with every number below `parts`, on up to `threads` threads, of which those that are parked come if it `wakes`
/// them.
///
/// Runs everything on the calling thread while another call uses the team, as a nested call does.
///
/// # Panics
/// If `job` does.
pub(crate) fn run(threads: usize, parts: usize, wakes: bool, job: Job<'_>) {
    if !try_run(threads, parts, wakes, job) {
        (0..parts).for_each(job);
    }
}

/// As [`run`], but does nothing and returns false where only the calling thread can be had.
///
/// # Panics
/// If `job` does.
pub(crate) fn try_run(threads: usize, parts: usize, wakes: bool, job: Job<'_>) -> bool {
    let helpers = threads.min(parts).saturating_sub(1);
    let team = if helpers > 0 { Team::current() } else { None };
    let Some(team) = team.filter(|team| !team.busy.swap(true, Ordering::Acquire)) else {
        return false;
    };
    team.run(helpers, parts, wakes, job);
    true
}

/// Whether a member looks for the next call, or works at the last one.
pub(crate) fn is_awake() -> bool {
    let team = Team::of_process(TEAM.load(Ordering::Acquire), std::process::id());
    team.is_some_and(|team| {
        team.asleep.load(Ordering::Relaxed) < team.members.load(Ordering::Relaxed)
    })
}

impl Team {
    /// What `TEAM` was found to be, if it is the team of `process`.
    fn of_process(found: *mut Team, process: u32) -> Option<&'static Team> {
        // SAFETY: a pointer stored in `TEAM` came from a leaked box.
        unsafe { found.as_ref() }.filter(|team| team.process == process)
    }

    /// This process's team, made if there is none.
    fn current() -> Option<&'static Team> {
        let process = std::process::id();
        let team = TEAM.load(Ordering::Acquire);
        if let Some(team) = Self::of_process(team, process) {
            return Some(team);
        }
        let fresh = Box::into_raw(Box::new(Team {
            process,
            busy: AtomicBool::new(false),
            members: AtomicUsize::new(0),
            call: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            parts: AtomicUsize::new(0),
            working: AtomicUsize::new(0),
            panic: Mutex::new(None),
            parked: Mutex::new(Vec::new()),
            wake: Condvar::new(),
        }));
        // Of two threads that get here at once, one is late; its call runs without a team.
        match TEAM.compare_exchange(team, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: just leaked.
            Ok(_) => Some(unsafe { &*fresh }),
            Err(_) => {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                None
            }
        }
    }

    /// Runs a call; `busy` is set, and cleared at the end.
    fn run(&'static self, helpers: usize, parts: usize, wakes: bool, job: Job<'_>) {
        self.grow(helpers);
        self.next.store(0, Ordering::Relaxed);
        self.parts.store(parts, Ordering::Relaxed);
        // SAFETY: only the lifetime changes. Members join a job while it is here and use it while
        // they count as working; this function takes it away and waits for them.
        let shared = unsafe { core::mem::transmute::<Job<'_>, Job<'static>>(job) };
        *self.lock_job() = Some((shared, FloatMode::here()));
        let any_woken = {
            let mut parked = self.lock_parked();
            self.call.fetch_add(1, Ordering::Release);
            if wakes {
                parked.iter_mut().for_each(Parked::keep_off_this_core);
            }
            wakes && !parked.is_empty()
        };
        if any_woken {
            self.wake.notify_all(); // a system call
        }

        let own = catch_unwind(AssertUnwindSafe(|| self.take_parts(job)));
        *self.lock_job() = None;
        while self.working.load(Ordering::Acquire) > 0 {
            spin_loop();
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.busy.store(false, Ordering::Release);
        if let Some(panic) = own.err().or(panic) {
            resume_unwind(panic);
        }
    }

    fn lock_job(&self) -> MutexGuard<'_, Option<Shared>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_parked(&self) -> MutexGuard<'_, Vec<Parked>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs parts until none is left.
    fn take_parts(&self, job: Job<'_>) {
        let parts = self.parts.load(Ordering::Relaxed);
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                return;
            }
            job(part);
        }
    }

    /// Starts members until there are `wanted`, or no more threads can be had. They are parked when it returns: a new thread
    /// may wait for its caller's core, and only a parked one can be woken on another.
    fn grow(&'static self, wanted: usize) {
        let mut members = self.members.load(Ordering::Relaxed);
        if members < wanted {
            self.lock_parked().reserve(wanted); // a member parks without allocating
        }
        while members < wanted {
            let seen = self.call.load(Ordering::Relaxed);
            let member = std::thread::Builder::new().name("tidegate".to_string());
            if member.spawn(move || self.serve(seen)).is_err() {
                break;
            }
            members += 1;
            while self.arrived.load(Ordering::Acquire) < members {
                std::thread::yield_now();
            }
        }
        self.members.store(members, Ordering::Relaxed);
    }

    /// The life of a member that has seen the calls up to `seen`.
    fn serve(&self, mut seen: usize) -> ! {
        self.park(seen, || _ = self.arrived.fetch_add(1, Ordering::Release));
        loop {
            seen = self.call.load(Ordering::Acquire);
            let job = self.join();
            let spin = if job.is_some() { SPIN } else { SPIN_LATE };
            if let Some((job, mode)) = job {
                mode.set();
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take_parts(job))) {
                    self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                }
                self.working.fetch_sub(1, Ordering::Release);
            }
            self.wait(seen, spin);
        }
    }

    /// Joins the current call, if it is not over.
    fn join(&self) -> Option<Shared> {
        let job = self.lock_job();
        if job.is_some() {
            self.working.fetch_add(1, Ordering::Relaxed);
        }
        *job
    }

    /// Waits until there has been a call after `seen`, awake for as long as `spin`.
    fn wait(&self, seen: usize, spin: Duration) {
        let start = Instant::now();
        while start.elapsed() < spin {
            for _ in 0..100 {
                if self.call.load(Ordering::Acquire) != seen {
                    return;
                }
                spin_loop();
            }
        }
        self.park(seen, || ());
    }

    /// Sleeps until there has been a call after `seen`. Calls `ready` when the next call will wake this thread.
    fn park(&self, seen: usize, ready: impl FnOnce()) {
        let mut parked = self.lock_parked();
        parked.push(Parked::here());
        self.asleep.fetch_add(1, Ordering::Relaxed);
        ready();
        while self.call.load(Ordering::Acquire) == seen {
            parked = self.wake.wait(parked).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::Relaxed);
        let here = parked.iter().position(Parked::is_here).map(|k| parked.swap_remove(k));
        drop(parked);
        here.into_iter().for_each(Parked::restore);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(threads: usize, parts: usize) -> usize {
        let total = AtomicUsize::new(0);
        run(threads, parts, true, &|part| {
            total.fetch_add(part + 1, Ordering::Relaxed);
        });
        total.into_inner()
    }

    #[test]
    fn every_part_runs_once() {
        for round in 0..if cfg!(miri) { 20 } else { 2000 } {
            let (threads, parts) = (round % 5, round % 9);
            assert_eq!(sum(threads, parts), parts * (parts + 1) / 2);
            if round % 500 == 9 {
                std::thread::sleep(SPIN * 4); // let the members park
            }
        }
    }

    #[test]
    fn calls_at_once_and_nested_calls_all_finish() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..if cfg!(miri) { 5 } else { 300 } {
                        run(3, 4, true, &|_| assert_eq!(sum(2, 3), 6));
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_lives_on() {
        for part in 0..8 {
            let panic = catch_unwind(|| run(3, 8, true, &|now| assert!(now != part, "at {part}")));
            let message = panic.unwrap_err().downcast::<String>().expect("the message");
            assert_eq!(*message, format!("at {part}"));
        }
        assert_eq!(sum(3, 8), 36);
    }
}
