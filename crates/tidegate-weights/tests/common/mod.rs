//! What the tests of this crate share.
#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod cost;
pub(crate) mod memory;
pub(crate) mod pickle;
pub(crate) mod zip;

use std::path::PathBuf;

use tidegate::{Element, StateDict};
use tidegate_weights::{Checkpoint, Error, write_safetensors};

/// A file that `fixtures/checkpoints.py` made.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = fixtures().join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Where the files of `fixtures/checkpoints.py` are.
pub(crate) fn fixtures() -> PathBuf {
    tidegate_testing::fixtures::folder().join("checkpoints")
}

/// `dict` as a `.safetensors` file.
pub(crate) fn safetensors<E: Element>(dict: &StateDict<E>) -> Vec<u8> {
    let mut file = Vec::new();
    write_safetensors(&mut file, dict).expect("memory can be written to");
    file
}

/// A `.safetensors` file with this header, whether it is right or not.
pub(crate) fn raw_safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A `.npy` file with this header, whether it is right or not.
pub(crate) fn raw_npy(header: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{header:<117}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

/// A `.npy` file of these elements.
pub(crate) fn npy(shape: &[usize], elements: &[f32]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    let data: Vec<u8> = elements.iter().flat_map(|x| x.to_le_bytes()).collect();
    raw_npy(&header, &data)
}

/// Reads a file and everything in it; the first error, whose message must be one short line.
pub(crate) fn read_all(file: &[u8]) -> Result<(), Error> {
    let checked = |error: Error| {
        let message = error.to_string();
        assert!(!message.contains(['\n', '\r', '\x1b', '\0']), "{message:?}");
        assert!(message.chars().count() < 1500, "{message}");
        error
    };
    let read = || {
        let checkpoint = Checkpoint::from_bytes(file)?;
        let mut first = Ok(());
        for name in checkpoint.names() {
            assert!(checkpoint.shape(name).is_some() && checkpoint.dtype(name).is_some());
            first = first.and(checkpoint.tensor::<f32>(name).map(drop).map_err(checked));
        }
        for (prefix, layer) in checkpoint.discover_each() {
            let layer = layer.and_then(|layer| checkpoint.load::<f32>(&layer).map(drop));
            first = first.and(layer.map_err(checked));
            first = first.and(checkpoint.layer(Some(&prefix)).map(drop).map_err(checked));
        }
        let written = checkpoint.write_safetensors(std::io::sink(), |_| true);
        first.and(written.map_err(checked))
    };
    read().map_err(checked)
}
