//! What `/metrics` answers, on both programs.
//!
//! Events are counted where they happen, through the crate `metrics`; [`catalog`] has their names.
//! What is at a moment (a round trip, a queue, a state) is asked for when somebody scrapes, and
//! written out as an [`exposition`]; so nothing is counted twice, and what is gone is not shown.
//!
//! 1. [`install`] starts collecting, and gives a [`Page`].
//! 2. A program fills an [`Exposition`](exposition::Exposition) with its own families, and with
//!    those of [`sessions`] and [`process`] that both have.
//! 3. [`Page::finish`] adds the events, and makes the answer.
//!
//! Names of proxies and clients come from clients: [`exposition`] and [`Places`] keep them from
//! breaking the text, and from making it endless.

pub mod catalog;
pub mod certificates;
pub mod exposition;
pub mod kind;
mod places;
pub mod process;
pub mod sessions;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::task;
use catalog::{Event, Program};
use exposition::Exposition;
use kind::Kind;

pub use places::{OTHER, Places};

/// What a program answers with.
#[derive(Clone, Debug)]
pub struct Page {
    program: Program,
    /// `None` where another part of the process collects already.
    events: Option<PrometheusHandle>,
}

/// Starts collecting events. They are the process's, so the recorder is made once.
pub fn install(program: Program) -> Page {
    let events = RECORDER.get_or_init(|| match build() {
        Ok(handle) => {
            catalog::start(program);
            Some(handle)
        }
        Err(error) => {
            tracing::warn!("events are not counted for /metrics: {error}");
            None
        }
    });
    Page {
        program,
        events: events.clone(),
    }
}

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

fn build() -> Result<PrometheusHandle, Box<dyn std::error::Error>> {
    let mut builder = PrometheusBuilder::new();
    for event in catalog::EVENTS {
        if let Kind::Histogram(buckets) = event.kind {
            let matcher = Matcher::Full(event.name.to_owned());
            builder = builder.set_buckets_for_metric(matcher, buckets)?;
        }
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    Ok(handle)
}

impl Page {
    /// Goes through the samples of histograms that nobody has scraped: they are kept one by one
    /// until then. Runs until it is dropped.
    pub async fn keep_up(self) {
        let Some(events) = self.events else { return };
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            events.run_upkeep();
        }
    }

    /// Makes the answer in `fill`, beside the tasks that carry bytes. The whole text is there
    /// before the first byte of it is sent: whoever reads slowly holds nothing but the text.
    pub async fn answer(self, fill: impl FnOnce(&mut Exposition) + Send + 'static) -> Response {
        let began = Instant::now();
        let making = tokio::task::spawn_blocking(move || {
            let mut out = Exposition::default();
            fill(&mut out);
            process::write(&mut out);
            self.finish(out, began)
        });
        match making.await {
            Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => crate::web::ApiError::internal(&error).into_response(),
        }
    }

    /// Adds the events to what is there.
    fn finish(&self, mut out: Exposition, began: Instant) -> String {
        let events = self.events.as_ref().map(|events| {
            events.run_upkeep();
            events.render()
        });
        let events = events.unwrap_or_default();
        out.family(
            "holdfast_scrape_duration_seconds",
            Kind::Gauge,
            "Time that making this text took, all but its last lines.",
        )
        .add(&[], began.elapsed().as_secs_f64());
        let mut text = out.into_text();
        catalog::describe(self.program, &events, &mut text);
        text
    }
}

/// Runs [`Page::keep_up`] for as long as the handle lives.
pub fn keep_up(page: &Page) -> tokio_util::task::AbortOnDropHandle<()> {
    let handle = task::spawn("metrics upkeep", page.clone().keep_up());
    tokio_util::task::AbortOnDropHandle::new(handle)
}

/// All events that a program can count.
pub fn events_of(program: Program) -> impl Iterator<Item = &'static Event> {
    catalog::EVENTS
        .iter()
        .filter(move |event| event.is_of(program))
}

/// The version of the text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Each carrier in use takes four samples a second, so those of a thousand are 160 kB.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
