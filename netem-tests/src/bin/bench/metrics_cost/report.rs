//! What metrics cost, as `docs/metrics.md` shows it.

use super::{Costs, N_PROXIES, N_STREAMS, Plan, Round, Scrapes};
use crate::links::stats::Spread;
use crate::{machine, table};

/// Returns the part of the document as Markdown.
pub(super) fn text(rounds: &[Round], scrapes: &Scrapes, plan: &Plan, is_quick: bool) -> String {
    let head = ["", "without", "with", "with / without", "of the rounds"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut row = |title: String, digits: usize, of: fn(&Costs) -> f64| {
        let median =
            |values: Vec<f64>| Spread::of(&values, false).map_or(f64::NAN, |spread| spread.median);
        let off = median(rounds.iter().map(|round| of(&round.off)).collect());
        let on = median(rounds.iter().map(|round| of(&round.on)).collect());
        let ratios: Vec<f64> = rounds
            .iter()
            .map(|round| of(&round.on) / of(&round.off))
            .collect();
        let spread = Spread::of(&ratios, false);
        let (ratio, range) = spread.map_or((f64::NAN, String::new()), |spread| {
            (
                spread.median,
                format!("{:.3} to {:.3}", spread.min, spread.max),
            )
        });
        rows.push(vec![
            title,
            format!("{off:.digits$}"),
            format!("{on:.digits$}"),
            format!("{ratio:.3}"),
            range,
        ]);
    };
    row(
        format!("throughput, {N_STREAMS} streams to the user, Gbit/s"),
        2,
        |costs| costs.gbit_per_s,
    );
    row("CPU of both ends, s/GiB".to_owned(), 3, |costs| {
        costs.cpu_s_per_gib
    });
    row("new connections per second".to_owned(), 0, |costs| {
        costs.conns_per_s
    });
    row(
        "CPU of both ends, s per 1,000 connections".to_owned(),
        3,
        |costs| costs.cpu_s_per_1000_conns,
    );
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    format!(
        "Made by `make bench PART=metrics`{} on {}: {} rounds of the same tunnel over loopback, in turn with `enablePrometheus` on \
         both programs and a scrape of both every {} s, and without either. Medians; the ratio is the median of the rounds' \
         own, and beside it are the smallest and the largest of them: what lies within is what two runs differ by.\n\n{}\n\
         A page of {} series ({N_PROXIES} proxies, {} kB): {:.1} ms from the request to its last byte, {:.1} ms at worst of {} \
         times, and {:.1} ms of CPU.\n",
        if is_quick {
            " (`QUICK=1`: a short look)"
        } else {
            ""
        },
        machine::describe(),
        rounds.len(),
        plan.scrape_interval.as_secs(),
        table::align(&rows),
        scrapes.n_series,
        scrapes.n_bytes / 1000,
        ms(scrapes.median()),
        ms(scrapes.worst()),
        scrapes.times.len(),
        ms(scrapes.cpu_each),
    )
}
