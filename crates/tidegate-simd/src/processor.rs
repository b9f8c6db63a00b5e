//! What processors with the same instructions differ in.
#![allow(unsafe_code, reason = "asks the processor")]

use std::sync::OnceLock;

/// Whether this processor reads what its level-2 cache does not hold faster if asked for it ahead of its use.
///
/// Zen 5 does, by up to a fifth. On Zen 4 the same requests make it slower by as much: its own prefetcher is ahead of
/// them. Where it was not measured the answer is no. The environment variable `TIDEGATE_PREFETCH`, `1` or `0`, says
/// otherwise, for tests and comparisons; no result depends on it.
pub fn wants_prefetch() -> bool {
    static WANTS: OnceLock<bool> = OnceLock::new();
    *WANTS.get_or_init(|| match std::env::var("TIDEGATE_PREFETCH").as_deref() {
        Ok("1") => true,
        Ok("0") => false,
        _ => is_zen_5(),
    })
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn is_zen_5() -> bool {
    use core::arch::x86_64::__cpuid;
    #[allow(unused_unsafe, reason = "safe since Rust 1.94")]
    // SAFETY: every x86-64 processor has the instruction.
    let [vendor, version] = unsafe { [__cpuid(0), __cpuid(1)] };
    // "AuthenticAMD", in three registers.
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    let (base, more) = (version.eax >> 8 & 0xf, version.eax >> 20 & 0xff);
    name.as_flattened() == b"AuthenticAMD" && base + more == 26
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn is_zen_5() -> bool {
    false
}
