//! Whether weights are asked for ahead of their use is the processor's choice, and changes no bit.

use std::process::Command;

use tidegate::{Config, Functional, Generator, Mode, Options, OutputMut, RnnBase, View, Workspace};

/// Where the weights of all layers here are too large for a level-2 cache of 768 KB.
const UNITS: usize = 300;

/// The bits of layers of every mode run over one sequence, forwards and step by step, after a comparison with the
/// rows of a batch, which are computed by another loop.
fn bits() -> Vec<u32> {
    let modes = [Mode::Lstm, Mode::Gru, Mode::RnnTanh, Mode::RnnRelu];
    let x: Vec<f32> = (0..3 * UNITS).map(|k| (k % 17) as f32 / 16.0 - 0.5).collect();
    let mut bits = Vec::new();
    for mode in modes {
        // The plain cells have a single gate.
        let inputs = if mode.gates() == 1 { 3 * UNITS } else { UNITS };
        let x: Vec<f32> = x.iter().copied().cycle().take(3 * inputs).collect();
        let layer = RnnBase::<f32>::with_generator(
            Config::new(mode, inputs, UNITS),
            &mut Generator::manual_seed(1),
        )
        .unwrap();
        let run = |x: &[f32], batch| {
            let x = View::new(x, &[3, batch, inputs]).unwrap();
            layer.forward_with(x, Options::default()).unwrap().output
        };
        let both: Vec<f32> = x.chunks(inputs).flat_map(|row| [row, row].concat()).collect();
        let (alone, both) = (run(&x, 1), run(&both, 2));
        let mut stream = layer.stream(1).unwrap();
        for t in 0..3 {
            let want = &alone.data()[t * UNITS..][..UNITS];
            assert_eq!(want, &both.data()[2 * t * UNITS..][..UNITS]);
            assert_eq!(want, stream.step(&x[t * inputs..][..inputs]).unwrap());
        }
        let parameters: Vec<&[f32]> = layer.parameters().iter().map(|own| own.data()).collect();
        let (mut output, mut h_n) = (vec![0.0; 3 * UNITS], vec![0.0; UNITS]);
        let mut c_n = vec![0.0; if mode.has_cell_state() { UNITS } else { 0 }];
        let out = OutputMut { output: &mut output, h_n: &mut h_n, c_n: &mut c_n };
        let x = View::new(&x, &[3, 1, inputs]).unwrap();
        let (options, workspace) = (Options::default(), &mut Workspace::new());
        let layer = Functional::new(*layer.config(), &parameters).unwrap();
        layer.forward_into(x, options, workspace, out).unwrap();
        assert_eq!(alone.data(), output);
        bits.extend(alone.data().iter().map(|x| x.to_bits()));
    }
    bits
}

#[test]
fn no_bit_depends_on_it() {
    const CHILD: &str = "TIDEGATE_TEST_PREFETCH_CHILD";
    let bits = bits();
    if std::env::var_os(CHILD).is_some() {
        return println!("bits {bits:?}");
    }
    for prefetch in ["0", "1"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "no_bit_depends_on_it", "--nocapture"])
            .envs([("TIDEGATE_PREFETCH", prefetch), (CHILD, "1")])
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        let output = String::from_utf8(child.stdout).unwrap();
        assert!(output.contains(&format!("bits {bits:?}")), "TIDEGATE_PREFETCH={prefetch}");
    }
}
