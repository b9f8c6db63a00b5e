//! Files for the program to read, runs of the program, and arrays out of what it wrote.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ffi::OsStr;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use tempfile::TempDir;
use tidegate::{Config, Element, Mode, RnnBase, View};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

/// How a run ended.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The same, where the run went well.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }
}

/// A folder of its own for each test, in which the program runs.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path(name), bytes).unwrap();
        self
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The names of the files, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    /// Runs the program with the words of `line`, which are separated by spaces.
    pub(crate) fn run(&self, line: &str) -> Outcome {
        outcome(&mut self.command(&line.split_whitespace().collect::<Vec<_>>()))
    }

    /// As [`run`](Self::run), with `input` on standard input.
    pub(crate) fn run_with_stdin(&self, line: &str, input: &str) -> Outcome {
        let mut command = self.command(&line.split_whitespace().collect::<Vec<_>>());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// An array of the `.npz` file `name`.
    pub(crate) fn array(&self, name: &str, array: &str) -> Array {
        let mut archive = ZipArchive::new(Cursor::new(self.read(name))).unwrap();
        let mut bytes = Vec::new();
        archive.by_name(&format!("{array}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
        Array::from_npy(&bytes)
    }
}

pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// An element type that files of tests hold.
pub(crate) trait Number: Copy {
    const DESCR: &'static str;
    const DTYPE: Dtype;
    fn bytes(self) -> Vec<u8>;
}

macro_rules! number {
    ($type:ty, $descr:literal, $dtype:ident) => {
        impl Number for $type {
            const DESCR: &'static str = $descr;
            const DTYPE: Dtype = Dtype::$dtype;
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
        }
    };
}

number!(f32, "<f4", F32);
number!(f64, "<f8", F64);
number!(half::f16, "<f2", F16);
number!(i64, "<i8", I64);
number!(u8, "|u1", U8);

/// A `.npy` file.
pub(crate) fn npy<T: Number>(shape: &[usize], data: &[T]) -> Vec<u8> {
    npy_in_order(shape, data, false)
}

/// A `.npy` file whose first axis runs fastest if `fortran`.
pub(crate) fn npy_in_order<T: Number>(shape: &[usize], data: &[T], fortran: bool) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), data.len());
    let bytes: Vec<u8> = data.iter().flat_map(|value| value.bytes()).collect();
    npy_of(T::DESCR, shape, &bytes, fortran)
}

/// A `.npy` file with elements of any type, given as bytes.
pub(crate) fn npy_of(descr: &str, shape: &[usize], elements: &[u8], fortran: bool) -> Vec<u8> {
    let axes: String = shape.iter().map(|axis| format!("{axis},")).collect();
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({axes})}}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(elements);
    bytes
}

/// A `.npz` file of `.npy` files.
pub(crate) fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        archive.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// An array that the program wrote, in float64.
#[derive(Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) descr: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

impl Array {
    pub(crate) fn from_npy(bytes: &[u8]) -> Self {
        assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
        let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = std::str::from_utf8(&bytes[10..end]).unwrap();
        let between = |from: &str, to: &str| {
            header.split_once(from).unwrap().1.split_once(to).unwrap().0.to_string()
        };
        let descr = between("'descr': '", "'");
        let axes = between("'shape': (", ")");
        let axes = axes.split(',').map(str::trim).filter(|axis| !axis.is_empty());
        let shape = axes.map(|axis| axis.parse().unwrap()).collect();
        let data = match descr.as_str() {
            "<f4" => values(&bytes[end..], |bytes| f64::from(f32::from_le_bytes(bytes))),
            "<f8" => values(&bytes[end..], f64::from_le_bytes),
            other => panic!("{other}"),
        };
        Self { descr, shape, data }
    }
}

fn values<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.chunks(N).map(|bytes| read(bytes.try_into().unwrap())).collect()
}

/// Numbers in -1..1 that look random and are the same every time.
pub(crate) fn noise<E: Element>(count: usize) -> Vec<E> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        E::from_f64(f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0)
    };
    (0..count).map(|_| next()).collect()
}

/// A layer with noise for parameters.
pub(crate) fn layer<E: Element>(config: Config) -> RnnBase<E> {
    let parameters = config.parameters().into_iter().enumerate().map(|(i, (name, shape))| {
        let count = shape.iter().product::<usize>();
        let data = noise::<E>(count + i).into_iter().skip(i).map(|x| E::from_f64(0.5 * x.to_f64()));
        (name, tidegate::Tensor::new(&shape, data.collect()).unwrap())
    });
    RnnBase::from_state_dict(config, &parameters.collect(), "").unwrap()
}

/// Writes the layers under their prefixes, and beside them a `head` that is none.
pub(crate) fn save<E: Element + Number>(path: &Path, layers: &[(&str, &RnnBase<E>)]) {
    save_as::<E, E>(path, layers, |value| value);
}

/// As [`save`], with every value converted.
pub(crate) fn save_as<E: Element, T: Number>(
    path: &Path,
    layers: &[(&str, &RnnBase<E>)],
    convert: impl Fn(E) -> T,
) {
    let mut tensors = vec![("head.weight".to_string(), vec![1, 2], vec![0; 2 * size(T::DTYPE)])];
    for (prefix, layer) in layers {
        for (name, tensor) in layer.named_parameters() {
            let bytes = tensor.data().iter().flat_map(|&value| convert(value).bytes()).collect();
            tensors.push((format!("{prefix}{name}"), tensor.shape().to_vec(), bytes));
        }
    }
    save_tensors(path, T::DTYPE, &tensors);
}

/// Writes tensors, which are a name, a shape and bytes.
pub(crate) fn save_tensors(path: &Path, dtype: Dtype, tensors: &[(String, Vec<usize>, Vec<u8>)]) {
    let view = |shape: &Vec<usize>, bytes| TensorView::new(dtype, shape.clone(), bytes).unwrap();
    let views = tensors.iter().map(|(name, shape, bytes)| (name, view(shape, bytes)));
    serialize_to_file(views, None, path).unwrap();
}

fn size(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

/// `LSTM(3, 5)`, with changes.
pub(crate) fn lstm(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::new(Mode::Lstm, 3, 5);
    change(&mut config);
    config
}

/// A view of `data`.
pub(crate) fn view<'a, E: Element>(shape: &[usize], data: &'a [E]) -> View<'a, E> {
    View::new(data, shape).unwrap()
}

/// The same values in float64.
pub(crate) fn wide<E: Element>(data: &[E]) -> Vec<f64> {
    data.iter().map(|value| value.to_f64()).collect()
}
