//! Cut and changed files: an answer or an error, in little memory.

mod common;

use common::memory::peak;
use common::pickle::{archive, dict, global, legacy, module, object, tensor};
use common::zip::Zip;
use common::{fixture, npy, read_all, safetensors};
use tidegate::{Config, Generator, Mode, RnnBase, StateDict};

/// Bytes that reading a file may hold: a multiple of its size, and what an inflater needs.
fn bound(file: &[u8]) -> usize {
    64 * file.len() + (256 << 10)
}

fn check(file: &[u8], what: impl FnOnce() -> String) {
    let (result, bytes) = peak(|| read_all(file));
    let bound = bound(file);
    assert!(bytes <= bound, "{}: {bytes} bytes, {bound} are allowed: {result:?}", what());
}

fn rnn() -> StateDict<f32> {
    let config = Config { bias: false, ..Config::new(Mode::RnnTanh, 1, 1) };
    RnnBase::with_generator(config, &mut Generator::manual_seed(3)).unwrap().state_dict()
}

/// A small file of each format, right as they are.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let one = 0.5f32.to_le_bytes();
    let names = ["weight_ih_l0", "weight_hh_l0"];
    let numbers = ["0", "1"];
    let parameters: Vec<_> = names
        .iter()
        .zip(numbers)
        .map(|(name, key)| (*name, tensor(key, 1, 0, &[1, 1], &[1, 1])))
        .collect();
    let storages: Vec<_> = numbers.iter().map(|key| (*key, &one[..])).collect();
    let whole = object(global("models", "Net"), module(&parameters, &[]));
    let array = npy(&[1, 1], &[0.5]);
    let npz = |add: fn(Zip, &str, &[u8]) -> Zip| {
        names.iter().fold(Zip::new(), |zip, name| add(zip, &format!("{name}.npy"), &array)).finish()
    };
    vec![
        ("safetensors", safetensors(&rnn())),
        ("npy", array.clone()),
        ("npz", npz(Zip::stored)),
        ("npz, compressed", npz(Zip::deflated)),
        ("pt", archive(&dict(&parameters), &storages)),
        ("pt, a module", archive(&whole, &storages)),
        ("pt, the old format", legacy(&dict(&parameters), &storages)),
    ]
}

#[test]
fn every_prefix_is_read_or_refused() {
    for (name, file) in samples() {
        read_all(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        for length in 0..file.len() {
            check(&file[..length], || format!("{name}, {length} bytes"));
            assert!(read_all(&file[..length]).is_err(), "{name}, {length} bytes");
        }
    }
}

#[test]
fn every_change_of_one_byte_is_read_or_refused() {
    for (name, mut file) in samples() {
        for at in 0..file.len() {
            let byte = file[at];
            for change in 1..=255 {
                file[at] = byte ^ change;
                check(&file, || format!("{name}, byte {at} = {:#04x}", byte ^ change));
            }
            file[at] = byte;
        }
    }
}

#[test]
fn files_of_pytorch_and_numpy_are_read_or_refused_when_changed() {
    for name in [
        "checkpoint.pt",
        "module.pt",
        "legacy_module.pt",
        "protocol4.pt",
        "views.pt",
        "cells.pt",
        "arrays.npz",
        "compressed.npz",
        "float16.safetensors",
        "one.npy",
    ] {
        let mut file = fixture(name);
        for at in 0..file.len() {
            let byte = file[at];
            // Each bit is flipped somewhere near, and lengths grow and shrink.
            for changed in [byte ^ (1 << (at % 8)), byte.wrapping_add(1), !byte] {
                file[at] = changed;
                check(&file, || format!("{name}, byte {at} = {changed:#04x}"));
            }
            file[at] = byte;
        }
        for length in (0..file.len()).step_by(7) {
            check(&file[..length], || format!("{name}, {length} bytes"));
            assert!(read_all(&file[..length]).is_err(), "{name}, {length} bytes");
        }
    }
}

#[test]
fn a_changed_number_in_a_pickle_is_no_other_tensor() {
    // An archive's checksums find most changes. Without them, as it may be written, the pickle
    // itself must not lead outside of the storages.
    let (_, mut file) = samples().remove(4);
    let start = file.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    for at in (start..file.len() - 46)
        .filter(|&at| file[at..].starts_with(b"PK\x01\x02"))
        .collect::<Vec<_>>()
    {
        file[at + 16..at + 20].fill(0);
    }
    read_all(&file).unwrap();
    for at in 0..file.len() {
        let byte = file[at];
        for change in 1..=255 {
            file[at] = byte ^ change;
            check(&file, || format!("byte {at} = {:#04x}", byte ^ change));
        }
        file[at] = byte;
    }
}
