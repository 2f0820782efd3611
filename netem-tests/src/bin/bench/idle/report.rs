//! What idle clients cost, as `docs/switching.md` shows it.

use super::{
    ASLEEP, COMING, FRPC_MIB, FRPC_OWN_MIB, FRPS_KIB_EACH, FRPS_MIB, N_CLIENTS, N_SWITCHES, QUIET,
    Who, keys,
};
use crate::links::records::{Record, Records};
use crate::links::stats::Spread;
use crate::rounds::values;
use crate::{machine, table};

/// Returns the table as Markdown.
pub(super) fn table(records: &Records) -> String {
    let runs = [Who::One, Who::Many].map(|who| records.of(who.name()));
    let median = |runs: &[&Record], key: &str| {
        Spread::of(&values(runs, key), false).map(|spread| spread.median)
    };
    let heads = runs.each_ref().map(|runs| match median(runs, N_CLIENTS) {
        Some(1.0) => "1 client".to_owned(),
        Some(n) => format!("{n:.0} clients at one frps"),
        None => "–".to_owned(),
    });
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(heads);
    rows[0].push("goal".to_owned());
    let mut row = |title: &str, key: &str, factor: f64, digits: usize, goal: &str| {
        let cell = |runs: &Vec<&Record>| {
            median(runs, key).map_or("–".to_owned(), |value| {
                format!("{:.digits$}", value * factor)
            })
        };
        let mut cells = vec![title.to_owned()];
        cells.extend(runs.iter().map(cell));
        cells.push(goal.to_owned());
        rows.push(cells);
    };
    for (state, words) in [(ASLEEP, "nobody connected"), (QUIET, "a silent user each")] {
        let [bytes, frpc_cpu, frps_cpu] = keys(state);
        let goal = if state == ASLEEP { "≤ 2" } else { "" };
        row(
            &format!("{words}: MB a day and client, both ways"),
            &bytes,
            1e-6,
            2,
            goal,
        );
        row(
            &format!("{words}: CPU of a frpc, s a day"),
            &frpc_cpu,
            1.0,
            1,
            "",
        );
        row(
            &format!("{words}: CPU of frps, % of a core"),
            &frps_cpu,
            1.0,
            2,
            "",
        );
    }
    row("memory of frps, MiB", FRPS_MIB, 1.0, 1, "");
    row(
        "of that, KiB for each client",
        FRPS_KIB_EACH,
        1.0,
        0,
        "≤ 40",
    );
    row("memory of a frpc, MiB", FRPC_MIB, 1.0, 1, "≤ 8");
    row("of that, its own, MiB", FRPC_OWN_MIB, 1.0, 1, "");
    row("until all were served, s", COMING, 1.0, 1, "");
    row("switches, all clients together", N_SWITCHES, 1.0, 0, "");
    format!(
        "### Idle clients\n\n{}. Clients in `auto`, each a process of its own with one proxy and the \
         default configuration, on the far side of a clean link of 100 Mbit/s and 50 ms, and `frps` \
         on its near side. *Nobody connected*: from 75 s after the last user left, for 300 s; *a \
         silent user each*: from 20 s after the users' last word, for 60 s. Bytes are those of IP \
         packets on the link in both directions, all carriers together; what was counted in that \
         time is told for a day.\n\n{}",
        machine::describe(),
        table::align(&rows)
    )
}
