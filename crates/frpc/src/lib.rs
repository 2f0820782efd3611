//! frpc, the side behind NAT: logs in to frps and connects its users to local services.
//!
//! [`program`] reads the command line and runs one [`client::Client`] for each configuration. The
//! client logs in ([`login`]) and hands the session to a control ([`control`]), which tells frps
//! what to publish ([`proxy`]), opens work conns as frps asks and connects their users to local
//! services, and listens for local users of other people's secret proxies (`visitor`). [`admin`]
//! is the way in for `frpc status`, `reload` and `stop` ([`admin_client`]).
//!
//! It is a library so that tests can run it in their own process.

pub mod admin;
pub mod admin_client;
pub mod alerts;
pub mod cli;
pub mod client;
mod clients;
mod context;
pub mod control;
mod doctor;
pub mod flags;
pub mod go_text;
pub mod links;
pub mod local;
pub mod login;
mod metrics;
pub mod program;
pub mod proxy;
pub mod proxy_header;
pub mod recovery;
pub mod retry;
mod runtime;
pub mod status;
mod supervision;
pub mod transport;
mod visitor;
mod work_conn;
