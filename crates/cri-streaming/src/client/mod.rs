//! The client: what kubectl does with the URLs that a runtime gives out.

mod connect;
mod forward;
mod remote;

pub use connect::{ClientError, ClientTls, Transport};
pub use forward::{Failure, Forwarded, Forwarder};
pub use remote::{Resizer, Session, remote_command};
