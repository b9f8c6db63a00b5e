#![allow(unsafe_code, reason = "says that no bits set is a number")]

/// A number in 16 bits: the upper half of an `f32`, so its exponent and 8 significant bits.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

// SAFETY: all bits zero is the number zero.
unsafe impl bytemuck::Zeroable for Bf16 {}

impl Bf16 {
    /// The nearest number to `x`, the even one of two; a NaN stays one.
    pub fn from_f32(x: f32) -> Self {
        let bits = x.to_bits();
        if x.is_nan() {
            return Self((bits >> 16) as u16 | 0x40);
        }
        let half = 0x7fff + ((bits >> 16) & 1);
        Self(((bits + half) >> 16) as u16)
    }

    /// The same number as `f32`, exactly.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_and_then_to_the_even() {
        let up = |bits: u32| Bf16::from_f32(f32::from_bits(bits)).to_f32().to_bits();
        assert_eq!(up(0x3f80_0000), 0x3f80_0000);
        assert_eq!(up(0x3f80_7fff), 0x3f80_0000);
        assert_eq!(up(0x3f80_8000), 0x3f80_0000);
        assert_eq!(up(0x3f80_8001), 0x3f81_0000);
        assert_eq!(up(0x3f81_8000), 0x3f82_0000);
        assert_eq!(up(0xbfff_ffff), 0xc000_0000);
        assert_eq!(up(0x7f7f_ffff), 0x7f80_0000, "overflows to infinity");
        assert_eq!(up(0xff80_0000), 0xff80_0000);
        assert_eq!(up(0x0000_8001), 0x0001_0000, "subnormal numbers round alike");
        assert!(Bf16::from_f32(f32::from_bits(0x7f80_0001)).to_f32().is_nan());
        for bits in 0..=u16::MAX {
            let x = Bf16(bits).to_f32();
            assert!(x.is_nan() || Bf16::from_f32(x) == Bf16(bits));
        }
    }
}
