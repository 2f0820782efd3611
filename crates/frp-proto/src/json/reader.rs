//! Reading: one pass over the text, values straight into their fields.

use std::borrow::Cow;

use super::{JsonError, JsonErrorKind, Object};

/// How deep objects and arrays may be inside each other. frp's messages need four; Go allows
/// 10,000, which a recursive reader must not.
pub const MAX_DEPTH: usize = 64;

/// A position in a JSON text.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a [u8],
    pos: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            pos: 0,
            depth: 0,
        }
    }

    /// Checks that nothing but white space is left.
    pub fn finish(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.pos < self.text.len() {
            return Err(self.error(JsonErrorKind::TrailingData));
        }
        Ok(())
    }

    /// Reads an object into `object`. `null` leaves it as it is, as in Go.
    pub fn read_object_into<T: Object>(&mut self, object: &mut T) -> Result<(), JsonError> {
        if self.take_null()? {
            return Ok(());
        }
        self.read_object(|key, reader| object.read_member(key, reader))
    }

    /// Reads an object, handing each key to `member`, which must read the value.
    pub fn read_object(
        &mut self,
        mut member: impl FnMut(&str, &mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.open(b'{', "an object")?;
        if self.close(b'}')? {
            return Ok(());
        }
        loop {
            if self.peek()? != b'"' {
                return Err(self.error(JsonErrorKind::Syntax("a key")));
            }
            let key = self.read_text()?;
            self.expect(b':', "':'")?;
            member(&key, self)?;
            if self.close(b'}')? {
                return Ok(());
            }
            self.expect(b',', "',' or '}'")?;
        }
    }

    /// Reads an array, calling `item` where each item starts; it must read the item.
    pub fn read_array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.open(b'[', "an array")?;
        if self.close(b']')? {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.close(b']')? {
                return Ok(());
            }
            self.expect(b',', "',' or ']'")?;
        }
    }

    /// Reads a string. Broken UTF-8 and lone surrogates become U+FFFD, one for each byte or
    /// escape, as in Go.
    pub fn read_string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        if self.peek()? != b'"' {
            return Err(self.wrong_type("a string"));
        }
        self.read_text()
    }

    /// Reads `true` or `false`.
    pub fn read_bool(&mut self) -> Result<bool, JsonError> {
        match self.peek()? {
            b't' => self.literal("true").map(|()| true),
            b'f' => self.literal("false").map(|()| false),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    /// Reads an integer; one written with a point or an exponent is none, as in Go.
    pub fn read_i64(&mut self) -> Result<i64, JsonError> {
        let start = self.pos;
        let digits = self.read_integer()?;
        digits.parse().map_err(|_| JsonError {
            kind: JsonErrorKind::OutOfRange,
            offset: start,
        })
    }

    /// Reads an integer from 0 to 65535. `-0` is out of range, as in Go.
    pub fn read_u16(&mut self) -> Result<u16, JsonError> {
        let start = self.pos;
        let digits = self.read_integer()?;
        digits.parse().map_err(|_| JsonError {
            kind: JsonErrorKind::OutOfRange,
            offset: start,
        })
    }

    /// Takes `null` if it comes next.
    pub fn take_null(&mut self) -> Result<bool, JsonError> {
        if self.peek()? != b'n' {
            return Ok(false);
        }
        self.literal("null")?;
        Ok(true)
    }

    /// Passes over one value of any type, and returns its text.
    pub fn raw_value(&mut self) -> Result<&'a [u8], JsonError> {
        self.skip_space();
        let start = self.pos;
        self.skip_value()?;
        Ok(&self.text[start..self.pos])
    }

    /// Passes over one value of any type, checking that it is JSON.
    pub fn skip_value(&mut self) -> Result<(), JsonError> {
        match self.peek()? {
            b'{' => self.read_object(|_, reader| reader.skip_value()),
            b'[' => self.read_array(Self::skip_value),
            b'"' => self.read_text().map(drop),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.skip_number().map(drop),
            _ => Err(self.error(JsonErrorKind::Syntax("a value"))),
        }
    }

    /// The first byte of the next token.
    pub fn peek(&mut self) -> Result<u8, JsonError> {
        self.skip_space();
        self.text
            .get(self.pos)
            .copied()
            .ok_or_else(|| self.error(JsonErrorKind::Incomplete))
    }

    /// An error at the current position.
    pub fn error(&self, kind: JsonErrorKind) -> JsonError {
        JsonError {
            kind,
            offset: self.pos,
        }
    }

    /// Whether Go would match `key` with the field `name` when no field has exactly that name:
    /// simple Unicode case folding, which beyond ASCII reaches ASCII names by two letters only.
    pub fn key_matches(key: &str, name: &str) -> bool {
        let mut key = key.chars().map(|c| match c {
            '\u{17f}' => 'S',
            '\u{212a}' => 'K',
            c => c.to_ascii_uppercase(),
        });
        name.chars()
            .all(|c| key.next() == Some(c.to_ascii_uppercase()))
            && key.next().is_none()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.get(self.pos) {
            self.pos += 1;
        }
    }

    fn open(&mut self, bracket: u8, what: &'static str) -> Result<(), JsonError> {
        if self.peek()? != bracket {
            return Err(self.wrong_type(what));
        }
        if self.depth == MAX_DEPTH {
            return Err(self.error(JsonErrorKind::TooDeep));
        }
        self.depth += 1;
        self.pos += 1;
        Ok(())
    }

    fn close(&mut self, bracket: u8) -> Result<bool, JsonError> {
        if self.peek()? != bracket {
            return Ok(false);
        }
        self.depth -= 1;
        self.pos += 1;
        Ok(true)
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.peek()? != byte {
            return Err(self.error(JsonErrorKind::Syntax(what)));
        }
        self.pos += 1;
        Ok(())
    }

    /// The error for a value that is not `expected`: of another type, or no JSON at all.
    fn wrong_type(&self, expected: &'static str) -> JsonError {
        match self.text.get(self.pos) {
            Some(b'{' | b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => {
                self.error(JsonErrorKind::WrongType(expected))
            }
            Some(_) => self.error(JsonErrorKind::Syntax("a value")),
            None => self.error(JsonErrorKind::Incomplete),
        }
    }

    fn literal(&mut self, word: &'static str) -> Result<(), JsonError> {
        let rest = &self.text[self.pos..];
        if rest.starts_with(word.as_bytes()) {
            self.pos += word.len();
            return Ok(());
        }
        Err(self.error(JsonErrorKind::Syntax(word)))
    }

    /// The text of an integer.
    fn read_integer(&mut self) -> Result<&'a str, JsonError> {
        if !matches!(self.peek()?, b'-' | b'0'..=b'9') {
            return Err(self.wrong_type("an integer"));
        }
        let start = self.pos;
        let is_integer = self.skip_number()?;
        let digits = std::str::from_utf8(&self.text[start..self.pos]).ok();
        digits.filter(|_| is_integer).ok_or(JsonError {
            kind: JsonErrorKind::WrongType("an integer"),
            offset: start,
        })
    }

    /// Passes over a number, and says whether it is written as an integer.
    fn skip_number(&mut self) -> Result<bool, JsonError> {
        if self.text.get(self.pos) == Some(&b'-') {
            self.pos += 1;
        }
        if self.text.get(self.pos) == Some(&b'0') {
            self.pos += 1;
        } else {
            self.skip_digits()?;
        }
        let mut is_integer = true;
        if self.text.get(self.pos) == Some(&b'.') {
            is_integer = false;
            self.pos += 1;
            self.skip_digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.pos) {
            is_integer = false;
            self.pos += 1;
            if let Some(b'+' | b'-') = self.text.get(self.pos) {
                self.pos += 1;
            }
            self.skip_digits()?;
        }
        Ok(is_integer)
    }

    /// Passes over one or more digits.
    fn skip_digits(&mut self) -> Result<(), JsonError> {
        let start = self.pos;
        while self.text.get(self.pos).is_some_and(u8::is_ascii_digit) {
            self.pos += 1;
        }
        if self.pos > start {
            return Ok(());
        }
        Err(self.error(if self.pos == self.text.len() {
            JsonErrorKind::Incomplete
        } else {
            JsonErrorKind::Syntax("a digit")
        }))
    }

    /// Reads the string that starts here.
    fn read_text(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.pos += 1;
        let plain = self.take_plain()?;
        if self.text[self.pos] == b'"'
            && let Ok(text) = std::str::from_utf8(plain)
        {
            self.pos += 1;
            return Ok(Cow::Borrowed(text));
        }
        let mut out = String::new();
        push_lossy(&mut out, plain);
        while self.text[self.pos] == b'\\' {
            out.push(self.read_escape()?);
            let plain = self.take_plain()?;
            push_lossy(&mut out, plain);
        }
        self.pos += 1;
        Ok(Cow::Owned(out))
    }

    /// Takes the bytes up to the next quote or backslash, which is there when this is `Ok`.
    fn take_plain(&mut self) -> Result<&'a [u8], JsonError> {
        let rest = &self.text[self.pos..];
        // Most of a long string (the base64 of a datagram) is passed over in vectors.
        let is_plain = |chunk: &&[u8]| !chunk.iter().fold(false, |any, &b| any | ends_plain(b));
        let n_plain = rest.chunks_exact(32).take_while(is_plain).count();
        let Some(len) = rest[32 * n_plain..].iter().position(|&b| ends_plain(b)) else {
            self.pos = self.text.len();
            return Err(self.error(JsonErrorKind::Incomplete));
        };
        let len = 32 * n_plain + len;
        self.pos += len;
        if rest[len] < b' ' {
            return Err(self.error(JsonErrorKind::Syntax("no control character in a string")));
        }
        Ok(&rest[..len])
    }

    fn read_escape(&mut self) -> Result<char, JsonError> {
        self.pos += 1;
        let Some(&letter) = self.text.get(self.pos) else {
            return Err(self.error(JsonErrorKind::Incomplete));
        };
        let c = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.pos += 1;
                return self.read_unicode_escape();
            }
            _ => return Err(self.error(JsonErrorKind::Syntax("an escape"))),
        };
        self.pos += 1;
        Ok(c)
    }

    /// Reads the digits after `\u`, and the second half of a surrogate pair.
    fn read_unicode_escape(&mut self) -> Result<char, JsonError> {
        let unit = self.read_hex()?;
        if let Some(c) = char::from_u32(unit) {
            return Ok(c);
        }
        let after_first = self.pos;
        if self.text[self.pos..].starts_with(b"\\u") {
            self.pos += 2;
            let second = self.read_hex()?;
            if unit < 0xdc00 && (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            // Not its other half: it stands for itself, and is read next.
            self.pos = after_first;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn read_hex(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let Some(&digit) = self.text.get(self.pos) else {
                return Err(self.error(JsonErrorKind::Incomplete));
            };
            let Some(value) = char::from(digit).to_digit(16) else {
                return Err(self.error(JsonErrorKind::Syntax("four hexadecimal digits")));
            };
            unit = unit << 4 | value;
            self.pos += 1;
        }
        Ok(unit)
    }
}

/// Whether a byte in a string is more than itself.
fn ends_plain(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < b' ')
}

/// Appends `bytes`, with U+FFFD for every byte that is not part of valid UTF-8.
fn push_lossy(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for _ in chunk.invalid() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}
