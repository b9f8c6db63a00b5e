//! Where the caller has told its core to take denormal numbers for zero, all threads of the call do so.
#![cfg(all(target_arch = "x86_64", not(miri)))]
#![allow(unsafe_code, reason = "the core's register for it")]

use std::arch::asm;

use tidegate::{Config, Mode, Options, RnnBase, State, StateDict, Tensor, set_num_threads};

/// Bits "flush to zero" and "denormals are zero" of the register MXCSR.
const ZERO: u32 = 0x8040;

fn change(bits: impl Fn(u32) -> u32) {
    let mut control = 0u32;
    // SAFETY: reads and writes the register; no exception is unmasked.
    unsafe {
        asm!("stmxcsr [{}]", in(reg) &mut control, options(nostack));
        control = bits(control);
        asm!("ldmxcsr [{}]", in(reg) &control, options(nostack, readonly));
    }
}

/// A state that halves at every step, until it is denormal or, at once, zero.
#[test]
fn all_threads_treat_denormal_numbers_alike() {
    let (size, batch, steps) = (256, 64, 140);
    let config = Config { bias: false, ..Config::new(Mode::RnnRelu, size, size) };
    let mut half = vec![0.0f32; size * size];
    (0..size).for_each(|k| half[k * size + k] = 0.5);
    let zeros = Tensor::new(&[size, size], vec![0.0; size * size]).unwrap();
    let dict: StateDict<f32> =
        [("weight_ih_l0", zeros), ("weight_hh_l0", Tensor::new(&[size, size], half).unwrap())]
            .into_iter()
            .collect();
    let layer = RnnBase::from_state_dict(config, &dict, "").unwrap();
    let x = Tensor::new(&[steps, batch, size], vec![0.0; steps * batch * size]).unwrap();
    let h_0 = Tensor::new(&[1, batch, size], vec![1.0; batch * size]).unwrap();
    let last = |threads| {
        set_num_threads(threads);
        let options =
            Options { state: Some(State { h: (&h_0).into(), c: None }), ..Options::default() };
        layer.forward_with(&x, options).unwrap().h_n.into_data()
    };
    tidegate::wake_from(0); // short calls are to be shared out
    assert!(last(2).iter().all(|&h| h == 0.5f32.powi(140))); // the members are there now
    change(|control| control | ZERO);
    let got = [last(1), last(2), last(3)];
    change(|control| control & !ZERO);
    assert!(got.iter().flatten().all(|&h| h.to_bits() == 0));
    assert!(last(2).iter().all(|&h| h == 0.5f32.powi(140)));
}
