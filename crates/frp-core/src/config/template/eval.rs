//! Runs a template, within bounds on steps and output.

use super::functions::{Function, call};
use super::parse::{Block, Command, Operand, Piece, Pipeline, Term};
use super::value::Value;
use super::{MAX_TEXT_LEN, Rendered, Segment, TemplateError};

/// How many pieces and operands may be run. A range over every port with ten actions in it takes
/// well under a million.
const MAX_STEPS: usize = 2_000_000;

/// Runs `pieces`, the tree of `text`.
pub(super) fn run(
    text: &str,
    pieces: &[Piece],
    envs: &dyn Fn(&str) -> Option<String>,
) -> Result<Rendered, TemplateError> {
    let mut run = Run {
        text,
        envs,
        out: Rendered {
            text: String::new(),
            segments: Vec::new(),
        },
        variables: vec![(String::new(), Value::Root)],
        steps_left: MAX_STEPS,
    };
    run.pieces(pieces, &Value::Root)?;
    Ok(run.out)
}

struct Run<'a> {
    text: &'a str,
    envs: &'a dyn Fn(&str) -> Option<String>,
    out: Rendered,
    variables: Vec<(String, Value)>,
    steps_left: usize,
}

impl Run<'_> {
    fn pieces(&mut self, pieces: &[Piece], dot: &Value) -> Result<(), TemplateError> {
        let n_variables = self.variables.len();
        for piece in pieces {
            match piece {
                Piece::Text(start, end) => {
                    self.step(*start)?;
                    let text = self.text.get(*start..*end).unwrap_or_default();
                    self.write(*start, true, text)?;
                }
                Piece::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        let text = value.print();
                        let text = text.map_err(|m| TemplateError::new(pipeline.at, m))?;
                        self.write(pipeline.at, false, &text)?;
                    } else {
                        self.set(&pipeline.variables, pipeline.declares, &[value]);
                    }
                }
                Piece::If(block) => self.choose(block, dot, false)?,
                Piece::With(block) => self.choose(block, dot, true)?,
                Piece::Range(block) => self.range(block, dot)?,
            }
        }
        self.variables.truncate(n_variables);
        Ok(())
    }

    fn choose(&mut self, block: &Block, dot: &Value, sets_dot: bool) -> Result<(), TemplateError> {
        let n_variables = self.variables.len();
        let value = self.pipeline(&block.pipeline, dot)?;
        self.set(
            &block.pipeline.variables,
            block.pipeline.declares,
            std::slice::from_ref(&value),
        );
        if value.is_true() {
            self.pieces(&block.body, if sets_dot { &value } else { dot })?;
        } else {
            self.pieces(&block.otherwise, dot)?;
        }
        self.variables.truncate(n_variables);
        Ok(())
    }

    fn range(&mut self, block: &Block, dot: &Value) -> Result<(), TemplateError> {
        let pipeline = &block.pipeline;
        let value = self.pipeline(pipeline, dot)?;
        let items = match value {
            Value::List(items) => items.as_ref().clone(),
            Value::Missing => Vec::new(),
            Value::Int(count) => {
                // Each turn is at least one step, so more of them could not run anyway.
                let count = usize::try_from(count).unwrap_or(0).min(self.steps_left + 1);
                (0..count).map(|idx| Value::Int(int(idx))).collect()
            }
            other => {
                let message = format!("range can't iterate over {}", other.type_name());
                return Err(TemplateError::new(pipeline.at, message));
            }
        };
        if items.is_empty() {
            return self.pieces(&block.otherwise, dot);
        }
        for (idx, item) in items.into_iter().enumerate() {
            self.step(pipeline.at)?;
            let n_variables = self.variables.len();
            let both = [Value::Int(int(idx)), item];
            let values = &both[2 - pipeline.variables.len().clamp(1, 2)..];
            self.set(&pipeline.variables, pipeline.declares, values);
            self.pieces(&block.body, &both[1])?;
            self.variables.truncate(n_variables);
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Value::Nil))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let Some((first, arguments)) = command.operands.split_first() else {
            return Ok(Value::Nil);
        };
        if let Term::Function(function) = first.term
            && first.fields.is_empty()
        {
            return self.function(function, arguments, dot, piped, command.at);
        }
        if !arguments.is_empty() {
            let message = "can't give argument to non-function";
            return Err(TemplateError::new(command.at, message));
        }
        self.operand(first, dot)
    }

    fn function(
        &mut self,
        function: Function,
        arguments: &[Operand],
        dot: &Value,
        piped: Option<Value>,
        at: usize,
    ) -> Result<Value, TemplateError> {
        // These two look at no more arguments than decide; the deciding one is their value.
        if let Function::And | Function::Or = function {
            let mut last = None;
            for argument in arguments {
                let value = self.operand(argument, dot)?;
                if value.is_true() == (function == Function::Or) {
                    return Ok(value);
                }
                last = Some(value);
            }
            let last = piped.or(last);
            return last.ok_or_else(|| TemplateError::new(at, "wrong number of args"));
        }
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            values.push(self.operand(argument, dot)?);
        }
        values.extend(piped);
        let value = call(function, &values, self.envs).map_err(|m| TemplateError::new(at, m))?;
        // Building a long value is work too.
        self.steps(
            at,
            match &value {
                Value::Str(text) => text.len() / 64,
                Value::List(items) => items.len() / 16,
                _ => 0,
            },
        )?;
        Ok(value)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        self.step(operand.at)?;
        let mut value = match &operand.term {
            Term::Function(function) => self.function(*function, &[], dot, None, operand.at)?,
            Term::Dot => dot.clone(),
            Term::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map_or(Value::Nil, |(_, value)| value.clone())
            }
            Term::Str(text) => Value::Str(text.clone()),
            Term::Int(number) => Value::Int(*number),
            Term::Bool(flag) => Value::Bool(*flag),
            Term::Nil => Value::Nil,
            Term::Group(pipeline) => self.pipeline(pipeline, dot)?,
        };
        for field in &operand.fields {
            value = self.field(&value, field, operand.at)?;
        }
        Ok(value)
    }

    fn field(&self, value: &Value, field: &str, at: usize) -> Result<Value, TemplateError> {
        Ok(match (value, field) {
            (Value::Root, "Envs") => Value::Envs,
            (Value::Envs, name) => (self.envs)(name).map_or(Value::Missing, Value::Str),
            (Value::Pair(first, _), "First") => Value::Int(*first),
            (Value::Pair(_, second), "Second") => Value::Int(*second),
            (other, _) => {
                let type_name = other.type_name();
                let message = format!("can't evaluate field {field} in type {type_name}");
                return Err(TemplateError::new(at, message));
            }
        })
    }

    fn set(&mut self, names: &[String], declares: bool, values: &[Value]) {
        for (name, value) in names.iter().zip(values) {
            let known = self
                .variables
                .iter_mut()
                .rev()
                .find(|(known, _)| known == name);
            match known {
                Some((_, old)) if !declares => *old = value.clone(),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
    }

    fn write(&mut self, at: usize, copied: bool, text: &str) -> Result<(), TemplateError> {
        if self.out.text.len() + text.len() > MAX_TEXT_LEN {
            let message = format!("the template makes more than {MAX_TEXT_LEN} bytes");
            return Err(TemplateError::new(at, message));
        }
        self.out.segments.push(Segment {
            rendered: self.out.text.len(),
            original: at,
            copied,
        });
        self.out.text.push_str(text);
        Ok(())
    }

    fn step(&mut self, at: usize) -> Result<(), TemplateError> {
        self.steps(at, 1)
    }

    fn steps(&mut self, at: usize, n_steps: usize) -> Result<(), TemplateError> {
        match self.steps_left.checked_sub(n_steps) {
            Some(left) => {
                self.steps_left = left;
                Ok(())
            }
            None => Err(TemplateError::new(at, "the template runs for too long")),
        }
    }
}

fn int(idx: usize) -> i64 {
    i64::try_from(idx).unwrap_or(i64::MAX)
}
