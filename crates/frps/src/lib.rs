//! The public side of a tunnel: accepts clients and publishes their services.
//!
//! `server` accepts carriers and reads the first message of each stream. `login` turns a login
//! into a `session`, which `registry` knows by its run id and `control` serves until it ends.
//! `held` keeps a client's streams while it changes carriers, or has none.
//! `conns` brings work streams to their session's `work_pool` and visitors to their proxy.
//! `conflict` has a proxy wait for a name or port that a dead session may still have.
//! `proxy` publishes services; `ports` and `catalog` see to it that a port and a name belong
//! to one proxy only. `clients`, `stats` and `refusals` remember what the API in `admin` shows, and
//! [`status`] is the command that asks it.

mod admin;
mod auth;
mod catalog;
pub mod cli;
mod clients;
mod conflict;
mod conns;
mod control;
mod displacement;
mod held;
mod link;
pub mod listen;
mod login;
mod net;
mod ports;
mod proxy;
mod refusals;
mod registry;
pub mod server;
mod session;
mod stats;
pub mod status;
mod text;
mod work_pool;

pub use server::{Handle, Server, StartError, Timing};
