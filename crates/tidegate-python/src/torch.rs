//! PyTorch, as far as a call needs it: its tensors as addresses, and the modes it may be in.
#![allow(unsafe_code, reason = "PyTorch describes its tensors by a table of C functions")]

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;

use dlpack_ffi::{DLDataTypeCode, DLDeviceType, DLPACK_MAJOR_VERSION, DLPackExchangeAPI, DLTensor};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyDict, PyTuple};

use crate::array::{Array, Block, MAX_DIMS};

/// Describes a tensor without owning it, the quick way that DLPack 1.3 defines.
type Describe = unsafe extern "C" fn(*mut c_void, *mut DLTensor) -> c_int;

/// What is asked of PyTorch in every call, looked up once.
pub(crate) struct Torch {
    tensor: Py<PyAny>,
    parameter: Py<PyAny>,
    float32: Py<PyAny>,
    float64: Py<PyAny>,
    strided: Py<PyAny>,
    /// None for an older PyTorch, which has no such function.
    describe: Option<Describe>,
    empty_like: Py<PyAny>,
    get_num_threads: Py<PyAny>,
    is_grad_enabled: Py<PyAny>,
    is_autocast_enabled: Py<PyAny>,
    cpu: Py<PyTuple>,
    tracing_state: Py<PyAny>,
    forward_ad: Py<PyAny>,
    peek_interpreter_stack: Py<PyAny>,
    mode_stacks: [Py<PyAny>; 2],
}

/// A strided tensor of float32 or float64 on the CPU, kept alive by this, and as it was when it was read.
#[derive(Clone)]
pub(crate) struct Tensor<'py> {
    pub(crate) object: Bound<'py, PyAny>,
    pub(crate) array: Array,
    pub(crate) double: bool,
}

impl Tensor<'_> {
    /// All elements of a contiguous tensor.
    pub(crate) fn block(&self) -> Block {
        self.array.block()
    }
}

/// Whether a tensor wants a gradient.
pub(crate) fn requires_grad(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.getattr(intern!(object.py(), "requires_grad"))?.is_truthy()
}

impl Torch {
    pub(crate) fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static TORCH: PyOnceLock<Torch> = PyOnceLock::new();
        TORCH.get_or_try_init(py, || Self::import(py))
    }

    fn import(py: Python<'_>) -> PyResult<Self> {
        let torch = py.import("torch")?;
        let of = |path: &str| -> PyResult<Py<PyAny>> {
            let start = torch.clone().into_any();
            Ok(path.split('.').try_fold(start, |object, name| object.getattr(name))?.unbind())
        };
        py.import("torch.autograd.forward_ad")?;
        let tensor = of("Tensor")?;
        Ok(Self {
            describe: describe_of(tensor.bind(py)),
            tensor,
            parameter: of("nn.Parameter")?,
            float32: of("float32")?,
            float64: of("float64")?,
            strided: of("strided")?,
            empty_like: of("empty_like")?,
            get_num_threads: of("get_num_threads")?,
            is_grad_enabled: of("is_grad_enabled")?,
            is_autocast_enabled: of("is_autocast_enabled")?,
            cpu: PyTuple::new(py, ["cpu"])?.unbind(),
            tracing_state: of("_C._get_tracing_state")?,
            forward_ad: of("autograd.forward_ad")?,
            peek_interpreter_stack: of("_C._functorch.peek_interpreter_stack")?,
            mode_stacks: [of("_C._len_torch_dispatch_stack")?, of("_C._len_torch_function_stack")?],
        })
    }

    /// Whether `object` is a `torch.Tensor` or `torch.nn.Parameter`, and not of a class derived from them.
    pub(crate) fn is_exact(&self, object: &Bound<'_, PyAny>) -> bool {
        let class = object.get_type();
        class.is(&self.tensor) || class.is(&self.parameter)
    }

    /// As [`is_exact`](Self::is_exact), no parameter.
    pub(crate) fn is_tensor(&self, object: &Bound<'_, PyAny>) -> bool {
        object.get_type().is(&self.tensor)
    }

    /// The number of threads that PyTorch was told to use.
    pub(crate) fn num_threads(&self, py: Python<'_>) -> PyResult<usize> {
        self.get_num_threads.bind(py).call0()?.extract()
    }

    pub(crate) fn is_grad_enabled(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_grad_enabled.bind(py).call0()?.is_truthy()
    }

    /// Whether PyTorch does nothing with a call but compute it (and its gradient): no autocast, no tracing by
    /// TorchScript, no forward mode, nothing of `torch.func`, no modes of others.
    pub(crate) fn only_computes(&self, py: Python<'_>) -> PyResult<bool> {
        if self.is_autocast_enabled.bind(py).call1(self.cpu.bind(py))?.is_truthy()? {
            return Ok(false);
        }
        for stack in &self.mode_stacks {
            if stack.bind(py).call0()?.is_truthy()? {
                return Ok(false);
            }
        }
        let level = self.forward_ad.bind(py).getattr(intern!(py, "_current_level"))?;
        Ok(level.extract::<i64>()? < 0
            && self.tracing_state.bind(py).call0()?.is_none()
            && self.peek_interpreter_stack.bind(py).call0()?.is_none())
    }

    /// Where the numbers of a tensor are, and whether they are of float64; None if it is not of a kind that our kernels can read.
    pub(crate) fn describe(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<(Array, bool)>> {
        match self.describe {
            Some(describe) if self.is_exact(object) => Ok(by_table(describe, object)),
            _ => self.by_methods(object),
        }
    }

    /// The tensor, if it is one that our kernels can read.
    pub(crate) fn read<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Tensor<'py>>> {
        let Some((array, double)) = self.describe(object)? else { return Ok(None) };
        let py = object.py();
        if object.call_method0(intern!(py, "is_neg"))?.is_truthy()? {
            return Ok(None); // its memory holds the numbers with the other sign
        }
        Ok(Some(Tensor { object: object.clone(), array, double }))
    }

    /// The tensor, of float64 if `double` and else of float32; what is in memory in another way is copied.
    pub(crate) fn need<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        double: bool,
    ) -> PyResult<Tensor<'py>> {
        let py = object.py();
        let wanted = |tensor: &Tensor<'_>| tensor.double == double;
        if let Some(tensor) = self.read(object)?.filter(wanted) {
            return Ok(tensor);
        }
        let dtype = if double { &self.float64 } else { &self.float32 };
        let copy = object.call_method1(intern!(py, "to"), ("cpu", dtype.bind(py)))?;
        let copy = copy.call_method0(intern!(py, "resolve_neg"))?;
        self.read(&copy)?.filter(wanted).ok_or_else(|| {
            let class = object.get_type();
            PyTypeError::new_err(format!("expected a strided tensor on the CPU, got {class}"))
        })
    }

    /// A contiguous tensor of the type of `like`, with any numbers in it.
    pub(crate) fn empty<'py>(&self, like: &Tensor<'py>, shape: &[usize]) -> PyResult<Tensor<'py>> {
        let py = like.object.py();
        if like.array.shape() == shape && like.array.is_row_major() {
            return self.made(self.empty_like.bind(py).call1((&like.object,))?); // the quickest way
        }
        let sizes = PyDict::new(py);
        sizes.set_item(intern!(py, "size"), PyTuple::new(py, shape)?)?;
        self.made(like.object.call_method(intern!(py, "new_empty"), (), Some(&sizes))?)
    }

    /// `tensor`, which we have made.
    fn made<'py>(&self, object: Bound<'py, PyAny>) -> PyResult<Tensor<'py>> {
        let found = match self.describe {
            Some(describe) => by_table(describe, &object),
            None => self.by_methods(&object)?,
        };
        match found {
            Some((array, double)) if array.is_contiguous() => Ok(Tensor { object, array, double }),
            _ => Err(PyTypeError::new_err("PyTorch has made a tensor that is not contiguous")),
        }
    }

    /// Address, sizes and strides, and whether it is of float64, of a tensor of any class.
    fn by_methods(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<(Array, bool)>> {
        let py = object.py();
        let is = |name, value: &Py<PyAny>| Ok::<_, PyErr>(object.getattr(name)?.is(value));
        let dtype = intern!(py, "dtype");
        let double = is(dtype, &self.float64)?;
        if !(double || is(dtype, &self.float32)?)
            || !is(intern!(py, "layout"), &self.strided)?
            || !object.getattr(intern!(py, "is_cpu"))?.is_truthy()?
        {
            return Ok(None);
        }
        let address = object.call_method0(intern!(py, "data_ptr"))?.extract()?;
        let shape: Vec<usize> = object.getattr(intern!(py, "shape"))?.extract()?;
        let strides: Vec<isize> = object.call_method0(intern!(py, "stride"))?.extract()?;
        Ok(Array::new(address, &shape, &strides).map(|array| (array, double)))
    }
}

/// DLPack's function of the class of tensors, if it has one of the version that we know.
fn describe_of(class: &Bound<'_, PyAny>) -> Option<Describe> {
    let capsule = class.getattr("__dlpack_c_exchange_api__").ok()?;
    let capsule = capsule.cast_into::<PyCapsule>().ok()?;
    let api =
        capsule.pointer_checked(Some(c"dlpack_exchange_api")).ok()?.cast::<DLPackExchangeAPI>();
    // SAFETY: a capsule of this name holds the address of such a table, which lives as long as the process.
    let api = unsafe { api.as_ref() };
    if api.header.version.major != DLPACK_MAJOR_VERSION {
        return None;
    }
    api.dltensor_from_py_object_no_sync
}

/// Address, sizes and strides, and whether it is of float64, of a `torch.Tensor` that has all this.
fn by_table(describe: Describe, object: &Bound<'_, PyAny>) -> Option<(Array, bool)> {
    let mut found = MaybeUninit::<DLTensor>::zeroed();
    // SAFETY: the object is of the class that the function was found at; there is room for the answer.
    if unsafe { describe(object.as_ptr().cast(), found.as_mut_ptr()) } != 0 {
        drop(PyErr::take(object.py())); // no strides, or a device that DLPack does not know
        return None;
    }
    // SAFETY: filled in by the function, and all zeros are valid too.
    let found = unsafe { found.assume_init() };
    let ndim = usize::try_from(found.ndim).ok()?;
    let double = found.dtype.bits == 64;
    let is_float = u32::from(found.dtype.code) == DLDataTypeCode::kDLFloat.0;
    if found.device.device_type != DLDeviceType::kDLCPU
        || !(is_float && (double || found.dtype.bits == 32) && found.dtype.lanes == 1)
        || ndim > MAX_DIMS
    {
        return None;
    }
    let (mut shape, mut strides) = ([0; MAX_DIMS], [0; MAX_DIMS]);
    for dim in 0..ndim {
        // SAFETY: as many sizes and strides as dimensions, the tensor's own.
        let (size, stride) = unsafe { (*found.shape.add(dim), *found.strides.add(dim)) };
        (shape[dim], strides[dim]) = (usize::try_from(size).ok()?, isize::try_from(stride).ok()?);
    }
    let address = found.data as usize + usize::try_from(found.byte_offset).ok()?;
    Array::new(address, &shape[..ndim], &strides[..ndim]).map(|array| (array, double))
}
