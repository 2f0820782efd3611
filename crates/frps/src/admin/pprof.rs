//! `/debug/pprof/`: a summary of the tasks in the place where Go has its profiles.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::server::Server;

pub(super) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/debug/pprof/", get(index))
        .route("/debug/pprof/goroutine", get(tasks))
}

async fn index() -> Response {
    plain("goroutine: a summary of the tasks of this process\n".to_owned())
}

async fn tasks(State(server): State<Arc<Server>>) -> Response {
    let runtime = tokio::runtime::Handle::current();
    let mut text = format!(
        "{} tasks on {} threads\n{} sessions\n",
        runtime.metrics().num_alive_tasks(),
        runtime.metrics().num_workers(),
        server.registry.n_running(),
    );
    for (kind, n) in server.stats.n_by_kind() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{n} proxies of type {kind}");
    }
    let _ = writeln!(text, "{} user connections", server.stats.n_conns());
    for (name, n) in frp_core::task::counts() {
        let _ = writeln!(text, "{n} tasks: {name}");
    }
    plain(text)
}

fn plain(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
