//! Reads rows of numbers as the program does, and writes and reads back what it got.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok((width, numbers)) = tidegate_cli::read_csv(text) else { return };
    assert!(width > 0 && numbers.len().is_multiple_of(width));
    let mut written = Vec::new();
    tidegate_cli::write_csv(&mut written, width, &numbers).expect("memory can be written to");
    if numbers.is_empty() {
        return;
    }
    let (same_width, same) = tidegate_cli::read_csv(&written).expect("its own text");
    assert_eq!((width, numbers.len()), (same_width, same.len()));
    let pairs = numbers.iter().zip(&same);
    assert!(pairs.into_iter().all(|(a, b)| a == b || a.is_nan() && b.is_nan()));
});
