//! What the tests of this crate share.
#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod cost;
pub(crate) mod memory;
pub(crate) mod pickle;
mod read;
pub(crate) mod zip;

use std::path::PathBuf;

pub(crate) use read::{read_all, told};
use tidegate::{Element, StateDict};
use tidegate_weights::write_safetensors;

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

/// A device that is full.
pub(crate) struct Full;

impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
