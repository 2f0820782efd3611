//! JSON by the rules of Go's `encoding/json`, which is what frp's peers read and write with.
//!
//! The rules differ from what Rust's JSON crates do in ways that frp's users can notice: keys match
//! without regard to case, `null` leaves a field as it is, of two equal keys the later wins, broken
//! UTF-8 becomes U+FFFD, numbers with a point are no integers, and zero values are not written.
//! [`Reader`] walks the text once and never looks at more of it than the frame holds; [`Writer`]
//! produces the same bytes as Go does.
//!
//! Objects come from the `go_object!` macro, which derives both directions from one list of fields.

mod object;
mod reader;
mod value;
mod writer;

use thiserror::Error;

use bytes::BytesMut;

pub(crate) use object::go_object;
pub use reader::{MAX_DEPTH, Reader};
pub use value::Value;
pub use writer::{Members, Writer};

/// A JSON object with known fields, such as a message.
pub trait Object: Default {
    /// Reads the value of one member into the field it belongs to, or skips it when there is none.
    fn read_member(&mut self, key: &str, reader: &mut Reader<'_>) -> Result<(), JsonError>;

    /// Writes the members in frp's order, without those that Go would omit.
    fn write_members(&self, members: &mut Members<'_>);

    /// Reads a whole text, which must hold one object (or `null`) and nothing else.
    fn from_json(text: &[u8]) -> Result<Self, JsonError> {
        let mut object = Self::default();
        let mut reader = Reader::new(text);
        reader.read_object_into(&mut object)?;
        reader.finish()?;
        Ok(object)
    }

    /// Appends the object to `out`.
    fn append_json(&self, out: &mut BytesMut) {
        Writer::new(out).object(|members| self.write_members(members));
    }

    /// The object as a text of its own.
    fn to_json(&self) -> BytesMut {
        let mut out = BytesMut::new();
        self.append_json(&mut out);
        out
    }
}

/// Why a text is not the JSON that was expected. Never contains a part of the text, which may hold
/// secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{kind} at byte {offset}")]
pub struct JsonError {
    /// What is wrong.
    pub kind: JsonErrorKind,
    /// Where in the text.
    pub offset: usize,
}

/// The kinds of [`JsonError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JsonErrorKind {
    /// The text ends inside a value.
    #[error("the JSON text ends too early")]
    Incomplete,
    /// Not JSON.
    #[error("invalid JSON: expected {0}")]
    Syntax(&'static str),
    /// Objects or arrays inside each other, deeper than [`MAX_DEPTH`].
    #[error("JSON is nested too deeply")]
    TooDeep,
    /// Something follows the value.
    #[error("data after the JSON value")]
    TrailingData,
    /// Valid JSON of another type than the field has.
    #[error("wrong JSON type: expected {0}")]
    WrongType(&'static str),
    /// A number that does not fit its field.
    #[error("number out of range")]
    OutOfRange,
    /// Bytes that are not standard base64 with padding.
    #[error("invalid base64")]
    Base64,
    /// A text that is no IP address.
    #[error("invalid IP address")]
    IpAddress,
}
