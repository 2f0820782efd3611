//! What the admin API has beyond frp's about recovery: where it stands, its parts, and the history of
//! the configuration.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use frp_core::config::RecoveryPart;
use frp_core::web::{self, ApiError};
use serde::Deserialize;

use super::{Admin, invalid};

/// Adds the routes.
pub(super) fn routes(router: Router<Arc<Admin>>) -> Router<Arc<Admin>> {
    router
        .route("/api/recovery", get(status).post(set_part))
        .route("/api/config/history", get(history))
        .route("/api/config/version", get(version))
        .route("/api/config/rollback", post(roll_back))
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    web::json(&admin.recovery.status())
}

#[derive(Debug, Deserialize)]
struct PartQuery {
    part: String,
    on: bool,
}

async fn set_part(
    State(admin): State<Arc<Admin>>,
    Query(query): Query<PartQuery>,
) -> Result<Response, ApiError> {
    let part = RecoveryPart::from_name(&query.part).ok_or_else(|| {
        let names = RecoveryPart::names();
        invalid(&format!("no part {:?}, there are [{names}]", query.part))
    })?;
    admin.recovery.set_part(part, query.on);
    Ok(web::json(&admin.recovery.status()))
}

/// What is known of all versions, without their texts.
async fn history(State(admin): State<Arc<Admin>>) -> Response {
    web::json(&admin.recovery.history.versions())
}

#[derive(Debug, Deserialize)]
struct VersionQuery {
    number: u64,
}

/// One version with its texts, secrets included: as `/api/config` has the file.
async fn version(
    State(admin): State<Arc<Admin>>,
    Query(query): Query<VersionQuery>,
) -> Result<Response, ApiError> {
    let history = admin.recovery.history.clone();
    let kept = tokio::task::spawn_blocking(move || history.get(query.number))
        .await
        .map_err(|error| ApiError::internal(&error))?
        .ok_or_else(|| ApiError::not_found(format!("there is no version {}", query.number)))?;
    Ok(web::json(&kept))
}

async fn roll_back(
    State(admin): State<Arc<Admin>>,
    Query(query): Query<VersionQuery>,
) -> Result<Response, ApiError> {
    let _changing = admin.changing.lock().await;
    let done = admin.recovery.roll_back_to(&admin.client, query.number);
    let text = done.await.map_err(|error| invalid(&error))?;
    Ok(web::json(&text))
}
