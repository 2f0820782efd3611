//! Which names get labels of their own.

use std::collections::HashSet;

/// Gives labels of their own to a bounded number of names: who comes first is served first.
#[derive(Debug)]
pub struct Places {
    max: usize,
    taken: HashSet<String>,
    n_turned_away: usize,
}

/// What all names share that got no place. A client can call itself that; then it shares too.
pub const OTHER: &str = "other";

impl Places {
    /// Room for `max` names.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            taken: HashSet::new(),
            n_turned_away: 0,
        }
    }

    /// The label for `name`: the same each time.
    pub fn label<'a>(&mut self, name: &'a str) -> &'a str {
        if self.taken.contains(name) {
            return name;
        }
        if self.taken.len() < self.max {
            self.taken.insert(name.to_owned());
            return name;
        }
        self.n_turned_away += 1;
        OTHER
    }

    /// How many times a name found no place.
    pub fn n_turned_away(&self) -> usize {
        self.n_turned_away
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_too_late_shares_a_label() {
        let mut places = Places::new(2);
        let labels: Vec<_> = ["a", "b", "c", "a", "d"]
            .into_iter()
            .map(|name| places.label(name))
            .collect();
        assert_eq!(labels, ["a", "b", "other", "a", "other"]);
        assert_eq!(places.n_turned_away(), 2);
    }
}
