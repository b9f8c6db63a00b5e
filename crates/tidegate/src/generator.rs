use std::sync::{Mutex, PoisonError};

use crate::Element;

/// Length of the generator's state, in 32-bit words.
const N: usize = 624;
/// Offset of the word that each word is mixed with.
const M: usize = 397;
/// The seed PyTorch starts from when none is set.
const DEFAULT_SEED: u64 = 67_280_421_310_721;

/// PyTorch's CPU random numbers: the Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998).
///
/// ```
/// let mut generator = tidegate::Generator::manual_seed(0);
/// // torch.manual_seed(0); torch.rand(1)
/// assert_eq!(generator.uniform::<f32>(), 0.49625658988952637);
/// ```
#[derive(Clone, Debug)]
pub struct Generator {
    state: [u32; N],
    next: usize,
}

impl Generator {
    /// A generator that draws what PyTorch draws after `torch.manual_seed(seed)`.
    pub fn manual_seed(seed: u64) -> Self {
        let mut state = [0; N];
        // PyTorch seeds with the low half.
        state[0] = seed as u32;
        for k in 1..N {
            let previous: u32 = state[k - 1];
            state[k] =
                (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(k as u32);
        }
        Self { state, next: N }
    }

    /// The next 32 random bits.
    pub fn random(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// The next number from `[0, 1)`, as `torch.rand` draws it: 24 random bits for `f32`, 53 for
    /// `f64`.
    pub fn uniform<E: Element>(&mut self) -> E {
        E::from_f64(self.unit::<E>())
    }

    /// The next number from `[-bound, bound)`, as `Tensor.uniform_(-bound, bound)` draws it.
    pub(crate) fn symmetric<E: Element>(&mut self, bound: E) -> E {
        // PyTorch computes u * (to - from) + from, which its compiler fuses.
        E::from_f64(self.unit::<E>()).fma(bound + bound, E::ZERO - bound)
    }

    /// A number from `[0, 1)` with as many random bits as `E` has in its mantissa.
    fn unit<E: Element>(&mut self) -> f64 {
        if size_of::<E>() == 4 {
            f64::from(self.random() & 0xff_ffff) * (-24.0f64).exp2()
        } else {
            let bits = u64::from(self.random()) << 32 | u64::from(self.random());
            (bits & ((1 << 53) - 1)) as f64 * (-53.0f64).exp2()
        }
    }

    /// Makes the next `N` words.
    fn twist(&mut self) {
        for k in 0..N {
            let y = self.state[k] & 0x8000_0000 | self.state[(k + 1) % N] & 0x7fff_ffff;
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[k] = self.state[(k + M) % N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }
}

impl Default for Generator {
    /// A generator with the seed that PyTorch starts from.
    fn default() -> Self {
        Self::manual_seed(DEFAULT_SEED)
    }
}

static GLOBAL: Mutex<Option<Generator>> = Mutex::new(None);

/// Seeds the generator that new layers draw their parameters from, as `torch.manual_seed`.
///
/// The generator is one for the whole process, as in PyTorch; threads that build layers at the
/// same time share its numbers. Pass a [`Generator`] of your own to avoid that.
///
/// ```
/// tidegate::manual_seed(0);
/// let lstm = tidegate::Lstm::<f32>::new(3, 4)?;
/// # Ok::<(), tidegate::Error>(())
/// ```
pub fn manual_seed(seed: u64) {
    *GLOBAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(Generator::manual_seed(seed));
}

/// Calls `f` with the process's generator.
pub(crate) fn with_global<R>(f: impl FnOnce(&mut Generator) -> R) -> R {
    let mut global = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
    f(global.get_or_insert_with(Generator::default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_the_published_ones() {
        // The reference implementation's first outputs for its default seed 5489, and the
        // 10000th, which the C++ standard quotes.
        let mut generator = Generator::manual_seed(5489);
        assert_eq!(generator.random(), 3_499_211_612);
        assert_eq!(generator.random(), 581_869_302);
        let last = (2..10_000).map(|_| generator.random()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn uniform_numbers_stay_in_range() {
        let mut generator = Generator::default();
        for _ in 0..10_000 {
            assert!((0.0..1.0).contains(&generator.uniform::<f64>()));
            assert!((-0.5..=0.5).contains(&generator.symmetric(0.5f32)));
        }
    }
}
