//! What goes wrong: one line that says where and what, the exit status, and nothing left behind.

mod common;

use common::*;
use tidegate::{Config, Mode};

/// A folder with checkpoints and arrays, good and bad.
fn set_up() -> Folder {
    let folder = Folder::new();
    let single = layer::<f32>(lstm(|_| {}));
    let both = layer::<f32>(lstm(|config| config.bidirectional = true));
    let gru = layer::<f32>(Config::new(Mode::Gru, 3, 4));
    save(&folder.path("one.safetensors"), &[("rnn.", &single)]);
    save(&folder.path("both.safetensors"), &[("rnn.", &both)]);
    save(&folder.path("gru.safetensors"), &[("", &gru)]);
    save(&folder.path("two.safetensors"), &[("encoder.", &single), ("decoder.", &gru)]);
    save::<f32>(&folder.path("none.safetensors"), &[]);
    save(&folder.path("double.safetensors"), &[("", &layer::<f64>(lstm(|_| {})))]);
    let x = noise::<f32>(30);
    let ones = |shape: &[usize]| npy(shape, &vec![1.0f32; shape.iter().product()]);
    folder
        .write("x.npy", npy(&[10, 3], &x))
        .write("batch.npy", npy(&[5, 2, 3], &x))
        .write("wide.npy", npy(&[6, 5], &x))
        .write("flat.npy", npy(&[30], &x))
        .write("empty.npy", ones(&[0, 3]))
        .write("complex.npy", npy_of("<c8", &[1], &[0; 8], false))
        .write("short.npy", &npy(&[10, 3], &x)[..100])
        .write("text.npy", "hello")
        .write("text.npz", "hello")
        .write("text.safetensors", "hello")
        .write("ragged.csv", "1,2,3\n4,5\n")
        .write("words.csv", "1,2,3\n4,five,6\n")
        .write("plain.npz", npz(&[("output", ones(&[9, 5])), ("x", ones(&[1]))]))
        .write("other.npz", npz(&[("logit", ones(&[1]))]))
        .write("cell.npz", npz(&[("output", ones(&[10, 4])), ("c_n", ones(&[1, 4]))]))
        .write("h.npz", npz(&[("h_0", ones(&[1, 5]))]))
        .write("hc.npz", npz(&[("h_0", ones(&[1, 4])), ("c_0", ones(&[1, 4]))]))
        .write("h4.npz", npz(&[("h_0", ones(&[1, 4]))]))
        .write("lengths.npy", npy(&[2], &[5i64, 6]))
        .write("negative.npy", npy(&[2], &[5i64, -1]))
        .write("three.npy", npy(&[3], &[1i64, 1, 1]));
    folder
}

/// Command lines of work that fails, and what the one line on standard error says.
const FAILURES: &[(&str, &[&str])] = &[
    ("inspect missing.pt", &["missing.pt: No such file"]),
    ("inspect text.safetensors", &["text.safetensors: "]),
    ("inspect none.safetensors", &["none.safetensors: ", "head.weight"]),
    ("run missing.pt x.npy", &["missing.pt: No such file"]),
    ("run one.safetensors missing.npy", &["missing.npy: No such file"]),
    ("run one.safetensors text.npy", &["text.npy: neither safetensors", ".npy", "hello"]),
    (
        "run one.safetensors short.npy",
        &["short.npy: ", "shape [10, 3] of float32 needs 120 bytes, the file has 31"],
    ),
    ("run one.safetensors complex.npy", &["complex.npy: ", "got elements of type <c8"]),
    ("run one.safetensors text.npz", &["text.npz: neither safetensors", ".npz", "hello"]),
    ("run one.safetensors plain.npz", &["plain.npz: no array 'input'", "output, x"]),
    ("run one.safetensors ragged.csv", &["ragged.csv: line 2 has 2 values, the rows before it 3"]),
    ("run one.safetensors words.csv", &["words.csv: line 2, value 2: 'five' is not a number"]),
    (
        "run one.safetensors wide.npy",
        &["wide.npy: ", "LSTM(3, 5)", "takes [T, 3] or [T, B, 3], got [6, 5]"],
    ),
    ("run one.safetensors wide.npy --batch-first", &["[B, T, 3]"]),
    ("run one.safetensors flat.npy", &["flat.npy: ", "got [30]"]),
    ("run one.safetensors empty.npy", &["empty.npy: no step"]),
    ("run none.safetensors x.npy", &["none.safetensors: ", "no recurrent layer"]),
    ("run two.safetensors x.npy", &["two.safetensors: ", "--layer", "encoder", "decoder"]),
    (
        "run two.safetensors x.npy --layer middle",
        &["two.safetensors: ", "\"middle\"", "encoder", "decoder"],
    ),
    ("run both.safetensors x.npy --chunk 2", &["--chunk", "bidirectional"]),
    ("run one.safetensors x.npy --nonlinearity relu", &["--nonlinearity", "LSTM(3, 5)"]),
    ("run double.safetensors x.npy --bf16-weights", &["--bf16-weights", "LSTM(3, 5)", "float64"]),
    ("run one.safetensors x.npy --state h.npz", &["h.npz: no array 'c_0'", "h_0"]),
    ("run one.safetensors x.npy --state hc.npz", &["hc.npz: h_0", "[1, 5]", "got [1, 4]"]),
    ("run one.safetensors batch.npy --state h.npz", &["h.npz: h_0", "[1, 2, 5]", "got [1, 5]"]),
    ("run gru.safetensors x.npy --state hc.npz", &["hc.npz: c_0", "GRU(3, 4)"]),
    ("run one.safetensors x.npy --lengths lengths.npy", &["lengths.npy: ", "one sequence"]),
    (
        "run one.safetensors batch.npy --lengths lengths.npy",
        &["lengths.npy: ", "sequence 1 is 6", "5 steps"],
    ),
    (
        "run one.safetensors batch.npy --lengths negative.npy",
        &["negative.npy: ", "sequence 1 is -1"],
    ),
    ("run one.safetensors batch.npy --lengths three.npy", &["three.npy: 3 lengths", "batch of 2"]),
    (
        "run one.safetensors batch.npy --lengths x.npy",
        &["x.npy: ", "expected integers, got elements of type float32"],
    ),
    ("run one.safetensors batch.npy --output out.csv", &["out.csv", "[5, 2, 3]", ".npz"]),
    ("run one.safetensors batch.npy --output -", &["[5, 2, 3]"]),
    ("run one.safetensors x.npy --output nowhere/out.npz", &["nowhere/out.npz: ", "no folder"]),
    ("run one.safetensors x.npy --output ./x.npy", &["x.npy: it is an input"]),
    ("run gru.safetensors x.npy --state h4.npz --output h4.npz", &["h4.npz: it is an input"]),
    ("verify one.safetensors x.npy plain.npz --output plain.npz", &["plain.npz: it is an input"]),
    (
        "convert two.safetensors two.safetensors --layer encoder",
        &["two.safetensors: it is an input"],
    ),
    ("verify one.safetensors x.npy missing.npz", &["missing.npz: No such file"]),
    ("verify one.safetensors x.npy plain.npz", &["plain.npz: output", "[9, 5]", "[10, 5]"]),
    (
        "verify one.safetensors x.npy other.npz",
        &["other.npz: none of output, h_n and c_n", "logit"],
    ),
    ("verify gru.safetensors x.npy cell.npz", &["cell.npz: c_n"]),
    ("convert missing.pt out.safetensors", &["missing.pt: No such file"]),
    (
        "convert one.safetensors nowhere/out.safetensors",
        &["nowhere/out.safetensors: ", "no folder"],
    ),
    ("convert two.safetensors out.safetensors --layer middle", &["\"middle\"", "encoder"]),
];

/// Command lines that mean nothing, and what the one line on standard error says.
const MISUSES: &[(&str, &str)] = &[
    ("frobnicate", "unrecognized subcommand 'frobnicate' (see tidegate --help)"),
    ("inspect", "required arguments were not provided: <FILE>"),
    ("inspect a.pt b.pt", "unexpected argument 'b.pt'"),
    ("run one.safetensors", "<INPUT> (see tidegate run --help)"),
    ("run one.safetensors x.wav", "'x.wav' for '<INPUT>': the name ends in .npy, .npz or .csv"),
    ("run one.safetensors x.npy --output out.txt", "'out.txt'"),
    ("run one.safetensors x.npy --state h.npy", ".npz"),
    ("run one.safetensors x.npy --lengths l.npz", ".npy"),
    ("run one.safetensors x.npy --chunk 0", "at least 1"),
    ("run one.safetensors x.npy --threads two", "not a whole number"),
    ("run one.safetensors x.npy --chunk 2 --lengths lengths.npy", "cannot be used with"),
    ("run one.safetensors x.npy --nonlinearity sigmoid", "sigmoid"),
    ("run one.safetensors x.npy --speed 3", "unexpected argument '--speed'"),
    ("verify one.safetensors x.npy expected.npy", ".npz"),
    ("verify one.safetensors x.npy plain.npz --tolerance -1", "tolerance"),
    ("verify one.safetensors x.npy plain.npz --tolerance nan", "not a number of at least 0"),
    ("convert one.safetensors out.pt", ".safetensors"),
];

#[test]
fn failed_work_is_one_line_and_status_1() {
    assert_refused(1, FAILURES);
}

#[test]
fn bad_usage_is_one_line_and_status_2() {
    let cases: Vec<_> =
        MISUSES.iter().map(|(line, part)| (*line, std::slice::from_ref(part))).collect();
    assert_refused(2, &cases);
}

/// Asserts that each command line ends with the status `code`, nothing on standard output and one
/// line on standard error, which holds the given parts; and that it leaves no file behind.
fn assert_refused(code: i32, cases: &[(&str, &[&str])]) {
    let folder = set_up();
    let before = folder.names();
    let mut wrong = Vec::new();
    for (line, parts) in cases {
        let Outcome { code: got, stdout, stderr } = folder.run(line);
        let one_line = stderr.starts_with("tidegate: ") && stderr.lines().count() == 1;
        let says = parts.iter().all(|part| stderr.contains(part));
        if got != code || !stdout.is_empty() || !one_line || !says {
            wrong.push(format!("{line}: {got} {stdout} {stderr} lacks one of {parts:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(folder.names(), before);
}

#[test]
fn an_output_that_was_there_survives_failed_work() {
    let folder = set_up();
    folder.write("out.npz", "precious").write("out.safetensors", "precious");
    for line in [
        "run one.safetensors wide.npy --output out.npz",
        "run one.safetensors x.npy --state h.npz --output out.npz",
        "convert two.safetensors out.safetensors --layer middle",
    ] {
        assert_eq!(folder.run(line).code, 1, "{line}");
    }
    assert_eq!(
        (folder.read("out.npz"), folder.read("out.safetensors")),
        (b"precious".to_vec(), b"precious".to_vec())
    );
    folder.run("run one.safetensors x.npy --output out.npz").ok();
    assert_ne!(folder.read("out.npz"), b"precious");
}

#[test]
fn a_broken_layer_does_not_hide_the_others() {
    let folder = Folder::new();
    let whole = layer::<f32>(Config::new(Mode::Gru, 3, 4));
    let tensors: Vec<_> = whole
        .named_parameters()
        .flat_map(|(name, tensor)| {
            let shape = tensor.shape().to_vec();
            let bytes = vec![0; 4 * tensor.data().len()];
            let broken = (format!("b.{name}"), shape.clone(), bytes.clone());
            [(format!("a.{name}"), shape, bytes), broken]
        })
        .filter(|(name, _, _)| name != "b.bias_hh_l0")
        .collect();
    save_tensors(&folder.path("model.safetensors"), Dtype::F32, &tensors);
    folder.write("x.npy", npy(&[1, 3], &[0.0f32; 3]));
    for option in ["", "--json"] {
        let outcome = folder.run(&format!("inspect model.safetensors {option}"));
        assert_eq!((outcome.code, outcome.stderr.lines().count()), (1, 1));
        assert!(outcome.stdout.contains("GRU(3, 4)"), "{}", outcome.stdout);
        assert!(
            outcome.stderr.contains("model.safetensors: ")
                && outcome.stderr.contains("b.bias_hh_l0")
        );
    }
    folder.run("run model.safetensors x.npy --layer a").ok();
    let outcome = folder.run("run model.safetensors x.npy --layer b");
    assert!(outcome.code == 1 && outcome.stderr.contains("b.bias_hh_l0"), "{}", outcome.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn places_that_take_no_bytes_are_errors() {
    let folder = set_up();
    for (name, target) in [
        ("out.npz", "/dev/full"),
        ("out.npy", "/dev/full"),
        ("out.csv", "/dev/full"),
        ("out.safetensors", "/dev/full"),
    ] {
        std::os::unix::fs::symlink(target, folder.path(name)).unwrap();
    }
    for line in [
        "run one.safetensors x.npy --output out.npz",
        "run one.safetensors x.npy --output out.npy",
        "run one.safetensors x.npy --output out.csv",
        "run one.safetensors x.npy --output /proc/out.npz",
        "convert one.safetensors out.safetensors",
    ] {
        let outcome = folder.run(line);
        assert_eq!(
            (outcome.code, outcome.stderr.lines().count()),
            (1, 1),
            "{line}: {}",
            outcome.stderr
        );
        assert!(
            outcome.stderr.contains(line.split(' ').next_back().unwrap()),
            "{line}: {}",
            outcome.stderr
        );
    }
}
