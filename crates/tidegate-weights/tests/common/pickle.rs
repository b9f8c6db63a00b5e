//! Writes pickles, as `torch.save` does and as it never would.

use super::zip::Zip;

pub(crate) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(crate) fn int(number: i64) -> Vec<u8> {
    [&[0x8a, 8], &number.to_le_bytes()[..]].concat()
}

pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub(crate) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub(crate) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [b"](", &items.concat()[..], b"e"].concat()
}

pub(crate) fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> =
        items.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(", &items[..], b"u"].concat()
}

pub(crate) fn reduce(function: Vec<u8>, arguments: &[Vec<u8>]) -> Vec<u8> {
    [function, tuple(arguments), b"R".to_vec()].concat()
}

/// An object of a class with a state.
pub(crate) fn object(class: Vec<u8>, state: Vec<u8>) -> Vec<u8> {
    [class, b")\x81".to_vec(), state, b"b".to_vec()].concat()
}

/// The attributes of a module.
pub(crate) fn module(parameters: &[(&str, Vec<u8>)], modules: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let tables =
        [("_parameters", dict(parameters)), ("_buffers", dict(&[])), ("_modules", dict(modules))];
    dict(&tables)
}

pub(crate) fn storage(class: &str, key: &str, count: i64) -> Vec<u8> {
    let id = [text("storage"), global("torch", class), text(key), text("cpu"), int(count)];
    [tuple(&id), b"Q".to_vec()].concat()
}

/// A tensor of floats over a storage of `count` elements.
pub(crate) fn tensor(
    key: &str,
    count: i64,
    offset: i64,
    shape: &[i64],
    strides: &[i64],
) -> Vec<u8> {
    let sizes = |sizes: &[i64]| tuple(&sizes.iter().map(|n| int(*n)).collect::<Vec<_>>());
    let hooks = reduce(global("collections", "OrderedDict"), &[]);
    let arguments = [
        storage("FloatStorage", key, count),
        int(offset),
        sizes(shape),
        sizes(strides),
        b"\x89".to_vec(),
        hooks,
    ];
    reduce(global("torch._utils", "_rebuild_tensor_v2"), &arguments)
}

/// A whole pickle of `value`.
pub(crate) fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

/// The archive that `torch.save` would make of a pickle of `value` and these storages.
pub(crate) fn archive(value: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let zip = Zip::new().stored("a/data.pkl", &pickle(value)).stored("a/byteorder", b"little");
    let add = |zip: Zip, (key, data): &(&str, &[u8])| zip.stored(&format!("a/data/{key}"), data);
    storages.iter().fold(zip, add).finish()
}

/// The file of the old format with a pickle of `value` and these storages, of floats.
pub(crate) fn legacy(value: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    let system = pickle(&dict(&[("little_endian", b"\x88".to_vec())]));
    let keys: Vec<_> = storages.iter().map(|(key, _)| text(key)).collect();
    let mut file =
        [magic, pickle(&int(1001)), system, pickle(value), pickle(&list(&keys))].concat();
    for (_, data) in storages {
        file.extend((data.len() as u64 / 4).to_le_bytes());
        file.extend(*data);
    }
    file
}
