//! A character model: learns from text to continue it.
//!
//! ```text
//! cargo run --release -p tidegate-candle --example charlm                       # this repository's documents
//! cargo run --release -p tidegate-candle --example charlm -- --text book.txt --steps 2000 --checkpoint book.safetensors
//! cargo run --release -p tidegate-candle --example charlm -- --text book.txt --checkpoint book.safetensors --steps 0 --sample 1000
//! ```
//!
//! The text is cut into as many pieces as a batch has rows, which are read side by side; the state at the end of one chunk of
//! steps is that at the beginning of the next, without gradients between chunks (truncated back-propagation through
//! time). With `--checkpoint` the parameters are saved at the end, and training resumes from them if they are there; Adam's
//! moments begin anew. Exit status 1 if the text became no more predictable.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::{
    AdamW, Init, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, loss, ops,
};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tidegate::Generator;
use tidegate_candle::{Config, Gru, Mode, Options, State, clip_grad_norm};

const CPU: Device = Device::Cpu;

#[derive(Parser)]
#[command(about = "Learns from text, character by character, to continue it")]
struct Arguments {
    /// Files to learn from; by default README.md, ARCHITECTURE.md, NUMERICS.md and CONTRIBUTING.md.
    #[arg(long, num_args = 1..)]
    text: Vec<PathBuf>,
    /// Steps of training.
    #[arg(long, default_value_t = 300)]
    steps: usize,
    /// Hidden units of each of the two layers.
    #[arg(long, default_value_t = 128)]
    hidden: usize,
    /// Rows of a batch.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Characters of a chunk.
    #[arg(long, default_value_t = 64)]
    chunk: usize,
    /// Characters to write at the end.
    #[arg(long, default_value_t = 300)]
    sample: usize,
    /// Where parameters are kept.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let text = read(&arguments.text)?;
    let saved = match &arguments.checkpoint {
        Some(path) if path.exists() => Some(
            candle_core::safetensors::load(path, &CPU)
                .with_context(|| format!("{}", path.display()))?,
        ),
        _ => None,
    };
    let mut characters: Vec<char> = match &saved {
        Some(tensors) => characters_of(tensors)?,
        None => text.chars().collect(),
    };
    characters.sort_unstable();
    characters.dedup();
    let mut model = Model::new(characters, arguments.hidden)?;
    if let Some(tensors) = &saved {
        model.set(tensors)?;
        println!("resumed after {} steps", model.steps);
    }
    let codes = model.encoded(&text)?;
    let (before, after) = model.train(&codes, &arguments)?;
    let sample = model.sample(&codes[..1], arguments.sample)?;
    println!("{sample}\n");
    if let Some(path) = &arguments.checkpoint {
        model.save(path)?;
    }
    if arguments.steps == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{before:.2} bits a character at the beginning, {after:.2} after {} steps",
        model.steps
    );
    // Of a resumed model that has learned its text, little may be left to learn.
    let learned = after < if saved.is_some() { 1.1 * before } else { 0.8 * before };
    if !learned {
        eprintln!("charlm: the text became no more predictable");
    }
    Ok(if learned { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files' contents one after the other.
fn read(files: &[PathBuf]) -> Result<String> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let documents = ["README.md", "ARCHITECTURE.md", "NUMERICS.md", "CONTRIBUTING.md"];
    let files = match files {
        [] => documents.iter().map(|name| root.join(name)).collect(),
        files => files.to_vec(),
    };
    let read = |file: PathBuf| {
        std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))
    };
    files.into_iter().map(read).collect()
}

/// The characters a checkpoint knows.
fn characters_of(tensors: &HashMap<String, Tensor>) -> Result<Vec<char>> {
    let codes = tensors.get("characters").context("the checkpoint has no tensor `characters`")?;
    let character = |code: u32| char::from_u32(code).context("a character that is none");
    codes.to_vec1::<u32>()?.into_iter().map(character).collect()
}

/// Two GRU layers over one-hot characters, and a linear layer.
struct Model {
    gru: Gru,
    head: Linear,
    variables: VarMap,
    characters: Vec<char>,
    steps: u32,
}

impl Model {
    fn new(characters: Vec<char>, hidden: usize) -> Result<Self> {
        let variables = VarMap::new();
        let vb = VarBuilder::from_varmap(&variables, DType::F32, &CPU);
        let config = Config {
            num_layers: 2,
            dropout: 0.1,
            batch_first: true,
            ..Config::new(Mode::Gru, characters.len(), hidden)
        };
        let gru = Gru::with_config(config, vb.pp("gru"))?;
        let bound = 1.0 / (hidden as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let weight = vb.get_with_hints((characters.len(), hidden), "head.weight", init)?;
        let bias = vb.get_with_hints(characters.len(), "head.bias", init)?;
        let head = Linear::new(weight, Some(bias));
        Ok(Self { gru, head, variables, characters, steps: 0 })
    }

    /// Takes over a checkpoint.
    fn set(&mut self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        for (name, variable) in self.variables.data().lock().expect("no panic").iter() {
            let tensor = tensors.get(name).with_context(|| format!("no tensor `{name}`"))?;
            ensure!(
                tensor.dims() == variable.dims(),
                "{name} is {:?} in the checkpoint, {:?} here: --hidden as before?",
                tensor.dims(),
                variable.dims()
            );
            variable.set(tensor)?;
        }
        self.steps = tensors.get("steps").context("no tensor `steps`")?.to_scalar()?;
        Ok(())
    }

    /// Saves everything that [`set`](Self::set) takes over.
    fn save(&self, path: &PathBuf) -> Result<()> {
        let mut tensors: HashMap<String, Tensor> = HashMap::new();
        for (name, variable) in self.variables.data().lock().expect("no panic").iter() {
            tensors.insert(name.clone(), variable.as_detached_tensor());
        }
        let codes = self.characters.iter().map(|&c| u32::from(c));
        tensors.insert("characters".to_string(), Tensor::from_iter(codes, &CPU)?);
        tensors.insert("steps".to_string(), Tensor::new(self.steps, &CPU)?);
        let unfinished = path.with_extension("unfinished");
        candle_core::safetensors::save(&tensors, &unfinished)?;
        std::fs::rename(&unfinished, path).with_context(|| format!("{}", path.display()))
    }

    /// The number of each character of `text`.
    fn encoded(&self, text: &str) -> Result<Vec<u32>> {
        let number = |c: char| {
            let at = self.characters.binary_search(&c);
            at.map(|at| at as u32).ok().with_context(|| format!("{c:?} is not in the checkpoint"))
        };
        text.chars().map(number).collect()
    }

    /// One-hot vectors `[B, T, characters]` of `codes: [B, T]`.
    fn one_hot(&self, codes: &Tensor) -> Result<Tensor> {
        let (rows, steps) = codes.dims2()?;
        let identity = Tensor::eye(self.characters.len(), DType::F32, &CPU)?;
        Ok(identity.index_select(&codes.flatten_all()?, 0)?.reshape((rows, steps, ()))?)
    }

    /// Scores of the next character after each of `codes: [B, T]`, `[B * T, characters]`, and the final state.
    fn scores(
        &self,
        codes: &Tensor,
        state: Option<&State>,
        train: bool,
    ) -> Result<(Tensor, State)> {
        let options = Options { state, train, ..Options::default() };
        let result = self.gru.forward_with(&self.one_hot(codes)?, options)?;
        let scores = self.head.forward(&result.output.flatten_to(1)?)?;
        Ok((scores, State { h: result.state.h.detach(), c: None }))
    }

    /// Trains; returns the bits a character of the first and of the last steps.
    fn train(&mut self, codes: &[u32], arguments: &Arguments) -> Result<(f64, f64)> {
        let &Arguments { steps, batch, chunk, .. } = arguments;
        let length = codes.len() / batch;
        ensure!(
            length > chunk,
            "{} characters are too few for {batch} rows of {chunk}",
            codes.len()
        );
        let variables = self.variables.all_vars();
        let adam = ParamsAdamW { lr: 4e-3, weight_decay: 0.0, ..ParamsAdamW::default() };
        let mut optimizer = AdamW::new(variables.clone(), adam)?;
        let bar = ProgressBar::new(steps as u64).with_style(ProgressStyle::with_template(
            "{bar:30} {pos}/{len} steps, {msg}, {eta} left",
        )?);
        let (mut at, mut state, mut losses) = (0, None, Vec::new());
        for _ in 0..steps {
            if at + chunk >= length {
                (at, state) = (0, None); // the end of the text: from the beginning again
            }
            let rows = |from: usize| -> Result<Tensor> {
                let row = |b: usize| codes[b * length + from..][..chunk].iter().copied();
                Ok(Tensor::from_iter((0..batch).flat_map(row), &CPU)?.reshape((batch, chunk))?)
            };
            let (scores, next) = self.scores(&rows(at)?, state.as_ref(), true)?;
            let loss = loss::cross_entropy(&scores, &rows(at + 1)?.flatten_all()?)?;
            let mut gradients = loss.backward()?;
            clip_grad_norm(&variables, &mut gradients, 1.0)?;
            optimizer.step(&gradients)?;
            losses.push(f64::from(loss.to_scalar::<f32>()?) / std::f64::consts::LN_2);
            (state, at) = (Some(next), at + chunk);
            self.steps += 1;
            bar.set_message(format!("{:.2} bits a character", losses[losses.len() - 1]));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let few = losses.len().min(5);
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
        Ok((mean(&losses[..few]), mean(&losses[losses.len() - few..])))
    }

    /// Continues `codes` by `count` characters, drawn as probable as the model finds them.
    fn sample(&self, codes: &[u32], count: usize) -> Result<String> {
        let mut generator = Generator::manual_seed(1);
        let (mut next, mut state) = (codes.to_vec(), None);
        let mut text = String::new();
        for _ in 0..count {
            let codes = Tensor::new(&next[..], &CPU)?.reshape((1, next.len()))?;
            let (scores, after) = self.scores(&codes, state.as_ref(), false)?;
            let last = scores.get(next.len() - 1)?;
            let probabilities = ops::softmax(&(last / 0.7)?, 0)?.to_vec1::<f32>()?;
            let mut left = generator.uniform::<f32>();
            let drawn = probabilities.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            let drawn = drawn.unwrap_or(probabilities.len() - 1);
            text.push(self.characters[drawn]);
            (next, state) = (vec![drawn as u32], Some(after));
        }
        Ok(text)
    }
}
