//! An allocator that fails when it is told to.
//!
//! A test that wants it names it `#[global_allocator]`, and is alone in its file: there is one for all threads.
#![allow(
    unsafe_code,
    reason = "only an allocator sees every allocation; it passes all on, or none"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// Allocations that succeed before the next one fails, once; the largest number for none.
static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Bytes of the allocations that count.
static LEAST: AtomicUsize = AtomicUsize::new(0);
/// Whether one has failed.
static FAILED: AtomicBool = AtomicBool::new(false);

/// The system's allocator, but for what [`after`] says.
#[derive(Debug)]
pub struct Failing;

fn fails(size: usize) -> bool {
    let next = |left: usize| match left {
        usize::MAX => None,
        0 => Some(usize::MAX),
        _ => Some(left - 1),
    };
    let fails = size >= LEAST.load(SeqCst) && LEFT.fetch_update(SeqCst, SeqCst, next) == Ok(0);
    if fails {
        FAILED.store(true, SeqCst);
    }
    fails
}

// SAFETY: every call is passed on to the system's allocator, unchanged, or fails.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails(layout.size()) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails(layout.size()) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails(size) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Lets one allocation of at least `least` bytes fail, after `count` that do not.
pub fn after(count: usize, least: usize) {
    FAILED.store(false, SeqCst);
    LEAST.store(least, SeqCst);
    LEFT.store(count, SeqCst);
}

/// Whether an allocation has failed since [`after`]; from here on none does.
pub fn has_failed() -> bool {
    LEFT.store(usize::MAX, SeqCst);
    FAILED.load(SeqCst)
}

/// Lets each allocation of at least `least` bytes of `work` fail in turn; returns how many there were.
///
/// # Panics
/// If `work` returns anything but an error of which `right` is true where one has failed, or anything but a result where
/// none has.
pub fn each<T, E: Debug>(
    name: &str,
    least: usize,
    mut work: impl FnMut() -> Result<T, E>,
    right: impl Fn(&E) -> bool,
) -> usize {
    for count in 0.. {
        after(count, least);
        let result = work();
        match (has_failed(), result) {
            (true, Err(error)) if right(&error) => {}
            (false, Ok(_)) => return count,
            (failed, result) => {
                panic!("{name}, allocation {count}: failed {failed}, {:?}", result.err())
            }
        }
    }
    unreachable!("it ends")
}
