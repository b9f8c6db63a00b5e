//! Memory that is not there: each large allocation of reading a file fails in turn, and each time there is an error.
//!
//! What fails are allocations of at least [`LARGE`] bytes, here the file, its tensors and the layer's parameters. Lists of names are
//! made by libraries that offer no error; they are smaller than the file.

#[allow(dead_code, reason = "each test uses a part")]
#[path = "common/pickle.rs"]
mod pickle;
#[allow(dead_code, reason = "each test uses a part")]
#[path = "common/zip.rs"]
mod zip;

use tidegate::{Config, Generator, Mode, RnnBase};
use tidegate_testing::failing::{self, Failing};
use tidegate_weights::{Checkpoint, Error, write_safetensors};

/// Bytes from which on an allocation fails: more than the names of these files, and the tables to inflate one, take.
const LARGE: usize = 64 << 10;

#[global_allocator]
static ALLOCATOR: Failing = Failing;

// One test, as there is one allocator for all.
#[test]
fn every_allocation_that_fails_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { num_layers: 2, ..Config::new(Mode::Lstm, 96, 160) };
    let dict = RnnBase::<f32>::with_generator(config, &mut Generator::manual_seed(1));
    let dict = dict.unwrap().state_dict();
    let mut safetensors = Vec::new();
    write_safetensors(&mut safetensors, &dict).unwrap();
    let (mut stored, mut packed) = (zip::Zip::new(), zip::Zip::new());
    for (name, tensor) in dict.iter() {
        let array = npy(tensor.shape(), tensor.data());
        stored = stored.stored(&format!("{name}.npy"), &array);
        packed = packed.deflated(&format!("{name}.npy"), &array);
    }
    let mut values = Vec::new();
    let mut storages = Vec::new();
    for (key, (name, tensor)) in dict.iter().enumerate() {
        let shape: Vec<i64> = tensor.shape().iter().map(|&n| n as i64).collect();
        let mut strides = vec![1; shape.len()];
        strides[0] = shape[1..].iter().product();
        let count = tensor.data().len() as i64;
        values.push((name, pickle::tensor(&key.to_string(), count, 0, &shape, &strides)));
        storages.push((key.to_string(), bytes(tensor.data())));
    }
    let storages: Vec<(&str, &[u8])> = storages.iter().map(|(k, b)| (&k[..], &b[..])).collect();
    let value = pickle::dict(&values);
    for (name, file) in [
        ("a.safetensors", safetensors),
        ("stored.npz", stored.finish()),
        ("packed.npz", packed.finish()),
        ("a.pt", pickle::archive(&value, &storages)),
        ("legacy.pt", pickle::legacy(&value, &storages)),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, file).unwrap();
        let load = || -> Result<RnnBase<f32>, Error> {
            let checkpoint = Checkpoint::open(&path)?;
            let layer = checkpoint.layer(None)?;
            checkpoint.load(&layer)
        };
        let memory = |error: &Error| match error {
            Error::OutOfMemory { bytes } => *bytes >= LARGE,
            Error::Layer { source, .. } => matches!(source, tidegate::Error::OutOfMemory { .. }),
            _ => false,
        };
        let count = failing::each(name, LARGE, load, memory);
        println!("{name}: {count} allocations");
        assert!(count >= 9, "{name}: {count}"); // the file, four tensors, and the layer's
        assert_eq!(load().unwrap().state_dict(), dict, "{name}");
    }
    // Compressed tensors, and a dictionary, which is not in the form in which it is written.
    let packed = Checkpoint::open(folder.path().join("packed.npz")).unwrap();
    let memory = |error: &Error| matches!(error, Error::OutOfMemory { bytes } if *bytes >= LARGE);
    let convert = || packed.write_safetensors(std::io::sink(), |_| true);
    let write = || write_safetensors(std::io::sink(), &dict);
    assert!(failing::each("convert", LARGE, convert, memory) >= 4);
    assert!(failing::each("write", LARGE, write, memory) >= 4);
}

fn bytes(elements: &[f32]) -> Vec<u8> {
    elements.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn npy(shape: &[usize], elements: &[f32]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &bytes(elements)].concat()
}
