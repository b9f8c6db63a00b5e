//! Names, calls and objects: what REDUCE, NEWOBJ, BUILD and BINPERSID build, and what APPENDS and
//! SETITEMS put into it.

use std::collections::HashSet;

use super::globals::{self, Global, Rebuild};
use super::machine::{Done, Machine};
use super::{Node, Storage, Text, Value, View, lookup, raw, slice};
use crate::Error;
use crate::limits::MAX_DIMS;

/// A name that is not on the list.
pub(super) struct Name {
    module: Text,
    name: Text,
    /// Where it is used first.
    offset: usize,
    /// Whether it may stand in a pickle: PyTorch's own, or the class of a module.
    pub(super) allowed: bool,
}

impl Machine<'_, '_> {
    pub(super) fn global(&mut self, module: Text, name: Text) -> Done {
        // STACK_GLOBAL can name strings that exist already.
        self.charge(module.length as usize + name.length as usize)?;
        let module_name = slice(self.bytes, module);
        if let Some(global) = globals::find(module_name, slice(self.bytes, name)) {
            return self.push(Value::Global(global));
        }
        self.charge(size_of::<Name>())?;
        let allowed = globals::is_trusted(module_name);
        self.names.push(Name { module, name, offset: self.base + self.opcode, allowed });
        self.push(Value::Name((self.names.len() - 1) as u32))
    }

    /// The error for a name that is used as only names on the list may be.
    fn forbidden(&self, name: &Name) -> Error {
        let [module, last] = [name.module, name.name].map(|text| slice(self.bytes, text));
        Error::ForbiddenGlobal { name: format!("{module}.{last}"), offset: name.offset }
    }

    /// Refuses names that turned out to be no module's class.
    pub(super) fn check_names(&self) -> Done {
        self.names
            .iter()
            .find(|name| !name.allowed)
            .map_or(Ok(()), |name| Err(self.forbidden(name)))
    }

    /// The bytes of a string, paid for: a pickle can ask for a long one again and again.
    fn paid_text(&self, value: Value) -> Result<Option<&[u8]>, Error> {
        self.charge(1 + value.text_length())?;
        Ok(match value {
            Value::Text(text) => Some(raw(self.bytes, text)),
            _ => None,
        })
    }

    /// What a call of `function` builds.
    pub(super) fn call(&mut self, function: Value, arguments: Value) -> Result<Value, Error> {
        let global = match function {
            Value::Global(global) => global,
            Value::Name(number) => return Err(self.forbidden(&self.names[number as usize])),
            _ => return Err(self.wrong("a call of what is no function")),
        };
        let arguments = self.tuple(arguments)?;
        match (global, &arguments[..]) {
            (Global::Opaque, _) => self.node(Node::Opaque),
            (Global::Dict, arguments) => self.new_dict(arguments),
            (Global::Set, []) => self.node(Node::List(Vec::new())),
            (Global::Set, [items]) => Ok(*items),
            (Global::Parameter, [tensor, ..]) => Ok(*tensor),
            (Global::Tensor(rebuild), arguments) => self.tensor(rebuild, arguments),
            (Global::Subclass, [Value::Global(Global::Tensor(rebuild)), _, arguments, ..]) => {
                let arguments = self.tuple(*arguments)?;
                self.tensor(*rebuild, &arguments)
            }
            (Global::Subclass, [Value::Name(number), ..]) => {
                Err(self.forbidden(&self.names[*number as usize]))
            }
            _ => Err(self.wrong("a call with arguments that the function does not have")),
        }
    }

    /// A copy of the items of a tuple, which is paid for like one, since a pickle can ask for it
    /// again and again.
    fn tuple(&mut self, value: Value) -> Result<Vec<Value>, Error> {
        let Some(Node::Tuple(items)) = self.node_of(value) else {
            return Err(self.wrong("arguments that are no tuple"));
        };
        self.charge(items.len())?;
        Ok(items.clone())
    }

    fn node_of(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(number) => self.nodes.get(number as usize),
            _ => None,
        }
    }

    fn list(&self, value: Value) -> Option<&[Value]> {
        match self.node_of(value)? {
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node_of(value)? {
            Node::Dict(items) => Some(items),
            _ => None,
        }
    }

    /// `OrderedDict()`, `OrderedDict([[key, value], ..])`, `defaultdict(type)`.
    fn new_dict(&mut self, arguments: &[Value]) -> Result<Value, Error> {
        let pairs = arguments.first().and_then(|pairs| self.list(*pairs)).unwrap_or_default();
        let mut items = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match self.node_of(*pair) {
                Some(Node::Tuple(pair) | Node::List(pair)) if pair.len() == 2 => {
                    items.push((pair[0], pair[1]));
                }
                _ => return Err(self.wrong("an item that is no pair")),
            }
        }
        self.node(Node::Dict(items))
    }

    fn tensor(&mut self, rebuild: Rebuild, arguments: &[Value]) -> Result<Value, Error> {
        let wrong = || self.wrong("a tensor with other arguments than PyTorch's");
        let [Value::Node(storage), offset, shape, strides, rest @ ..] = arguments else {
            return Err(wrong());
        };
        let Node::Storage(memory) = &self.nodes[*storage as usize] else { return Err(wrong()) };
        let (element, metadata) = match (rebuild, rest) {
            (Rebuild::V1, []) => (memory.element, &[][..]),
            (Rebuild::V2, [_, _, metadata @ ..]) => (memory.element, metadata),
            (Rebuild::V3, [_, _, Value::Global(Global::Type(element)), metadata @ ..]) => {
                (Some(*element), metadata)
            }
            _ => return Err(wrong()),
        };
        let element = element.ok_or_else(|| self.wrong("a tensor of bytes without a type"))?;
        if memory.element.is_some_and(|stored| stored != element) {
            return Err(self.wrong("a tensor of another type than its storage"));
        }
        // Its only keys are `conj` and `neg`: the numbers are not what is stored.
        let empty =
            |value: &Value| *value == Value::None || self.dict(*value).is_some_and(<[_]>::is_empty);
        if !metadata.iter().all(empty) {
            return Err(self.wrong("a conjugated or negated view: save a copy of the tensor"));
        }
        let view = View {
            storage: *storage,
            element,
            offset: self.size(*offset)?,
            shape: self.sizes(*shape)?,
            strides: self.sizes(*strides)?,
        };
        if view.shape.len() != view.strides.len() {
            return Err(self.wrong("a tensor with more or fewer strides than dimensions"));
        }
        self.node(Node::Tensor(Box::new(view)))
    }

    fn size(&self, value: Value) -> Result<usize, Error> {
        match value {
            Value::Int(number) => usize::try_from(number)
                .map_err(|_| self.wrong(format!("{number} where a size should be"))),
            _ => Err(self.wrong("no number where a size should be")),
        }
    }

    fn sizes(&self, value: Value) -> Result<Vec<usize>, Error> {
        match self.node_of(value) {
            Some(Node::Tuple(items) | Node::List(items)) if items.len() <= MAX_DIMS => {
                items.iter().map(|item| self.size(*item)).collect()
            }
            Some(Node::Tuple(items) | Node::List(items)) => {
                let problem = format!("{} dimensions are more than {MAX_DIMS}", items.len());
                Err(self.wrong(problem))
            }
            _ => Err(self.wrong("no tuple where sizes should be")),
        }
    }

    /// APPENDS: puts items into a list.
    pub(super) fn append(&mut self, items: Vec<Value>) -> Done {
        self.charge(items.len() * size_of::<Value>())?;
        match self.top()? {
            Node::List(list) => list.extend(items),
            Node::Opaque => {}
            // A class that inherits from list.
            Node::Object(class) => {
                let class = *class as usize;
                return Err(self.forbidden(&self.names[class]));
            }
            _ => return Err(self.wrong("items for what is no list")),
        }
        Ok(())
    }

    /// SETITEMS: puts keys and their values into a dictionary.
    pub(super) fn set_items(&mut self, items: &[Value]) -> Done {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.wrong("a key without a value"));
        }
        self.charge(size_of_val(items))?;
        match self.top()? {
            Node::Dict(dict) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            // A class that inherits from dict.
            Node::Object(class) => {
                let class = *class as usize;
                return Err(self.forbidden(&self.names[class]));
            }
            _ => return Err(self.wrong("keys and values for what is no dictionary")),
        }
        Ok(())
    }

    /// NEWOBJ: an object that `class.__new__(class)` would make.
    pub(super) fn new_object(&mut self) -> Done {
        let arguments = self.pop()?;
        match self.pop()? {
            Value::Global(Global::Opaque) => self.push_node(Node::Opaque),
            Value::Global(Global::Dict) => self.push_node(Node::Dict(Vec::new())),
            Value::Name(number) => match self.tuple(arguments)?.is_empty() {
                true => self.push_node(Node::Object(number)),
                false => Err(self.forbidden(&self.names[number as usize])),
            },
            _ => Err(self.wrong("an object of what is no class")),
        }
    }

    /// BUILD: gives an object its state. An object of a class that is not on the list must be a
    /// module, and becomes the dictionary that its `state_dict()` would be made from.
    pub(super) fn build(&mut self) -> Done {
        let state = self.pop()?;
        let class = match self.top()? {
            // Attributes of a dictionary are no items of it.
            Node::Dict(_) | Node::Opaque => return Ok(()),
            Node::Object(class) => *class as usize,
            _ => return Err(self.wrong("a state for what has none")),
        };
        let items = match self.module(state)? {
            Some(items) => items,
            None if self.names[class].allowed => {
                *self.top()? = Node::Opaque;
                return Ok(());
            }
            None => return Err(self.forbidden(&self.names[class])),
        };
        self.charge(items.len() * 2 * size_of::<Value>())?;
        self.names[class].allowed = true;
        *self.top()? = Node::Dict(items);
        Ok(())
    }

    /// Parameters, buffers and modules of the module with the attributes `state`; `None` if it is
    /// no module, which keeps them in three dictionaries.
    fn module(&self, state: Value) -> Result<Option<Vec<(Value, Value)>>, Error> {
        let Some(attributes) = self.dict(state) else { return Ok(None) };
        // Looking for names is work that a pickle can ask for again and again: it is paid for.
        self.charge(4 * attributes.len())?;
        let attribute = |name| lookup(self.bytes, attributes, name);
        let [Some(parameters), Some(buffers), Some(modules)] =
            ["_parameters", "_buffers", "_modules"]
                .map(|table| attribute(table).and_then(|table| self.dict(table)))
        else {
            return Ok(None);
        };
        let names = attribute("_non_persistent_buffers_set").and_then(|names| self.list(names));
        let mut transient = HashSet::new();
        for name in names.unwrap_or_default() {
            transient.extend(self.paid_text(*name)?);
        }
        let mut items = parameters.to_vec();
        for (name, value) in buffers {
            let persists = self.paid_text(*name)?.is_none_or(|name| !transient.contains(name));
            items.extend(persists.then_some((*name, *value)));
        }
        items.extend(modules);
        items.retain(|(_, value)| *value != Value::None);
        Ok(Some(items))
    }

    /// BINPERSID: what lies outside of the pickle, that is a storage. In the old format also the
    /// class of a module with its source, which is dropped.
    pub(super) fn persistent(&mut self) -> Done {
        let id = self.pop()?;
        let id = self.tuple(id)?;
        let tag = match id.first() {
            Some(Value::Text(text)) => raw(self.bytes, *text),
            _ => b"",
        };
        match (tag, &id[..]) {
            (b"module", [_, class, ..]) => self.push(*class),
            (
                b"storage",
                [_, class, key @ (Value::Text(_) | Value::Int(_)), _, count, view @ ..],
            ) => {
                let element = match class {
                    Value::Global(Global::Storage(element)) => Some(*element),
                    Value::Global(Global::Bytes) => None,
                    Value::Name(number) => {
                        return Err(self.forbidden(&self.names[*number as usize]));
                    }
                    _ => return Err(self.wrong("a storage of what is no type")),
                };
                if view.iter().any(|view| *view != Value::None) {
                    return Err(self.wrong(
                        "a storage that is a view of another: save it with a newer PyTorch",
                    ));
                }
                let count = self.size(*count)?;
                self.push_node(Node::Storage(Box::new(Storage { key: *key, element, count })))
            }
            _ => Err(self.wrong("a persistent id that is no storage")),
        }
    }
}
