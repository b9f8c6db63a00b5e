//! On which core a thread runs.
//!
//! Linux wakes a thread on the core where it was or where its waker is, unless it knows that an idle one shares a cache
//! with these: in a virtual machine it may not. Threads that wait for one another would then take turns on one core for
//! many calls. Two threads took 1.4 to 1.6 times as long as one that way, where they take 0.55 of it on two cores.
#![allow(unsafe_code, reason = "system calls")]

/// The core that the calling thread is on, where the system tells.
pub(crate) fn current() -> Option<usize> {
    #[cfg(all(target_os = "linux", not(miri)))]
    // SAFETY: it has no arguments.
    return usize::try_from(unsafe { libc::sched_getcpu() }).ok();
    #[cfg(not(all(target_os = "linux", not(miri))))]
    None
}

/// Moves the calling thread to another core than `core`, if it may run on another. It stays as free to move as it was.
pub(crate) fn leave(core: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    // SAFETY: the sets are as large as they are said to be, and `core` is below their size.
    unsafe {
        let size = size_of::<libc::cpu_set_t>();
        let mut allowed: libc::cpu_set_t = core::mem::zeroed();
        if core >= 8 * size || libc::sched_getaffinity(0, size, &raw mut allowed) != 0 {
            return;
        }
        let mut others = allowed;
        libc::CPU_CLR(core, &mut others);
        if libc::CPU_COUNT(&others) > 0 && libc::sched_setaffinity(0, size, &raw const others) == 0
        {
            libc::sched_setaffinity(0, size, &raw const allowed);
        }
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = core;
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    /// The cores that this thread may run on.
    fn allowed() -> libc::cpu_set_t {
        // SAFETY: the set is as large as it is said to be.
        unsafe {
            let mut allowed: libc::cpu_set_t = core::mem::zeroed();
            let size = size_of::<libc::cpu_set_t>();
            assert_eq!(libc::sched_getaffinity(0, size, &raw mut allowed), 0);
            allowed
        }
    }

    #[test]
    fn a_thread_leaves_its_core_and_may_come_back() {
        let (before, mut left) = (allowed(), 0);
        for _ in 0..20 {
            let core = current().unwrap();
            leave(core);
            left += usize::from(current() != Some(core));
            leave(usize::MAX);
        }
        // SAFETY: both are sets.
        unsafe {
            assert!(libc::CPU_EQUAL(&before, &allowed()));
            // The system may have moved it back at once, but not every other time.
            assert!(libc::CPU_COUNT(&before) < 2 || left > 10, "{left} of 20");
        }
    }
}
