//! Isopod's vocabulary: ids, configuration values, states and the lifecycle step.
//!
//! Owns: the types that every other crate speaks in. A value of one of these types has been
//! checked; nothing downstream checks it again.
//! Always: no I/O, no clock, no randomness, no wire format.
//! Callers: everybody.

mod causes;
mod config;
mod container;
mod cpus;
mod digest;
mod error;
mod id;
mod image;
mod lifecycle;
mod namespaces;
mod resources;
mod sandbox;
mod secret;
mod security;
mod signal;
mod time;
mod timeline;

pub use causes::with_causes;
pub use config::{BadName, HandlerName};
pub use container::{
    Access, ContainerConfig, ContainerMetadata, Device, DeviceAccess, EnvVar, Mount, MountSource,
    Propagation, Stdio,
};
pub use cpus::CpuList;
pub use digest::{Algorithm, BadDigest, Digest};
pub use error::{Class, Classified};
pub use id::{BadId, ContainerId, SandboxId};
pub use image::{ImageSpec, ImageUser, Rootfs};
pub use lifecycle::{Effect, Event, Exit, ExitReason, State, step};
pub use namespaces::{IdMapping, IpcMode, Namespaces, NetworkMode, PidMode, UserNamespace};
pub use resources::{HugepageLimit, Resources};
pub use sandbox::{Dns, PortMapping, Protocol, SandboxConfig, SandboxMetadata, SandboxState};
pub use secret::Secret;
pub use security::{
    CapabilityChanges, ContainerSecurity, GroupsPolicy, Profile, RunAs, RunAsUser, SelinuxOptions,
    User,
};
pub use signal::{BadSignal, Signal};
pub use time::Timestamp;
pub use timeline::Span;
