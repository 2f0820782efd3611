//! The types that fields can have.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, PAD};
use bytes::Bytes;

use super::{JsonError, JsonErrorKind, Reader, Writer};

/// A value of a member or an item.
pub trait Value {
    /// Reads the value that comes next over this one. `null` leaves it as it is or empties it,
    /// whichever Go does for the type.
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError>;

    /// Writes the value.
    fn write(&self, writer: &mut Writer<'_>);

    /// Whether Go's `omitempty` leaves the value out.
    fn is_omitted(&self) -> bool;
}

impl Value for String {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if !reader.take_null()? {
            *self = reader.read_string()?.into_owned();
        }
        Ok(())
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.string(self);
    }

    fn is_omitted(&self) -> bool {
        self.is_empty()
    }
}

impl Value for bool {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if !reader.take_null()? {
            *self = reader.read_bool()?;
        }
        Ok(())
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.raw(if *self { b"true" } else { b"false" });
    }

    fn is_omitted(&self) -> bool {
        !self
    }
}

impl Value for i64 {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if !reader.take_null()? {
            *self = reader.read_i64()?;
        }
        Ok(())
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.raw(self.to_string().as_bytes());
    }

    fn is_omitted(&self) -> bool {
        *self == 0
    }
}

impl Value for u16 {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if !reader.take_null()? {
            *self = reader.read_u16()?;
        }
        Ok(())
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.raw(self.to_string().as_bytes());
    }

    fn is_omitted(&self) -> bool {
        *self == 0
    }
}

/// A list. One that comes again is read over the first, item by item.
impl<T: Value + Default> Value for Vec<T> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if reader.take_null()? {
            self.clear();
            return Ok(());
        }
        let mut len = 0;
        reader.read_array(|reader| {
            if len == self.len() {
                self.push(T::default());
            }
            self[len].read(reader)?;
            len += 1;
            Ok(())
        })?;
        self.truncate(len);
        Ok(())
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.array(self);
    }

    fn is_omitted(&self) -> bool {
        self.is_empty()
    }
}

/// A map of strings, sorted as Go sorts it. One that comes again adds to the first.
impl Value for BTreeMap<String, String> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if reader.take_null()? {
            self.clear();
            return Ok(());
        }
        reader.read_object(|key, reader| {
            let mut value = String::new();
            value.read(reader)?;
            self.insert(key.to_owned(), value);
            Ok(())
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.object(|members| {
            for (key, value) in self {
                members.add_always(key, value);
            }
        });
    }

    fn is_omitted(&self) -> bool {
        self.is_empty()
    }
}

/// A pointer in Go: `null` makes it nil, and an object that comes again is read over the first.
impl<T: Value + Default> Value for Option<T> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if reader.take_null()? {
            *self = None;
            return Ok(());
        }
        self.get_or_insert_default().read(reader)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Some(value) => value.write(writer),
            None => writer.raw(b"null"),
        }
    }

    fn is_omitted(&self) -> bool {
        self.is_none()
    }
}

/// A byte string, in standard base64 with padding. Go also takes an array of numbers for it.
impl Value for Bytes {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        match reader.peek()? {
            b'n' => {
                reader.take_null()?;
                *self = Self::new();
            }
            b'[' => *self = read_byte_array(reader)?,
            _ => {
                let text = reader.read_string()?;
                *self = decode_base64(&text)
                    .ok_or_else(|| reader.error(JsonErrorKind::Base64))?
                    .into();
            }
        }
        Ok(())
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.base64(&BASE64, self);
    }

    fn is_omitted(&self) -> bool {
        self.is_empty()
    }
}

fn read_byte_array(reader: &mut Reader<'_>) -> Result<Bytes, JsonError> {
    let mut bytes = Vec::new();
    reader.read_array(|reader| {
        let mut byte = 0_u16;
        byte.read(reader)?;
        bytes.push(u8::try_from(byte).map_err(|_| reader.error(JsonErrorKind::OutOfRange))?);
        Ok(())
    })?;
    Ok(bytes.into())
}

/// Decodes base64 as Go does, which ignores line ends and what the last character holds too much.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    // Hardly anyone breaks lines, and every datagram comes through here.
    if let Ok(bytes) = BASE64.decode(text) {
        return Some(bytes);
    }
    let joined = text.replace(['\r', '\n'], "");
    BASE64.decode(joined).ok()
}

static BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, PAD.with_decode_allow_trailing_bits(true));
