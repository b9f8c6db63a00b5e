#![allow(unsafe_code, reason = "kernels look at buffers all the time")]

use core::ops::{Deref, DerefMut};

use bytemuck::Zeroable;

use crate::{huge_pages, memory};

/// Cache lines are this long on every machine we know.
const LINE_BYTES: usize = 64;

/// A slice of elements that begins at a cache line, so that no vector straddles two; a large one in huge pages.
#[derive(Debug)]
pub(crate) struct Buffer<E> {
    // INVARIANT: `start + len <= data.len()`.
    /// The slice, after up to a line's worth of elements to reach the boundary.
    data: Vec<E>,
    start: usize,
    len: usize,
}

impl<E: Zeroable> Buffer<E> {
    /// A buffer of `len` zeros. Only inside of [`memory::or_error`].
    pub(crate) fn zeros(len: usize) -> Self {
        let data: Vec<E> = memory::zeros(len.saturating_add(LINE_BYTES / size_of::<E>()));
        let start = data.as_ptr().align_offset(LINE_BYTES).min(data.len() - len);
        huge_pages::ask_for(&data[start..start + len]);
        Self { data, start, len }
    }

    /// Makes the buffer hold at least `len` elements; what it held is lost if it grows.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.len < len {
            self.resize(len);
        }
    }

    /// Makes the buffer hold `len` elements, in the memory it has if that is enough; what it held is lost.
    pub(crate) fn resize(&mut self, len: usize) {
        if len <= self.data.len() - self.start {
            self.len = len;
        } else {
            *self = Self::default(); // before there is other memory
            *self = Self::zeros(len);
        }
    }
}

impl<E> Default for Buffer<E> {
    fn default() -> Self {
        Self { data: Vec::new(), start: 0, len: 0 }
    }
}

impl<E> Deref for Buffer<E> {
    type Target = [E];

    #[inline(always)]
    fn deref(&self) -> &[E] {
        // SAFETY: the invariant.
        unsafe { self.data.get_unchecked(self.start..self.start + self.len) }
    }
}

impl<E> DerefMut for Buffer<E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: the invariant.
        unsafe { self.data.get_unchecked_mut(self.start..self.start + self.len) }
    }
}

impl<E: Clone> Clone for Buffer<E> {
    /// A copy at an address of its own, so aligned anew.
    fn clone(&self) -> Self {
        let mut data: Vec<E> = Vec::with_capacity(self.data.len());
        let start = data.as_ptr().align_offset(LINE_BYTES).min(self.data.len() - self.len);
        huge_pages::ask_for(&data.spare_capacity_mut()[start..start + self.len]);
        data.extend_from_slice(&self.data[..start]);
        data.extend_from_slice(self);
        Self { data, start, len: self.len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_at_a_cache_line() {
        let large = if cfg!(miri) { 3000 } else { 2 << 20 }; // in huge pages
        for len in [0, 1, 5, 16, 1000, large] {
            let mut buffer = Buffer::<f32>::zeros(len);
            buffer.fill(2.0);
            let copy = buffer.clone();
            assert_eq!(*copy, *buffer);
            for buffer in [&buffer, &copy] {
                assert!(len == 0 || buffer.as_ptr().addr() % LINE_BYTES == 0);
            }
        }
    }

    #[test]
    fn buffers_that_have_been_larger_keep_their_memory() {
        let mut buffer = Buffer::<f64>::zeros(1000);
        let start = buffer.as_ptr();
        for len in [0, 3, 1000] {
            buffer.resize(len);
            assert_eq!((buffer.len(), buffer.as_ptr()), (len, start));
        }
        buffer.resize(3);
        buffer.reserve(2);
        assert_eq!(buffer.len(), 3);
        buffer.reserve(900);
        assert_eq!((buffer.len(), buffer.as_ptr()), (900, start));
        buffer.resize(2000);
        assert_eq!((buffer.len(), buffer[1999]), (2000, 0.0));
    }
}
