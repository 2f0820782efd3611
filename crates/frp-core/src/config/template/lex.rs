//! Splits a template into text and the tokens of its actions.

use super::TemplateError;

/// A token, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    /// Its first byte.
    pub(super) at: usize,
    /// Whether blanks stand before it.
    pub(super) is_spaced: bool,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Text outside of actions, up to this byte; already trimmed.
    Text(usize),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// A keyword or a function.
    Word(String),
    /// `.Name`
    Field(String),
    /// `$name` or `$`
    Variable(String),
    /// `.`
    Dot,
    /// A string in either kind of quotes, or a character.
    Str(String),
    /// A whole number.
    Int(i64),
    /// `|`
    Pipe,
    /// `(`
    LeftParen,
    /// `)`
    RightParen,
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// Splits `text`. Comments leave nothing.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer {
        text,
        at: 0,
        tokens: Vec::new(),
    };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn run(&mut self) -> Result<(), TemplateError> {
        let mut trims_left = false;
        loop {
            let mut start = self.at;
            if trims_left {
                start += self.rest().len() - self.rest().trim_start_matches(is_blank).len();
            }
            let Some(len) = self.text[self.at..].find("{{") else {
                self.push_text(start, self.text.len());
                return Ok(());
            };
            let open = self.at + len;
            self.at = open + 2;
            let mut end = open;
            if self.rest().starts_with('-') && self.rest()[1..].starts_with(is_blank) {
                self.at += 1;
                end = self.text[..open].trim_end_matches(is_blank).len();
            }
            self.push_text(start, end);
            trims_left = self.action(open)?;
        }
    }

    /// An action after its `{{`. Returns whether the blanks after its `}}` are trimmed.
    fn action(&mut self, open: usize) -> Result<bool, TemplateError> {
        let body = self.rest().trim_start_matches(is_blank);
        if body.starts_with("/*") {
            return self.comment(open);
        }
        self.push(open, false, Kind::Open);
        loop {
            let before = self.at;
            self.at = self.text.len() - self.rest().trim_start_matches(is_blank).len();
            let is_spaced = self.at > before;
            if self.rest().starts_with("}}") {
                self.push(self.at, is_spaced, Kind::Close);
                self.at += 2;
                return Ok(false);
            }
            if is_spaced && self.rest().starts_with("-}}") {
                self.push(self.at, is_spaced, Kind::Close);
                self.at += 3;
                return Ok(true);
            }
            let at = self.at;
            let kind = self.token(open)?;
            self.push(at, is_spaced, kind);
        }
    }

    fn comment(&mut self, open: usize) -> Result<bool, TemplateError> {
        let Some(end) = self.rest().find("*/") else {
            return Err(TemplateError::new(open, "unclosed comment"));
        };
        self.at += end + 2;
        if self.rest().starts_with("}}") {
            self.at += 2;
            return Ok(false);
        }
        let rest = self.rest().trim_start_matches(is_blank);
        if rest.len() < self.rest().len() && rest.starts_with("-}}") {
            self.at = self.text.len() - rest.len() + 3;
            return Ok(true);
        }
        Err(TemplateError::new(
            open,
            "comment ends before closing delimiter",
        ))
    }

    fn token(&mut self, open: usize) -> Result<Kind, TemplateError> {
        let at = self.at;
        let Some(c) = self.rest().chars().next() else {
            return Err(TemplateError::new(open, "unclosed action"));
        };
        let simple = match c {
            '|' => Some(Kind::Pipe),
            '(' => Some(Kind::LeftParen),
            ')' => Some(Kind::RightParen),
            ',' => Some(Kind::Comma),
            '=' => Some(Kind::Assign),
            _ => None,
        };
        if let Some(kind) = simple {
            self.at += 1;
            return Ok(kind);
        }
        match c {
            ':' if self.rest().starts_with(":=") => {
                self.at += 2;
                Ok(Kind::Declare)
            }
            '"' => self.quoted(),
            '`' => self.raw(),
            '\'' => Err(TemplateError::new(
                at,
                "character constants are not supported here",
            )),
            '.' => {
                self.at += 1;
                Ok(match self.word() {
                    name if name.is_empty() => Kind::Dot,
                    name => Kind::Field(name),
                })
            }
            '$' => {
                self.at += 1;
                Ok(Kind::Variable(self.word()))
            }
            '+' | '-' | '0'..='9' => self.number(),
            c if c.is_alphanumeric() || c == '_' => Ok(Kind::Word(self.word())),
            c => Err(TemplateError::new(
                at,
                format!("unexpected {c:?} in action"),
            )),
        }
    }

    fn quoted(&mut self) -> Result<Kind, TemplateError> {
        let start = self.at;
        let unterminated = || TemplateError::new(start, "unterminated quoted string");
        self.at += 1;
        let mut out = String::new();
        loop {
            let c = self.take().ok_or_else(unterminated)?;
            match c {
                '"' => return Ok(Kind::Str(out)),
                '\n' => return Err(unterminated()),
                '\\' => {
                    let escaped = self.take().ok_or_else(unterminated)?;
                    out.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        '\\' | '"' => escaped,
                        'x' => self.code(2, start)?,
                        'u' => self.code(4, start)?,
                        'U' => self.code(8, start)?,
                        _ => return Err(TemplateError::new(start, "invalid syntax in string")),
                    });
                }
                c => out.push(c),
            }
        }
    }

    fn code(&mut self, n_digits: usize, start: usize) -> Result<char, TemplateError> {
        let digits = self.rest().get(..n_digits);
        let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at += n_digits;
        code.and_then(char::from_u32)
            .ok_or_else(|| TemplateError::new(start, "invalid syntax in string"))
    }

    fn raw(&mut self) -> Result<Kind, TemplateError> {
        let start = self.at + 1;
        let Some(len) = self.text[start..].find('`') else {
            return Err(TemplateError::new(
                self.at,
                "unterminated raw quoted string",
            ));
        };
        self.at = start + len + 1;
        Ok(Kind::Str(self.text[start..start + len].replace('\r', "")))
    }

    fn number(&mut self) -> Result<Kind, TemplateError> {
        let at = self.at;
        let rest = self.rest();
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
        let sign = usize::from(rest.starts_with(['+', '-']));
        let end = rest[sign..]
            .find(|c| !is_part(c))
            .map_or(rest.len(), |len| sign + len);
        let number = rest[..end].to_owned();
        self.at += end;
        let bad = || TemplateError::new(at, format!("bad number syntax: {number:?}"));
        number.parse().map(Kind::Int).map_err(|_| bad())
    }

    /// Letters, digits and underscores; maybe none.
    fn word(&mut self) -> String {
        let rest = self.rest();
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let word = rest[..len].to_owned();
        self.at += len;
        word
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn push_text(&mut self, start: usize, end: usize) {
        if start < end {
            self.push(start, false, Kind::Text(end));
        }
    }

    fn push(&mut self, at: usize, is_spaced: bool, kind: Kind) {
        self.tokens.push(Token {
            at,
            is_spaced,
            kind,
        });
    }

    fn rest(&self) -> &str {
        // An escape at the very end may claim more digits than there are.
        self.text.get(self.at..).unwrap_or_default()
    }
}

/// What Go's templates take for blanks.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}
