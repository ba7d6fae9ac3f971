//! Both representations on any GPU: values on a grid of pixels, the loss of a batch with its gradient,
//! and the training of latents.
//!
//! [`Gpu`] is an opened adapter, [`Renderer`] and [`Trainer`] are what runs on it. The kernels are
//! in WGSL and take all sizes at run time; [`Variant`] says how they divide the work. Starts no
//! threads, prints nothing; every failure of a device is a [`GpuError`].
//!
//! Whatever waits for a device is an `async fn`, for a browser; `native.rs` has the same for threads,
//! which may block. Whoever opens a [`Gpu`] keeps it: there is no other that is handed out again.

mod latents;
mod layout;
#[cfg(not(target_arch = "wasm32"))]
mod native;
mod pipeline;
mod render;
mod reply;
#[cfg(feature = "train")]
mod train;
mod variant;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use wgpu::{Backend, DeviceType};

use siren_image::DeviceError;
use siren_image::PixelGrid;

#[cfg(not(target_arch = "wasm32"))]
use native::drive;
#[cfg(not(target_arch = "wasm32"))]
pub use native::{KeptGpu, adapters};
pub use render::Renderer;
use reply::reply;
#[cfg(feature = "train")]
pub use train::{Accelerator, Trainer};
pub use variant::{Kernel, Variant};

/// Names an adapter, by a part of its name, to be used instead of the best one; software adapters
/// are used only so, and integrated ones automatically only so.
pub const ADAPTER_VARIABLE: &str = "SIRENC_GPU_ADAPTER";

/// Why a GPU cannot do what it was asked for.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum GpuError {
    /// No adapter, or none of the wanted name.
    #[error("{0}")]
    NoAdapter(String),
    /// The adapter did not open, the device was lost, ran out of memory or reported an error.
    #[error("the GPU failed: {0}")]
    Failed(String),
    /// What it has no kernels for.
    #[error("{0} are not computed on a GPU yet")]
    Unsupported(&'static str),
    /// A buffer would be larger than the device allows.
    #[error("{what} of {bytes} bytes is more than the GPU's limit of {limit}")]
    TooLarge {
        /// What would be too large.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The kernel was not run over the whole batch.
    #[error("the GPU's driver broke off a kernel: {seen} of {wanted} pixels were computed")]
    Incomplete {
        /// Pixels computed.
        seen: u64,
        /// Pixels of the batch.
        wanted: u64,
    },
}

impl From<GpuError> for DeviceError {
    fn from(error: GpuError) -> Self {
        Self::new(error.to_string())
    }
}

/// What is known of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adapter {
    /// Name of the card.
    pub name: String,
    /// Name and version of its driver.
    pub driver: String,
    /// `Vulkan`, `Metal`, `Dx12` or `Gl`.
    pub backend: String,
    /// Whether it computes on the CPU.
    pub software: bool,
    /// Whether it is taken without being asked for: a card of its own, or a virtual machine's share of
    /// one, that needs no OpenGL. Integrated ones have not been measured, and OpenGL takes long to
    /// start.
    pub automatic: bool,
}

impl Adapter {
    fn new(info: &wgpu::AdapterInfo) -> Self {
        Self {
            name: info.name.clone(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            backend: format!("{:?}", info.backend),
            software: info.device_type == DeviceType::Cpu,
            automatic: matches!(info.device_type, DeviceType::DiscreteGpu | DeviceType::VirtualGpu)
                && info.backend != Backend::Gl,
        }
    }

    /// What to call a device of this adapter.
    pub fn device_name(&self) -> String {
        format!("gpu ({})", self.name)
    }

    fn is_named(&self, name: &str) -> bool {
        self.name.to_lowercase().contains(&name.to_lowercase())
    }
}

/// The browser drives its devices itself.
#[cfg(target_arch = "wasm32")]
fn drive(_: &wgpu::Device, _: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
    Ok(())
}

/// OpenGL takes long to start, and serves where nothing else does.
const OPENGL_LAST: [wgpu::Backends; 2] = [wgpu::Backends::PRIMARY, wgpu::Backends::GL];

/// The adapters of this machine, best first, those that compute on the CPU last.
pub async fn adapters_async() -> Vec<Adapter> {
    let adapters = enumerate(wgpu::Backends::all()).await;
    adapters.iter().map(|adapter| Adapter::new(&adapter.get_info())).collect()
}

async fn enumerate(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let descriptor = wgpu::InstanceDescriptor { backends, ..without_display() }.with_env();
    // What the environment asks for may be looked at in another turn.
    let backends = descriptor.backends & backends;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor { backends, ..descriptor });
    let mut adapters = instance.enumerate_adapters(backends).await;
    adapters.sort_by_key(|adapter| {
        let info = adapter.get_info();
        let kind = match info.device_type {
            DeviceType::DiscreteGpu => 0,
            DeviceType::IntegratedGpu => 1,
            DeviceType::VirtualGpu => 2,
            DeviceType::Other => 3,
            DeviceType::Cpu => 4,
        };
        (kind, info.backend == Backend::Gl)
    });
    adapters
}

/// What [`ADAPTER_VARIABLE`] names.
fn wanted_name() -> Option<String> {
    std::env::var(ADAPTER_VARIABLE).ok().filter(|name| !name.is_empty())
}

/// Whether there is a device file of a card, or may be. Without one no driver is loaded, which takes
/// its time and lets Mesa's write to stderr.
fn may_have_card() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    // NVIDIA's without Mesa's, and those of Windows below Linux.
    let others = ["/dev/nvidiactl", "/dev/dxg"];
    let nodes = std::fs::read_dir("/dev/dri").into_iter().flatten().flatten();
    others.iter().any(|path| std::path::Path::new(path).exists())
        || nodes.into_iter().any(|node| node.file_name().to_string_lossy().starts_with("renderD"))
}

fn without_display() -> wgpu::InstanceDescriptor {
    wgpu::InstanceDescriptor::new_without_display_handle()
}

/// An opened adapter. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: Adapter,
    failure: Arc<Mutex<Failure>>,
    most_flops: u64,
}

/// What a device reported.
#[derive(Debug, Default)]
struct Failure {
    /// The first error that nobody has heard of yet.
    error: Option<String>,
    /// Why the device was lost.
    lost: Option<String>,
}

impl Gpu {
    /// Opens the best adapter that is not software, or the one that [`ADAPTER_VARIABLE`] names.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`] and [`GpuError::Failed`].
    pub async fn open_async() -> Result<Self, GpuError> {
        match Self::wanted(&OPENGL_LAST, |adapter| !adapter.software).await? {
            Some(gpu) => Ok(gpu),
            None => Err(missing(wanted_name().as_deref()).await),
        }
    }

    /// The same where nobody has asked for a GPU: the best adapter that is [`Adapter::automatic`], or
    /// the one that [`ADAPTER_VARIABLE`] names, if there is one. OpenGL is not tried.
    ///
    /// # Errors
    /// [`GpuError::Failed`] where there is one that does not open.
    pub async fn automatic_async() -> Result<Option<Self>, GpuError> {
        if wanted_name().is_none() && !may_have_card() {
            return Ok(None);
        }
        Self::wanted(&[wgpu::Backends::PRIMARY], |adapter| adapter.automatic).await
    }

    /// Opens the first adapter whose name has `name` in it, software ones among them.
    ///
    /// # Errors
    /// As [`Gpu::open_async`].
    pub async fn named_async(name: &str) -> Result<Self, GpuError> {
        match Self::first(&OPENGL_LAST, |adapter| adapter.is_named(name)).await? {
            Some(gpu) => Ok(gpu),
            None => Err(missing(Some(name)).await),
        }
    }

    /// Opens the first adapter that is wanted, or named in the environment.
    async fn wanted(
        backends: &[wgpu::Backends],
        wanted: impl Fn(&Adapter) -> bool,
    ) -> Result<Option<Self>, GpuError> {
        match wanted_name() {
            Some(name) => Self::first(backends, |adapter| adapter.is_named(&name)).await,
            None => Self::first(backends, wanted).await,
        }
    }

    /// Opens the first adapter that is wanted, in turn of the backends.
    async fn first(
        backends: &[wgpu::Backends],
        wanted: impl Fn(&Adapter) -> bool,
    ) -> Result<Option<Self>, GpuError> {
        for &backends in backends {
            for adapter in enumerate(backends).await {
                if wanted(&Adapter::new(&adapter.get_info())) {
                    return Self::new(&adapter).await.map(Some);
                }
            }
        }
        Ok(None)
    }

    async fn new(adapter: &wgpu::Adapter) -> Result<Self, GpuError> {
        let info = Adapter::new(&adapter.get_info());
        let most = adapter.limits();
        // Software is there for tests, which should meet the limits that all adapters have.
        let least = wgpu::Limits::default();
        let within = info.software && least.check_limits(&most);
        let descriptor = wgpu::DeviceDescriptor {
            required_features: adapter.features() & wgpu::Features::TIMESTAMP_QUERY,
            required_limits: if within { least } else { most },
            ..Default::default()
        };
        let opened = adapter.request_device(&descriptor).await;
        let (device, queue) = opened.map_err(|error| GpuError::Failed(error.to_string()))?;
        let failure = Arc::new(Mutex::new(Failure::default()));
        let (of_errors, of_loss) = (failure.clone(), failure.clone());
        device.on_uncaptured_error(Arc::new(move |error| {
            locked(&of_errors).error.get_or_insert(error.to_string());
        }));
        device.set_device_lost_callback(move |_, message| {
            locked(&of_loss).lost = Some(message);
        });
        Ok(Self { device, queue, adapter: info, failure, most_flops: MOST_FLOPS })
    }

    /// What is known of the adapter.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Whether it was found to be gone for good.
    pub fn is_lost(&self) -> bool {
        locked(&self.failure).lost.is_some()
    }

    /// Gives the device up, as a crash of its driver does: for tests.
    #[doc(hidden)]
    pub fn lose(&self) {
        self.device.destroy();
    }

    /// The same with dispatches of at most so many floating-point operations: for tests.
    #[doc(hidden)]
    pub fn with_most_flops(self, most_flops: u64) -> Self {
        Self { most_flops, ..self }
    }

    /// Whether the device is lost, or has reported an error since this was asked last.
    fn check(&self) -> Result<(), GpuError> {
        let mut failure = locked(&self.failure);
        if let Some(message) = &failure.lost {
            return Err(GpuError::Failed(format!("the device was lost: {message}")));
        }
        failure.error.take().map_or(Ok(()), |text| Err(GpuError::Failed(text)))
    }

    /// Most bytes of a buffer.
    fn buffer_limit(&self, usage: wgpu::BufferUsages) -> u64 {
        let limits = self.device.limits();
        if usage.contains(wgpu::BufferUsages::STORAGE) {
            limits.max_buffer_size.min(limits.max_storage_buffer_binding_size)
        } else {
            limits.max_buffer_size
        }
    }

    fn check_size(
        &self,
        what: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<(), GpuError> {
        match self.buffer_limit(usage) {
            limit if bytes > limit => Err(GpuError::TooLarge { what, bytes, limit }),
            _ => Ok(()),
        }
    }

    /// A buffer of at least `bytes` bytes.
    fn buffer(
        &self,
        what: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.check_size(what, bytes, usage)?;
        let size = bytes.next_multiple_of(4).max(16);
        let descriptor =
            wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        self.check()?;
        Ok(buffer)
    }

    /// A buffer of these words.
    fn buffer_of(
        &self,
        what: &'static str,
        words: &[u32],
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.larger_buffer_of(what, words, 4 * words.len() as u64, usage)
    }

    /// A buffer of `bytes` bytes that begins with these words.
    fn larger_buffer_of(
        &self,
        what: &'static str,
        words: &[u32],
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        let buffer = self.buffer(what, bytes, usage | wgpu::BufferUsages::COPY_DST)?;
        self.queue.write_buffer(&buffer, 0, &bytes_of(words));
        Ok(buffer)
    }

    /// Hands `bytes` bytes of a buffer that a submission, or else the last one, fills to `read`.
    async fn read<T>(
        &self,
        buffer: &wgpu::Buffer,
        bytes: u64,
        submission: Option<wgpu::SubmissionIndex>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, GpuError> {
        let failed = |error: &dyn std::error::Error| GpuError::Failed(error.to_string());
        let (sender, reply) = reply();
        buffer.map_async(wgpu::MapMode::Read, ..bytes, |result| sender.send(result));
        let driven = drive(&self.device, submission);
        self.check()?;
        driven?;
        // The thread that waits for another submission may be the one that sends.
        match reply.await {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(failed(&error)),
            None => return Err(GpuError::Failed("it gave no answer".into())),
        }
        self.check()?;
        let view = buffer.get_mapped_range(..bytes).map_err(|error| failed(&error))?;
        let result = read(&view);
        drop(view);
        buffer.unmap();
        Ok(result)
    }
}

/// What there is instead of a GPU, or of the adapter of a name.
async fn missing(name: Option<&str>) -> GpuError {
    let adapters = adapters_async().await;
    if let Some(name) = name.filter(|_| !adapters.is_empty()) {
        let names: Vec<String> = adapters.into_iter().map(|adapter| adapter.name).collect();
        let names = names.join(", ");
        return GpuError::NoAdapter(format!("no adapter is named {name}; there are: {names}"));
    }
    let but = match adapters.iter().any(|adapter| adapter.software) {
        true => " but software, which is slower than sirenc itself",
        false => "",
    };
    GpuError::NoAdapter(format!(
        "no GPU was found{but}; Vulkan, Metal, Direct3D 12 or OpenGL with the card's driver is needed"
    ))
}

fn locked(failure: &Mutex<Failure>) -> MutexGuard<'_, Failure> {
    failure.lock().unwrap_or_else(PoisonError::into_inner)
}

/// GPU time of the passes of a submission, where the device can tell it.
#[derive(Debug)]
struct Timer {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readable: wgpu::Buffer,
    passes: u32,
}

impl Timer {
    fn new(gpu: &Gpu, passes: u32) -> Result<Option<Self>, GpuError> {
        if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let count = 2 * passes;
        let descriptor =
            wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count };
        let queries = gpu.device.create_query_set(&descriptor);
        use wgpu::BufferUsages as U;
        let bytes = u64::from(count) * 8;
        Ok(Some(Self {
            queries,
            resolved: gpu.buffer("times", bytes, U::QUERY_RESOLVE | U::COPY_SRC)?,
            readable: gpu.buffer("times", bytes, U::MAP_READ | U::COPY_DST)?,
            passes,
        }))
    }

    fn pass(&self, pass: u32) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * pass),
            end_of_pass_write_index: Some(2 * pass + 1),
        }
    }

    fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..2 * self.passes, &self.resolved, 0);
        let bytes = self.readable.size();
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readable, 0, bytes);
    }

    /// Seconds of each pass.
    async fn read(&self, gpu: &Gpu) -> Result<Vec<f64>, GpuError> {
        let period = f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        let times = |bytes: &[u8]| {
            let ticks: Vec<u64> =
                bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
            let passes = ticks.chunks_exact(2).take(self.passes as usize);
            passes.map(|at| at[1].saturating_sub(at[0]) as f64 * period).collect()
        };
        gpu.read(&self.readable, self.readable.size(), None, times).await
    }
}

/// Most bytes of all workgroups' gradients, and of their scratch.
const MOST_BYTES: u64 = 1 << 28;
/// Most floating-point operations of a dispatch: half a second on an integrated GPU that does 100
/// billion a second. Systems reset a GPU that is busy for two.
const MOST_FLOPS: u64 = 50_000_000_000;
/// Loop iterations that llvmpipe allows an invocation, all loops together, with a margin: after
/// 65,535 it ends every loop without an error.
const SOFTWARE_ITERATIONS: usize = 60_000;

impl Gpu {
    /// Workgroups for so many tiles, at most `most`, each of as many tiles as any other or one
    /// fewer; `iterations` are those of the loops of an invocation for a tile.
    fn workgroups(&self, tiles: u64, most: u64, iterations: usize) -> u32 {
        let least = match self.adapter.software {
            true => tiles.div_ceil((SOFTWARE_ITERATIONS / iterations).max(1) as u64),
            false => 1,
        };
        let limit = self.device.limits().max_compute_workgroups_per_dimension;
        let most = most.max(least).min(limit.into());
        tiles.div_ceil(tiles.div_ceil(most)) as u32
    }
}

/// x of each column, then y of each row, as the kernels read them.
fn axes(grid: &PixelGrid) -> impl Iterator<Item = u32> {
    let columns = (0..grid.size.width).map(|i| grid.x(i));
    let rows = (0..grid.size.height).map(|j| grid.y(j));
    columns.chain(rows).map(|place| (place as f32).to_bits())
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * words.len()];
    let places = bytes.as_chunks_mut::<4>().0.iter_mut();
    places.zip(words).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
    bytes
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
