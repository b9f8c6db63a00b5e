//! How a thread's arithmetic rounds and whether it takes denormal numbers for zero: what its caller's does, or bits would
//! depend on which thread computes what. `torch.set_flush_denormal` sets it for the calling thread alone.
#![allow(unsafe_code, reason = "a register of the core")]

/// The register that says so.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct FloatMode(Register);

#[cfg(all(target_arch = "x86_64", not(miri)))]
type Register = u32;
#[cfg(all(target_arch = "aarch64", not(miri)))]
type Register = u64;
#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
type Register = ();

impl FloatMode {
    /// That of this thread.
    pub(crate) fn here() -> Self {
        Self(read())
    }

    /// Makes it that of this thread.
    pub(crate) fn set(self) {
        if self != Self::here() {
            write(self.0);
        }
    }
}

/// MXCSR without what has happened so far, its lowest six bits.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn read() -> Register {
    let mut control = 0u32;
    // SAFETY: stores the register there.
    unsafe {
        core::arch::asm!("stmxcsr [{}]", in(reg) &mut control, options(nostack, preserves_flags))
    }
    control & !0x3f
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn write(control: Register) {
    // SAFETY: what was read on another thread of this program.
    unsafe {
        core::arch::asm!("ldmxcsr [{}]", in(reg) &control, options(nostack, readonly, preserves_flags))
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
fn read() -> Register {
    let control;
    // SAFETY: reads the register.
    unsafe {
        core::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack, preserves_flags))
    }
    control
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
fn write(control: Register) {
    // SAFETY: what was read on another thread of this program.
    unsafe {
        core::arch::asm!("msr fpcr, {}", in(reg) control, options(nomem, nostack, preserves_flags))
    }
}

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
fn read() -> Register {}

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
fn write((): Register) {}
