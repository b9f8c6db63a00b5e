//! Random numbers for tests: seeded, the same on every machine.

use crate::Float;

/// SplitMix64 (Steele, Lea and Flood, 2014): 64 bits of state, every seed is as good as another.
///
/// ```
/// use tidegate_testing::random::Random;
/// let mut random = Random::new(7);
/// let steps = random.between(1, 40);
/// let x: Vec<f32> = random.vec(steps * 3, -1.0, 1.0);
/// assert!(x.len() == steps * 3 && x.iter().all(|v| (-1.0..=1.0).contains(v)));
/// ```
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers that belong to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An integer of `low..=high`.
    ///
    /// # Panics
    /// If `low` is above `high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        assert!(low <= high, "no integer in {low}..={high}");
        low + (self.bits() % (high - low + 1) as u64) as usize
    }

    /// True as often as false.
    pub fn flip(&mut self) -> bool {
        self.bits() >> 63 == 1
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.between(0, choices.len() - 1)]
    }

    /// A number of `low..high`, 53 bits fine before it is rounded to `F`.
    pub fn uniform<F: Float>(&mut self, low: f64, high: f64) -> F {
        let unit = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
        F::narrow(low + (high - low) * unit)
    }

    /// `count` numbers of `low..high`.
    pub fn vec<F: Float>(&mut self, count: usize, low: f64, high: f64) -> Vec<F> {
        (0..count).map(|_| self.uniform(low, high)).collect()
    }

    /// `total` cut into pieces of at least 1 at random places: the chunks of a stream, the parts of a batch.
    pub fn pieces(&mut self, total: usize) -> Vec<usize> {
        let mut pieces = Vec::new();
        let mut left = total;
        while left > 0 {
            let piece = self.between(1, left);
            pieces.push(piece);
            left -= piece;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_of_seed_zero() {
        // The values of the reference implementation by Sebastiano Vigna for state 0.
        let mut random = Random::new(0);
        assert_eq!([random.bits(), random.bits()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn pieces_make_up_the_whole() {
        let mut random = Random::new(1);
        for total in [0, 1, 2, 17] {
            let pieces = random.pieces(total);
            assert_eq!(pieces.iter().sum::<usize>(), total);
            assert!(pieces.iter().all(|&piece| piece > 0));
        }
    }

    #[test]
    fn integers_stay_in_range_and_reach_its_ends() {
        let mut random = Random::new(2);
        let drawn: Vec<usize> = (0..200).map(|_| random.between(3, 6)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&6)));
    }
}
