//! What users notice while something goes wrong: whether what they send arrives, whole, once and
//! in order, and for how long nothing does.
//!
//! Three users do what most users do. A [`NumberedStream`] keeps a connection open and moves
//! numbered words both ways at a rate; a [`Typist`] sends a little at a time on another and waits
//! for the echo; [`FreshConns`] connects anew, five times a second. Each writes down when what
//! happened; questions are asked afterwards, for any period.

mod fresh;
mod ledger;
mod numbered;
mod typist;

pub use fresh::{FreshConn, FreshConns, FreshEnd};
pub use ledger::{End, Ledger};
pub use numbered::{NumberedStream, Rate, Rates};
pub use typist::Typist;

pub(crate) use numbered::serve;
