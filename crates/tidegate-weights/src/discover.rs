//! Finds the recurrent layers of a checkpoint by the names and shapes of its tensors.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use tidegate::{Config, Element, Mode, RnnBase, StateDict};

use crate::entry::{Entry, FLOATS};
use crate::{Checkpoint, Dtype, Error};

/// A recurrent layer, or cell, of a checkpoint.
///
/// What a state dict does not say is as in PyTorch's constructors, and can be set before loading:
/// the `mode` of an RNN is `RnnTanh`, `batch_first` is false, `dropout` 0.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Layer {
    /// What the names of its parameters begin with: `encoder.`, or nothing.
    pub prefix: String,
    /// The constructor's arguments.
    pub config: Config,
    /// Whether it is an `LSTMCell`, `GRUCell` or `RNNCell`, whose parameters' names have no `_l0`.
    pub cell: bool,
    /// Numbers in its parameters.
    pub parameters: usize,
    /// Bytes of its parameters as the file stores them.
    pub bytes: u64,
    /// The element type of its parameters; the widest if they differ.
    pub dtype: Dtype,
}

impl Layer {
    /// The names of its parameters, in PyTorch's order.
    pub fn names(&self) -> Vec<String> {
        self.named_shapes().into_iter().map(|(name, _)| name).collect()
    }

    /// Names and shapes of its parameters, in PyTorch's order.
    fn named_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut parameters = self.config.parameters();
        for (name, _) in &mut parameters {
            let local = if self.cell { name.trim_end_matches("_l0") } else { &name[..] };
            *name = format!("{}{local}", self.prefix);
        }
        parameters
    }
}

/// Writes the line of Python that constructs it: `LSTM(40, 64, num_layers=2)`, `GRUCell(3, 4)`.
impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { mode, input_size, hidden_size, bias, .. } = self.config;
        if !self.cell {
            return write!(f, "{}", self.config);
        }
        write!(f, "{}Cell({input_size}, {hidden_size}", mode.name())?;
        if !bias {
            write!(f, ", bias=False")?;
        }
        if mode == Mode::RnnRelu {
            write!(f, ", nonlinearity='relu'")?;
        }
        write!(f, ")")
    }
}

impl Checkpoint {
    /// Every recurrent layer and cell, in the file's order.
    ///
    /// # Errors
    /// As [`layer`](Self::layer), for the first whose parameters do not fit together.
    pub fn discover(&self) -> Result<Vec<Layer>, Error> {
        self.discover_each().into_iter().map(|(_, layer)| layer).collect()
    }

    /// The prefix of every recurrent layer and cell, and what it is, in the file's order; for
    /// those who want to see the others although one is broken.
    pub fn discover_each(&self) -> Vec<(String, Result<Layer, Error>)> {
        let inspect = |group: Group<'_>| (group.prefix.to_string(), group.layer());
        groups(self.entries()).into_iter().map(inspect).collect()
    }

    /// The recurrent layer with `prefix`, or the only one.
    ///
    /// The prefix may be given without its last dot, and as its last parts where they say which:
    /// `encoder` for `state_dict.encoder.`.
    ///
    /// # Errors
    /// [`Error::NoLayer`], [`Error::SeveralLayers`], [`Error::NoSuchLayer`]; if its parameters do
    /// not fit together, [`Error::MissingParameter`], [`Error::UnexpectedParameter`],
    /// [`Error::ParameterShape`], [`Error::UnsupportedDtype`] or [`Error::Layer`].
    pub fn layer(&self, prefix: Option<&str>) -> Result<Layer, Error> {
        let mut groups = groups(self.entries());
        let prefixes = |groups: &[Group<'_>]| {
            groups.iter().map(|group| group.prefix.to_string()).collect::<Vec<_>>()
        };
        if groups.is_empty() {
            return Err(Error::NoLayer);
        }
        if let Some(wanted) = prefix {
            let all = prefixes(&groups);
            let dotted = match wanted {
                "" => String::new(),
                wanted => format!("{}.", wanted.trim_end_matches('.')),
            };
            let inner = format!(".{dotted}");
            match groups.iter().any(|group| group.prefix == dotted) {
                true => groups.retain(|group| group.prefix == dotted),
                false => {
                    groups.retain(|group| !dotted.is_empty() && group.prefix.ends_with(&inner))
                }
            }
            if groups.is_empty() {
                return Err(Error::NoSuchLayer { prefix: wanted.to_string(), prefixes: all });
            }
        }
        match &groups[..] {
            [group] => group.layer(),
            _ => Err(Error::SeveralLayers { prefixes: prefixes(&groups) }),
        }
    }

    /// The parameters of `layer` under their names in the file, with its prefix.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor), and [`Error::ParameterShape`] for a layer of another file.
    pub fn state_dict<E: Element>(&self, layer: &Layer) -> Result<StateDict<E>, Error> {
        let limit = crate::limits::data_limit(self.file.len());
        let mut bytes = 0u64;
        let mut dict = StateDict::new();
        for (name, shape) in layer.named_shapes() {
            let entry = self.entry(&name)?;
            if entry.shape != shape {
                let (expected, got) = (format!("{shape:?}"), entry.shape.clone());
                return Err(Error::ParameterShape { name, expected, got });
            }
            // Tensors can be views of the same storage, so that all of them together are too much.
            bytes = bytes.saturating_add(entry.bytes_as(size_of::<E>()));
            if bytes > limit {
                let what = format!("layer {}", crate::error::quoted(&layer.prefix));
                return Err(Error::TooLarge { what, bytes, limit });
            }
            dict.insert(name, entry.tensor(&self.file)?);
        }
        Ok(dict)
    }

    /// The layer with its parameters.
    ///
    /// A cell becomes a stack of one layer: what the cell computes when it is applied to every step.
    ///
    /// # Errors
    /// As [`state_dict`](Self::state_dict), and [`Error::Layer`] if the `config` was changed to one
    /// that does not fit.
    pub fn load<E: Element>(&self, layer: &Layer) -> Result<RnnBase<E>, Error> {
        let dict = self.state_dict(layer)?;
        let failed = |source| Error::Layer { prefix: layer.prefix.clone(), source };
        if !layer.cell {
            return RnnBase::from_state_dict(layer.config, &dict, &layer.prefix).map_err(failed);
        }
        let dict = dict.iter().map(|(name, tensor)| (format!("{name}_l0"), tensor.clone()));
        RnnBase::from_state_dict(layer.config, &dict.collect(), &layer.prefix).map_err(failed)
    }
}

/// Tensors whose names are those of one layer's parameters.
struct Group<'a> {
    prefix: &'a str,
    cell: bool,
    parameters: BTreeMap<Parameter, &'a Entry>,
    /// Tensors beside them that are no such parameters, but look like it.
    surplus: Vec<&'a str>,
}

/// What a parameter's name says: its layer, its direction, and which it is.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Parameter {
    layer: usize,
    reverse: bool,
    stem: &'static str,
}

/// What the names of parameters begin with.
const STEMS: [&str; 5] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"];

impl Parameter {
    /// The parameter that is called `name`, and whether it is one of a cell.
    fn parse(name: &str) -> Option<(Self, bool)> {
        let stem = STEMS.into_iter().find(|stem| name.starts_with(stem))?;
        let rest = &name[stem.len()..];
        if rest.is_empty() {
            return (stem != "weight_hr")
                .then_some((Self { layer: 0, reverse: false, stem }, true));
        }
        let rest = rest.strip_prefix("_l")?;
        let (number, reverse) = match rest.strip_suffix("_reverse") {
            Some(number) => (number, true),
            None => (rest, false),
        };
        let layer: usize = number.parse().ok()?;
        // As Python writes it: no sign, no zeros in front.
        (layer.to_string() == number).then_some((Self { layer, reverse, stem }, false))
    }

    /// Its name in a layer, or in a cell.
    fn name(self, cell: bool) -> String {
        let reverse = if self.reverse { "_reverse" } else { "" };
        match cell {
            true => self.stem.to_string(),
            false => format!("{}_l{}{reverse}", self.stem, self.layer),
        }
    }
}

/// A name's prefix, with its dot, and its last part.
fn split(name: &str) -> (&str, &str) {
    name.split_at(name.rfind('.').map_or(0, |dot| dot + 1))
}

/// The layers and cells of `entries`.
fn groups(entries: &[Entry]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known = BTreeMap::new();
    for entry in entries {
        let (prefix, local) = split(&entry.name);
        let Some((parameter, cell)) = Parameter::parse(local) else { continue };
        let at = *known.entry((prefix, cell)).or_insert_with(|| {
            let (parameters, surplus) = Default::default();
            groups.push(Group { prefix, cell, parameters, surplus });
            groups.len() - 1
        });
        groups[at].parameters.insert(parameter, entry);
    }
    for entry in entries {
        let (prefix, local) = split(&entry.name);
        // What lies beside the parameters belongs to the same module, which then is no plain layer.
        // Without a prefix there is no telling, except by the name.
        let looks_like_one = STEMS.iter().any(|stem| local.starts_with(stem));
        for cell in [false, true] {
            let known = known.get(&(prefix, cell)).filter(|_| !prefix.is_empty() || looks_like_one);
            let is_one = Parameter::parse(local).is_some_and(|(_, of_cell)| of_cell == cell);
            if let Some(&at) = known.filter(|_| !is_one) {
                groups[at].surplus.push(&entry.name);
            }
        }
    }
    groups
}

impl Group<'_> {
    /// The layer that these tensors are, if they fit together.
    fn layer(&self) -> Result<Layer, Error> {
        if let Some(name) = self.surplus.first() {
            return Err(Error::UnexpectedParameter { name: name.to_string() });
        }
        let config = self.config()?;
        let mut layer = Layer {
            prefix: self.prefix.to_string(),
            config,
            cell: self.cell,
            parameters: 0,
            bytes: 0,
            dtype: Dtype::F16,
        };
        let mut expected = 0;
        for (name, shape) in layer.named_shapes() {
            let Some((parameter, _)) = Parameter::parse(split(&name).1) else { continue };
            let entry = self.get(parameter, &format!("{shape:?}"))?;
            if entry.shape != shape {
                return Err(self.mis_shaped(entry, format!("{shape:?}")));
            }
            if !entry.dtype.is_float() {
                return Err(Error::dtype(&name, FLOATS, entry.dtype, entry.note.as_deref()));
            }
            expected += 1;
            layer.parameters += shape.iter().product::<usize>();
            layer.bytes = layer.bytes.saturating_add(entry.bytes());
            layer.dtype = wider(layer.dtype, entry.dtype, expected == 1);
        }
        if expected < self.parameters.len() {
            // The configuration counts every layer and direction there is, so what it does not
            // call for is a projection that the first layer does not have.
            let names = BTreeSet::from_iter(layer.names());
            let surplus = self.parameters.values().find(|entry| !names.contains(&entry.name));
            if let Some(entry) = surplus {
                return Err(Error::UnexpectedParameter { name: entry.name.clone() });
            }
        }
        Ok(layer)
    }

    /// The arguments that the parameters of the first layer tell, and how many layers there are.
    fn config(&self) -> Result<Config, Error> {
        let first = |stem| Parameter { layer: 0, reverse: false, stem };
        let weight_ih = self.matrix(first("weight_ih"), "[gates * H, I]")?;
        let weight_hh = self.matrix(first("weight_hh"), "[gates * H, H]")?;
        let (hidden_size, proj_size) = match self.parameters.contains_key(&first("weight_hr")) {
            false => (weight_hh.shape[1], 0),
            true => {
                let weight_hr = self.matrix(first("weight_hr"), "[P, H]")?;
                (weight_hr.shape[1], weight_hr.shape[0])
            }
        };
        let rows = weight_ih.shape[0];
        let gates = [(4, Mode::Lstm), (3, Mode::Gru), (1, Mode::RnnTanh)];
        let fits = |(gates, _): &(usize, Mode)| hidden_size.checked_mul(*gates) == Some(rows);
        let Some((_, mode)) = gates.into_iter().find(fits).filter(|_| hidden_size > 0) else {
            let input = weight_ih.shape[1];
            let expected = format!("[rows, {input}] with 4, 3 or 1 times {hidden_size} rows");
            return Err(self.mis_shaped(weight_ih, expected));
        };
        let config = Config {
            num_layers: self.count_layers()?,
            bias: self.parameters.keys().any(|parameter| parameter.stem.starts_with("bias")),
            bidirectional: self.parameters.keys().any(|parameter| parameter.reverse),
            proj_size,
            ..Config::new(mode, weight_ih.shape[1], hidden_size)
        };
        let failed = |source| Error::Layer { prefix: self.prefix.to_string(), source };
        config.validate().map_err(failed)?;
        Ok(config)
    }

    /// The number of layers, which must be numbered from 0 on without a gap.
    fn count_layers(&self) -> Result<usize, Error> {
        let layers: BTreeSet<usize> =
            self.parameters.keys().map(|parameter| parameter.layer).collect();
        match (0..).zip(&layers).find(|(expected, layer)| expected != *layer) {
            None => Ok(layers.len()),
            Some((layer, _)) => {
                let missing = Parameter { layer, reverse: false, stem: "weight_ih" };
                let name = format!("{}{}", self.prefix, missing.name(self.cell));
                let expected = "that of a layer between the others".to_string();
                Err(Error::MissingParameter { name, expected })
            }
        }
    }

    fn get(&self, parameter: Parameter, expected: &str) -> Result<&Entry, Error> {
        self.parameters.get(&parameter).copied().ok_or_else(|| Error::MissingParameter {
            name: format!("{}{}", self.prefix, parameter.name(self.cell)),
            expected: expected.to_string(),
        })
    }

    fn matrix(&self, parameter: Parameter, expected: &str) -> Result<&Entry, Error> {
        let entry = self.get(parameter, expected)?;
        match entry.shape.len() {
            2 => Ok(entry),
            _ => Err(self.mis_shaped(entry, expected.to_string())),
        }
    }

    fn mis_shaped(&self, entry: &Entry, expected: String) -> Error {
        Error::ParameterShape { name: entry.name.clone(), expected, got: entry.shape.clone() }
    }
}

/// The type of more bits; of two types of 16 bits, the one seen first.
fn wider(widest: Dtype, next: Dtype, first: bool) -> Dtype {
    if first || next.size() > widest.size() { next } else { widest }
}
