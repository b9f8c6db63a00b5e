//! Small files whose parts are used again and again, so that reading them could cost the square of
//! their size, or memory without bound: they are read or refused in little memory and time.

mod common;

use common::cost::{read, refused};
use common::memory::peak;
use common::pickle::{
    archive, dict, global, int, list, object, pickle, storage, tensor, text, tuple,
};
use common::zip::{Record, Zip};
use common::{raw_npy, safetensors};
use tidegate::{StateDict, Tensor};
use tidegate_weights::{ALLOWANCE, Checkpoint, EXPANSION, Error};

/// Uses of what is used again and again.
const N: usize = 300_000;

/// A long string, whose bytes must be looked at to know that they are text.
fn long(last: &str) -> Vec<u8> {
    text(&("\u{e9}".repeat(500_000) + last))
}

fn torch(parts: &[&[u8]]) -> Vec<u8> {
    archive(&parts.concat(), &[("0", &[0; 4])])
}

/// Every record of the directory names the one file that there is: each checksum is right.
#[test]
fn many_records_of_one_file() {
    let data = vec![0; 32 << 20];
    let (crc, size) = (crc32fast::hash(&data), data.len() as u32);
    let record =
        Record { name: "a", flags: 0, method: 0, crc, packed: size, size, local: 0, extra: &[] };
    let zip = Zip::new().local(&record, &data);
    let zip = (0..u16::MAX - 1).fold(zip, |zip, _| zip.record(&record));
    refused("one file", &zip.finish(), "entries \"a\" and \"a\" overlap");
}

#[test]
fn a_long_string_that_is_used_again_and_again() {
    let kept = [&long("")[..], b"q\x000"].concat();
    let keys = |value: &str| [b"h\x00", value.as_bytes()].concat().repeat(N);
    let nothing = torch(&[&kept, b"}(", &keys("N"), b"u"]);
    read("keys of None", &nothing).unwrap();
    refused("keys of dicts", &torch(&[&kept, b"}(", &keys("}"), b"u"]), "by too many ways");
    refused(
        "names",
        &torch(&[&kept, &b"h\x00h\x00\x930".repeat(N), b"N"]),
        "builds more than a pickle of this size may",
    );
    let state = [b"}(", &keys("N")[..], b"u"].concat();
    let value = object(global("models", "Net"), state);
    refused("keys of a state", &torch(&[&kept, &value]), "\"models.Net\" is not allowed");

    // Two of one length that differ at their end.
    let two = [&long("a")[..], b"q\x000", &long("b"), b"q\x010"].concat();
    let [names, others] = [&b"h\x00N"[..], b"h\x01"].map(|unit| unit.repeat(N));
    let state = [
        b"}(".to_vec(),
        [text("_parameters"), b"}".to_vec(), text("_modules"), b"}".to_vec()].concat(),
        [&text("_buffers")[..], b"}(", &names, b"u"].concat(),
        [&text("_non_persistent_buffers_set")[..], b"](", &others, b"e"].concat(),
        b"u".to_vec(),
    ];
    let module = object(global("models", "Net"), state.concat());
    refused("buffers", &torch(&[&two, &module]), "builds more than a pickle of this size may");
}

/// The same in the places where the old format names its storages.
#[test]
fn a_storage_of_a_long_name_that_is_used_again_and_again() {
    let file = |value: &[u8], keys: &[u8]| {
        let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
        let system = dict(&[("little_endian", b"\x88".to_vec())]);
        [magic, pickle(&int(1001)), pickle(&system), pickle(value), pickle(keys)].concat()
    };
    let kept = [&long("")[..], b"q\x000"].concat();
    let class = global("torch", "FloatStorage");
    let id = tuple(&[text("storage"), class, b"h\x00".to_vec(), text("cpu"), int(1)]);
    let storages = [&kept[..], &id, b"q\x010(", &b"h\x01Q".repeat(N), b"t"].concat();
    let expected = "it uses long names too often";
    refused("storages", &file(&storages, &list(&[])), expected);
    let keys = [&kept[..], b"](", &b"h\x00".repeat(N), b"e"].concat();
    refused("list of storages", &file(&list(&[]), &keys), expected);

    let tensors = {
        let one = tensor("0", 1, 0, &[1], &[1]);
        let named = storage("FloatStorage", "0", 1);
        let at = one.windows(named.len()).position(|bytes| bytes == named).unwrap();
        let stored = [&id[..], b"Q"].concat();
        [&one[..at], &stored, &one[at + named.len()..]].concat()
    };
    let value = [&kept[..], &tensors, b"q\x010(", &b"h\x01".repeat(N), b"t"].concat();
    let mut old = file(&value, &list(&[long("")]));
    old.extend([&1u64.to_le_bytes()[..], &[0; 4]].concat());
    refused("tensors", &old, expected);
}

/// Many views of one storage, whose folder has a long name.
#[test]
fn many_views_in_an_archive_of_a_long_name() {
    let folder = "x".repeat(60_000);
    let one = tensor("0", 1, 0, &[1], &[1]);
    // What pays for them.
    let unused = [text(&"x".repeat(4 * N)), b"0".to_vec()].concat();
    let value = [&unused[..], &one, b"q\x000(", &b"h\x00".repeat(2 * N), b"t"].concat();
    let zip = Zip::new()
        .stored(&format!("{folder}/data.pkl"), &pickle(&value))
        .stored(&format!("{folder}/data/0"), &[0; 4]);
    read("a long folder", &zip.finish()).unwrap();
}

/// Many views of one storage, each of which may be written, but not all of them.
#[test]
fn one_storage_is_not_written_again_and_again() {
    let count = 1 << 18;
    let names: Vec<_> = (0..600).map(|k| format!("w{k}")).collect();
    let view = || tensor("0", count, 0, &[count], &[1]);
    let items: Vec<_> = names.iter().map(|name| (name.as_str(), view())).collect();
    let file = archive(&dict(&items), &[("0", &vec![0; 1 << 20])]);
    let checkpoint = Checkpoint::from_bytes(&file[..]).unwrap();
    let (result, bytes) = peak(|| checkpoint.write_safetensors(std::io::sink(), |_| true));
    let limit = EXPANSION * file.len() as u64 + ALLOWANCE;
    let error = result.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: got, .. } if got == limit), "{error}");
    assert!(error.to_string().starts_with("tensor \"w"), "{error}");
    assert!(bytes < 1 << 20, "{bytes} bytes");
    // Few of them are.
    checkpoint.write_safetensors(std::io::sink(), |name| name.len() == 2).unwrap();
}

#[test]
fn what_lies_in_the_file_is_written_from_there() {
    let mut dict: StateDict<f32> = StateDict::new();
    dict.insert("w", Tensor::new(&[1 << 21], vec![0.5; 1 << 21]).unwrap());
    let checkpoint = Checkpoint::from_bytes(safetensors(&dict)).unwrap();
    let (result, bytes) = peak(|| checkpoint.write_safetensors(std::io::sink(), |_| true));
    result.unwrap();
    assert!(bytes < 1 << 16, "{bytes} bytes");
}

/// Small elements of a small file that would be large ones in memory.
#[test]
fn the_limit_is_of_what_is_decoded() {
    let count = 15_000_000;
    let array = |descr: &str, size: usize| {
        let shape = format!("({},)", count / size);
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let zip = Zip::new().deflated("w.npy", &raw_npy(&header, &vec![0; count]));
        Checkpoint::from_bytes(zip.finish()).unwrap()
    };
    let too_large = |error: Error, expected: usize| {
        let right = matches!(error, Error::TooLarge { bytes, .. } if bytes == expected as u64);
        assert!(right, "{expected}: {error}");
    };
    let small = array("|u1", 1);
    too_large(small.numbers::<f64>("w").map(drop).unwrap_err(), 8 * count);
    too_large(small.numbers::<f32>("w").map(drop).unwrap_err(), 4 * count);
    too_large(small.integers("w").map(drop).unwrap_err(), 16 * count);
    let half = array("<f2", 2);
    too_large(half.tensor::<f64>("w").map(drop).unwrap_err(), 4 * count);
    let single = array("<f4", 4);
    assert_eq!(single.tensor::<f32>("w").unwrap().data().len(), count / 4);
    too_large(single.tensor::<f64>("w").map(drop).unwrap_err(), 2 * count);

    // A layer of many that are not too large each.
    let layers = 10;
    let half = |k: usize| {
        let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (512, 512), }";
        let name = format!("weight_{}_l{}.npy", ["ih", "hh"][k % 2], k / 2);
        (name, raw_npy(header, &vec![0; 2 * 512 * 512]))
    };
    let add = |zip: Zip, (name, array): (String, Vec<u8>)| zip.deflated(&name, &array);
    let file = (0..2 * layers).map(half).fold(Zip::new(), add).finish();
    let checkpoint = Checkpoint::from_bytes(file).unwrap();
    let layer = checkpoint.layer(None).unwrap();
    let error = checkpoint.state_dict::<f64>(&layer).map(drop).unwrap_err();
    assert!(error.to_string().starts_with("layer \"\" would grow to "), "{error}");
}
