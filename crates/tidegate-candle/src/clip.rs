//! Gradient clipping.

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Var};

/// Scales the gradients of `variables` down so that their norm, taken over all of them together, is at most `max_norm`; returns
/// the norm they had. As `torch.nn.utils.clip_grad_norm_`.
///
/// # Errors
/// Those of candle's arithmetic.
pub fn clip_grad_norm(variables: &[Var], gradients: &mut GradStore, max_norm: f64) -> Result<f64> {
    let mut sum = 0.0;
    for variable in variables {
        if let Some(gradient) = gradients.get(variable) {
            sum += gradient.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        }
    }
    let norm = sum.sqrt();
    // PyTorch adds this, so that gradients of zero are not divided by zero.
    let scale = max_norm / (norm + 1e-6);
    if scale < 1.0 {
        for variable in variables {
            if let Some(gradient) = gradients.remove(variable) {
                gradients.insert(variable, (gradient * scale)?);
            }
        }
    }
    Ok(norm)
}
