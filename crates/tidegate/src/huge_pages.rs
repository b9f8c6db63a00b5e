//! Large buffers in large pages of memory.
//!
//! A processor looks up the page of every address, and remembers some thousand of them: pages of 4 KB are forgotten
//! from one step to the next where the weights take more than 8 to 16 MB. In pages of 2 MB a step of an LSTM of 1024
//! units took 0.8 to 0.9 of the time, of a GRU 0.9 to 1.0 (Zen 4, in a virtual machine, where a look-up takes longest).
#![allow(unsafe_code, reason = "a system call")]

use core::ops::Range;

/// Bytes of a page.
const PAGE: usize = 2 << 20;

/// Smallest buffer that is worth a call into the system. It begins where it happens to: to begin at a page it would have
/// to be larger by one, which is memory too where the allocator hands out some that was used before.
const WORTH: usize = 2 * PAGE;

/// The addresses of the whole pages in a buffer at `start` of `bytes`, if it is worth it.
fn whole(start: usize, bytes: usize) -> Option<Range<usize>> {
    let pages = start.next_multiple_of(PAGE)..(start + bytes) / PAGE * PAGE;
    (bytes >= WORTH && !pages.is_empty()).then_some(pages)
}

/// Asks the system to keep `memory`, not yet written, in huge pages. It may not.
pub(crate) fn ask_for<T>(memory: &[T]) {
    #[cfg(all(target_os = "linux", not(miri)))]
    if let Some(pages) = whole(memory.as_ptr().addr(), size_of_val(memory)) {
        let start = core::ptr::without_provenance_mut(pages.start);
        // SAFETY: the pages lie within memory that is there. The advice changes how it is kept, not what it holds.
        let _ =
            unsafe { rustix::mm::madvise(start, pages.len(), rustix::mm::Advice::LinuxHugepage) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (memory, whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pages_lie_within_the_buffer() {
        assert_eq!(whole(0, WORTH - 1), None);
        assert_eq!(whole(PAGE, WORTH), Some(PAGE..3 * PAGE));
        assert_eq!(whole(PAGE, WORTH + 64), Some(PAGE..3 * PAGE));
        assert_eq!(whole(PAGE - 64, WORTH), Some(PAGE..2 * PAGE));
        assert_eq!(whole(PAGE + 64, WORTH), Some(2 * PAGE..3 * PAGE));
    }
}
