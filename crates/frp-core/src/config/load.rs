//! From a file, or flags, to checked values: the order of the steps.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map};
use figment::{Error, Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::auth::go_text;
use super::check::check;
use super::env::Env;
use super::error::{ConfigError, ConfigErrors, Origin};
use super::raw::{RawClient, RawServer};
use super::raw_proxy::{RawProxy, RawVisitor};
use super::report::Report;
use super::shape::{Shape, Shaped, Table};
use super::source::{MAX_TEXT_LEN, Source, origin_in};
use super::validate::{self, Context, Located};
use super::{
    ClientConfig, ClientTexts, Flag, LoadOptions, Loaded, ServerConfig, Single, TextFile, format,
    includes, overrides, template,
};

/// Where a configuration comes from.
pub(super) enum Input<'a> {
    /// A file.
    File(&'a Path),
    /// A text, as if it were the content of this file.
    Text(&'a Path, &'a [u8]),
    /// Texts as they were read once: the main file's, and those of all that it included.
    Kept(&'a ClientTexts),
    /// Flags alone.
    Flags(&'a [Flag]),
}

/// Loads frps's configuration.
pub(super) fn server(
    input: &Input<'_>,
    options: &LoadOptions,
    env: &Env,
) -> Result<Loaded<ServerConfig>, ConfigErrors> {
    let mut report = Report::default();
    let (own, other) = (table::<RawServer>(), table::<RawClient>());
    let (raw, _): (RawServer, _) = layers(&mut report, input, options, env, (own, other), None);
    let mut context = Context {
        report: &mut report,
        options,
        env,
    };
    let config = validate::server(&mut context, &raw);
    let warnings = report.finish()?;
    Ok(Loaded { config, warnings })
}

/// Loads frpc's configuration, with the files that it includes or the single proxy of a command.
pub(super) fn client(
    input: &Input<'_>,
    single: Option<&Single>,
    options: &LoadOptions,
    env: &Env,
) -> Result<Loaded<ClientConfig>, ConfigErrors> {
    client_with_texts(input, single, options, env, &mut ClientTexts::default())
}

/// Does the same, and keeps what was read in `texts`.
pub(super) fn client_with_texts(
    input: &Input<'_>,
    single: Option<&Single>,
    options: &LoadOptions,
    env: &Env,
    texts: &mut ClientTexts,
) -> Result<Loaded<ClientConfig>, ConfigErrors> {
    let mut report = Report::default();
    let tables = (table::<RawClient>(), table::<RawServer>());
    let read_main = Some(&mut texts.main);
    let (raw, file): (RawClient, _) = layers(&mut report, input, options, env, tables, read_main);
    let mut proxies: Vec<_> = located(file, "proxies", raw.proxies.clone());
    let mut visitors: Vec<_> = located(file, "visitors", raw.visitors.clone());
    let included = match input {
        Input::Kept(kept) => kept.included_bytes(),
        _ if env.has_files => read_included(&mut report, file, &raw.includes),
        _ => Vec::new(),
    };
    for (path, bytes) in &included {
        let number = report.next_source();
        let dict = parse(&mut report, path, bytes, options, env, tables.0);
        let layers = vec![(path.display().to_string(), dict)];
        let raw: RawClient = extract(&mut report, layers);
        proxies.extend(located(number, "proxies", raw.proxies));
        visitors.extend(located(number, "visitors", raw.visitors));
        texts.included.push(TextFile::new(path, bytes));
    }
    match single {
        Some(Single::Proxy(flags)) => {
            let dict = overrides::from_flags(&mut report, flags, table::<RawProxy>());
            proxies.push(Located::alone(extract(
                &mut report,
                vec![("flags".to_owned(), dict)],
            )));
        }
        Some(Single::Visitor(flags)) => {
            let dict = overrides::from_flags(&mut report, flags, table::<RawVisitor>());
            visitors.push(Located::alone(extract(
                &mut report,
                vec![("flags".to_owned(), dict)],
            )));
        }
        None => {}
    }
    let mut context = Context {
        report: &mut report,
        options,
        env,
    };
    let config = validate::client(&mut context, &raw, &proxies, &visitors);
    let warnings = report.finish()?;
    Ok(Loaded { config, warnings })
}

/// Reads the main input and lays the environment over it. Returns the file's number too.
fn layers<T: DeserializeOwned + Default>(
    report: &mut Report,
    input: &Input<'_>,
    options: &LoadOptions,
    env: &Env,
    (own, other): (&'static Table, &'static Table),
    read_main: Option<&mut TextFile>,
) -> (T, usize) {
    let (name, base) = match input {
        Input::Flags(flags) => (
            "flags".to_owned(),
            overrides::from_flags(report, flags, own),
        ),
        Input::File(path) => match read(path) {
            Ok(bytes) => {
                if let Some(main) = read_main {
                    *main = TextFile::new(path, &bytes);
                }
                (
                    path.display().to_string(),
                    parse(report, path, &bytes, options, env, own),
                )
            }
            Err(error) => {
                report.push(error);
                return (T::default(), 0);
            }
        },
        Input::Kept(kept) => {
            let TextFile { path, text } = &kept.main;
            let dict = parse(report, Path::new(path), text.as_bytes(), options, env, own);
            (path.clone(), dict)
        }
        Input::Text(path, bytes) => (
            path.display().to_string(),
            parse(report, path, bytes, options, env, own),
        ),
    };
    let variables = env.overrides(options.env);
    let over = overrides::from_env(report, variables, own, other, options.strict);
    let layers = vec![(name, base), ("environment".to_owned(), over)];
    (extract(report, layers), 0)
}

/// Reads the files that `includes` of file number `file` names. What cannot be read is reported.
fn read_included(report: &mut Report, file: usize, includes: &[String]) -> Vec<(PathBuf, Vec<u8>)> {
    let mut texts = Vec::new();
    for (idx, entry) in includes.iter().enumerate() {
        match includes::find(entry) {
            Ok(files) => {
                for path in files {
                    match read(&path) {
                        Ok(bytes) => texts.push((path, bytes)),
                        Err(error) => report.push(error),
                    }
                }
            }
            Err(message) => report.error(file, &format!("includes[{idx}]"), message),
        }
    }
    texts
}

/// Reads a file, up to a bound. The error is in Go's words, without anything before it.
fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let bare = |message: String| ConfigError {
        origin: Origin::File {
            file: PathBuf::new(),
            place: None,
        },
        key: String::new(),
        hint: None,
        message,
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        let limit = MAX_TEXT_LEN as u64 + 1;
        file.take(limit).read_to_end(&mut bytes)
    });
    read.map_err(|err| bare(go_text(path, &err)))?;
    Ok(bytes)
}

/// From bytes to figment values. What is wrong goes to the report.
fn parse(
    report: &mut Report,
    path: &Path,
    bytes: &[u8],
    options: &LoadOptions,
    env: &Env,
    own: &'static Table,
) -> Dict {
    let whole_file = |message: String| ConfigError {
        origin: Origin::File {
            file: path.to_owned(),
            place: None,
        },
        key: String::new(),
        hint: None,
        message,
    };
    if bytes.len() > MAX_TEXT_LEN {
        report.push(whole_file(format!(
            "the file is larger than {MAX_TEXT_LEN} bytes"
        )));
        return Dict::new();
    }
    let text = match std::str::from_utf8(bytes) {
        // A mark that some editors write at the very start is no part of the text.
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(err) => {
            let valid = String::from_utf8_lossy(&bytes[..err.valid_up_to()]);
            report.push(ConfigError {
                origin: origin_in(path, &valid, valid.len()),
                ..whole_file("the file is not UTF-8".to_owned())
            });
            return Dict::new();
        }
    };
    if let Some(at) = ini_header(text) {
        let message = "not supported yet: INI files; use TOML, YAML or JSON";
        report.push(ConfigError {
            origin: origin_in(path, text, at),
            ..whole_file(message.to_owned())
        });
        return Dict::new();
    }
    let rendered = match template::render(text, &|name| env.get(name)) {
        Ok(rendered) => rendered,
        Err(error) => {
            report.push(ConfigError {
                origin: origin_in(path, text, error.at),
                ..whole_file(format!("template: {}", error.message))
            });
            return Dict::new();
        }
    };
    let source = Source::new(path, text.to_owned(), rendered.text, rendered.segments);
    let is_named_toml = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let parsed = format::parse(&source.text, is_named_toml);
    let errors = match &parsed {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .iter()
            .map(|error| source.error(error.at, &error.message))
            .collect(),
    };
    let file = report.add_source(source);
    errors.into_iter().for_each(|error| report.push(error));
    match parsed {
        Ok((root, format)) => check(
            report,
            file,
            &root,
            format,
            Shape::Table(own),
            options.strict,
        ),
        Err(_) => Dict::new(),
    }
}

/// The place of the header that makes a file an INI file for frp.
fn ini_header(text: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if trimmed.starts_with("[common]") {
            return Some(at + line.len() - trimmed.len());
        }
        at += line.len();
    }
    None
}

/// Merges the layers, the later ones over the earlier ones.
fn extract<T: DeserializeOwned + Default>(report: &mut Report, layers: Vec<(String, Dict)>) -> T {
    let figment = layers
        .into_iter()
        .fold(Figment::new(), |figment, (name, dict)| {
            figment.merge(Layer { name, dict })
        });
    figment.extract().unwrap_or_else(|error| {
        // The walk has checked every type, so only an oversight of ours gets here.
        for error in error {
            report.push(ConfigError {
                origin: Origin::Flag(String::new()),
                key: error.path.join("."),
                hint: None,
                message: error.to_string(),
            });
        }
        T::default()
    })
}

/// Checked values as a source for figment.
struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

fn located<T>(file: usize, list: &str, items: Vec<T>) -> Vec<Located<T>> {
    let items = items.into_iter().enumerate();
    let items = items.map(|(idx, raw)| Located {
        raw,
        file,
        path: format!("{list}[{idx}]"),
    });
    items.collect()
}

/// The table of a raw struct.
pub(super) fn table<T: Shaped>() -> &'static Table {
    /// For a shape that is no table; the raw structs all are.
    static EMPTY: Table = Table {
        go_name: "",
        fields: &[],
        short: None,
        variants: None,
    };
    match T::shape() {
        Shape::Table(table) => table,
        _ => &EMPTY,
    }
}
