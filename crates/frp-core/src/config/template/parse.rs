//! From tokens to a tree.

use super::TemplateError;
use super::functions::Function;
use super::lex::{Kind, Token, lex};

/// The deepest nesting of blocks and parentheses, and the longest chain of `else if`.
const MAX_DEPTH: usize = 64;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// Text that is copied: its first byte and the one after its last.
    Text(usize, usize),
    /// An action that prints what its pipeline gives.
    Print(Pipeline),
    /// `if`, with what follows when it holds and when it does not.
    If(Block),
    /// `with`.
    With(Block),
    /// `range`.
    Range(Block),
}

/// A block action.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    /// What decides.
    pub(super) pipeline: Pipeline,
    /// What is run.
    pub(super) body: Vec<Piece>,
    /// What is run instead.
    pub(super) otherwise: Vec<Piece>,
}

/// Commands, each of which gets what the one before it gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipeline {
    /// The first byte of its action.
    pub(super) at: usize,
    /// The variables that get its value. Only `range` has two.
    pub(super) variables: Vec<String>,
    /// Whether they are new.
    pub(super) declares: bool,
    /// The commands. Never empty.
    pub(super) commands: Vec<Command>,
}

/// A function with its arguments, or one value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Command {
    /// Its first byte.
    pub(super) at: usize,
    /// Its words. Never empty.
    pub(super) operands: Vec<Operand>,
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    /// Its first byte.
    pub(super) at: usize,
    /// What it is.
    pub(super) term: Term,
    /// The fields that are taken of it.
    pub(super) fields: Vec<String>,
}

/// What a word is, before its fields are taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    /// A function.
    Function(Function),
    /// `.`
    Dot,
    /// `$name`, or `$` with an empty name.
    Variable(String),
    /// A string.
    Str(String),
    /// A number.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// `nil`
    Nil,
    /// A pipeline in parentheses.
    Group(Box<Pipeline>),
}

/// Parses a whole template.
pub(super) fn parse(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut parser = Parser {
        tokens: lex(text)?,
        next: 0,
        len: text.len(),
        // `$` is there from the start.
        variables: vec![String::new()],
    };
    let (pieces, end) = parser.pieces(0)?;
    match end {
        Stop::Eof => Ok(pieces),
        Stop::End(at) => Err(TemplateError::new(at, "unexpected {{end}}")),
        Stop::Else(at) => Err(TemplateError::new(at, "unexpected {{else}}")),
    }
}

/// What ended a list of pieces.
enum Stop {
    Eof,
    End(usize),
    Else(usize),
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    len: usize,
    variables: Vec<String>,
}

impl Parser {
    fn pieces(&mut self, depth: usize) -> Result<(Vec<Piece>, Stop), TemplateError> {
        let mut pieces = Vec::new();
        while let Some(token) = self.take() {
            if let Kind::Text(end) = token.kind {
                pieces.push(Piece::Text(token.at, end));
                continue;
            }
            // Outside of an action there are only texts and openings.
            let at = token.at;
            match self.keyword() {
                Some("end") => {
                    self.next += 1;
                    self.close("end")?;
                    return Ok((pieces, Stop::End(at)));
                }
                // `else` stays open: `if` or `with` may follow it.
                Some("else") => {
                    self.next += 1;
                    return Ok((pieces, Stop::Else(at)));
                }
                Some(word @ ("if" | "with" | "range")) => {
                    let word = word.to_owned();
                    self.next += 1;
                    pieces.push(self.block(&word, at, depth)?);
                }
                Some(word @ ("define" | "template" | "block" | "break" | "continue")) => {
                    let message = format!("{{{{{word}}}}} is not supported here");
                    return Err(TemplateError::new(at, message));
                }
                _ => {
                    let pipeline = self.pipeline("command", at, depth)?;
                    self.close("command")?;
                    pieces.push(Piece::Print(pipeline));
                }
            }
        }
        Ok((pieces, Stop::Eof))
    }

    fn block(&mut self, word: &str, at: usize, depth: usize) -> Result<Piece, TemplateError> {
        if depth >= MAX_DEPTH {
            return Err(TemplateError::new(at, "blocks are nested too deeply"));
        }
        let n_variables = self.variables.len();
        let pipeline = self.pipeline(word, at, depth)?;
        self.close(word)?;
        let (body, end) = self.pieces(depth + 1)?;
        let otherwise = match end {
            Stop::End(_) => Vec::new(),
            Stop::Else(else_at) => self.otherwise(word, else_at, depth)?,
            Stop::Eof => {
                return Err(TemplateError::new(
                    at,
                    format!("{{{{{word}}}}} has no {{{{end}}}}"),
                ));
            }
        };
        self.variables.truncate(n_variables);
        let block = Block {
            pipeline,
            body,
            otherwise,
        };
        Ok(match word {
            "if" => Piece::If(block),
            "with" => Piece::With(block),
            _ => Piece::Range(block),
        })
    }

    /// What follows `{{else`: the rest of it, and everything up to the `{{end}}` of the block.
    fn otherwise(
        &mut self,
        word: &str,
        at: usize,
        depth: usize,
    ) -> Result<Vec<Piece>, TemplateError> {
        if let Some(chained @ ("if" | "with")) = self.keyword()
            && chained == word
        {
            let chained = chained.to_owned();
            self.next += 1;
            // The chained block takes the one `{{end}}` for both.
            return Ok(vec![self.block(&chained, at, depth + 1)?]);
        }
        self.close("else")?;
        match self.pieces(depth + 1)? {
            (pieces, Stop::End(_)) => Ok(pieces),
            (_, Stop::Else(at)) => Err(TemplateError::new(at, "unexpected {{else}}")),
            (_, Stop::Eof) => Err(TemplateError::new(at, "{{else}} has no {{end}}")),
        }
    }

    fn pipeline(
        &mut self,
        context: &str,
        at: usize,
        depth: usize,
    ) -> Result<Pipeline, TemplateError> {
        if depth >= MAX_DEPTH {
            return Err(TemplateError::new(at, "blocks are nested too deeply"));
        }
        let (variables, declares) = self.declaration(context)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(context, at, depth)?;
            if !commands.is_empty() && !takes_arguments(&command) {
                let message = "non executable command in pipeline";
                return Err(TemplateError::new(command.at, message));
            }
            commands.push(command);
            if !matches!(self.peek(), Some(Kind::Pipe)) {
                break;
            }
            self.next += 1;
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline {
            at,
            variables,
            declares,
            commands,
        })
    }

    /// `$x :=`, `$x =`, and with `range` also `$i, $x :=`.
    fn declaration(&mut self, context: &str) -> Result<(Vec<String>, bool), TemplateError> {
        let mut names = Vec::new();
        let mut idx = self.next;
        let kind_at = |idx: usize| self.tokens.get(idx).map(|token| &token.kind);
        while let Some(Kind::Variable(name)) = kind_at(idx) {
            names.push(name.clone());
            match kind_at(idx + 1) {
                Some(Kind::Comma) if context == "range" && names.len() == 1 => idx += 2,
                Some(kind @ (Kind::Declare | Kind::Assign)) => {
                    let declares = *kind == Kind::Declare;
                    if !declares {
                        names.iter().try_for_each(|name| self.known(name, idx))?;
                    }
                    self.next = idx + 2;
                    return Ok((names, declares));
                }
                _ => break,
            }
        }
        Ok((Vec::new(), false))
    }

    fn command(
        &mut self,
        context: &str,
        at: usize,
        depth: usize,
    ) -> Result<Command, TemplateError> {
        let command_at = self
            .tokens
            .get(self.next)
            .map_or(self.len, |token| token.at);
        let mut operands: Vec<Operand> = Vec::new();
        while !matches!(
            self.peek(),
            None | Some(Kind::Close | Kind::Pipe | Kind::RightParen)
        ) {
            let is_spaced = self
                .tokens
                .get(self.next)
                .is_some_and(|token| token.is_spaced);
            if !operands.is_empty() && !is_spaced {
                let message = format!("unexpected token in {context}");
                return Err(TemplateError::new(command_at, message));
            }
            operands.push(self.operand(context, depth)?);
        }
        if operands.is_empty() {
            return Err(TemplateError::new(
                at,
                format!("missing value for {context}"),
            ));
        }
        Ok(Command {
            at: command_at,
            operands,
        })
    }

    fn operand(&mut self, context: &str, depth: usize) -> Result<Operand, TemplateError> {
        let idx = self.next;
        let Some(token) = self.take() else {
            return Err(TemplateError::new(self.len, "unclosed action"));
        };
        let at = token.at;
        let mut fields = Vec::new();
        let term = match token.kind {
            Kind::Dot => Term::Dot,
            Kind::Field(name) => {
                fields.push(name);
                Term::Dot
            }
            Kind::Variable(name) => {
                self.known(&name, idx)?;
                Term::Variable(name)
            }
            Kind::Str(text) => Term::Str(text),
            Kind::Int(number) => Term::Int(number),
            Kind::Word(word) => match word.as_str() {
                "true" => Term::Bool(true),
                "false" => Term::Bool(false),
                "nil" => Term::Nil,
                _ => {
                    Term::Function(Function::by_name(&word).map_err(|m| TemplateError::new(at, m))?)
                }
            },
            Kind::LeftParen => {
                let pipeline = self.pipeline("parenthesized pipeline", at, depth + 1)?;
                if !matches!(self.peek(), Some(Kind::RightParen)) {
                    return Err(TemplateError::new(at, "unclosed left paren"));
                }
                self.next += 1;
                Term::Group(Box::new(pipeline))
            }
            _ => {
                let message = format!("unexpected token in {context}");
                return Err(TemplateError::new(at, message));
            }
        };
        while let Some(Token {
            is_spaced: false,
            kind: Kind::Field(name),
            ..
        }) = self.tokens.get(self.next)
        {
            fields.push(name.clone());
            self.next += 1;
        }
        Ok(Operand { at, term, fields })
    }

    fn close(&mut self, context: &str) -> Result<(), TemplateError> {
        let at = self
            .tokens
            .get(self.next)
            .map_or(self.len, |token| token.at);
        match self.take() {
            Some(Token {
                kind: Kind::Close, ..
            }) => Ok(()),
            _ => Err(TemplateError::new(
                at,
                format!("unexpected token in {context}"),
            )),
        }
    }

    fn known(&self, name: &str, idx: usize) -> Result<(), TemplateError> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        let at = self.tokens.get(idx).map_or(self.len, |token| token.at);
        Err(TemplateError::new(
            at,
            format!("undefined variable \"${name}\""),
        ))
    }

    fn keyword(&self) -> Option<&str> {
        match self.peek() {
            Some(Kind::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }
}

/// Whether a command can get the value of the one before it.
fn takes_arguments(command: &Command) -> bool {
    let first = command.operands.first();
    first.is_some_and(|operand| {
        matches!(operand.term, Term::Function(_)) && operand.fields.is_empty()
    })
}
