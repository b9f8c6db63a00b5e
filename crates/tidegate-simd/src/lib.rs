//! tidegate-simd
