//! `frps status`: asks the running frps, and shows what it says.

pub(crate) mod overview;
mod page;

use std::path::Path;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use frp_core::config::ServerConfig;
use frp_core::terminal::{self, Page, Paint};
use frp_core::web::client::{Place, RequestError, request};
use frp_core::web::local;

use crate::listen::PROGRAM;
use overview::Overview;

/// What is to be shown, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusArgs {
    /// As one JSON object.
    pub json: bool,
    /// Again and again.
    pub watch: Option<Duration>,
    /// For each answer.
    pub timeout: Duration,
}

/// All is well.
const WELL: u8 = 0;

/// The running frps cannot be reached.
const UNREACHED: u8 = 1;

/// It was reached, and something is wrong.
const WRONG: u8 = 3;

/// Shows the frps that runs with `config`, read from `file`. Returns the exit code.
pub async fn show(config: &ServerConfig, file: Option<&Path>, args: &StatusArgs) -> u8 {
    let place = match config.web_server.port {
        0 => local::find(config.state_dir.as_deref(), PROGRAM, file).map(Place::Socket),
        _ => Some(Place::Web(config.web_server.clone())),
    };
    let Some(place) = place else {
        terminal::print(
            "frps cannot be asked: it has no webServer, and no state directory for a socket\n",
        );
        return UNREACHED;
    };
    let paint = Paint::for_stdout();
    let look = async || look(&place, args, paint).await;
    terminal::show(args.watch, !args.json, look).await
}

async fn look(place: &Place, args: &StatusArgs, paint: Paint) -> Page {
    match ask(place, args.timeout).await {
        Ok(overview) => Page {
            text: match args.json {
                true => json(&overview),
                false => page::page(&overview, paint),
            },
            code: if overview.ok { WELL } else { WRONG },
        },
        Err(error) => Page {
            text: match args.json {
                true => json(&serde_json::json!({ "ok": false, "error": error })),
                false => format!("{error}\n"),
            },
            code: UNREACHED,
        },
    }
}

async fn ask(place: &Place, timeout: Duration) -> Result<Overview, String> {
    let url = place.url(overview::PATH);
    let answer = request(place, Method::GET, overview::PATH, timeout).await;
    let (status, body) = answer.map_err(|error| match (place, &error) {
        (Place::Socket(path), RequestError::Dial(source)) => format!(
            "frps cannot be asked: nobody answers on {} ({source}): is it running with this \
             configuration, and as the same user? (webServer.port is another way to ask it)",
            path.display()
        ),
        _ => format!("frps cannot be asked at {url}: {error}"),
    })?;
    match status {
        StatusCode::OK => serde_json::from_slice(&body)
            .map_err(|error| format!("the answer of {url} makes no sense: {error}")),
        StatusCode::UNAUTHORIZED => Err(format!(
            "{url} wants another user or password than webServer.user and webServer.password"
        )),
        StatusCode::NOT_FOUND => Err(format!("what answers at {url} is no frps of Holdfast")),
        status => Err(format!("{url} answers with status {status}")),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Nothing in these documents can fail to be written.
    let text = serde_json::to_string(value).unwrap_or_default();
    format!("{text}\n")
}
