//! Owned handles over OpenVINO's C interface, with errors in words.
//!
//! The crate `openvino` wraps the same interface, but keeps the texts of errors and the profile of an
//! inference to itself; both are needed here.

use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::catch_unwind;
use std::path::Path;
use std::ptr;

use openvino_sys as sys;

use crate::engine::Value;

/// The device that all models run on.
const CPU: &CStr = c"CPU";

/// A failed call: what it was, and what OpenVINO says.
pub type Failure = String;

/// Calls a function and gives its text of the failure.
fn call(what: &str, status: sys::ov_status_e) -> Result<(), Failure> {
    if status == sys::ov_status_e::OK {
        return Ok(());
    }
    // SAFETY: takes nothing; gives a string of this thread's last failure, ours to free, or null.
    let message = unsafe { sys::ov_get_last_err_msg() };
    let text = text_of(message);
    Err(if text.is_empty() { format!("{what}: {status:?}") } else { format!("{what}: {text}") })
}

/// Copies a string that OpenVINO allocated, and frees it.
fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: OpenVINO gives null-terminated strings.
    let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: the string was allocated by OpenVINO for its caller, and is not used after this.
    unsafe { sys::ov_free(text) };
    copy
}

/// Loads the library and gives its version, such as `2026.4.1-21000-...`.
pub fn load(library: &Path) -> Result<String, Failure> {
    let library = library.to_path_buf();
    // The crate asserts some of what a library must have, and takes its version apart without asking.
    catch_unwind(move || {
        sys::library::load_from(library)?;
        let mut version = sys::ov_version_t { buildNumber: ptr::null(), description: ptr::null() };
        // SAFETY: the library is loaded; the struct is filled with strings that it owns.
        call("version", unsafe { sys::ov_get_openvino_version(&raw mut version) })?;
        // SAFETY: the call succeeded, so the string is set and null-terminated.
        let text = unsafe { CStr::from_ptr(version.buildNumber) }.to_string_lossy().into_owned();
        // SAFETY: filled by the call above, freed once.
        unsafe { sys::ov_version_free(&raw mut version) };
        Ok(text)
    })
    .unwrap_or_else(|_| Err("it has no interface that we know".into()))
}

/// Makes a type that owns a pointer of OpenVINO and frees it.
macro_rules! handle {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $free:path) => {
        $(#[$doc])*
        pub struct $name(*mut $raw);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made by OpenVINO, owned by this value alone, freed once.
                unsafe { $free(self.0) }
            }
        }

        // SAFETY: OpenVINO's objects are not bound to the thread that made them.
        unsafe impl Send for $name {}
    };
}

handle!(
    /// The library with its plugins and their settings.
    Core, sys::ov_core_t, sys::ov_core_free
);
handle!(
    /// A graph that was read.
    Network, sys::ov_model_t, sys::ov_model_free
);
handle!(
    /// A graph made ready for the device.
    Compiled, sys::ov_compiled_model_t, sys::ov_compiled_model_free
);
handle!(
    /// One stream of inference.
    Request, sys::ov_infer_request_t, sys::ov_infer_request_free
);
handle!(
    /// A tensor.
    Tensor, sys::ov_tensor_t, sys::ov_tensor_free
);

// SAFETY: a compiled model is immutable; OpenVINO documents that requests may be made from any thread.
unsafe impl Sync for Compiled {}

/// An input tensor over the memory of a [`Value`], which it keeps alive. Must be kept for as long as a request
/// has it as an input.
pub struct Borrowed {
    tensor: Tensor,
    value: Value,
}

impl Borrowed {
    pub fn new(value: &Value) -> Result<Borrowed, Failure> {
        let value = value.clone();
        let mut dims: Vec<i64> = value.shape().iter().map(|n| *n as i64).collect();
        let shape = sys::ov_shape_t { rank: dims.len() as i64, dims: dims.as_mut_ptr() };
        let memory = value.as_slice().as_ptr().cast_mut().cast::<c_void>();
        let mut tensor = ptr::null_mut();
        // SAFETY: shape and memory fit, since both are the value's; inputs are only read; the value is
        // kept beside the tensor.
        let status = unsafe {
            sys::ov_tensor_create_from_host_ptr(sys::ov_element_type_e::F32, shape, memory, &raw mut tensor)
        };
        call("input", status)?;
        Ok(Borrowed { tensor: Tensor(tensor), value })
    }

    /// Whether this is a tensor over the memory of `value`.
    pub fn is_of(&self, value: &Value) -> bool {
        ptr::eq(self.value.as_slice(), value.as_slice())
    }
}

/// What one operator did in an inference.
pub struct Executed {
    /// Its kind in OpenVINO, such as `Convolution`.
    pub kind: String,
    /// The implementation, which ends in its number format, such as `brgconv_avx512_I8`.
    pub implementation: String,
}

impl Core {
    pub fn new() -> Result<Core, Failure> {
        let mut core = ptr::null_mut();
        // SAFETY: gives a new core.
        call("core", unsafe { sys::ov_core_create(&raw mut core) })?;
        Ok(Core(core))
    }

    pub fn set(&mut self, key: &CStr, value: &str) -> Result<(), Failure> {
        let value = CString::new(value).map_err(|e| e.to_string())?;
        // SAFETY: all strings outlive the call, which copies them.
        let status = unsafe { sys::ov_core_set_property(self.0, CPU.as_ptr(), key.as_ptr(), value.as_ptr()) };
        call(&key.to_string_lossy(), status)
    }

    /// Reads the bytes of an ONNX file.
    pub fn read(&mut self, onnx: &[u8]) -> Result<Network, Failure> {
        let mut model = ptr::null_mut();
        // SAFETY: the bytes outlive the call, which copies them; ONNX has no separate weights.
        let status = unsafe {
            sys::ov_core_read_model_from_memory_buffer(
                self.0,
                onnx.as_ptr().cast(),
                onnx.len(),
                ptr::null(),
                &raw mut model,
            )
        };
        call("reading", status)?;
        Ok(Network(model))
    }

    pub fn compile(&mut self, network: &Network) -> Result<Compiled, Failure> {
        let mut compiled = ptr::null_mut();
        // SAFETY: core and model live; no properties are given, so no variadic arguments are read.
        let status =
            unsafe { sys::ov_core_compile_model(self.0, network.0, CPU.as_ptr(), 0, &raw mut compiled) };
        call("compiling", status)?;
        Ok(Compiled(compiled))
    }
}

impl Network {
    /// Fixes the shape of an input.
    pub fn reshape(&mut self, input: &str, shape: &[usize]) -> Result<(), Failure> {
        let name = CString::new(input).map_err(|e| e.to_string())?;
        let dims: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
        let none = sys::ov_dimension_t { min: 0, max: 0 };
        let mut partial = sys::ov_partial_shape_t { rank: none, dims: ptr::null_mut() };
        // SAFETY: `dims` has as many entries as is said; `partial` is filled with memory of its own.
        let status = unsafe {
            sys::ov_partial_shape_create_static(dims.len() as i64, dims.as_ptr(), &raw mut partial)
        };
        call("shape", status)?;
        // SAFETY: the model lives; name and shape are read during the call only.
        let status = unsafe { sys::ov_model_reshape_input_by_name(self.0, name.as_ptr(), partial) };
        let result = call("reshaping", status);
        // SAFETY: filled above, freed once.
        unsafe { sys::ov_partial_shape_free(&raw mut partial) };
        result
    }
}

impl Compiled {
    pub fn outputs(&self) -> Result<usize, Failure> {
        let mut count = 0;
        // SAFETY: writes one number.
        call("outputs", unsafe { sys::ov_compiled_model_outputs_size(self.0, &raw mut count) })?;
        Ok(count)
    }

    pub fn request(&self) -> Result<Request, Failure> {
        let mut request = ptr::null_mut();
        // SAFETY: gives a new request, which keeps the compiled model alive itself.
        call("request", unsafe { sys::ov_compiled_model_create_infer_request(self.0, &raw mut request) })?;
        Ok(Request(request))
    }
}

impl Request {
    /// One inference on the calling thread.
    pub fn infer(&mut self) -> Result<(), Failure> {
        // SAFETY: the request is used by one thread at a time, which `&mut` holds.
        call("inference", unsafe { sys::ov_infer_request_infer(self.0) })
    }

    /// Reads an input from `tensor` from now on.
    pub fn set_input(&mut self, index: usize, tensor: &Borrowed) -> Result<(), Failure> {
        // SAFETY: both live; the request keeps a reference to the tensor, and its owner keeps the memory
        // for as long as the request may read it (see `Borrowed`).
        call("input", unsafe {
            sys::ov_infer_request_set_input_tensor_by_index(self.0, index, tensor.tensor.0)
        })
    }

    /// Shape and elements of an output.
    pub fn read_output(&self, index: usize) -> Result<(Vec<usize>, Vec<f32>), Failure> {
        let mut tensor = ptr::null_mut();
        // SAFETY: gives a reference of ours to the request's tensor.
        let status =
            unsafe { sys::ov_infer_request_get_output_tensor_by_index(self.0, index, &raw mut tensor) };
        call("output", status)?;
        let tensor = Tensor(tensor);
        let (memory, length) = tensor.floats()?;
        // SAFETY: the tensor is of f32 and has `length` elements, which nobody writes meanwhile.
        let data = unsafe { std::slice::from_raw_parts(memory, length) }.to_vec();
        Ok((tensor.shape()?, data))
    }

    /// What the operators of the last inference ran as; the model must have been compiled to be profiled.
    pub fn executed(&self) -> Result<Vec<Executed>, Failure> {
        let mut list = sys::ov_profiling_info_list_t { profiling_infos: ptr::null_mut(), size: 0 };
        // SAFETY: fills the list with memory of its own.
        call("profile", unsafe { sys::ov_infer_request_get_profiling_info(self.0, &raw mut list) })?;
        let mut executed = Vec::with_capacity(list.size);
        for at in 0..list.size {
            // SAFETY: the list has `size` entries, whose strings are null-terminated.
            let entry = unsafe { &*list.profiling_infos.add(at) };
            if entry.status != sys::ov_profiling_info_t_Status::EXECUTED {
                continue;
            }
            // SAFETY: as above; copied before the list is freed.
            let text = |s: *const c_char| unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned();
            executed.push(Executed { kind: text(entry.node_type), implementation: text(entry.exec_type) });
        }
        // SAFETY: filled above, freed once, not used after.
        unsafe { sys::ov_profiling_info_list_free(&raw mut list) };
        Ok(executed)
    }
}

impl Tensor {
    /// Memory and number of elements of an f32 tensor.
    fn floats(&self) -> Result<(*mut f32, usize), Failure> {
        let mut kind = sys::ov_element_type_e::DYNAMIC;
        // SAFETY: writes one value.
        call("tensor", unsafe { sys::ov_tensor_get_element_type(self.0, &raw mut kind) })?;
        if kind != sys::ov_element_type_e::F32 {
            return Err(format!("a tensor has the element type {kind:?}, only f32 is supported"));
        }
        let (mut length, mut data) = (0, ptr::null_mut::<c_void>());
        // SAFETY: writes one number.
        call("tensor", unsafe { sys::ov_tensor_get_size(self.0, &raw mut length) })?;
        // SAFETY: writes one pointer.
        call("tensor", unsafe { sys::ov_tensor_data(self.0, &raw mut data) })?;
        if data.is_null() {
            return Err("a tensor has no memory".into());
        }
        Ok((data.cast(), length))
    }

    fn shape(&self) -> Result<Vec<usize>, Failure> {
        let mut shape = sys::ov_shape_t { rank: 0, dims: ptr::null_mut() };
        // SAFETY: fills the shape with memory of its own.
        call("shape", unsafe { sys::ov_tensor_get_shape(self.0, &raw mut shape) })?;
        let rank = usize::try_from(shape.rank).unwrap_or(0);
        let dim = |at: usize| {
            // SAFETY: there are `rank` dimensions.
            usize::try_from(unsafe { *shape.dims.add(at) }).unwrap_or(0)
        };
        let dims = (0..rank).map(dim).collect();
        // SAFETY: filled above, freed once, not used after.
        call("shape", unsafe { sys::ov_shape_free(&raw mut shape) })?;
        Ok(dims)
    }
}
