//! Numbers under `transport.auto` and `transport.hold`: each has a range, and a reason for it that
//! the error tells.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::Context;

/// Reads keys, a row each: how, where to, the key and what the file says of it, its range and the
/// reason for that.
macro_rules! read {
    ($keys:expr, $raw:ident;
     $($how:ident $slot:expr, $key:literal $field:ident, $range:expr, $why:expr;)*) => {
        $($keys.$how(&mut $slot, $key, $raw.$field, $range, $why);)*
    };
}
pub(super) use read;

/// Compares keys that have been read, a row each: a default follows the other key, a given value is
/// refused.
macro_rules! compare {
    ($keys:expr, $raw:ident;
     $($how:ident $slot:expr, $key:literal $field:ident, $other:expr, $other_key:literal;)*) => {
        $(let is_given = $raw.$field.is_some();
          $keys.$how(&mut $slot, $key, is_given, $other, $other_key);)*
    };
}
pub(super) use compare;

/// Reads the numbers of one table. What was not given leaves the default in its slot, and so does
/// what is refused.
pub(super) struct Keys<'c, 'a> {
    context: &'c mut Context<'a>,
    table: &'static str,
}

impl<'c, 'a> Keys<'c, 'a> {
    /// For the keys of `table`, a path.
    pub(super) fn new(context: &'c mut Context<'a>, table: &'static str) -> Self {
        Self { context, table }
    }

    /// Milliseconds.
    pub(super) fn ms(
        &mut self,
        slot: &mut Duration,
        key: &str,
        given: Option<i64>,
        range: RangeInclusive<u64>,
        why: &str,
    ) {
        let mut ms = None;
        self.count(&mut ms, key, given, range, why);
        *slot = ms.map_or(*slot, Duration::from_millis);
    }

    /// Seconds.
    pub(super) fn seconds(
        &mut self,
        slot: &mut Duration,
        key: &str,
        given: Option<i64>,
        range: RangeInclusive<u64>,
        why: &str,
    ) {
        let mut seconds = None;
        self.count(&mut seconds, key, given, range, why);
        *slot = seconds.map_or(*slot, Duration::from_secs);
    }

    /// How many of something.
    pub(super) fn count<N, S>(
        &mut self,
        slot: &mut S,
        key: &str,
        given: Option<i64>,
        range: RangeInclusive<N>,
        why: &str,
    ) where
        N: TryFrom<i64> + PartialOrd + Display,
        S: From<N>,
    {
        let Some(given) = given else {
            return;
        };
        match N::try_from(given) {
            Ok(number) if range.contains(&number) => *slot = S::from(number),
            _ => self.refuse(key, given, &range, why),
        }
    }

    /// Any number, such as a factor.
    pub(super) fn number(
        &mut self,
        slot: &mut f64,
        key: &str,
        given: Option<f64>,
        range: RangeInclusive<f64>,
        why: &str,
    ) {
        match given {
            // What is not a number lies in no range.
            Some(number) if range.contains(&number) => *slot = number,
            Some(number) => self.refuse(key, number, &range, why),
            None => {}
        }
    }

    /// A share, which files have in percent.
    pub(super) fn percent(
        &mut self,
        slot: &mut f64,
        key: &str,
        given: Option<f64>,
        range: RangeInclusive<f64>,
        why: &str,
    ) {
        let mut percent = f64::NAN;
        self.number(&mut percent, key, given, range, why);
        if !percent.is_nan() {
            *slot = percent / 100.0;
        }
    }

    /// What must not be below another key.
    pub(super) fn at_least<T: PartialOrd>(
        &mut self,
        slot: &mut T,
        key: &str,
        is_given: bool,
        floor: T,
        floor_key: &str,
    ) {
        if *slot < floor {
            *slot = floor;
            if is_given {
                self.error(key, format!("must not be below {}.{floor_key}", self.table));
            }
        }
    }

    /// What must not be above another key.
    pub(super) fn at_most<T: PartialOrd>(
        &mut self,
        slot: &mut T,
        key: &str,
        is_given: bool,
        ceiling: T,
        ceiling_key: &str,
    ) {
        if *slot > ceiling {
            *slot = ceiling;
            if is_given {
                let message = format!("must not be above {}.{ceiling_key}", self.table);
                self.error(key, message);
            }
        }
    }

    /// An error about `key`.
    pub(super) fn error(&mut self, key: &str, message: impl Display) {
        let key = format!("{}.{key}", self.table);
        let message = format!("{key}: {message}");
        self.context.error(&key, message);
    }

    fn refuse<N: Display>(
        &mut self,
        key: &str,
        given: impl Display,
        range: &RangeInclusive<N>,
        why: &str,
    ) {
        let (start, end) = (range.start(), range.end());
        let message = format!("{given} must be in the range {start}..{end}: {why}");
        self.error(key, message);
    }
}
