//! The dashboard's API: what the server is, who is connected, what the proxies carry.
//!
//! [`v1`] and [`v2`] are frp's two generations of it, over the same [`view`]s (what is ours of them
//! is in [`link`]); [`overview`] is for `frps status`, [`metrics`] is what
//! Prometheus reads. Everything but the liveness check wants the password, where there is one.

mod link;
mod metrics;
mod overview;
mod pprof;
mod v1;
mod v2;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use frp_core::metrics::Page;
use frp_core::web::{self, guard::Guard};

use crate::server::Server;

pub(crate) use metrics::install as install_metrics;

/// The routes of the API, with `/metrics` where there is a page for it.
pub(crate) fn router(server: &Arc<Server>, page: Option<Page>) -> Router {
    let config = &server.config.web_server;
    let mut routes = Router::new()
        .route("/", get(to_static))
        .merge(local_routes());
    if let Some(page) = page {
        routes = routes.merge(metrics::routes(page));
    }
    if config.pprof_enable {
        routes = routes.merge(pprof::routes());
    }
    let guard = Guard::new(&config.addr, &config.user, config.password.clone());
    web::guarded(routes, guard)
        // Liveness is open to everybody, and says nothing.
        .route("/healthz", any(async || StatusCode::OK))
        .with_state(Arc::clone(server))
}

/// The routes for commands of the same user, who needs no password.
pub(crate) fn local_routes() -> Router<Arc<Server>> {
    v1::routes().merge(v2::routes()).merge(overview::routes())
}

async fn to_static() -> Response {
    (
        StatusCode::MOVED_PERMANENTLY,
        [(header::LOCATION, "/static/")],
    )
        .into_response()
}
