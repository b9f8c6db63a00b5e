//! Pickles that were made to do harm, or make no sense: each is refused, by an error that names
//! what is wrong, in little memory and time.

mod common;

use common::cost::{read, refused};
use common::pickle::{
    archive, dict, global, int, legacy, list, module, object, pickle, reduce, storage, tensor,
    text, tuple,
};
use common::zip::Zip;
use tidegate_weights::Checkpoint;

/// An archive of one pickle of `value`, with one storage of one element.
fn torch(value: &[u8]) -> Vec<u8> {
    archive(value, &[("0", &[0; 4])])
}

/// Names that no checkpoint needs, and what can be done with them.
#[test]
fn names_that_are_not_on_the_list() {
    let stack_global =
        |module: &str, name: &str| [text(module), text(name), b"\x93".to_vec()].concat();
    for (module_name, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("subprocess", "check_output"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("__builtin__", "eval"),
        ("__builtin__", "apply"),
        ("importlib", "import_module"),
        ("runpy", "run_path"),
        ("sys", "modules"),
        ("shutil", "rmtree"),
        ("webbrowser", "open"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("pickle", "loads"),
        ("copyreg", "_reconstructor"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch", ""),
        ("torch._utils", "_rebuild_qtensor"),
        ("torch.utils._triton", "os"),
        ("torch.nnx", "Linear"),
        ("numpy", "load"),
        ("__main__", "Net"),
    ] {
        let named = format!("\"{module_name}.{name}\" is not allowed");
        for class in [global(module_name, name), stack_global(module_name, name)] {
            let attributes = dict(&[("command", text("true"))]);
            for (what, value) in [
                ("called", reduce(class.clone(), &[text("true")])),
                ("called without arguments", reduce(class.clone(), &[])),
                ("an object", [class.clone(), b")\x81".to_vec()].concat()),
                (
                    "an object with arguments",
                    [class.clone(), tuple(&[text("true")]), b"\x81".to_vec()].concat(),
                ),
                ("an object with a state", object(class.clone(), attributes.clone())),
                (
                    "an object with half a module's",
                    object(class.clone(), dict(&[("_parameters", dict(&[]))])),
                ),
                ("a value", class.clone()),
                ("a key", [b"}".to_vec(), class.clone(), b"Ns".to_vec()].concat()),
                ("thrown away", [class.clone(), b"0N".to_vec()].concat()),
                ("kept in the memo only", [class.clone(), b"q\x000N".to_vec()].concat()),
                (
                    "a type of storages",
                    [
                        tuple(&[text("storage"), class.clone(), text("0"), text("cpu"), int(1)]),
                        b"Q".to_vec(),
                    ]
                    .concat(),
                ),
                (
                    "in a tuple that is no storage",
                    [tuple(&[text("module"), class.clone(), b"N".to_vec()]), b"Q".to_vec()]
                        .concat(),
                ),
                (
                    "argument of a call",
                    reduce(
                        global("collections", "OrderedDict"),
                        &[list(&[tuple(&[text("x"), class.clone()])])],
                    ),
                ),
                (
                    "called by a rebuild",
                    reduce(
                        global("torch._tensor", "_rebuild_from_type_v2"),
                        &[class.clone(), b"N".to_vec(), tuple(&[]), b"N".to_vec()],
                    ),
                ),
            ] {
                let what = format!("{module_name}.{name}, {what}");
                let value = dict(&[("epoch", int(3)), ("x", value)]);
                for file in [torch(&value), legacy(&value, &[])] {
                    let message = read(&what, &file).expect_err(&what);
                    assert!(message.contains(&named), "{what}: {message}");
                    assert!(message.starts_with("pickle, byte "), "{what}: {message}");
                }
            }
        }
    }
    // Even in the other pickles of the old format.
    let system = legacy(&dict(&[]), &[]);
    let bad = pickle(&reduce(global("os", "system"), &[text("true")]));
    let start = 15;
    let file = [&system[..start], &bad].concat();
    refused("the version", &file, "\"os.system\" is not allowed");
}

/// Classes and functions of PyTorch that whole modules mention may be mentioned, not called.
#[test]
fn names_of_pytorchs_modules_are_not_called() {
    let relu = || global("torch.nn.functional", "relu");
    read("a value", &torch(&dict(&[("act", relu())]))).unwrap();
    refused(
        "called",
        &torch(&reduce(relu(), &[int(1)])),
        "\"torch.nn.functional.relu\" is not allowed",
    );
    let hook = object(global("torch.nn.utils.weight_norm", "WeightNorm"), dict(&[("dim", int(0))]));
    read("an object", &torch(&dict(&[("hook", hook)]))).unwrap();
    // What looks like a module is read like one, whatever its class is called: nothing of it runs.
    let fake = object(global("os", "system"), module(&[("w", tensor("0", 1, 0, &[1], &[1]))], &[]));
    let checkpoint = Checkpoint::from_bytes(torch(&fake)).unwrap();
    assert!(checkpoint.names().eq(["w"]));
}

#[test]
fn opcodes_that_are_not_on_the_list() {
    for opcode in 0..=255u8 {
        let known = b".(01NJKMGXTUCB)t]ae}sucRbQhjqr\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x93\x94\x95\x96";
        let file = torch(&[&[opcode][..], b"os\nsystem\n"].concat());
        match known.contains(&opcode) {
            true => drop(read("known", &file)),
            false => refused("unknown", &file, &format!("(0x{opcode:02x}) is not allowed")),
        }
    }
    for (opcode, name) in [
        ("(S'true'\nios\nsystem\n", "of protocol 0"),
        ("(ios\nsystem\n", "INST"),
        ("(cos\nsystem\no", "OBJ"),
        ("\x02", "unknown"),
    ] {
        refused(name, &torch(opcode.as_bytes()), &format!("opcode {name} (0x"));
    }
    refused("EXT1", &torch(b"\x82\x01"), "opcode EXT (0x82)");
    refused("NEWOBJ_EX", &torch(b"\x92"), "opcode NEWOBJ_EX");
    refused("PERSID", &torch(b"P0\n"), "opcode PERSID");
}

#[test]
fn pickles_that_make_no_sense() {
    for (what, value, expected) in [
        ("nothing", &b""[..], "nothing on the stack"),
        ("only a mark", b"(", "nothing on the stack"),
        ("no mark", b"Nt", "no mark"),
        ("past a mark", b"N(\x85", "too few values"),
        ("a list of None", b"NNa", "no collection"),
        ("items for a tuple", b")Na", "items for what is no list"),
        ("items for a list", b"]NNs", "keys and values for what is no dictionary"),
        ("half a pair", b"}(Nu", "a key without a value"),
        ("memo", b"h\x07", "the memo has no number 7"),
        ("large memo", b"Nr\xff\xff\xff\xff", "builds more than a pickle of this size may"),
        ("protocol", b"\x80\x06", "protocol 6 is unknown"),
        ("long string", b"X\xff\xff\xff\xff", "cut short"),
        ("longer string", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "cut short"),
        ("long bytes", b"B\xff\xff\xff\x7fN", "cut short"),
        ("longer bytes", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fN", "cut short"),
        ("long number", b"\x8b\xff\xff\xff\xffN", "cut short"),
        ("name without end", b"cos", "a name without end"),
        ("name that is no text", b"c\xff\n\n", "a name is not UTF-8"),
        ("name of numbers", b"K\x01K\x02\x93", "STACK_GLOBAL needs two strings"),
        ("call of a number", b"K\x01)R", "a call of what is no function"),
        ("call without tuple", b"ccollections\nOrderedDict\nNR", "arguments that are no tuple"),
        ("pairs that are none", b"ccollections\nOrderedDict\n](Ne\x85R", "an item that is no pair"),
        ("object of a number", b"K\x01)\x81", "an object of what is no class"),
        ("state of a list", b"]}b", "a state for what has none"),
        ("persistent id", b"X\x01\x00\x00\x00xQ", "arguments that are no tuple"),
        ("persistent tuple", b")Q", "a persistent id that is no storage"),
        ("ends early", b"N.N", "something follows its end"),
    ] {
        refused(what, &torch(value), expected);
    }
    let zip = Zip::new().stored("a/data.pkl", b"\x80\x02N").finish();
    refused("no end", &zip, "cut short");
    let zip = Zip::new().stored("a/data.pkl", b"").stored("b/data.pkl", b"").finish();
    refused("two pickles", &zip, "there must be one data.pkl");
}

#[test]
fn tensors_that_lie() {
    let max = i64::MAX;
    let one = |tensor: Vec<u8>| torch(&dict(&[("w", tensor)]));
    for (what, file, expected) in [
        (
            "past the storage",
            one(tensor("0", 1, 0, &[2], &[1])),
            "\"w\": shape [2] needs 2 elements of float32, its storage holds 1",
        ),
        ("offset", one(tensor("0", 1, 1, &[1], &[1])), "\"w\": shape [1] needs 2 elements"),
        (
            "stride",
            one(tensor("0", 1, 0, &[2], &[max])),
            "\"w\": shape [2] needs 9223372036854775808 elements",
        ),
        (
            "product wraps",
            one(tensor("0", 1, 0, &[max, max], &[0, 0])),
            "\"w\": shape [9223372036854775807, 9223372036854775807] has more",
        ),
        (
            "repeats",
            one(tensor("0", 1, 0, &[1 << 40], &[0])),
            "tensor \"w\" would grow to 4398046511104 bytes",
        ),
        ("negative offset", one(tensor("0", 1, -1, &[1], &[1])), "-1 where a size should be"),
        ("negative stride", one(tensor("0", 1, 0, &[1], &[-1])), "-1 where a size should be"),
        ("negative size", one(tensor("0", 1, 0, &[-1], &[1])), "-1 where a size should be"),
        ("negative count", one(tensor("0", -1, 0, &[1], &[1])), "-1 where a size should be"),
        ("ranks differ", one(tensor("0", 1, 0, &[1], &[1, 1])), "more or fewer strides"),
        (
            "many dimensions",
            one(tensor("0", 1, 0, &[1; 65], &[1; 65])),
            "65 dimensions are more than 64",
        ),
        (
            "larger storage",
            one(tensor("0", 2, 0, &[1], &[1])),
            "\"w\": its storage \"0\" has 4 bytes, the pickle says 2 elements of 4",
        ),
        (
            "storage wraps",
            one(tensor("0", max, 0, &[1], &[1])),
            "\"w\": its storage \"0\" has 4 bytes",
        ),
        ("no storage", one(tensor("7", 1, 0, &[1], &[1])), "entry \"a/data/7\" is missing"),
        (
            "another folder",
            one(tensor("../data.pkl", 1, 0, &[1], &[1])),
            "entry \"a/data/../data.pkl\" is missing",
        ),
        (
            "no arguments",
            one(reduce(global("torch._utils", "_rebuild_tensor_v2"), &[])),
            "a tensor with other arguments",
        ),
        (
            "no storage at all",
            one(reduce(
                global("torch._utils", "_rebuild_tensor"),
                &[int(1), int(0), tuple(&[]), tuple(&[])],
            )),
            "a tensor with other arguments",
        ),
    ] {
        refused(what, &file, expected);
    }
    let arguments = |metadata| {
        let hooks = reduce(global("collections", "OrderedDict"), &[]);
        [
            storage("FloatStorage", "0", 1),
            int(0),
            tuple(&[]),
            tuple(&[]),
            b"\x89".to_vec(),
            hooks,
            metadata,
        ]
    };
    let negated = dict(&[("neg", b"\x88".to_vec())]);
    let rebuild = || global("torch._utils", "_rebuild_tensor_v2");
    refused(
        "negated",
        &one(reduce(rebuild(), &arguments(negated))),
        "a conjugated or negated view",
    );
    read("not negated", &one(reduce(rebuild(), &arguments(dict(&[]))))).unwrap();
    let w = || tensor("0", 1, 0, &[1], &[1]);
    let twice = dict(&[("a.b", w()), ("a", dict(&[("b", w())]))]);
    refused("one name for two", &torch(&twice), "two tensors are called \"a.b\"");
    refused(
        "one key for two",
        &torch(&dict(&[("a", w()), ("a", w())])),
        "two tensors are called \"a\"",
    );
    let packed = Zip::new()
        .stored("a/data.pkl", &pickle(&dict(&[("w", w())])))
        .deflated("a/data/0", &[0; 4]);
    refused("compressed", &packed.finish(), "\"a/data/0\": it is compressed");
}

#[test]
fn storages_of_the_old_format_that_lie() {
    let value = dict(&[("w", tensor("0", 1, 0, &[1], &[1]))]);
    let right = legacy(&value, &[("0", &[0; 4])]);
    read("right", &right).unwrap();
    let at = right.len() - 12;
    for (count, expected) in [
        (0, "something follows the last storage"),
        (2, "storage \"0\": its data lie outside"),
        (1 << 62, "storage \"0\": its data lie outside"),
        (u64::MAX, "storage \"0\": its data lie outside"),
    ] {
        let mut file = right.clone();
        file[at..at + 8].copy_from_slice(&u64::to_le_bytes(count));
        refused(&format!("{count} elements"), &file, expected);
    }
    refused("cut", &right[..right.len() - 5], "storage \"0\"");
    refused("longer", &[&right[..], b"x"].concat(), "something follows the last storage");
    refused("no storages", &legacy(&value, &[]), "storage \"0\" is missing");
    let twice = legacy(&value, &[("0", &[0; 4]), ("0", &[0; 4])]);
    refused("the same twice", &twice, "storage \"0\": it is listed twice");
    let unused = legacy(&value, &[("0", &[0; 4]), ("1", &[0; 4])]);
    refused("one that is not used", &unused, "storage \"1\": no tensor uses it");
    let other = dict(&[("w", tensor("0", 2, 0, &[1], &[1]))]);
    refused("another size", &legacy(&other, &[("0", &[0; 4])]), "has 4 bytes, the pickle says 2");
}

/// Pickles that are small, or cheap to write, and would be large or slow to follow.
#[test]
fn pickles_that_ask_for_memory_and_time() {
    const N: usize = 300_000;
    let doubling = |first: &[u8], twice: &[u8], n: usize| {
        let mut value = first.to_vec();
        for _ in 0..n {
            value.extend(b"q\x000");
            value.extend(twice);
        }
        value
    };
    // Each is two of the one before: 2^60 values to walk through, 60 to hold.
    let tuples = doubling(b")", b"h\x00h\x00\x86", 60);
    refused("doubling tuples", &torch(&tuples), "by too many ways");
    let dicts = doubling(b"}", b"}(K\x01h\x00K\x02h\x00u", 60);
    refused("doubling dicts", &torch(&dicts), "by too many ways");
    let tensors = doubling(&tensor("0", 1, 0, &[1], &[1]), b"h\x00h\x00\x86", 60);
    refused("doubling tensors", &torch(&tensors), "by too many ways");
    // A list that holds itself, once and twice.
    refused("circle", &torch(b"]q\x00h\x00a"), "nest more than 128 deep");
    refused("two circles", &torch(b"]q\x00(h\x00h\x00e"), "nest more than 128 deep");
    let deep = [&b"]"[..], &b"\x85".repeat(N)].concat();
    refused("deep tuples", &torch(&deep), "nest more than 128 deep");
    // A long key on a way that is taken often.
    let keyed = [
        b"}q\x01".to_vec(),
        text(&"k".repeat(N)),
        b"]s0](".to_vec(),
        b"h\x01".repeat(N),
        b"e".to_vec(),
    ]
    .concat();
    refused("long keys", &torch(&keyed), "by too many ways");
    for (what, unit) in [
        ("None", &b"N"[..]),
        ("tuples", b")"),
        ("lists", b"]"),
        ("dicts", b"}"),
        ("marks", b"("),
        ("tuples of one", b"N\x85"),
        ("lists in the memo", b"]\x94"),
        ("numbers in the memo", b"N\x94"),
        ("names", b"ca\n\n"),
        ("sets", b"(\x91"),
        ("lists of one", b"]Na"),
    ] {
        let all = [&b"("[..], &unit.repeat(N), b"t"].concat();
        drop(read(what, &torch(&all)));
        drop(read(what, &torch(&unit.repeat(N))));
        drop(read(what, &legacy(&all, &[])));
    }
    // Work for each of many objects: a state of many attributes, a call with many arguments.
    let attributes: Vec<u8> = (0..N).flat_map(|_| b"NN".to_vec()).collect();
    let state = [&b"}("[..], &attributes, b"uq\x000"].concat();
    let objects =
        [&state[..], b"ctorch.nn\nA\nq\x010", &b"h\x01)\x81h\x00b0".repeat(N), b"N"].concat();
    refused("large states", &torch(&objects), "builds more than a pickle of this size may");
    let arguments = [&b"("[..], &b"N".repeat(N), b"tq\x000"].concat();
    let calls =
        [&arguments[..], b"ctorch\ndevice\nq\x010", &b"h\x01h\x00R0".repeat(N), b"N"].concat();
    refused("large calls", &torch(&calls), "builds more than a pickle of this size may");
    let items = [&b"("[..], b"](", &b"(NNt".repeat(N / 10), b"etq\x000"].concat();
    let copies =
        [&items[..], b"ccollections\nOrderedDict\nq\x010", &b"h\x01h\x00R0".repeat(N / 10), b"N"]
            .concat();
    refused("many copies", &torch(&copies), "builds more than a pickle of this size may");
}
