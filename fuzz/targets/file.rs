//! Reads a weight file and all that is in it. What kind of file it is, its first bytes say, so the targets
//! `safetensors`, `torch` and `numpy` differ in what they begin with and nothing else.
#![no_main]

#[path = "../../crates/tidegate-weights/tests/common/read.rs"]
mod read;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let _ = read::read_all(file);
});
