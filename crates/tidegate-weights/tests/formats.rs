//! Every format gives the names, shapes and numbers that PyTorch and NumPy find in it.

mod common;

use std::path::{Path, PathBuf};

use common::pickle::{archive, dict, int, legacy, module, object, reduce, tensor, text, tuple};
use common::zip::{Record, Zip};
use common::{Full, fixture, fixtures, npy, raw_npy, raw_safetensors, safetensors, told};
use tidegate::{Config, Mode, RnnBase, StateDict, Tensor};
use tidegate_weights::{Checkpoint, Dtype, Error, Format};

fn open(file: Vec<u8>) -> Checkpoint {
    Checkpoint::from_bytes(file).unwrap_or_else(|e| panic!("{e}"))
}

/// Name, shape and bits of every tensor of floating-point numbers, by name.
fn contents(checkpoint: &Checkpoint) -> Vec<(String, Vec<usize>, Vec<u64>)> {
    let floats = checkpoint.names().filter(|name| checkpoint.dtype(name).unwrap().is_float());
    let mut contents: Vec<_> = floats
        .map(|name| {
            let double = checkpoint.tensor::<f64>(name).unwrap_or_else(|e| panic!("{e}"));
            let single = checkpoint.tensor::<f32>(name).unwrap_or_else(|e| panic!("{e}"));
            for (double, single) in double.data().iter().zip(single.data()) {
                assert_eq!((*double as f32).to_bits(), single.to_bits(), "{name}");
            }
            let bits = double.data().iter().map(|x| x.to_bits()).collect();
            (name.to_string(), double.shape().to_vec(), bits)
        })
        .collect();
    contents.sort();
    contents
}

#[test]
fn fixtures_hold_what_pytorch_and_numpy_read() {
    let expected = contents(&open(fixture("expected.safetensors")));
    let mut compared = 0;
    for (file, format) in [
        ("state_dict.pt", Format::Torch),
        ("protocol4.pt", Format::Torch),
        ("float16.pt", Format::Torch),
        ("bfloat16.pt", Format::Torch),
        ("float64.pt", Format::Torch),
        ("float16.safetensors", Format::Safetensors),
        ("bfloat16.safetensors", Format::Safetensors),
        ("float64.safetensors", Format::Safetensors),
        ("module.pt", Format::Torch),
        ("legacy.pt", Format::TorchLegacy),
        ("legacy_module.pt", Format::TorchLegacy),
        ("cells.pt", Format::Torch),
        ("views.pt", Format::Torch),
        ("arrays.npz", Format::Npz),
        ("compressed.npz", Format::Npz),
        ("one.npy", Format::Npy),
        ("checkpoint.pt", Format::Torch),
    ] {
        let checkpoint = Checkpoint::open(fixtures().join(file)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(checkpoint.format(), format, "{file}");
        let mut got = contents(&checkpoint);
        if file == "checkpoint.pt" {
            got.retain(|(name, ..)| name.starts_with("state_dict."));
        }
        let prefix = format!("{file}/");
        let wanted: Vec<_> = expected
            .iter()
            .filter_map(|(name, shape, bits)| {
                Some((name.strip_prefix(&prefix)?.to_string(), shape.clone(), bits.clone()))
            })
            .collect();
        assert_eq!(got, wanted, "{file}");
        compared += got.len();
    }
    assert_eq!(compared, expected.len());
}

#[test]
fn names_and_types_are_the_files() {
    let checkpoint = open(fixture("state_dict.pt"));
    let names: Vec<_> = checkpoint.names().collect();
    assert_eq!(names[..2], ["encoder.weight_ih_l0", "encoder.weight_hh_l0"]);
    assert_eq!(checkpoint.dtype("norm.num_batches_tracked"), Some(Dtype::I64));
    assert_eq!(checkpoint.shape("norm.num_batches_tracked"), Some(&[][..]));
    // A whole module has the names of its state_dict(), in the same order; what does not persist is
    // not among them.
    let module = open(fixture("module.pt"));
    assert!(module.names().eq(checkpoint.names()));

    let training = open(fixture("checkpoint.pt"));
    assert_eq!(training.dtype("complex"), Some(Dtype::Other));
    assert_eq!(training.dtype("float8"), Some(Dtype::Other));
    assert_eq!(training.dtype("unsigned"), Some(Dtype::U16));
    assert_eq!(training.dtype("flag"), Some(Dtype::Bool));
    assert_eq!(training.dtype("tagged"), Some(Dtype::I64));
    assert_eq!(training.shape("parameter"), Some(&[0][..]));
    assert_eq!(training.shape("optimizer.state.0.exp_avg"), Some(&[16, 3][..]));
    let error = training.tensor::<f32>("complex").unwrap_err().to_string();
    assert!(error.ends_with("\"complex\": expected float16, bfloat16, float32 or float64, got elements of type complex64"), "{error}");
    let error = training.tensor::<f32>("flag").unwrap_err().to_string();
    assert!(error.contains("got elements of type bool"), "{error}");
    let error = training.tensor::<f32>("absent").unwrap_err().to_string();
    assert_eq!(error, "there is no tensor \"absent\"");

    let arrays = open(fixture("arrays.npz"));
    assert_eq!(arrays.dtype("labels"), Some(Dtype::Other));
    assert_eq!(arrays.shape("records"), Some(&[1][..]));
    assert_eq!(arrays.dtype("steps"), Some(Dtype::I64));
}

#[test]
fn the_format_is_told_by_the_content_not_by_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.npz");
    std::fs::write(&path, fixture("float16.safetensors")).unwrap();
    assert_eq!(Checkpoint::open(&path).unwrap().format(), Format::Safetensors);

    let error = told(&Checkpoint::open(folder.path()).unwrap_err());
    assert!(error.starts_with("cannot read ") && error.ends_with("not a file"), "{error}");
    let error = Checkpoint::open(folder.path().join("absent.pt")).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");

    for (file, message) in [
        (&b""[..], "the file begins with \"\""),
        (b"\x1f\x8b\x08", "the file begins with \"\\x1f\\x8b\\x08\""),
        (b"\x80\x04\x95abc", "a plain pickle"),
    ] {
        let error = Checkpoint::from_bytes(file).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let zip = |name: &str| Zip::new().stored(name, b"").stored("m/data.pkl", b"").finish();
    let error = Checkpoint::from_bytes(zip("m/constants.pkl")).unwrap_err().to_string();
    assert!(error.starts_with("a TorchScript archive"), "{error}");
    let zip = Zip::new().stored("readme.txt", b"hello").finish();
    let error = Checkpoint::from_bytes(zip).unwrap_err().to_string();
    assert!(error.starts_with("a zip archive that is neither"), "{error}");
}

fn gru() -> RnnBase<f32> {
    let mut generator = tidegate::Generator::manual_seed(7);
    let config = Config { num_layers: 2, bidirectional: true, ..Config::new(Mode::Gru, 3, 2) };
    RnnBase::with_generator(config, &mut generator).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let dict: StateDict<f32> = gru().state_dict();
    let checkpoint = open(safetensors(&dict));
    let layer = checkpoint.layer(None).unwrap();
    assert_eq!(checkpoint.state_dict::<f32>(&layer).unwrap(), dict);
    assert_eq!(checkpoint.load::<f32>(&layer).unwrap().state_dict(), dict);
    assert_eq!(safetensors(&dict), safetensors(&dict));

    let double: StateDict<f64> = checkpoint.load::<f64>(&layer).unwrap().state_dict();
    let checkpoint = open(safetensors(&double));
    assert_eq!(checkpoint.dtype("weight_ih_l0"), Some(Dtype::F64));
    assert_eq!(checkpoint.state_dict::<f32>(&layer).unwrap(), dict);
}

#[test]
fn a_checkpoint_is_written_in_its_own_types() {
    for file in
        ["float16.pt", "bfloat16.pt", "float64.pt", "views.pt", "compressed.npz", "state_dict.pt"]
    {
        let from = open(fixture(file));
        let known = |name: &str| from.dtype(name) != Some(Dtype::Other);
        let mut written = Vec::new();
        from.write_safetensors(&mut written, known).unwrap();
        let to = open(written);
        assert_eq!(contents(&from), contents(&to), "{file}");
        for name in from.names().filter(|name| known(name)) {
            assert_eq!(from.dtype(name), to.dtype(name), "{file}: {name}");
            assert_eq!(from.shape(name), to.shape(name), "{file}: {name}");
        }
    }
    let arrays = open(fixture("arrays.npz"));
    let error = arrays.write_safetensors(std::io::sink(), |_| true).unwrap_err().to_string();
    assert!(error.contains("got elements of type <U3"), "{error}");
    let error = arrays.write_safetensors(Full, |name| name == "steps").unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
}

#[test]
fn npz_files_hold_one_tensor_for_each_array() {
    let dict: StateDict<f32> = gru().state_dict();
    for compressed in [false, true] {
        let add = |zip: Zip, (name, tensor): (&str, &Tensor<f32>)| {
            let (name, data) = (format!("{name}.npy"), npy(tensor.shape(), tensor.data()));
            match compressed {
                true => zip.deflated(&name, &data),
                false => zip.stored(&name, &data),
            }
        };
        let zip = dict.iter().fold(Zip::new().stored("notes.txt", b"no array"), add);
        let checkpoint = open(zip.finish());
        assert_eq!(checkpoint.format(), Format::Npz);
        assert_eq!(checkpoint.names().len(), dict.len());
        let layer = checkpoint.layer(None).unwrap();
        assert_eq!(checkpoint.state_dict::<f32>(&layer).unwrap(), dict);
    }
    assert_eq!(open(Zip::new().finish()).names().len(), 0);
    assert!(matches!(open(Zip::new().finish()).layer(None), Err(Error::NoLayer)));
}

#[test]
fn npy_headers_of_every_version_are_read() {
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n";
    let data = 0.1f64.to_le_bytes();
    for version in [2, 3] {
        let length = (header.len() as u32).to_le_bytes();
        let start = [b"\x93NUMPY", &[version, 0][..], &length, header.as_bytes(), &data].concat();
        assert_eq!(open(start).tensor::<f64>("array").unwrap().data(), [0.1]);
    }
    let scalar = raw_npy("{'descr': '<f8', 'fortran_order': True, 'shape': ()}", &data);
    assert_eq!(open(scalar).tensor::<f64>("array").unwrap().shape(), [0usize; 0]);
}

/// NumPy writes the first two versions in Latin-1, and what holds other letters in the third.
#[test]
fn fields_of_any_name_are_arrays_that_are_not_read() {
    for (version, field) in
        [(1, &b"'\xe9'"[..]), (2, b"'\xe9'"), (3, b"'\xc3\xa9'"), (1, b"\"it's\"")]
    {
        let header =
            [b"{'descr': [(", field, b", '<f4')], 'fortran_order': False, 'shape': (1,), }\n"];
        let header = header.concat();
        let length = (header.len() as u32).to_le_bytes();
        let length = if version == 1 { &length[..2] } else { &length };
        let array = [b"\x93NUMPY", &[version, 0][..], length, &header, &[0; 4]].concat();
        let zip = Zip::new().stored("records.npy", &array).stored("w.npy", &npy(&[1], &[1.5]));
        let checkpoint = open(zip.finish());
        assert_eq!(checkpoint.dtype("records"), Some(Dtype::Other), "{version}");
        assert_eq!(checkpoint.tensor::<f32>("w").unwrap().data(), [1.5]);
    }
}

#[test]
fn archives_past_4_gib_keep_sizes_in_larger_fields() {
    let data = npy(&[2], &[1.0, 2.0]);
    let size = data.len() as u64;
    let mut extra = [b"\x99\x99\x02\x00??\x01\x00\x18\x00", &size.to_le_bytes()[..]].concat();
    extra.extend(size.to_le_bytes());
    extra.extend(0u64.to_le_bytes());
    let record = |extra| {
        let crc = crc32fast::hash(&data);
        let unknown = u32::MAX;
        let name = "w.npy";
        let (flags, method) = (0, 0);
        Record { name, flags, method, crc, packed: unknown, size: unknown, local: unknown, extra }
    };
    let zip = |extra| {
        let zip = Zip::new().local(&record(extra), &data).record(&record(extra));
        let (start, size) = (zip.file.len() as u64, zip.directory.len() as u64);
        zip.finish_wide(1, size, start)
    };
    assert_eq!(open(zip(&extra)).tensor::<f32>("w").unwrap().data(), [1.0, 2.0]);
    for cut in 0..extra.len() {
        let error = Checkpoint::from_bytes(zip(&extra[..cut])).unwrap_err().to_string();
        assert!(error.contains("entry \"w.npy\": sizes past 4 GiB"), "{cut}: {error}");
    }
}

#[test]
fn data_of_either_byte_order_are_read() {
    let value = dict(&[("w", tensor("0", 2, 0, &[2], &[1]))]);
    let big: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_be_bytes()).collect();
    let zip = |order: &[u8]| {
        let pickle = common::pickle::pickle(&value);
        let zip = Zip::new().stored("a/data.pkl", &pickle).stored("a/data/0", &big);
        zip.stored("a/byteorder", order).finish()
    };
    assert_eq!(open(zip(b"big")).tensor::<f32>("w").unwrap().data(), [1.5, -2.0]);
    let error = Checkpoint::from_bytes(zip(b"middle")).unwrap_err().to_string();
    assert!(error.contains("neither little nor big"), "{error}");
}

#[test]
fn lists_and_numbers_are_parts_of_names() {
    let w = || tensor("0", 1, 0, &[1], &[1]);
    let one = 1.5f32.to_le_bytes();
    let inner = [b"}".to_vec(), int(-3), w(), b"s".to_vec()].concat();
    let value = tuple(&[int(1), common::pickle::list(&[w(), inner])]);
    for file in [archive(&value, &[("0", &one)]), legacy(&value, &[("0", &one)])] {
        let checkpoint = open(file);
        assert!(checkpoint.names().eq(["1.0", "1.1.-3"]));
        assert_eq!(checkpoint.tensor::<f32>("1.1.-3").unwrap().data(), [1.5]);
    }
    assert!(open(archive(&w(), &[("0", &one)])).names().eq(["tensor"]));
    assert_eq!(open(archive(&int(1), &[])).names().len(), 0);
    // What an OrderedDict was made of, in Python 2's pickles.
    let pairs = common::pickle::list(&[common::pickle::list(&[text("w"), w()])]);
    let ordered = reduce(common::pickle::global("collections", "OrderedDict"), &[pairs]);
    assert!(open(archive(&ordered, &[("0", &one)])).names().eq(["w"]));
}

#[test]
fn a_module_under_two_names_has_both() {
    let class = || common::pickle::global("models", "Net");
    let one = 1.5f32.to_le_bytes();
    let inner = object(class(), module(&[("w", tensor("0", 1, 0, &[1], &[1]))], &[]));
    // Memoized before its state is known, as Python does.
    let memo = |value: Vec<u8>| {
        let at = value.windows(2).position(|pair| pair == b")\x81").unwrap() + 2;
        [&value[..at], b"q\x07", &value[at..]].concat()
    };
    let outer = object(class(), module(&[], &[("a", memo(inner)), ("b", b"h\x07".to_vec())]));
    assert!(open(archive(&outer, &[("0", &one)])).names().eq(["a.w", "b.w"]));
}

#[test]
fn checksums_may_be_missing_but_not_wrong() {
    let value = dict(&[("w", tensor("0", 1, 0, &[1], &[1]))]);
    let one = 1.5f32.to_le_bytes();
    let zip = |crc| {
        let zip = Zip::new().stored("a/data.pkl", &common::pickle::pickle(&value));
        zip.packed("a/data/0", 0, &one, &one, crc).finish()
    };
    assert_eq!(open(zip(0)).tensor::<f32>("w").unwrap().data(), [1.5]);
    let error = Checkpoint::from_bytes(zip(1)).unwrap_err().to_string();
    assert_eq!(error, "zip archive, entry \"a/data/0\": the checksum of the data is wrong");
}

#[test]
fn a_safetensors_header_may_hold_metadata() {
    let header = r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"f":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[4,6]}}  "#;
    let checkpoint = open(raw_safetensors(header, &[0, 0, 192, 63, 1, 2]));
    assert_eq!(checkpoint.tensor::<f32>("w").unwrap().data(), [1.5]);
    let error = checkpoint.tensor::<f32>("f").unwrap_err().to_string();
    assert!(
        error.contains(
            "\"f\": expected float16, bfloat16, float32 or float64, got elements of type F8_E4M3"
        ),
        "{error}"
    );
}

/// Models trained on real speech, which lie beside the checkout where it is developed.
fn speech() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/real/speech");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing", folder.display());
    eprintln!("SKIPPED: {} is missing", folder.display());
    None
}

#[test]
fn real_models_are_found() {
    let Some(folder) = speech() else { return };
    for (name, constructor, parameters) in [
        ("vad_bilstm", "LSTM(40, 64, num_layers=2, bidirectional=True)", 153_600),
        ("vad_gru", "GRU(40, 96, num_layers=2)", 95_616),
        ("vad_lstm_proj", "LSTM(40, 96, proj_size=32)", 31_488),
    ] {
        let [pt, safetensors] = ["pt", "safetensors"].map(|extension| {
            let path = folder.join(name).with_extension(extension);
            Checkpoint::open(path).unwrap_or_else(|e| panic!("{e}"))
        });
        assert_eq!(contents(&pt), contents(&safetensors));
        for checkpoint in [pt, safetensors] {
            let [layer] = &checkpoint.discover().unwrap()[..] else { panic!("{name}") };
            assert_eq!(
                (layer.prefix.as_str(), layer.to_string()),
                ("encoder.", constructor.into())
            );
            assert_eq!((layer.parameters, layer.bytes), (parameters, 4 * parameters as u64));
            assert_eq!(layer.dtype, Dtype::F32);
            assert_eq!(checkpoint.layer(Some("encoder")).unwrap(), *layer);
            let loaded = checkpoint.load::<f32>(layer).unwrap();
            assert_eq!(loaded.config(), &layer.config);
        }
    }
}
