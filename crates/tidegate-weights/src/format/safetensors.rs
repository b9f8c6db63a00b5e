//! `.safetensors`: a JSON header of names, types, shapes and offsets, then the data.

use core::fmt;

use safetensors::Dtype as FileDtype;
use safetensors::tensor::TensorInfo;
use serde::Deserializer;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

use super::Dtype;
use crate::Error;
use crate::entry::{Entry, Layout, Storage, element_count};

/// The tensors of a file, in the order of their data.
///
/// The header is read here rather than by `SafeTensors::deserialize`, whose errors do not always
/// name the tensor and which keeps the last of two tensors of the same name.
pub(super) fn parse(file: &[u8]) -> Result<Vec<Entry>, Error> {
    let lies = |problem: String| Error::at("safetensors header", problem);
    let (length, rest) =
        file.split_first_chunk::<8>().ok_or_else(|| lies("cut short".to_string()))?;
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(..length))
        .ok_or_else(|| lies(format!("it claims {length} bytes, the file has {}", rest.len())))?;
    let data = 8 + header.len();
    let mut deserializer = serde_json::Deserializer::from_slice(header);
    let mut tensors = deserializer.deserialize_map(Header).map_err(|e| lies(e.to_string()))?;
    deserializer.end().map_err(|e| lies(e.to_string()))?;

    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut free = 0;
    let mut entries = Vec::with_capacity(tensors.len());
    for (name, info) in tensors {
        let (start, end) = info.data_offsets;
        let problem = |problem: String| Err(Error::tensor(&name, problem));
        if start < free {
            return problem(format!(
                "data at {start}..{end} overlap the tensor before, up to {free}"
            ));
        }
        if start > free {
            return problem(format!("data at {start}..{end} leave a gap behind {free}"));
        }
        if end < start || end > file.len() - data {
            return problem(format!(
                "data at {start}..{end} lie outside of the file's {} bytes of data",
                file.len() - data
            ));
        }
        let bits = element_count(&info.shape).and_then(|n| n.checked_mul(info.dtype.bitsize()));
        if bits.is_none_or(|bits| bits % 8 != 0 || bits / 8 != end - start) {
            return problem(format!(
                "shape {:?} of {} does not fill its {} bytes of data",
                &info.shape[..info.shape.len().min(crate::MAX_DIMS)],
                info.dtype,
                end - start
            ));
        }
        free = end;
        entries.push(match dtype(info.dtype) {
            Dtype::Other => Entry::unread(name, &info.dtype.to_string(), info.shape)?,
            dtype => {
                let storage = Storage::Plain(data + start..data + end);
                Entry::new(name, dtype, info.shape, storage, Layout::PLAIN)?
            }
        });
    }
    if free != file.len() - data {
        return Err(lies(format!(
            "its tensors end at {free}, the file holds {} bytes of data",
            file.len() - data
        )));
    }
    Ok(entries)
}

/// Names and descriptions of a header, in its order.
struct Header;

impl<'de> Visitor<'de> for Header {
    type Value = Vec<(String, TensorInfo)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that names tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let info = map.next_value().map_err(|e| {
                A::Error::custom(format!("tensor {}: {e}", crate::error::quoted(&name)))
            })?;
            tensors.push((name, info));
        }
        Ok(tensors)
    }
}

/// Our name of a type.
fn dtype(dtype: FileDtype) -> Dtype {
    match dtype {
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::Bf16,
        FileDtype::F32 => Dtype::F32,
        FileDtype::F64 => Dtype::F64,
        FileDtype::BOOL => Dtype::Bool,
        FileDtype::U8 => Dtype::U8,
        FileDtype::I8 => Dtype::I8,
        FileDtype::U16 => Dtype::U16,
        FileDtype::I16 => Dtype::I16,
        FileDtype::U32 => Dtype::U32,
        FileDtype::I32 => Dtype::I32,
        FileDtype::U64 => Dtype::U64,
        FileDtype::I64 => Dtype::I64,
        _ => Dtype::Other,
    }
}
