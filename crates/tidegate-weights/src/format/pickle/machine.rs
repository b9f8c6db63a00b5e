//! The interpreter: a stack, a memo, and a fixed list of opcodes.

use super::objects::Name;
use super::{Node, Pickle, Storage, Text, Value, View};
use crate::Error;
use crate::limits::Budget;

/// Reads the pickle that `bytes` begin with; `base` is their place in the file, for messages.
///
/// # Errors
/// [`Error::Pickle`], [`Error::ForbiddenOpcode`], [`Error::ForbiddenGlobal`].
pub(in super::super) fn read<'a>(
    bytes: &'a [u8],
    base: usize,
    budget: &Budget,
) -> Result<Pickle<'a>, Error> {
    // Places in it are kept as 32 bits.
    let bytes = &bytes[..bytes.len().min(u32::MAX as usize)];
    let mut machine = Machine {
        bytes,
        at: 0,
        opcode: 0,
        base,
        stack: Vec::new(),
        highest: 0,
        marks: Vec::new(),
        memo: Vec::new(),
        nodes: Vec::new(),
        names: Vec::new(),
        budget,
    };
    while machine.step()? {}
    let root = machine.pop()?;
    machine.check_names()?;
    Ok(Pickle { bytes, end: machine.at, nodes: machine.nodes, root })
}

pub(super) struct Machine<'a, 'b> {
    pub(super) bytes: &'a [u8],
    /// The next byte.
    at: usize,
    /// Where the opcode is that runs.
    pub(super) opcode: usize,
    pub(super) base: usize,
    stack: Vec<Value>,
    /// How high the stack has been, which is paid for.
    highest: usize,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: Vec<Value>,
    pub(super) nodes: Vec<Node>,
    /// Names that are not on the list.
    pub(super) names: Vec<Name>,
    budget: &'b Budget,
}

pub(super) type Done = Result<(), Error>;

impl<'a> Machine<'a, '_> {
    /// Runs one opcode; whether there is another.
    fn step(&mut self) -> Result<bool, Error> {
        self.opcode = self.at;
        let [opcode] = self.array()?;
        match opcode {
            b'.' => return Ok(false),
            // PROTO, FRAME
            0x80 => match self.array()? {
                [0..=5] => Ok(()),
                [version] => Err(self.wrong(format!("protocol {version} is unknown"))),
            },
            0x95 => self.take(8).map(drop),
            // MARK, POP, POP_MARK
            b'(' => {
                self.charge(size_of::<usize>())?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => match self.marks.last() == Some(&self.stack.len()) {
                true => self.pop_to_mark().map(drop),
                false => self.pop().map(drop),
            },
            b'1' => self.pop_to_mark().map(drop),
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            // BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(i64::from(number)))
            }
            b'K' => {
                let [number] = self.array()?;
                self.push(Value::Int(i64::from(number)))
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(i64::from(number)))
            }
            0x8a => self.long(1),
            0x8b => self.long(4),
            b'G' => {
                self.take(8)?;
                self.push(Value::Scalar)
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8; SHORT_BINSTRING, BINSTRING of Python 2
            b'X' | b'T' => self.string(4),
            0x8c | b'U' => self.string(1),
            0x8d => self.string(8),
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'C' => self.blob(1),
            b'B' => self.blob(4),
            0x8e | 0x96 => self.blob(8),
            // EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3
            b')' => self.push_node(Node::Tuple(Vec::new())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push_node(Node::Tuple(items))
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push_node(Node::Tuple(items))
            }
            // EMPTY_LIST, EMPTY_SET, FROZENSET; APPEND; APPENDS, ADDITEMS
            b']' | 0x8f => self.push_node(Node::List(Vec::new())),
            0x91 => {
                let items = self.pop_to_mark()?;
                self.push_node(Node::List(items))
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(items)
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.append(items)
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => self.push_node(Node::Dict(Vec::new())),
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(&items)
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)
            }
            0x93 => match self.pop_many(2)?[..] {
                [Value::Text(module), Value::Text(name)] => self.global(module, name),
                _ => Err(self.wrong("STACK_GLOBAL needs two strings")),
            },
            // REDUCE, NEWOBJ, BUILD, BINPERSID
            b'R' => {
                let arguments = self.pop()?;
                let function = self.pop()?;
                let result = self.call(function, arguments)?;
                self.push(result)
            }
            0x81 => self.new_object(),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            // BINGET, LONG_BINGET, BINPUT, LONG_BINPUT, MEMOIZE
            b'h' => {
                let [number] = self.array()?;
                self.get(usize::from(number))
            }
            b'j' => {
                let number = u32::from_le_bytes(self.array()?);
                self.get(number as usize)
            }
            b'q' => {
                let [number] = self.array()?;
                self.put(usize::from(number))
            }
            b'r' => {
                let number = u32::from_le_bytes(self.array()?);
                self.put(number as usize)
            }
            0x94 => self.put(self.memo.len()),
            opcode => {
                let name = forbidden_name(opcode);
                let offset = self.base + self.opcode;
                Err(Error::ForbiddenOpcode { opcode, name, offset })
            }
        }?;
        Ok(true)
    }

    // Input.

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let taken = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.wrong("cut short"))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A little-endian number of `width` bytes that is the length of what follows.
    fn length(&mut self, width: usize) -> Result<usize, Error> {
        let mut number = [0; 8];
        number[..width].copy_from_slice(self.take(width)?);
        let number = u64::from_le_bytes(number);
        usize::try_from(number).map_err(|_| self.wrong(format!("{number} bytes are too many")))
    }

    fn string(&mut self, width: usize) -> Done {
        let length = self.length(width)?;
        let start = self.at;
        let text = std::str::from_utf8(self.take(length)?);
        // Python 2's strings may be bytes, and Python's may hold what is not Unicode: no names.
        let value = text.map_or(Value::Scalar, |_| Value::Text(place(start, length)));
        self.push(value)
    }

    fn blob(&mut self, width: usize) -> Done {
        let length = self.length(width)?;
        self.take(length)?;
        self.push(Value::Scalar)
    }

    fn long(&mut self, width: usize) -> Done {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        let mut number = [if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 }; 8];
        let value = match number.get_mut(..length) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(number))
            }
            None => Value::Scalar,
        };
        self.push(value)
    }

    fn line(&mut self) -> Result<Text, Error> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let length = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or_else(|| self.wrong("a name without end"))?;
        std::str::from_utf8(&rest[..length]).map_err(|_| self.wrong("a name is not UTF-8"))?;
        self.at += length + 1;
        Ok(place(start, length))
    }

    // Stack, memo and budget.

    pub(super) fn wrong(&self, problem: impl Into<String>) -> Error {
        Error::Pickle { offset: self.base + self.opcode, problem: problem.into() }
    }

    pub(super) fn charge(&self, bytes: usize) -> Done {
        let within = self.budget.charge(bytes);
        within.ok_or_else(|| self.wrong("it builds more than a pickle of this size may"))
    }

    pub(super) fn push(&mut self, value: Value) -> Done {
        if self.stack.len() == self.highest {
            self.charge(size_of::<Value>())?;
            self.highest += 1;
        }
        self.stack.push(value);
        Ok(())
    }

    /// A new value that holds `node`.
    pub(super) fn node(&mut self, node: Node) -> Result<Value, Error> {
        let payload = match &node {
            Node::Tuple(items) | Node::List(items) => items.len() * size_of::<Value>(),
            Node::Dict(items) => items.len() * 2 * size_of::<Value>(),
            Node::Storage(_) => size_of::<Storage>(),
            Node::Tensor(view) => size_of::<View>() + 16 * view.shape.len(),
            Node::Object(_) | Node::Opaque => 0,
        };
        self.charge(size_of::<Node>() + payload)?;
        self.nodes.push(node);
        // Each of them costs a byte of the pickle, whose length fits 32 bits.
        Ok(Value::Node((self.nodes.len() - 1) as u32))
    }

    pub(super) fn push_node(&mut self, node: Node) -> Done {
        let value = self.node(node)?;
        self.push(value)
    }

    /// How many values lie above the last open mark.
    fn above_mark(&self) -> usize {
        self.stack.len() - self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<Value, Error> {
        match self.above_mark() {
            0 => Err(self.wrong("nothing on the stack where a value should be")),
            _ => self.stack.pop().ok_or_else(|| self.wrong("nothing on the stack")),
        }
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, Error> {
        match self.above_mark() >= count {
            true => Ok(self.stack.split_off(self.stack.len() - count)),
            false => Err(self.wrong("too few values on the stack")),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, Error> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => Err(self.wrong("no mark on the stack")),
        }
    }

    /// The value on top, which must be a node.
    pub(super) fn top(&mut self) -> Result<&mut Node, Error> {
        let number = match self.stack.last() {
            Some(Value::Node(number)) if self.above_mark() > 0 => *number as usize,
            _ => return Err(self.wrong("no collection on top of the stack")),
        };
        Ok(&mut self.nodes[number])
    }

    fn get(&mut self, number: usize) -> Done {
        match self.memo.get(number).copied() {
            Some(value) => self.push(value),
            None => Err(self.wrong(format!("the memo has no number {number}"))),
        }
    }

    fn put(&mut self, number: usize) -> Done {
        let value = self.pop()?;
        if number >= self.memo.len() {
            // Python counts up; a tool that dropped some leaves gaps, which are paid for.
            self.charge((number + 1 - self.memo.len()).saturating_mul(size_of::<Value>()))?;
            self.memo.resize(number + 1, Value::Scalar);
        }
        self.memo[number] = value;
        self.push(value)
    }
}

fn place(start: usize, length: usize) -> Text {
    // Both lie in the pickle, whose length fits 32 bits.
    Text { start: start as u32, length: length as u32 }
}

/// Python's name of an opcode that is not allowed.
fn forbidden_name(opcode: u8) -> &'static str {
    match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        0x82..=0x84 => "EXT",
        0x92 => "NEWOBJ_EX",
        0x97 | 0x98 => "BUFFER",
        b'P' => "PERSID",
        b'2' => "DUP",
        b'I' | b'L' | b'F' | b'S' | b'V' | b'g' | b'p' | b'd' | b'l' => "of protocol 0",
        _ => "unknown",
    }
}
