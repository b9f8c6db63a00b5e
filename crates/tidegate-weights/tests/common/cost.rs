//! Reads files that were made to do harm, and watches what that costs.

use std::time::{Duration, Instant};

use super::memory::peak;
use super::{read_all, told};

/// Checks that `file` is refused with a message that has `expected` in it, cheaply.
pub(crate) fn refused(what: &str, file: &[u8], expected: &str) {
    let message = read(what, file).expect_err(what);
    assert!(message.contains(expected), "{what}: {message}");
}

/// Reads everything in `file`, which must cost little memory and time.
pub(crate) fn read(what: &str, file: &[u8]) -> Result<(), String> {
    let start = Instant::now();
    let (result, bytes) = peak(|| read_all(file));
    // What a pickle builds costs at most 48 bytes for each of its own, and three times that while
    // a table of it grows; other formats stay far below.
    let bound = 150 * file.len() + (4 << 20);
    assert!(bytes <= bound, "{what}: {bytes} bytes for a file of {}", file.len());
    assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
    result.map_err(|e| told(&e))
}
