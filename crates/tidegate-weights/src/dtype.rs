//! Element types, and their numbers as `f32` or `f64`.

use core::fmt;

use half::{bf16, f16};
use tidegate::Element;

use crate::Error;

/// The element type of a tensor in a file.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// 16-bit floating point, IEEE 754.
    F16,
    /// 16-bit floating point with the exponent of `f32`.
    Bf16,
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// Truth values, one byte each.
    Bool,
    /// Unsigned 8-bit integers.
    U8,
    /// Signed 8-bit integers.
    I8,
    /// Unsigned 16-bit integers.
    U16,
    /// Signed 16-bit integers.
    I16,
    /// Unsigned 32-bit integers.
    U32,
    /// Signed 32-bit integers.
    I32,
    /// Unsigned 64-bit integers.
    U64,
    /// Signed 64-bit integers.
    I64,
    /// A type that is not read: complex, 8-bit floating point, text.
    Other,
}

impl Dtype {
    /// Bytes of one element; `None` for [`Dtype::Other`].
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::U8 | Self::I8 => Some(1),
            Self::F16 | Self::Bf16 | Self::U16 | Self::I16 => Some(2),
            Self::F32 | Self::U32 | Self::I32 => Some(4),
            Self::F64 | Self::U64 | Self::I64 => Some(8),
            Self::Other => None,
        }
    }

    /// Whether the elements are real floating-point numbers, as parameters are.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// PyTorch's name of the type, such as `float32`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::Other => "another type",
        }
    }

    /// The little-endian elements of `bytes` as `E`, each rounded once to the nearest where `E` has
    /// fewer bits; truth values as 0 and 1. `None` for [`Dtype::Other`].
    pub(crate) fn decode<E: Element>(self, bytes: &[u8]) -> Option<Result<Vec<E>, Error>> {
        Some(match self {
            Self::F16 => collect(bytes, |b| E::from_f64(f16::from_le_bytes(b).to_f64())),
            Self::Bf16 => collect(bytes, |b| E::from_f64(bf16::from_le_bytes(b).to_f64())),
            Self::F32 => collect(bytes, |b| E::from_f64(f64::from(f32::from_le_bytes(b)))),
            Self::F64 => collect(bytes, |b| E::from_f64(f64::from_le_bytes(b))),
            _ => return self.integers_with(bytes, nearest),
        })
    }

    /// The little-endian integers of `bytes`. `None` for another type, truth values too.
    pub(crate) fn integers(self, bytes: &[u8]) -> Option<Result<Vec<i128>, Error>> {
        if self == Self::Bool {
            return None;
        }
        self.integers_with(bytes, |integer| integer)
    }

    fn integers_with<T>(
        self,
        bytes: &[u8],
        number: impl Fn(i128) -> T,
    ) -> Option<Result<Vec<T>, Error>> {
        Some(match self {
            Self::Bool => collect(bytes, |[b]| number(i128::from(b != 0))),
            Self::U8 => collect(bytes, |b| number(u8::from_le_bytes(b).into())),
            Self::I8 => collect(bytes, |b| number(i8::from_le_bytes(b).into())),
            Self::U16 => collect(bytes, |b| number(u16::from_le_bytes(b).into())),
            Self::I16 => collect(bytes, |b| number(i16::from_le_bytes(b).into())),
            Self::U32 => collect(bytes, |b| number(u32::from_le_bytes(b).into())),
            Self::I32 => collect(bytes, |b| number(i32::from_le_bytes(b).into())),
            Self::U64 => collect(bytes, |b| number(u64::from_le_bytes(b).into())),
            Self::I64 => collect(bytes, |b| number(i64::from_le_bytes(b).into())),
            _ => return None,
        })
    }
}

/// Writes PyTorch's name of the type.
impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The `E` nearest to `integer`: not through `f64` to `f32`, which would round twice.
fn nearest<E: Element>(integer: i128) -> E {
    match size_of::<E>() {
        4 => E::from_f64(f64::from(integer as f32)),
        _ => E::from_f64(integer as f64),
    }
}

fn collect<const N: usize, T>(
    bytes: &[u8],
    number: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, Error> {
    let elements = bytes.as_chunks::<N>().0;
    let mut values = reserve(elements.len())?;
    values.extend(elements.iter().map(|element| number(*element)));
    Ok(values)
}

/// An empty vector with room for `count` elements.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn reserve<T>(count: usize) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    reserve_more(&mut values, count)?;
    Ok(values)
}

/// Makes room for `count` more elements.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn reserve_more<T>(values: &mut Vec<T>, count: usize) -> Result<(), Error> {
    values.try_reserve_exact(count).map_err(|_| Error::OutOfMemory {
        bytes: values.len().saturating_add(count).saturating_mul(size_of::<T>()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<E: Element>(dtype: Dtype, bytes: &[u8]) -> E {
        dtype.decode(bytes).expect("a number").expect("memory")[0]
    }

    #[test]
    fn numbers_keep_their_value() {
        assert_eq!(one::<f32>(Dtype::F16, &[0x00, 0xc0]), -2.0);
        assert_eq!(one::<f32>(Dtype::F16, &[0x01, 0x00]), 2f32.powi(-24));
        assert_eq!(one::<f64>(Dtype::F16, &[0x00, 0x7c]), f64::INFINITY);
        assert_eq!(one::<f32>(Dtype::Bf16, &[0x80, 0x3f]), 1.0);
        assert_eq!(one::<f32>(Dtype::Bf16, &[0x01, 0x00]), f32::from_bits(0x0001_0000));
        for bits in [0, 1, 0x8000_0000, 0x7f7f_ffff, 0xff80_0000, 0x3dcc_cccd] {
            let x = f32::from_bits(bits);
            assert_eq!(one::<f32>(Dtype::F32, &x.to_le_bytes()).to_bits(), bits);
            assert_eq!(one::<f64>(Dtype::F32, &x.to_le_bytes()), f64::from(x));
        }
        assert!(one::<f32>(Dtype::F32, &f32::NAN.to_le_bytes()).is_nan());
        // The double nearest to 0.1 rounds to the float nearest to 0.1.
        assert_eq!(one::<f32>(Dtype::F64, &0.1f64.to_le_bytes()), 0.1f32);
        assert_eq!(one::<f64>(Dtype::F64, &0.1f64.to_le_bytes()), 0.1f64);
        assert!(Dtype::Other.decode::<f32>(&[0; 8]).is_none());
    }

    #[test]
    fn integers_round_once() {
        assert_eq!(one::<f64>(Dtype::I8, &[0xff]), -1.0);
        assert_eq!(one::<f64>(Dtype::U8, &[0xff]), 255.0);
        assert_eq!(one::<f64>(Dtype::I16, &[0xfe, 0xff]), -2.0);
        assert_eq!(one::<f64>(Dtype::I32, &i32::MIN.to_le_bytes()), f64::from(i32::MIN));
        assert_eq!(one::<f64>(Dtype::U32, &u32::MAX.to_le_bytes()), f64::from(u32::MAX));
        assert_eq!(one::<f64>(Dtype::I64, &i64::MIN.to_le_bytes()), i64::MIN as f64);
        assert_eq!(one::<f64>(Dtype::U64, &u64::MAX.to_le_bytes()), u64::MAX as f64);
        assert_eq!(one::<f32>(Dtype::Bool, &[2]), 1.0);
        // A little above the middle of two floats; as f64 it is the middle, which goes to the even.
        let integer = (1i64 << 60) + (1 << 36) + 1;
        assert_eq!(one::<f32>(Dtype::I64, &integer.to_le_bytes()), integer as f32);
        assert_ne!(one::<f32>(Dtype::I64, &integer.to_le_bytes()), integer as f64 as f32);
        let integers = Dtype::U64.integers(&u64::MAX.to_le_bytes()).unwrap().unwrap();
        assert_eq!(integers, [i128::from(u64::MAX)]);
        assert!(Dtype::F32.integers(&[0; 4]).is_none());
    }
}
