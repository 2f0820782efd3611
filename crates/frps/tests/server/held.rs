//! Streams that outlive their carrier, from the server's side.

mod datagrams;
mod joins;
mod outages;
mod rig;
mod take_over;
mod transports;
mod visible;
