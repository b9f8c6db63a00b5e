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

use crate::Error;
use crate::limits::Budget;

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

    /// A string or a number as a name; `None` for anything else. Of a string all bytes are looked at:
    /// the caller has paid for them.
    fn name(&self, value: Value) -> Option<Cow<'a, str>> {
        match value {
            Value::Text(text) => Some(Cow::Borrowed(slice(self.bytes, text))),
            Value::Int(number) => Some(Cow::Owned(number.to_string())),
            _ => None,
        }
    }

    /// The same, paid for: a pickle can use one long string again and again, at two bytes a use.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the budget is spent.
    pub(super) fn paid_name(
        &self,
        value: Value,
        budget: &Budget,
    ) -> Result<Option<Cow<'a, str>>, Error> {
        let within = budget.charge(value.text_length());
        within.ok_or_else(|| Error::at("pickle", "it uses long names too often"))?;
        Ok(self.name(value))
    }

    /// The name of `storage`, paid for.
    ///
    /// # Errors
    /// As [`paid_name`](Self::paid_name).
    pub(super) fn key(&self, storage: &Storage, budget: &Budget) -> Result<Cow<'a, str>, Error> {
        Ok(self.paid_name(storage.key, budget)?.unwrap_or_default())
    }

    /// The items, if `value` is a list.
    pub(super) fn list(&self, value: Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::List(items) => Some(items),
            _ => None,
        }
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

impl Value {
    /// Bytes of it, if it is a string, otherwise 0.
    fn text_length(self) -> usize {
        match self {
            Self::Text(text) => text.length as usize,
            _ => 0,
        }
    }
}

/// The bytes of a string of the pickle `bytes`; its place was checked when it was read.
fn raw(bytes: &[u8], text: Text) -> &[u8] {
    let start = text.start as usize;
    bytes.get(start..start + text.length as usize).unwrap_or_default()
}

/// A string of the pickle `bytes`. Takes time in proportion to its length, unlike [`raw`].
fn slice(bytes: &[u8], text: Text) -> &str {
    std::str::from_utf8(raw(bytes, text)).unwrap_or_default()
}

/// The value under `key` in the items of a dictionary: the last one, as in Python.
fn lookup(bytes: &[u8], items: &[(Value, Value)], key: &str) -> Option<Value> {
    // Of a string of another length, no byte is looked at.
    let is_key =
        |value: &Value| matches!(value, Value::Text(text) if raw(bytes, *text) == key.as_bytes());
    items.iter().rev().find(|(found, _)| is_key(found)).map(|(_, value)| *value)
}
