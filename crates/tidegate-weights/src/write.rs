//! Writes `.safetensors`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;

use safetensors::tensor::{Dtype as FileDtype, View};
use tidegate::{Element, StateDict};

use crate::entry::{Entry, NUMBERS};
use crate::{Checkpoint, Dtype, Error};

/// Writes `dict` as a `.safetensors` file. Equal dicts give equal bytes.
///
/// ```
/// use tidegate::Lstm;
/// use tidegate_weights::{Checkpoint, write_safetensors};
///
/// let lstm = Lstm::<f32>::builder(10, 20).build()?;
/// let mut file = Vec::new();
/// write_safetensors(&mut file, &lstm.state_dict())?;
/// assert_eq!(Checkpoint::from_bytes(file)?.names().len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Write`].
pub fn write_safetensors<E: Element>(writer: impl Write, dict: &StateDict<E>) -> Result<(), Error> {
    let single = size_of::<E>() == size_of::<f32>();
    let raw = |(name, tensor): (_, &tidegate::Tensor<E>)| {
        let data = tensor.data().iter().map(|x| x.to_f64());
        let data: Vec<u8> = match single {
            true => data.flat_map(|x| (x as f32).to_le_bytes()).collect(),
            false => data.flat_map(f64::to_le_bytes).collect(),
        };
        let dtype = if single { FileDtype::F32 } else { FileDtype::F64 };
        (name, Raw { dtype, shape: tensor.shape().to_vec(), data: Cow::Owned(data) })
    };
    write(writer, dict.iter().map(raw).collect())
}

impl Checkpoint {
    /// Writes the tensors that `keep` chooses by name as a `.safetensors` file, in the element
    /// types they have. Equal tensors give equal bytes.
    ///
    /// # Errors
    /// [`Error::Write`]; as [`tensor`](Self::tensor), but integers and truth values are written.
    pub fn write_safetensors(
        &self,
        writer: impl Write,
        mut keep: impl FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let kept = self.entries().iter().filter(|entry| keep(&entry.name));
        let raw = |entry| self.raw(entry);
        write(writer, kept.map(raw).collect::<Result<_, Error>>()?)
    }

    fn raw<'a>(&'a self, entry: &'a Entry) -> Result<(&'a str, Raw<'a>), Error> {
        let dtype = match entry.dtype {
            Dtype::F16 => FileDtype::F16,
            Dtype::Bf16 => FileDtype::BF16,
            Dtype::F32 => FileDtype::F32,
            Dtype::F64 => FileDtype::F64,
            Dtype::Bool => FileDtype::BOOL,
            Dtype::U8 => FileDtype::U8,
            Dtype::I8 => FileDtype::I8,
            Dtype::U16 => FileDtype::U16,
            Dtype::I16 => FileDtype::I16,
            Dtype::U32 => FileDtype::U32,
            Dtype::I32 => FileDtype::I32,
            Dtype::U64 => FileDtype::U64,
            Dtype::I64 => FileDtype::I64,
            Dtype::Other => {
                return Err(entry.expected(NUMBERS));
            }
        };
        let data = entry.little_endian(&self.file)?;
        Ok((&entry.name, Raw { dtype, shape: entry.shape.clone(), data }))
    }
}

/// A tensor as it will lie in the file.
struct Raw<'a> {
    dtype: FileDtype,
    shape: Vec<usize>,
    data: Cow<'a, [u8]>,
}

impl View for Raw<'_> {
    fn dtype(&self) -> FileDtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

fn write(mut writer: impl Write, tensors: Vec<(&str, Raw<'_>)>) -> Result<(), Error> {
    // Other readers ask whose layout of parameters this is; it is PyTorch's.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let file = safetensors::serialize(tensors, Some(metadata))
        .map_err(|e| Error::at("safetensors header", e.to_string()))?;
    writer.write_all(&file).and_then(|()| writer.flush()).map_err(|source| Error::Write { source })
}
