//! The names that a pickle may use, and what each stands for.
//!
//! The list holds what PyTorch's own `torch.load(weights_only=True)` accepts of it, the plain
//! values that people keep beside their weights, and nothing that could do anything: a call of a
//! name on the list builds one of our own values, whatever the name does in Python.

use crate::Dtype;

/// A name on the list.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(in super::super) enum Global {
    /// `collections.OrderedDict` and its like: a call builds a dictionary.
    Dict,
    /// `set`, `frozenset`: a call passes on its list of items.
    Set,
    /// `torch._utils._rebuild_tensor`, `.._v2`, `.._v3`: a call builds a tensor.
    Tensor(Rebuild),
    /// `torch._utils._rebuild_parameter`: a call passes on its first argument, the tensor.
    Parameter,
    /// `torch._tensor._rebuild_from_type_v2`: a call builds the tensor that its arguments describe.
    Subclass,
    /// `torch.FloatStorage` and its like.
    Storage(&'static Type),
    /// `torch.storage.UntypedStorage`.
    Bytes,
    /// `torch.float32` and its like.
    Type(&'static Type),
    /// A class or function whose values nothing here looks into.
    Opaque,
}

/// Which arguments a call that builds a tensor has.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(in super::super) enum Rebuild {
    /// storage, offset, size, stride
    V1,
    /// .., requires_grad, backward_hooks[, metadata]
    V2,
    /// .., requires_grad, backward_hooks, dtype[, metadata]
    V3,
}

/// An element type of PyTorch.
#[derive(Debug, PartialEq)]
pub(in super::super) struct Type {
    /// The class of its storages, or nothing.
    storage: &'static str,
    /// PyTorch's name of it.
    pub(in super::super) name: &'static str,
    pub(in super::super) dtype: Dtype,
    /// Bytes of one element.
    pub(in super::super) size: usize,
}

const fn known(storage: &'static str, dtype: Dtype, size: usize) -> Type {
    Type { storage, name: dtype.name(), dtype, size }
}

const fn other(storage: &'static str, name: &'static str, size: usize) -> Type {
    Type { storage, name, dtype: Dtype::Other, size }
}

static TYPES: [Type; 22] = [
    known("FloatStorage", Dtype::F32, 4),
    known("DoubleStorage", Dtype::F64, 8),
    known("HalfStorage", Dtype::F16, 2),
    known("BFloat16Storage", Dtype::Bf16, 2),
    known("LongStorage", Dtype::I64, 8),
    known("IntStorage", Dtype::I32, 4),
    known("ShortStorage", Dtype::I16, 2),
    known("CharStorage", Dtype::I8, 1),
    known("ByteStorage", Dtype::U8, 1),
    known("BoolStorage", Dtype::Bool, 1),
    known("", Dtype::U16, 2),
    known("", Dtype::U32, 4),
    known("", Dtype::U64, 8),
    other("ComplexFloatStorage", "complex64", 8),
    other("ComplexDoubleStorage", "complex128", 16),
    other("", "complex32", 4),
    other("", "float8_e4m3fn", 1),
    other("", "float8_e5m2", 1),
    other("", "float8_e4m3fnuz", 1),
    other("", "float8_e5m2fnuz", 1),
    other("", "float8_e8m0fnu", 1),
    other("", "float4_e2m1fn_x2", 1),
];

/// What `module.name` stands for, or `None` if it is not on the list.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict" | "defaultdict") => Global::Dict,
        // Python 2's name of the module, which pickles for it keep.
        ("builtins" | "__builtin__", "set" | "frozenset") => Global::Set,
        ("torch._utils", "_rebuild_tensor") => Global::Tensor(Rebuild::V1),
        ("torch._utils", "_rebuild_tensor_v2") => Global::Tensor(Rebuild::V2),
        ("torch._utils", "_rebuild_tensor_v3") => Global::Tensor(Rebuild::V3),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Global::Parameter
        }
        ("torch._tensor", "_rebuild_from_type_v2") => Global::Subclass,
        ("torch.storage", "UntypedStorage") | ("torch", "UntypedStorage") => Global::Bytes,
        ("torch", name) if !name.is_empty() => {
            if let Some(storage) = TYPES.iter().find(|t| t.storage == name) {
                Global::Storage(storage)
            } else if let Some(element) = TYPES.iter().find(|t| t.name == name) {
                Global::Type(element)
            } else if matches!(name, "Tensor" | "Size" | "device") {
                Global::Opaque
            } else {
                return None;
            }
        }
        ("torch._utils", "_rebuild_meta_tensor_no_storage")
        | ("torch.serialization", "_get_layout")
        | ("collections", "Counter")
        | ("argparse", "Namespace")
        | ("pathlib", "PosixPath" | "WindowsPath" | "PurePosixPath" | "PureWindowsPath")
        | ("datetime", "date" | "datetime" | "timedelta")
        | ("_codecs", "encode")
        | ("numpy", "dtype" | "ndarray")
        | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct")
        | (
            "builtins" | "__builtin__",
            "bytearray" | "complex" | "dict" | "list" | "tuple" | "int" | "float" | "str" | "bool",
        ) => Global::Opaque,
        _ => return None,
    })
}

/// Whether the classes and functions of `module` are PyTorch's own building blocks of models, which
/// a whole module may mention: its layers' classes, and activations kept as attributes. They may
/// not be called all the same.
pub(super) fn is_trusted(module: &str) -> bool {
    module == "torch.nn" || module.starts_with("torch.nn.")
}
