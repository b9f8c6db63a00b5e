//! What processors with the same instructions differ in.
#![allow(unsafe_code, reason = "asks the processor")]

use std::sync::OnceLock;

/// What this processor reads faster if asked for it ahead of its use, of weights that its level-2 cache does not hold.
///
/// Where it was not measured the answer is no, but that all of Intel's are taken to be like the one that was. The
/// environment variable `TIDEGATE_PREFETCH`, `1` or `0`, says yes or no to all, for tests and comparisons; no result
/// depends on it.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Prefetch {
    /// What a row alone reads next. Zen 5 is faster for it by up to a fifth, Zen 4 slower by as much: its own prefetcher
    /// is ahead. Intel's (Emerald Rapids) makes no use of it.
    pub stream: bool,
    /// From so many rows on, the next block while they are multiplied with this one. Intel's servers get 9 bytes a cycle
    /// from their level-3 cache and use 21: an LSTM of 1024 units and 64 rows takes 0.73 of the time for it, of 512 units
    /// 0.86 (Emerald Rapids). On Zen 4 these are 0.94 and 0.96, but 1536 units and 8 rows 1.06: too few rows to hide it.
    pub next_block_rows: usize,
}

/// More rows than there are.
const NEVER: usize = usize::MAX;

/// What is worth asking for on this processor.
pub fn prefetch() -> Prefetch {
    static PREFETCH: OnceLock<Prefetch> = OnceLock::new();
    *PREFETCH.get_or_init(|| match std::env::var("TIDEGATE_PREFETCH").as_deref() {
        Ok("1") => Prefetch { stream: true, next_block_rows: 2 },
        Ok("0") => Prefetch { stream: false, next_block_rows: NEVER },
        _ => {
            let (vendor, family) = processor();
            match (&vendor, family) {
                (b"AuthenticAMD", 25) => Prefetch { stream: false, next_block_rows: 16 },
                (b"AuthenticAMD", 26) => Prefetch { stream: true, next_block_rows: NEVER },
                (b"GenuineIntel", _) => Prefetch { stream: false, next_block_rows: 2 },
                _ => Prefetch { stream: false, next_block_rows: NEVER },
            }
        }
    })
}

/// Bytes of weights above which a tile of many rows had better be of one block of units than of two half as many rows, which
/// read twice as many weights a multiply-add.
///
/// On Granite Rapids, with 48 KB of level 1, a GRU of 128 units (48 KB for two blocks) takes 0.96 of the time, of 256 and
/// more 0.95 to 0.97, of 64 (24 KB) 1.05. All of Intel's are taken to be like this one. On a Zen 4 it is 0.94 to 1.02, no more
/// than repeats differ by; on others it was not measured.
pub fn tile_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| if &processor().0 == b"GenuineIntel" { 32 << 10 } else { NEVER })
}

/// Multiply-adds of a step below which sharing it out between two threads, which meet after it, costs more than it saves.
///
/// Beside half of the step, a step of two threads takes 0.1 to 0.2 us on a Zen 5, and 0.5 to 0.7 us on Granite Rapids and
/// on a Zen 4, whose virtual machines had cores further apart. Time of two threads / one: on the Zen 5 0.9 to 1.2 at 12,000
/// and 0.68 at 16,000; on Granite Rapids 1.2 to 1.4 at 12,000 to 16,000 and 0.8 at 45,000; on the Zen 4 1.2 to 1.5 at
/// 12,000 to 16,000, 0.94 at 30,000 and 0.8 at 40,000. The figure is a guess between these, and all others are taken to
/// be like the latter two.
pub fn meeting() -> usize {
    static MEETING: OnceLock<usize> = OnceLock::new();
    *MEETING.get_or_init(|| match processor() {
        (vendor, 26) if &vendor == b"AuthenticAMD" => 14_000,
        _ => 24_000,
    })
}

/// When threads had better each read a part of the recurrent weights for all rows than all weights for a part of the rows.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Sharing {
    /// With weights of more bytes: those that no cache holds which is as fast as the arithmetic.
    bytes: usize,
    /// With at most so many rows for each thread.
    rows: usize,
}

impl Sharing {
    /// Whether this is better for weights of so many bytes, if a thread would have so many of the rows.
    pub fn pays(self, bytes: usize, rows: usize) -> bool {
        bytes > self.bytes && rows <= self.rows
    }
}

/// What is worth sharing out on this processor. Times below are of two threads, weights shared out / rows shared out.
///
/// Intel's servers get 8 bytes a cycle from their level-3 cache (Granite Rapids, with 2 MB of level 2): LSTM of 512 units
/// (4 MB) 0.55 with 4 rows in all, 0.74 with 8, 0.86 with 16, 0.98 with 32, 1.01 with 40; of 1024 units 0.82 with 16, 0.94
/// with 32; of 320 (1.6 MB) 0.94 with 16; of 256 (1 MB) 1.03, and 1.02 to 1.06 on an Ice Lake with 1.25 MB of level 2. All of
/// Intel's are taken to be like this one.
///
/// A Zen 4, with 32 MB of level 3 and weights in huge pages: 1.1 at 16 MB, 1.0 at 12 and 28 MB, 0.6 to 0.9 at 38 MB, 0.95 at
/// 67 MB. All others are taken to be like this one.
pub fn sharing() -> Sharing {
    static SHARING: OnceLock<Sharing> = OnceLock::new();
    *SHARING.get_or_init(|| match &processor().0 {
        b"GenuineIntel" => Sharing { bytes: 3 << 19, rows: 16 },
        _ => Sharing { bytes: 32 << 20, rows: NEVER },
    })
}

/// Its vendor, twelve letters, and its family.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn processor() -> ([u8; 12], u32) {
    use core::arch::x86_64::__cpuid;
    #[allow(unused_unsafe, reason = "safe since Rust 1.94")]
    // SAFETY: every x86-64 processor has the instruction.
    let [first, version] = unsafe { [__cpuid(0), __cpuid(1)] };
    let mut vendor = [0; 12];
    let letters = [first.ebx, first.edx, first.ecx].map(u32::to_le_bytes);
    vendor.copy_from_slice(letters.as_flattened());
    (vendor, (version.eax >> 8 & 0xf) + (version.eax >> 20 & 0xff))
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn processor() -> ([u8; 12], u32) {
    ([0; 12], 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shared_out_if_they_are_far_and_rows_are_few() {
        let sharing = Sharing { bytes: 2 << 20, rows: 16 };
        assert!(!sharing.pays(2 << 20, 1));
        assert!(sharing.pays(4 << 20, 16));
        assert!(!sharing.pays(4 << 20, 17));
        assert!(Sharing { rows: NEVER, ..sharing }.pays(4 << 20, 1000));
    }
}
