//! How the second generation answers: an envelope around everything, pages of lists, and what can
//! be wrong with a question.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use frp_core::web::json_text;
use serde::Serialize;

use crate::admin::v1::Members;

/// Whether one of `values` contains `text`, which is in lower case. Nothing is in everything.
pub(super) fn contains(text: &str, values: &[&str]) -> bool {
    values
        .iter()
        .any(|value| value.to_lowercase().contains(text))
}

/// The page of a list that is asked for.
pub(super) struct Page {
    page: usize,
    page_size: usize,
}

impl Page {
    pub(super) fn of(query: &Members) -> Result<Self, Failure> {
        let page = positive(query.get("page"), 1, "page")?;
        let page_size = positive(query.get("pageSize"), DEFAULT_PAGE_SIZE, "pageSize")?;
        if page_size > MAX_PAGE_SIZE {
            let text = format!("pageSize must be between 1 and {MAX_PAGE_SIZE}");
            return Err(Failure::bad_request(text));
        }
        if page
            .checked_mul(page_size)
            .is_none_or(|end| isize::try_from(end).is_err())
        {
            return Err(Failure::bad_request("page is too large"));
        }
        Ok(Self { page, page_size })
    }

    pub(super) fn answer<T: Serialize>(&self, items: Vec<T>) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct List<T> {
            total: usize,
            page: usize,
            page_size: usize,
            items: Vec<T>,
        }
        let Self { page, page_size } = *self;
        let total = items.len();
        let items = items
            .into_iter()
            .skip((page - 1) * page_size)
            .take(page_size)
            .collect();
        success(&List {
            total,
            page,
            page_size,
            items,
        })
    }
}

fn positive(text: &str, default: usize, name: &str) -> Result<usize, Failure> {
    if text.is_empty() {
        return Ok(default);
    }
    text.strip_prefix('+')
        .unwrap_or(text)
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Failure::bad_request(format!("{name} must be a positive integer")))
}

/// Which of those that are there, or were.
pub(super) enum Status {
    All,
    Only { online: bool },
}

impl Status {
    pub(super) fn of(query: &Members) -> Result<Self, Failure> {
        match query.get("status").to_lowercase().as_str() {
            "" | "all" => Ok(Self::All),
            "online" => Ok(Self::Only { online: true }),
            "offline" => Ok(Self::Only { online: false }),
            _ => Err(Failure::bad_request(
                "status must be one of all, online, offline",
            )),
        }
    }

    pub(super) fn includes(&self, is_online: bool) -> bool {
        match self {
            Self::All => true,
            Self::Only { online } => *online == is_online,
        }
    }
}

/// The last segment of `path` before `suffix`, with its escapes undone once: a name may have a
/// slash in it.
pub(super) fn last_segment(path: &str, suffix: &str, what: &str) -> Result<String, Failure> {
    let path = path.strip_suffix(suffix).unwrap_or(path);
    let segment = path.rsplit('/').next().unwrap_or_default();
    let bytes = unescape(segment.as_bytes())
        .ok_or_else(|| Failure::bad_request(format!("invalid {what}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(bytes)
}

/// What every answer is in.
#[derive(Serialize)]
struct Envelope<'a, T> {
    code: u16,
    msg: &'a str,
    data: Option<T>,
}

pub(super) fn success(data: &impl Serialize) -> Response {
    let envelope = Envelope {
        code: 200,
        msg: "success",
        data: Some(data),
    };
    match serde_json::to_string(&envelope) {
        Ok(text) => json_text(StatusCode::OK, text),
        Err(error) => {
            let code = StatusCode::INTERNAL_SERVER_ERROR;
            Failure {
                code,
                text: error.to_string(),
            }
            .into_response()
        }
    }
}

/// What goes wrong, in the same envelope.
#[derive(Debug)]
pub(super) struct Failure {
    code: StatusCode,
    text: String,
}

impl Failure {
    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self {
            code: StatusCode::BAD_REQUEST,
            text: text.into(),
        }
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            text: text.into(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { code, text } = self;
        let envelope = Envelope::<()> {
            code: code.as_u16(),
            msg: &text,
            data: None,
        };
        // Neither a number nor text can fail to be written.
        json_text(code, serde_json::to_string(&envelope).unwrap_or_default())
    }
}

/// frp's values.
const DEFAULT_PAGE_SIZE: usize = 50;
const MAX_PAGE_SIZE: usize = 200;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_path_is_unescaped_once() {
        let name = |path: &str| last_segment(path, "/traffic", "proxy name").map_err(|e| e.text);
        assert_eq!(name("/api/v2/proxies/a%2Fb").unwrap(), "a/b");
        assert_eq!(name("/api/v2/proxies/a%252F/traffic").unwrap(), "a%2F");
        assert_eq!(
            name("/api/v2/proxies/a%2/traffic").unwrap_err(),
            "invalid proxy name"
        );
        assert_eq!(
            name("/api/v2/proxies/%+1").unwrap_err(),
            "invalid proxy name"
        );
    }

    #[test]
    fn pages_are_checked_in_frps_words() {
        let error = |query: &[(&str, &str)]| {
            let query = query
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
            Page::of(&Members(query)).err().map(|failure| failure.text)
        };
        assert_eq!(error(&[]), None);
        assert_eq!(error(&[("page", "3"), ("pageSize", "200")]), None);
        for page in ["0", "-1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(
                error(&[("page", page)]).unwrap(),
                "page must be a positive integer"
            );
        }
        assert_eq!(
            error(&[("pageSize", "201")]).unwrap(),
            "pageSize must be between 1 and 200"
        );
        assert_eq!(
            error(&[("page", "9223372036854775807")]).unwrap(),
            "page is too large"
        );
    }
}
