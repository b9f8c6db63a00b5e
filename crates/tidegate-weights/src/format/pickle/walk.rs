//! Names the tensors of a pickle by the keys that lead to them: `state_dict.encoder.weight_ih_l0`.

use super::{Node, Pickle, Storage, Value, globals::Type};
use crate::Error;
use crate::limits::Budget;

/// Keys that may lie between the root and a tensor. A guess with room: modules nest about ten deep.
const MAX_DEPTH: usize = 128;

/// A tensor of a pickle, and the storage it is a view of.
pub(in super::super) struct Found<'p> {
    pub(in super::super) name: String,
    pub(in super::super) element: &'static Type,
    pub(in super::super) storage: &'p Storage,
    pub(in super::super) offset: usize,
    pub(in super::super) shape: &'p [usize],
    pub(in super::super) strides: &'p [usize],
}

/// The tensors that dictionaries, lists and tuples lead to from the root, in Python's order; a
/// tensor that is all there is, is called `tensor`.
///
/// What lies under a key that is neither a string nor a number has no name and is left out.
///
/// # Errors
/// [`Error::Malformed`] if collections nest too deeply or in a circle, or lead to the same values
/// by too many ways.
pub(in super::super) fn tensors<'p>(
    pickle: &'p Pickle<'_>,
    budget: &'p Budget,
) -> Result<Vec<Found<'p>>, Error> {
    let mut walk =
        Walk { pickle, budget, path: String::new(), open: Vec::new(), found: Vec::new() };
    if let Some(Node::Tensor(_)) = pickle.node(pickle.root()) {
        walk.path.push_str("tensor");
    }
    walk.visit(pickle.root(), 0)?;
    while let Some(place) = walk.open.last_mut() {
        let (collection, index, length) = (place.collection, place.next, place.length);
        place.next += 1;
        walk.path.truncate(length);
        let item = match collection {
            Node::Dict(items) => items.get(index).copied(),
            Node::Tuple(items) | Node::List(items) => {
                items.get(index).map(|value| (Value::Int(index as i64), *value))
            }
            _ => None,
        };
        match item {
            None => drop(walk.open.pop()),
            Some((key, value @ Value::Node(_))) => walk.enter(key, value)?,
            Some(_) => walk.pay(1)?,
        }
    }
    Ok(walk.found)
}

struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    budget: &'p Budget,
    /// The keys up to here, with dots between them.
    path: String,
    open: Vec<Place<'p>>,
    found: Vec<Found<'p>>,
}

/// A collection that is being walked through.
struct Place<'p> {
    collection: &'p Node,
    next: usize,
    /// How long the path to it is.
    length: usize,
}

impl<'p> Walk<'p, '_> {
    /// Every visit costs, or a few collections that hold one another several times would take
    /// exponential time.
    fn pay(&self, bytes: usize) -> Result<(), Error> {
        let within = self.budget.charge(bytes);
        within.ok_or_else(|| Error::at("pickle", "it leads to the same values by too many ways"))
    }

    fn enter(&mut self, key: Value, value: Value) -> Result<(), Error> {
        // Before its bytes are looked at.
        self.pay(key.text_length() + 1)?;
        let Some(key) = self.pickle.name(key) else { return Ok(()) };
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(&key);
        self.visit(value, self.path.len())
    }

    fn visit(&mut self, value: Value, length: usize) -> Result<(), Error> {
        match self.pickle.node(value) {
            Some(collection @ (Node::Dict(_) | Node::List(_) | Node::Tuple(_))) => {
                if self.open.len() == MAX_DEPTH {
                    let problem = format!("collections nest more than {MAX_DEPTH} deep");
                    return Err(Error::at("pickle", problem));
                }
                self.open.push(Place { collection, next: 0, length });
            }
            Some(Node::Tensor(view)) => {
                self.pay(size_of::<Found<'_>>() + self.path.len() + 16 * view.shape.len())?;
                let Some(Node::Storage(storage)) = self.pickle.nodes.get(view.storage as usize)
                else {
                    return Err(Error::tensor(&self.path, "its storage is gone"));
                };
                self.found.push(Found {
                    name: self.path.clone(),
                    element: view.element,
                    storage,
                    offset: view.offset,
                    shape: &view.shape,
                    strides: &view.strides,
                });
            }
            _ => {}
        }
        Ok(())
    }
}
