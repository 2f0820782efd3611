//! The environment of a program, as far as a configuration depends on it.

/// What a configuration depends on besides its file: the environment, given explicitly so that
/// tests need not change the process's own.
pub(super) struct Env {
    variables: Vec<(String, String)>,
    /// Whether the files that a configuration includes may be read.
    pub(super) has_files: bool,
}

impl Env {
    /// The environment of this process. What is not UTF-8 is left out.
    pub(super) fn of_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self {
            variables: variables.collect(),
            has_files: true,
        }
    }

    /// Exactly these variables, and no files: for texts that nobody vouches for.
    pub(super) fn sealed(variables: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            variables: variables.iter().map(owned).collect(),
            has_files: false,
        }
    }

    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    }

    /// The variables that override keys, when they may.
    pub(super) fn overrides(&self, enabled: bool) -> impl Iterator<Item = (String, String)> {
        let variables = if enabled {
            self.variables.as_slice()
        } else {
            &[]
        };
        variables.iter().cloned()
    }
}
