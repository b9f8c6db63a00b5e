//! Writes `.safetensors`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;

use safetensors::tensor::{Dtype as FileDtype, TensorInfo};
use serde::Serializer;
use serde::ser::SerializeMap;
use tidegate::{Element, StateDict};

use crate::dtype::reserve;
use crate::entry::{Entry, NUMBERS};
use crate::error::quoted;
use crate::limits::data_limit;
use crate::{Checkpoint, Dtype, Error};

/// The longest header that the crate `safetensors` reads, and with it the rest of the world.
const LONGEST_HEADER: usize = 100_000_000;

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
/// [`Error::Write`], [`Error::OutOfMemory`].
pub fn write_safetensors<E: Element>(writer: impl Write, dict: &StateDict<E>) -> Result<(), Error> {
    let single = size_of::<E>() == size_of::<f32>();
    let raw = |(name, tensor): (_, &tidegate::Tensor<E>)| {
        let elements = tensor.data();
        let mut data = reserve(size_of_val(elements))?;
        for x in elements.iter().map(|x| x.to_f64()) {
            match single {
                true => data.extend((x as f32).to_le_bytes()),
                false => data.extend(x.to_le_bytes()),
            }
        }
        let dtype = if single { FileDtype::F32 } else { FileDtype::F64 };
        Ok((name, Raw { dtype, shape: tensor.shape().to_vec(), data: Cow::Owned(data) }))
    };
    write(writer, dict.iter().map(raw).collect::<Result<_, Error>>()?)
}

impl Checkpoint {
    /// Writes the tensors that `keep` chooses by name as a `.safetensors` file, in the element
    /// types they have. Equal tensors give equal bytes.
    ///
    /// # Errors
    /// [`Error::Write`]; as [`tensor`](Self::tensor), but integers and truth values are written, and
    /// [`Error::TooLarge`] is about all of them together.
    pub fn write_safetensors(
        &self,
        writer: impl Write,
        mut keep: impl FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let kept = self.entries().iter().filter(|entry| keep(&entry.name));
        let limit = data_limit(self.file.len());
        let (mut bytes, mut tensors) = (0u64, Vec::new());
        for entry in kept {
            // Tensors can be views of the same storage, so that all of them together are too much.
            bytes = bytes.saturating_add(entry.bytes());
            if bytes > limit {
                let what = format!("tensor {} and those before it", quoted(&entry.name));
                return Err(Error::TooLarge { what, bytes, limit });
            }
            tensors.push(self.raw(entry)?);
        }
        write(writer, tensors)
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

/// Writes `tensors`, which are in memory, in the order of `safetensors::serialize`, which copies them
/// all first.
fn write(mut writer: impl Write, mut tensors: Vec<(&str, Raw<'_>)>) -> Result<(), Error> {
    // Those of the largest elements first, so that all lie at multiples of their size.
    tensors.sort_by(|(name, a), (other, b)| b.dtype.cmp(&a.dtype).then(name.cmp(other)));
    let header = header(&tensors)?;
    let mut parts = vec![&header[..]];
    parts.extend(tensors.iter().map(|(_, tensor)| &*tensor.data));
    let mut written = parts.into_iter().try_for_each(|part| writer.write_all(part));
    written = written.and_then(|()| writer.flush());
    written.map_err(|source| Error::Write { source })
}

/// What a file of `tensors` begins with: the header's length, and the header.
fn header(tensors: &[(&str, Raw<'_>)]) -> Result<Vec<u8>, Error> {
    let failed = |problem: String| Error::at("safetensors header", problem);
    let mut header = vec![0; 8];
    serialize(tensors, &mut header).map_err(|e| failed(e.to_string()))?;
    // Spaces up to a multiple of 8, where the data begin.
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = header.len() - 8;
    if length > LONGEST_HEADER {
        return Err(failed(format!("{length} bytes are more than other readers read")));
    }
    header[..8].copy_from_slice(&(length as u64).to_le_bytes());
    Ok(header)
}

/// Appends the object of JSON that says where the data of each tensor lie.
fn serialize(tensors: &[(&str, Raw<'_>)], header: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(header);
    let mut map = serializer.serialize_map(Some(1 + tensors.len()))?;
    // Other readers ask whose layout of parameters this is; it is PyTorch's.
    map.serialize_entry("__metadata__", &HashMap::from([("format", "pt")]))?;
    let mut start = 0;
    for (name, Raw { dtype, shape, data }) in tensors {
        let data_offsets = (start, start + data.len());
        start = data_offsets.1;
        let (dtype, shape) = (*dtype, shape.clone());
        map.serialize_entry(name, &TensorInfo { dtype, shape, data_offsets })?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_crate_safetensors() {
        let data: Vec<u8> = (0..16).collect();
        for of in [
            &[][..],
            &[
                ("b", FileDtype::F32, 2),
                ("a\n", FileDtype::F32, 1),
                ("c", FileDtype::U8, 3),
                ("d", FileDtype::I64, 2),
            ],
        ] {
            let raw = |&(name, dtype, count): &(_, FileDtype, usize)| {
                let data = Cow::Borrowed(&data[..count * dtype.bitsize() / 8]);
                (name, Raw { dtype, shape: vec![1, count], data })
            };
            let view = |(name, raw): &(&str, Raw<'_>)| {
                (
                    name.to_string(),
                    TensorView::new(raw.dtype, raw.shape.clone(), &data[..raw.data.len()]).unwrap(),
                )
            };
            let tensors: Vec<_> = of.iter().map(raw).collect();
            let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
            let expected =
                safetensors::serialize(tensors.iter().map(view), Some(metadata)).unwrap();
            let mut written = Vec::new();
            write(&mut written, tensors).unwrap();
            assert_eq!(written, expected);
        }
    }
}
