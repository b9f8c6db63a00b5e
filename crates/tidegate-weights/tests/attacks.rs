//! Files that were made to do harm: each is refused, by an error that names what is wrong, in
//! little memory and time.

mod common;

use std::time::{Duration, Instant};

use common::cost::{read, refused};
use common::memory::peak;
use common::pickle::{archive, dict, pickle, tensor};
use common::zip::{Record, Zip};
use common::{npy, raw_npy, raw_safetensors};
use tidegate::{RnnBase, StateDict, Tensor};
use tidegate_weights::{ALLOWANCE, Checkpoint, EXPANSION};

#[test]
fn safetensors_headers_that_lie() {
    let info = |dtype: &str, shape: &str, start: u64, end: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let one = |info: String| format!(r#"{{"w":{info}}}"#);
    let two = |a: String, b: String| format!(r#"{{"a":{a},"b":{b}}}"#);
    let first = || info("F32", "[1]", 0, 4);
    let max = u64::MAX;
    for (what, header, data, expected) in [
        ("overlap", two(first(), info("F32", "[1]", 2, 6)), 6, "\"b\": data at 2..6 overlap"),
        ("the same twice", two(first(), first()), 4, "\"b\": data at 0..4 overlap"),
        ("gap", two(first(), info("F32", "[1]", 8, 12)), 12, "\"b\": data at 8..12 leave a gap"),
        ("outside", one(info("F32", "[2]", 0, 8)), 4, "\"w\": data at 0..8 lie outside"),
        ("backwards", two(first(), info("F32", "[1]", 4, 0)), 4, "\"b\": data at 4..0 lie outside"),
        ("far outside", two(first(), info("U8", "[1]", 4, max)), 4, "\"b\": data at 4..1844674"),
        (
            "larger than u64",
            one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999]}"#.into()),
            4,
            "tensor \"w\": invalid",
        ),
        ("negative", one(info("F32", "[-1]", 0, 4)), 4, "tensor \"w\": invalid value"),
        (
            "product wraps",
            one(info("F32", "[4294967296,4294967296,4]", 0, 0)),
            0,
            "\"w\": shape [4294967296, 4294967296, 4] of F32 does not fill its 0 bytes",
        ),
        (
            "bytes wrap",
            one(info("F64", "[2305843009213693952]", 0, 0)),
            0,
            "\"w\": shape [2305843009213693952]",
        ),
        (
            "too few bytes",
            one(info("F32", "[2]", 0, 4)),
            4,
            "\"w\": shape [2] of F32 does not fill its 4",
        ),
        ("half a byte", one(info("F4", "[1]", 0, 1)), 1, "\"w\": shape [1] of F4 does not fill"),
        ("unknown type", one(info("F33", "[1]", 0, 4)), 4, "tensor \"w\": unknown variant `F33`"),
        (
            "the same name",
            format!(r#"{{"a":{},"a":{}}}"#, first(), info("F32", "[1]", 4, 8)),
            8,
            "two tensors are called \"a\"",
        ),
        (
            "the same key",
            one(r#"{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,4]}"#.into()),
            4,
            "\"w\": duplicate field `dtype`",
        ),
        ("no object", "[1]".into(), 0, "neither safetensors"),
        ("cut", one(first())[..30].into(), 4, "tensor \"w\": EOF"),
        ("more after it", one(first()) + "x", 4, "trailing characters"),
        ("data left", one(first()), 5, "its tensors end at 4, the file holds 5"),
        (
            "many dimensions",
            one(info("U8", &format!("[{}1]", "1,".repeat(300_000)), 0, 1)),
            1,
            "\"w\": 300001 dimensions",
        ),
        ("deep", format!(r#"{{"w":{}"#, "[".repeat(300_000)), 4, "tensor \"w\":"),
        (
            "deep metadata",
            format!(r#"{{"__metadata__":{}"#, r#"{"a":"#.repeat(300_000)),
            4,
            "safetensors header",
        ),
        (
            "a name of two lines",
            "{\"w\\n\\u001b[2J\":{}}".into(),
            0,
            "tensor \"w\\n\\u{1b}[2J\": missing field",
        ),
        ("a long name", format!("{{\"{}\":1}}", "x".repeat(300_000)), 0, "xxx...\""),
    ] {
        refused(what, &raw_safetensors(&header, &vec![0; data]), expected);
    }
    let header = one(first());
    for length in [0, 1, header.len() as u64 + 5, 1 << 40, max] {
        let file = [&length.to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
        refused(&format!("length {length}"), &file, "safetensors header");
    }
    let file = [&8u64.to_le_bytes()[..], b"{\"\xff\":1}"].concat();
    refused("not UTF-8", &file, "safetensors header");
}

#[test]
fn archives_that_lie() {
    let data = npy(&[1], &[1.5]);
    let crc = crc32fast::hash(&data);
    let size = data.len() as u32;
    let record =
        |name| Record { name, flags: 0, method: 0, crc, packed: size, size, local: 0, extra: &[] };
    let with = |change: &dyn Fn(&mut Record<'_>)| {
        let mut changed = record("w.npy");
        change(&mut changed);
        Zip::new().local(&record("w.npy"), &data).record(&changed).finish()
    };
    let entry = "zip archive, entry \"w.npy\": ";
    for (what, file, expected) in [
        ("encrypted", with(&|r| r.flags = 1), "encrypted"),
        ("method", with(&|r| r.method = 12), "compression method 12"),
        ("checksum", with(&|r| r.crc = 1), "the checksum of the data is wrong"),
        ("sizes", with(&|r| r.size += 1), "stored data must have the size"),
        ("past the end", with(&|r| (r.size, r.packed) = (1 << 30, 1 << 30)), "data lie outside"),
        ("into the directory", with(&|r| (r.size, r.packed) = (size + 9, size + 9)), "outside"),
        ("not there", with(&|r| r.local = 1), "its own header is not where"),
        ("far away", with(&|r| r.local = 1 << 31), "its own header is not where"),
        ("wide without", with(&|r| r.size = u32::MAX), "sizes past 4 GiB"),
    ] {
        let message = read(what, &file).expect_err(what);
        assert!(message.starts_with(entry) && message.contains(expected), "{what}: {message}");
    }
    let other = Zip::new().local(&record("v.npy"), &data).record(&record("w.npy")).finish();
    refused("another name", &other, "entry \"w.npy\": its own header");

    let twice = || Zip::new().stored("w.npy", &data).stored("w.npy", &data);
    refused("the same name", &twice().finish(), "two entries \"w.npy\"");
    let shared =
        Zip::new().local(&record("w.npy"), &data).record(&record("w.npy")).record(&record("w.npy"));
    refused("the same data", &shared.finish(), "entries \"w.npy\" and \"w.npy\" overlap");
    // A file within the data of another, as bombs have it.
    let inner = Zip::new().local(&record("v.npy"), &data).file;
    let outer =
        Record { packed: inner.len() as u32, size: inner.len() as u32, crc: 0, ..record("w.npy") };
    let inside = Record { local: 30 + 5 + 3, ..record("v.npy") };
    let nested = Zip::new().local(&outer, &inner).record(&outer).record(&inside).finish();
    refused("one in the other", &nested, "entries \"w.npy\" and \"v.npy\" overlap");

    let zip = || Zip::new().stored("w.npy", &data);
    let (start, length) = (zip().file.len() as u32, zip().directory.len() as u32);
    for (what, file, expected) in [
        ("more entries", zip().finish_as(2, length, start), "2 entries do not fit"),
        ("no entries", zip().finish_as(0, length, start), "the directory holds more"),
        ("many entries", zip().finish_as(65_534, length, start), "65534 entries do not fit"),
        ("outside", zip().finish_as(1, length, start + 1), "the directory does not end where"),
        ("large", zip().finish_as(1, u32::MAX - 1, start), "the directory does not end where"),
        ("elsewhere", zip().finish_as(1, length + 1, start - 1), "no entry of the directory"),
        ("short", zip().finish_as(1, length - 1, start + 1), "no entry of the directory"),
        (
            "wide, many",
            zip().finish_wide(1 << 40, length.into(), start.into()),
            "entries do not fit",
        ),
        (
            "wide, large",
            zip().finish_wide(1, u64::MAX, start.into()),
            "the directory does not end where",
        ),
        ("wide, far", zip().finish_wide(1, 46, u64::MAX), "the directory does not end where"),
    ] {
        refused(what, &file, expected);
    }
    refused(
        "two ends",
        &[zip().finish(), zip().finish()].concat(),
        "the directory does not end where",
    );
    // Many end records, of which none is one: quadratic readers take minutes.
    let ends = [b"PK\x03\x04", &b"PK\x05\x06".repeat(100_000)[..]].concat();
    refused("many ends", &ends, "zip archive");
}

#[test]
fn many_long_names_make_no_long_message() {
    let rnn =
        |name: &str| format!(r#""{name}":{{"dtype":"F32","shape":[0,0],"data_offsets":[0,0]}}"#);
    let parameters = (0..40).flat_map(|k| {
        ["ih", "hh"].map(|w| rnn(&format!("{}{k}.weight_{w}_l0", "\u{1f600}".repeat(200))))
    });
    let header = format!("{{{}}}", parameters.collect::<Vec<_>>().join(","));
    let _ = read("many layers", &raw_safetensors(&header, &[]));
    let long = format!("[0{}]", ",9223372036854775807".repeat(63));
    let header =
        format!(r#"{{"weight_ih_l0":{{"dtype":"F32","shape":{long},"data_offsets":[0,0]}}}}"#);
    refused("a long shape", &raw_safetensors(&header, &[]), "weight_ih_l0");
}

#[test]
fn arrays_that_lie() {
    let header = |descr: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}")
    };
    let far = "(4294967296, 4294967296, 4)";
    for (what, file, expected) in [
        (
            "more than there is",
            raw_npy(&header("<f4", "(1000000000,)"), &[0; 8]),
            "shape [1000000000] of float32 needs 4000000000 bytes, the file has 8",
        ),
        (
            "less than there is",
            raw_npy(&header("<f4", "(1,)"), &[0; 8]),
            "needs 4 bytes, the file has 8",
        ),
        ("product wraps", raw_npy(&header("<f4", far), &[]), "shape [4294967296, 4294967296, 4]"),
        ("negative", raw_npy(&header("<f4", "(-1,)"), &[]), "not the line that NumPy writes"),
        (
            "pickled objects",
            raw_npy(&header("|O", "(1,)"), b"\x80\x02cos\nsystem\n."),
            "got elements of type |O",
        ),
        // Each character takes six in a message.
        ("controls", raw_npy(&"\x1f".repeat(400), &[]), "not the line that NumPy writes"),
        (
            "many dimensions",
            raw_npy(&header("|u1", &format!("({})", "1,".repeat(65))), &[0]),
            "65 dimensions",
        ),
        ("version", b"\x93NUMPY\x04\x00\x00\x00\x00\x00".to_vec(), "version 4 is unknown"),
        (
            "header of 4 GiB",
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(),
            "4294967295 bytes are more than NumPy reads",
        ),
        ("cut", b"\x93NUMPY\x01\x00\xff\x00{".to_vec(), "cut short"),
        (
            "deep",
            raw_npy(&format!("{{'descr': {}", "[".repeat(9000)), &[]),
            "not the line that NumPy writes",
        ),
    ] {
        refused(what, &file, expected);
        refused(what, &Zip::new().stored("w.npy", &file).finish(), "tensor \"w\"");
        refused(what, &Zip::new().deflated("w.npy", &file).finish(), "tensor \"w\"");
    }
}

#[test]
fn archives_that_unpack_to_more_than_they_should() {
    let shape = "{'descr': '|u1', 'fortran_order': False, 'shape': (100000000,), }";
    let zeros = raw_npy(shape, &vec![0; 100_000_000]);
    let bomb = Zip::new().deflated("w.npy", &zeros).finish();
    let limit = EXPANSION * bomb.len() as u64 + ALLOWANCE;
    refused(
        "one large array",
        &bomb,
        &format!(
            "\"w.npy\" of the archive would grow to 100000128 bytes, a file of this size may come to {limit}"
        ),
    );
    let part = &zeros[..1 << 20];
    let many = (0..60).fold(Zip::new(), |zip, i| zip.deflated(&format!("{i}.npy"), part)).finish();
    refused("many arrays", &many, ".npy\" of the archive would grow to");

    // The directory lies about the size: nothing is allocated that does not come.
    let data = npy(&[1], &[1.5]);
    for size in [data.len() - 1, data.len() + 1, 100_000] {
        let right = Zip::new().deflated("w.npy", &data);
        let packed = right.file[30 + 5 + 3..].to_vec();
        let claimed = vec![0; size];
        let file = Zip::new().packed("w.npy", 8, &packed, &claimed, 0).finish();
        refused(
            &format!("{size} bytes"),
            &file,
            "tensor \"w\": shape [1] of float32 needs 4 bytes, the file has",
        );
    }
    let longer = npy(&[2], &[1.5, 2.5]);
    let packed = Zip::new().deflated("w.npy", &longer).file[30 + 5 + 3..].to_vec();
    let header_of_one = [&data[..data.len() - 4], &longer[longer.len() - 8..]].concat();
    let repacked = Zip::new().deflated("w.npy", &header_of_one).file[30 + 5 + 3..].to_vec();
    let file = Zip::new().packed("w.npy", 8, &repacked, &data, 0).finish();
    refused("more data", &file, "data unpack to another size than recorded");
    let wrong = Zip::new().packed("w.npy", 8, &packed, &longer, 1).finish();
    refused("checksum", &wrong, "the checksum of the data is wrong");
    let broken = Zip::new().packed("w.npy", 8, &[0xff; 9], &longer, 0).finish();
    refused("no deflate", &broken, "broken data");

    let deflated = Zip::new().deflated("a/data.pkl", &pickle(&b"N".repeat(1 << 20))).finish();
    refused("a compressed pickle", &deflated, "\"a/data.pkl\": it is compressed");
}

/// Comparing every name with every other takes minutes.
#[test]
fn very_many_layers_load_in_little_time() {
    let layers = 100_000;
    let name = |k: usize| format!("weight_{}_l{}", ["ih", "hh"][k % 2], k / 2);
    let tensor = |k: usize| {
        let (start, end) = (4 * k, 4 * k + 4);
        format!(r#""{}":{{"dtype":"F32","shape":[1,1],"data_offsets":[{start},{end}]}}"#, name(k))
    };
    let header = (0..2 * layers).map(tensor).collect::<Vec<_>>().join(",");
    let file = raw_safetensors(&format!("{{{header}}}"), &vec![0; 8 * layers]);
    let start = Instant::now();
    let checkpoint = Checkpoint::from_bytes(file).unwrap();
    let layer = checkpoint.layer(None).unwrap();
    let dict = checkpoint.state_dict::<f32>(&layer).unwrap();
    assert_eq!(dict.len(), 2 * layers);
    // One parameter too many: names are compared before a layer is made, which takes memory.
    let mut dict: StateDict<f32> = dict;
    dict.insert("weight_hr_l0", Tensor::new(&[1, 1], vec![0.0]).unwrap());
    let error = RnnBase::from_state_dict(layer.config, &dict, "").unwrap_err();
    assert!(matches!(error, tidegate::Error::UnexpectedParameter { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// Many views of one storage, each of which may be read, but not all of them as one layer.
#[test]
fn a_layer_of_the_same_storage_again_and_again() {
    let h = 1024;
    let storage = vec![0; 4 * h as usize * h as usize];
    let count = h * h;
    let mut items = Vec::new();
    for layer in 0..200 {
        for name in ["weight_ih", "weight_hh"] {
            items.push((format!("{name}_l{layer}"), tensor("0", count, 0, &[h, h], &[h, 1])));
        }
    }
    let items: Vec<_> = items.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let file = archive(&dict(&items), &[("0", &storage)]);
    let checkpoint = Checkpoint::from_bytes(&file[..]).unwrap();
    let layer = checkpoint.layer(None).unwrap();
    assert_eq!(layer.to_string(), "RNN(1024, 1024, num_layers=200)".replace(")", ", bias=False)"));
    let (result, bytes) = peak(|| checkpoint.load::<f32>(&layer).map(drop));
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with("layer \"\" would grow to "), "{message}");
    assert!(bytes < 20 * file.len() + (20 << 20), "{bytes} bytes");
}
