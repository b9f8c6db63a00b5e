//! Every intrinsic is inlined into the kernels: one that is called as a function costs more than
//! the instruction that it stands for, and nothing else would tell.

use object::{Object, ObjectSymbol};
use tidegate::{Config, Generator, Level, Mode, Options, RnnBase, View};

/// Names in this binary, as the compiler mangles them.
fn symbols() -> Vec<String> {
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    file.symbols().filter_map(|symbol| Some(symbol.name().ok()?.to_string())).collect()
}

/// Whether the name is that of an intrinsic of the vectors that the kernels use.
fn is_intrinsic(name: &str) -> bool {
    let vector = ["_mm256_", "_mm512_", "vfmaq_", "vld1q_", "vst1q_", "vdivq_", "vbslq_"];
    name.contains("core_arch") && vector.iter().any(|part| name.contains(part))
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "with debug assertions loads check their pointers, too much to be inlined everywhere"
)]
fn no_intrinsic_is_a_function() {
    // So that the kernels are in this binary.
    for mode in Mode::ALL {
        let config = Config::new(mode, 3, 4);
        let layer = RnnBase::<f32>::with_generator(config, &mut Generator::manual_seed(1)).unwrap();
        let x = View::new(&[0.5; 6], &[2, 1, 3]).unwrap();
        for level in Level::available() {
            assert!(layer.at_level(level).forward_with(x, Options::default()).is_ok());
        }
    }
    let symbols = symbols();
    let kernels = symbols.iter().filter(|name| name.contains("tidegate_simd")).count();
    assert!(kernels >= Level::available().len(), "the binary has no symbols to look at");
    let called: Vec<&String> = symbols.iter().filter(|name| is_intrinsic(name)).collect();
    assert!(called.is_empty(), "{called:#?}");
}
