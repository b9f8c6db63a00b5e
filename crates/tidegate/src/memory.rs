//! Memory that there may not be: what is too much is an error of the call, not the end of the program.
//!
//! Buffers grow deep inside of a call, on any of its threads. Where that fails, the call is unwound to its entry
//! point, [`or_error`], rather than every kernel returning a result that is never an error. In programs that abort on
//! panics this aborts, as any allocation of Rust's library does that fails.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bytemuck::Zeroable;

use crate::Error;

/// What a call is unwound with.
struct OutOfMemory {
    bytes: usize,
}

/// Unwinds to [`or_error`]; without the message of a panic, as it is none.
#[cold]
fn give_up<T>(count: usize) -> ! {
    resume_unwind(Box::new(OutOfMemory { bytes: count.saturating_mul(size_of::<T>()) }))
}

/// `len` zeros, for a buffer. Only inside of [`or_error`].
pub(crate) fn zeros<T: Zeroable>(len: usize) -> Vec<T> {
    bytemuck::allocation::try_zeroed_vec(len).unwrap_or_else(|()| give_up::<T>(len))
}

/// Makes room for `count` more elements. Only inside of [`or_error`].
pub(crate) fn reserve<T>(vec: &mut Vec<T>, count: usize) {
    if vec.try_reserve_exact(count).is_err() {
        give_up::<T>(vec.len() + count);
    }
}

/// An empty list with room for `count` elements. Only inside of [`or_error`].
pub(crate) fn with_capacity<T>(count: usize) -> Vec<T> {
    let mut vec = Vec::new();
    reserve(&mut vec, count);
    vec
}

/// Makes the list at least `count` long. Only inside of [`or_error`].
pub(crate) fn lengthen<T: Default>(vec: &mut Vec<T>, count: usize) {
    let more = count.saturating_sub(vec.len());
    reserve(vec, more);
    vec.resize_with(vec.len() + more, T::default);
}

/// What `work` returns, or [`Error::OutOfMemory`] if memory that it asks this module for is not there.
pub(crate) fn or_error<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What `work` was writing is the caller's to reset: buffers keep their size, and no result is returned.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| match panic.downcast() {
        Ok(reason) => {
            let OutOfMemory { bytes } = *reason;
            Err(Error::OutOfMemory { bytes })
        }
        Err(panic) => resume_unwind(panic),
    })
}

/// What `work` returns, for functions that return no errors: they panic.
pub(crate) fn or_panic<T>(work: impl FnOnce() -> T) -> T {
    or_error(|| Ok(work())).unwrap_or_else(|error| panic!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_an_error() {
        let bytes = 1 << 60;
        let got = or_error(|| Ok(zeros::<u8>(bytes)));
        assert_eq!(got, Err(Error::OutOfMemory { bytes }));
        let got = or_error(|| Ok(with_capacity::<u64>(1 << 57).len()));
        assert_eq!(got, Err(Error::OutOfMemory { bytes }));
        assert_eq!(or_error(|| Ok(zeros::<f64>(3))), Ok(vec![0.0; 3]));
    }

    #[test]
    fn other_panics_stay_panics() {
        assert!(catch_unwind(|| or_error::<()>(|| panic!("another"))).is_err());
    }
}
