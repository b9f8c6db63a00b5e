#![allow(unsafe_code, reason = "a routine may want promises of its caller")]

use std::sync::OnceLock;

use crate::{Element, Simd};

/// A computation written once for all instruction sets.
pub trait Kernel<E: Element> {
    /// What the computation returns.
    type Output;

    /// Runs the computation with the instructions `s` stands for.
    ///
    /// Implementations and all they call must be `#[inline(always)]`: only code that is inlined
    /// into the dispatching function is compiled for the instruction set.
    fn run<S: Simd<E>>(self, s: S) -> Self::Output;
}

/// A function written once for all instruction sets, chosen once and then called through a pointer.
///
/// A [`Kernel`] asks for the level at every call and gets its fields through memory, which is a fifth of the time of a
/// function of a hundred nanoseconds.
pub trait Routine<E: Element> {
    /// What it works with.
    type Of;
    /// What it changes.
    type State;

    /// Runs the function with the instructions `s` stands for on what lies at `x`.
    ///
    /// As [`Kernel::run`], it and all it calls must be `#[inline(always)]`.
    ///
    /// # Safety
    /// What the implementation wants of its arguments.
    unsafe fn run<S: Simd<E>>(s: S, of: &Self::Of, state: &mut Self::State, x: *const E);
}

/// A [`Routine`] compiled for an instruction set, whose promises calling it takes.
pub type Compiled<E, R> =
    unsafe fn(&<R as Routine<E>>::Of, &mut <R as Routine<E>>::State, *const E);

/// The table of instruction sets, best first. Adding one is one file and one line below.
macro_rules! levels {
    ($($(#[$cfg:meta])* $name:ident($token:ty)),+ $(,)?) => {
        /// An instruction set the running CPU supports.
        #[derive(Copy, Clone, Debug)]
        #[allow(missing_docs, reason = "the token types are documented")]
        #[non_exhaustive]
        pub enum Level { $($(#[$cfg])* $name($token)),+ }

        impl Level {
            /// Every level the running CPU supports, best first; never empty.
            pub fn available() -> Vec<Level> {
                let mut found = Vec::new();
                $($(#[$cfg])* found.extend(<$token>::detect().map(Level::$name));)+
                found
            }

            /// Name used in tests, benchmarks and messages.
            pub fn name(self) -> &'static str {
                match self { $($(#[$cfg])* Level::$name(_) => <$token>::NAME),+ }
            }

            pub(crate) fn run_f32<K: Kernel<f32>>(self, kernel: K) -> K::Output {
                match self { $($(#[$cfg])* Level::$name(s) => s.vectorize(kernel)),+ }
            }

            pub(crate) fn run_f64<K: Kernel<f64>>(self, kernel: K) -> K::Output {
                match self { $($(#[$cfg])* Level::$name(s) => s.vectorize(kernel)),+ }
            }

            pub(crate) fn compiled_f32<R: Routine<f32>>(self) -> Compiled<f32, R> {
                match self { $($(#[$cfg])* Level::$name(s) => s.compiled::<f32, R>()),+ }
            }

            pub(crate) fn compiled_f64<R: Routine<f64>>(self) -> Compiled<f64, R> {
                match self { $($(#[$cfg])* Level::$name(s) => s.compiled::<f64, R>()),+ }
            }

            pub(crate) fn low_lanes_f32(self) -> usize {
                match self { $($(#[$cfg])* Level::$name(_) => <<$token as Simd<f32>>::Low as Simd<f32>>::LANES),+ }
            }

            pub(crate) fn low_lanes_f64(self) -> usize {
                match self { $($(#[$cfg])* Level::$name(_) => <<$token as Simd<f64>>::Low as Simd<f64>>::LANES),+ }
            }

            pub(crate) fn lanes_f32(self) -> usize {
                match self { $($(#[$cfg])* Level::$name(_) => <$token as Simd<f32>>::LANES),+ }
            }

            pub(crate) fn lanes_f64(self) -> usize {
                match self { $($(#[$cfg])* Level::$name(_) => <$token as Simd<f64>>::LANES),+ }
            }
        }
    };
}

levels! {
    #[cfg(target_arch = "x86_64")] Avx512(crate::x86::Avx512),
    #[cfg(target_arch = "x86_64")] Avx2(crate::x86::Avx2),
    #[cfg(target_arch = "aarch64")] Neon(crate::neon::Neon),
    Scalar(crate::scalar::Scalar),
}

impl Level {
    /// The best level the running CPU supports.
    ///
    /// The environment variable `TIDEGATE_LEVEL` names another one (`avx512`, `avx2`, `neon`,
    /// `scalar`), for tests and comparisons; a name that is unknown or unsupported here is
    /// ignored. It is read once.
    pub fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let levels = Level::available();
            std::env::var("TIDEGATE_LEVEL")
                .ok()
                .and_then(|name| levels.iter().copied().find(|level| level.name() == name))
                .unwrap_or(levels[0])
        })
    }
}
