//! Pickles, read as data: nothing is imported, nothing is called.
//!
//! `machine.rs` runs the opcodes, `objects.rs` what they build or refuse; `globals.rs` is the list of
//! names a pickle may use and what each of them builds; `walk.rs` names the tensors of what was
//! built. Values refer to one another by number, as Python's do by reference, so that a value that
//! is used a thousand times exists once.

mod globals;
mod machine;
mod objects;
mod walk;

use std::borrow::Cow;

pub(super) use globals::Type;
pub(super) use machine::read;
pub(super) use walk::{Found, tensors};

/// What a pickle built.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    /// The pickle and what follows it.
    bytes: &'a [u8],
    nodes: Vec<Node>,
    root: Value,
    /// Where the pickle ends.
    pub(super) end: usize,
}

/// A Python value: itself where it is small, otherwise the number of a [`Node`].
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Text(Text),
    /// A number or bytes that nothing here looks at.
    Scalar,
    /// A name on the list.
    Global(globals::Global),
    /// A name that is not on the list, by its number.
    Name(u32),
    Node(u32),
}

/// A string, by its place in the pickle.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) struct Text {
    start: u32,
    length: u32,
}

/// A value that others may hold.
#[derive(Debug)]
enum Node {
    Tuple(Vec<Value>),
    /// A list or a set.
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// An object of the class with this number, before its state is known.
    Object(u32),
    Storage(Box<Storage>),
    Tensor(Box<View>),
    /// An object that nothing here looks into.
    Opaque,
}

/// The memory that tensors are views of, which lies outside of the pickle.
#[derive(Debug)]
pub(super) struct Storage {
    /// Its name: a string or a number.
    key: Value,
    /// `None` for bytes without a type.
    pub(super) element: Option<&'static Type>,
    /// How many elements, or bytes, it has.
    pub(super) count: usize,
}

/// A tensor: a view of a storage.
#[derive(Debug)]
struct View {
    /// The number of the storage.
    storage: u32,
    element: &'static Type,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl<'a> Pickle<'a> {
    /// What the pickle is all about.
    pub(super) fn root(&self) -> Value {
        self.root
    }

    /// The string `text`.
    pub(super) fn text(&self, text: Text) -> &'a str {
        slice(self.bytes, text)
    }

    /// A string or a number as a name; `None` for anything else.
    pub(super) fn name(&self, value: Value) -> Option<Cow<'a, str>> {
        match value {
            Value::Text(text) => Some(Cow::Borrowed(self.text(text))),
            Value::Int(number) => Some(Cow::Owned(number.to_string())),
            _ => None,
        }
    }

    /// The name of `storage`.
    pub(super) fn key(&self, storage: &Storage) -> Cow<'a, str> {
        self.name(storage.key).unwrap_or_default()
    }

    /// The items, if `value` is a list.
    pub(super) fn list(&self, value: Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value under `key`, if `value` is a dictionary that has one.
    pub(super) fn get(&self, value: Value, key: &str) -> Option<Value> {
        let Node::Dict(items) = self.node(value)? else { return None };
        lookup(self.bytes, items, key)
    }

    /// Every storage that the pickle mentions.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }

    fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(number) => self.nodes.get(number as usize),
            _ => None,
        }
    }
}

/// A string of the pickle `bytes`; its place was checked when it was read.
fn slice(bytes: &[u8], text: Text) -> &str {
    let start = text.start as usize;
    let bytes = bytes.get(start..start + text.length as usize).unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// The value under `key` in the items of a dictionary: the last one, as in Python.
fn lookup(bytes: &[u8], items: &[(Value, Value)], key: &str) -> Option<Value> {
    let is_key = |value: &Value| matches!(value, Value::Text(text) if slice(bytes, *text) == key);
    items.iter().rev().find(|(found, _)| is_key(found)).map(|(_, value)| *value)
}
