//! Writing: the same bytes as Go's encoder.

use bytes::{BufMut, BytesMut};

use super::Value;

/// Appends JSON to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut BytesMut) -> Self {
        Self { out }
    }

    /// Writes an object; `members` adds what is in it.
    pub fn object(&mut self, members: impl FnOnce(&mut Members<'_>)) {
        self.out.put_u8(b'{');
        members(&mut Members {
            writer: Writer {
                out: &mut *self.out,
            },
            is_first: true,
        });
        self.out.put_u8(b'}');
    }

    /// Writes an array.
    pub fn array<T: Value>(&mut self, items: &[T]) {
        self.out.put_u8(b'[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.put_u8(b',');
            }
            item.write(self);
        }
        self.out.put_u8(b']');
    }

    /// Writes a string with Go's escapes: those of JSON, and `<`, `>`, `&`, U+2028 and U+2029, so
    /// that the text can stand inside HTML and scripts.
    pub fn string(&mut self, text: &str) {
        self.out.put_u8(b'"');
        let mut rest = text;
        while let Some(at) = rest.find(needs_escape) {
            let (plain, from_special) = rest.split_at(at);
            self.out.put_slice(plain.as_bytes());
            let mut chars = from_special.chars();
            if let Some(special) = chars.next() {
                self.escape(special);
            }
            rest = chars.as_str();
        }
        self.out.put_slice(rest.as_bytes());
        self.out.put_u8(b'"');
    }

    /// Writes a string that is the base64 of `bytes`, straight into its place.
    pub(super) fn base64(&mut self, engine: &impl base64::Engine, bytes: &[u8]) {
        self.out.put_u8(b'"');
        let start = self.out.len();
        // Padded: four characters for every three bytes that are begun.
        self.out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        let written = engine.encode_slice(bytes, &mut self.out[start..]);
        assert!(written.is_ok(), "there is room for all of it");
        self.out.put_u8(b'"');
    }

    /// Writes text that is JSON already, such as a number.
    pub(super) fn raw(&mut self, text: &[u8]) {
        self.out.put_slice(text);
    }

    fn escape(&mut self, special: char) {
        match special {
            '"' => self.out.put_slice(b"\\\""),
            '\\' => self.out.put_slice(b"\\\\"),
            '\u{8}' => self.out.put_slice(b"\\b"),
            '\u{c}' => self.out.put_slice(b"\\f"),
            '\n' => self.out.put_slice(b"\\n"),
            '\r' => self.out.put_slice(b"\\r"),
            '\t' => self.out.put_slice(b"\\t"),
            other => {
                let code = u32::from(other);
                self.out.put_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = (code >> shift & 0xf) as usize;
                    self.out.put_u8(b"0123456789abcdef"[digit]);
                }
            }
        }
    }
}

fn needs_escape(c: char) -> bool {
    c < ' ' || matches!(c, '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}

/// The members of an object that is being written.
#[derive(Debug)]
pub struct Members<'a> {
    writer: Writer<'a>,
    is_first: bool,
}

impl Members<'_> {
    /// Adds a member, unless Go would omit it.
    pub fn add(&mut self, key: &str, value: &impl Value) {
        if !value.is_omitted() {
            self.add_always(key, value);
        }
    }

    /// Adds a member also when it holds its zero value.
    pub fn add_always(&mut self, key: &str, value: &impl Value) {
        if !self.is_first {
            self.writer.raw(b",");
        }
        self.is_first = false;
        self.writer.string(key);
        self.writer.raw(b":");
        value.write(&mut self.writer);
    }
}
