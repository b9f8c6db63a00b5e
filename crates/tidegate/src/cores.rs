//! On which core a parked thread wakes up.
//!
//! Linux may wake a thread on the core of the one that wakes it, where it waits until the other has used up its time,
//! although another core is idle. In a virtual machine of two cores (Linux 6.18) a member was late that way by 2 to 16 ms
//! in more than half of the calls that woke it, and the calls meanwhile took 1.0 to 1.6 times one thread's time. So a
//! caller takes its own core away from the members before it wakes them, and they take it back.
//!
//! This asks for cores where nobody had asked: a member that was woken does not use cores that its cpuset is given later.
//! `TIDEGATE_AFFINITY=0` leaves it all to the system, for sandboxes that end a process for the call
//! `sched_setaffinity`; where that is merely refused, nothing happens.

#[cfg(all(target_os = "linux", not(miri)))]
use std::sync::OnceLock;

#[cfg(all(target_os = "linux", not(miri)))]
use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Whether threads may be kept off cores, unless the environment says otherwise.
#[cfg(all(target_os = "linux", not(miri)))]
fn may_choose() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| std::env::var_os("TIDEGATE_AFFINITY").is_none_or(|value| value != "0"))
}

/// A thread that has parked.
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) struct Parked {
    thread: Pid,
    /// The cores it may run on, while it is kept off one of them.
    allowed: Option<CpuSet>,
}

#[cfg(all(target_os = "linux", not(miri)))]
impl Parked {
    /// The calling thread.
    pub(crate) fn here() -> Self {
        Self { thread: gettid(), allowed: None }
    }

    /// Whether this is the calling thread.
    pub(crate) fn is_here(&self) -> bool {
        self.thread == gettid()
    }

    /// Sees to it that the thread does not wake up on the calling thread's core, if it may run on another.
    pub(crate) fn keep_off_this_core(&mut self) {
        if self.allowed.is_some() || !may_choose() {
            return;
        }
        let thread = Some(self.thread);
        let Ok(allowed) = sched_getaffinity(thread) else { return };
        let mut others = allowed;
        others.unset(sched_getcpu());
        if others.count() > 0 && sched_setaffinity(thread, &others).is_ok() {
            self.allowed = Some(allowed);
        }
    }

    /// Lets the thread run where it might before it was kept off a core. Were this refused, it would run on the others.
    pub(crate) fn restore(self) {
        if let Some(allowed) = self.allowed {
            let _ = sched_setaffinity(Some(self.thread), &allowed);
        }
    }
}

/// A thread that has parked, on a system that is left to find a core for it.
#[cfg(not(all(target_os = "linux", not(miri))))]
pub(crate) struct Parked;

#[cfg(not(all(target_os = "linux", not(miri))))]
impl Parked {
    pub(crate) fn here() -> Self {
        Self
    }

    pub(crate) fn is_here(&self) -> bool {
        true
    }

    pub(crate) fn keep_off_this_core(&mut self) {}

    pub(crate) fn restore(self) {}
}
