//! Messages say what is wrong, once, and by name.

mod common;

use std::error::Error as _;

use common::cost::refused;
use common::pickle::{archive, dict, global, int, object, reduce, storage, text, tuple};
use common::{Full, safetensors, told};
use tidegate::{Config, Generator, Mode, RnnBase, StateDict, Tensor};
use tidegate_weights::{Checkpoint, Error};

fn torch(value: &[u8]) -> Vec<u8> {
    archive(&dict(&[("x", value.to_vec())]), &[])
}

/// A layer that cannot be built, and a device that is full.
#[test]
fn a_cause_is_said_once() {
    let config = Config::new(Mode::Gru, 3, 4);
    let layer = RnnBase::<f32>::with_generator(config, &mut Generator::manual_seed(1)).unwrap();
    let mut dict: StateDict<f32> = layer.state_dict();
    let whole = Checkpoint::from_bytes(safetensors(&dict)).unwrap();
    dict.insert("weight_hr_l0", Tensor::new(&[2, 4], vec![0.0; 8]).unwrap());
    let layer = Checkpoint::from_bytes(safetensors(&dict)).unwrap().layer(None).unwrap_err();
    let write = whole.write_safetensors(Full, |_| true).unwrap_err();
    let read = Checkpoint::open("absent.pt").unwrap_err();
    for (error, start) in
        [(layer, "layer \"\": "), (write, "cannot write: "), (read, "cannot read absent.pt: ")]
    {
        let cause = error.source().unwrap().to_string();
        assert_eq!(told(&error), format!("{start}{cause}"));
    }
}

/// Classes that inherit from dict or list, which `torch.save` writes as such.
#[test]
fn classes_of_collections_are_named() {
    let class = || [global("easydict", "EasyDict"), b")\x81".to_vec()].concat();
    let named = "\"easydict.EasyDict\" is not allowed: it is no part of a state dict";
    for (what, items) in [
        ("an item", [text("rate"), int(1), b"s".to_vec()].concat()),
        ("items", [b"(".to_vec(), text("rate"), int(1), b"u".to_vec()].concat()),
        ("an element", [int(1), b"a".to_vec()].concat()),
        ("elements", [b"(".to_vec(), int(1), b"e".to_vec()].concat()),
    ] {
        refused(what, &torch(&[class(), items].concat()), named);
    }
}

#[test]
fn kinds_of_tensors_that_are_not_read_are_named() {
    let rebuild =
        |name: &str, arguments: &[Vec<u8>]| reduce(global("torch._utils", name), arguments);
    let quantised = "quantised tensors are not supported";
    let float = || storage("FloatStorage", "0", 1);
    refused("a quantised tensor", &torch(&rebuild("_rebuild_qtensor", &[float()])), quantised);
    // What PyTorch writes names the type of the storage first.
    for class in ["QInt8Storage", "QUInt8Storage", "QInt32Storage"] {
        let value = rebuild("_rebuild_qtensor", &[storage(class, "0", 1)]);
        refused(class, &torch(&value), quantised);
    }
    let layout = reduce(global("torch.serialization", "_get_layout"), &[text("torch.sparse_coo")]);
    for name in ["_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor"] {
        let value = rebuild(name, &[layout.clone(), tuple(&[])]);
        refused(name, &torch(&value), "sparse tensors are not supported");
    }
    let error = Checkpoint::from_bytes(torch(&global("torch", "load"))).unwrap_err();
    assert!(matches!(error, Error::ForbiddenGlobal { .. }), "{error}");
    assert!(error.to_string().contains("it is no part of a state dict"), "{error}");
    let other = object(global("easydict", "EasyDict"), dict(&[("rate", int(1))]));
    refused("another object", &torch(&other), "\"easydict.EasyDict\" is not allowed");
}
