//! tidegate-weights
