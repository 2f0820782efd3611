//! What one server carried, as `docs/operations.md` shows it.

use super::Found;
use crate::{machine, table};

/// Returns the part of the document as Markdown.
pub(super) fn text(found: &Found, is_quick: bool) -> String {
    let mut text = format!(
        "Made by `make bench LOAD=1`{} on {}, in {} s. One `frps` (`transport.auto.enable`), and clients in `auto`, \
         each a `frpc` process of its own; users, services and all programs share the machine, over \
         loopback. Memory of frps is what it holds beyond the {:.1} MiB that it holds alone; of frpc it is its own, \
         without the program's pages that all share.\n\n",
        if is_quick {
            " (`QUICK=1`: a short look)"
        } else {
            ""
        },
        machine::describe(),
        found.took_s,
        found.server_alone_mib
    );
    for part in [
        summary(found),
        clients(found),
        proxies(found),
        busy(found),
        idle(found),
        ends(found),
    ] {
        text.push_str(&part);
        text.push('\n');
    }
    text
}

/// What a planner multiplies with.
fn summary(found: &Found) -> String {
    let mut rows = vec![row(["what one costs", "frps", "frpc"])];
    let kib = |value: f64| format!("{value:.1} KiB");
    let files = |value: f64| format!("{value:.1}");
    if let Some(last) = found.clients.last() {
        let (frps, frpc) = (
            kib(last.frps_kib_each),
            format!("{:.1} MiB", last.frpc_mib_each),
        );
        rows.push(row(["a client with one proxy: memory", &frps, &frpc]));
        let (frps, frpc) = (files(last.frps_files_each), files(last.frpc_files_each));
        rows.push(row(["open files", &frps, &frpc]));
    }
    if let Some((frps, frpc)) = found.idle_client_cpu {
        let (frps, frpc) = (format!("{:.4} %", frps / 1000.0), format!("{frpc:.3} %"));
        let title = format!("CPU of a core, idle for {} s", found.idle_after_s);
        rows.push(row([&title, &frps, &frpc]));
    }
    if let (Some(idle), Some(clients)) = (found.idle.last(), found.clients.last()) {
        let each = |pct: f64| format!("{:.4} %", pct / clients.n as f64);
        let awake = each(idle.frps_cpu_awake_pct);
        rows.push(row(["CPU of a core, users have just spoken", &awake, ""]));
        let quiet = each(idle.frps_cpu_pct);
        rows.push(row(["CPU of a core, silent users for 12 s", &quiet, ""]));
    }
    if let Some(last) = found.proxies.last() {
        let (frps, frpc) = (kib(last.frps_kib_each), kib(last.frpc_kib_each));
        rows.push(row(["a further proxy: memory", &frps, &frpc]));
        rows.push(row(["open files", &files(last.frps_files_each), "0"]));
    }
    if let Some(last) = found.idle.last() {
        let (frps, frpc) = (kib(last.frps_kib_each), kib(last.frpc_kib_each));
        rows.push(row(["an idle connection: memory", &frps, &frpc]));
        let (frps, frpc) = (files(last.frps_files_each), files(last.frpc_files_each));
        rows.push(row(["open files", &frps, &frpc]));
    }
    if let Some(new) = &found.new_conns {
        let cpu = |value: f64| format!("{value:.2} s");
        let (frps, frpc) = (cpu(new.frps_cpu_s_per_1000), cpu(new.frpc_cpu_s_per_1000));
        rows.push(row(["1,000 new connections: CPU", &frps, &frpc]));
    }
    let best = found
        .busy
        .iter()
        .min_by(|a, b| a.frps_cpu_s_per_gib.total_cmp(&b.frps_cpu_s_per_gib));
    if let Some(best) = best {
        let cpu = |value: f64| format!("{value:.2} s");
        let (frps, frpc) = (cpu(best.frps_cpu_s_per_gib), cpu(best.frpc_cpu_s_per_gib));
        rows.push(row(["a GiB to the user: CPU", &frps, &frpc]));
    }
    let mut text = table::align(&rows);
    if let Some(new) = &found.new_conns {
        text.push_str(&format!(
            "\nUsers who come, ask and go: {:.0} a second; half are answered within {:.1} ms, 99 % within {:.1} ms.",
            new.per_s, new.p50_ms, new.p99_ms
        ));
    }
    if let Some(words) = &found.words {
        text.push_str(&format!(
            "\n{} users who ask, wait and ask again: {:.0} answers a second, half within {:.1} ms, 99 % within {:.1} \
             ms; {:.3} s of frps' CPU for 1,000.\n",
            words.n, words.per_s, words.p50_ms, words.p99_ms, words.frps_cpu_s_per_1000
        ));
    }
    text
}

fn clients(found: &Found) -> String {
    let mut rows = vec![row([
        "clients",
        "the last came in, s",
        "frps, MiB",
        "KiB each",
        "files each",
    ])];
    rows.extend(found.clients.iter().map(|step| {
        row([
            &step.n.to_string(),
            &format!("{:.1}", step.coming_s),
            &format!("{:.1}", step.frps_mib),
            &format!("{:.1}", step.frps_kib_each),
            &format!("{:.1}", step.frps_files_each),
        ])
    }));
    let mut text = table::align(&rows);
    if let Some((frps, _)) = found.idle_client_cpu {
        text.push_str(&format!(
            "\nIdle for {} s, 1,000 clients would take {frps:.2} % of a core at frps.\n",
            found.idle_after_s
        ));
    }
    text
}

fn proxies(found: &Found) -> String {
    let mut rows = vec![row([
        "further proxies",
        "the last came in, s",
        "frps, KiB each",
        "files each",
        "frpc, KiB each",
    ])];
    rows.extend(found.proxies.iter().map(|step| {
        row([
            &step.n.to_string(),
            &format!("{:.1}", step.coming_s),
            &format!("{:.1}", step.frps_kib_each),
            &format!("{:.2}", step.frps_files_each),
            &format!("{:.1}", step.frpc_kib_each),
        ])
    }));
    table::align(&rows)
}

fn busy(found: &Found) -> String {
    let mut rows = vec![row([
        "busy connections",
        "GiB/s",
        "frps, CPU s/GiB",
        "frpc, CPU s/GiB",
        "frps, % of a core",
    ])];
    rows.extend(found.busy.iter().map(|step| {
        row([
            &step.n.to_string(),
            &format!("{:.2}", step.gib_per_s),
            &format!("{:.2}", step.frps_cpu_s_per_gib),
            &format!("{:.2}", step.frpc_cpu_s_per_gib),
            &format!("{:.0}", step.frps_cpu_pct),
        ])
    }));
    table::align(&rows)
}

fn idle(found: &Found) -> String {
    let mut rows = vec![row([
        "idle connections",
        "opened a second",
        "frps, MiB",
        "KiB each",
        "% of a core at first",
        "12 s later",
        "frpc, KiB each",
    ])];
    rows.extend(found.idle.iter().map(|step| {
        row([
            &step.n.to_string(),
            &format!("{:.0}", step.opened_per_s),
            &format!("{:.1}", step.frps_mib),
            &format!("{:.1}", step.frps_kib_each),
            &format!("{:.1}", step.frps_cpu_awake_pct),
            &format!("{:.1}", step.frps_cpu_pct),
            &format!("{:.1}", step.frpc_kib_each),
        ])
    }));
    let n = found.clients.last().map_or(0, |last| last.n);
    format!(
        "{}\nThe connections are on all {n} clients. What they take of the CPU is their clients': each probes its path \
         four times a second while users speak, once a second when they have been silent for ten, and once in ten seconds a \
         minute after the last has gone.\n",
        table::align(&rows)
    )
}

fn ends(found: &Found) -> String {
    let mut text = String::from("Where each grew no further, and why:\n\n");
    for (stage, why) in &found.ends {
        // A program's own words may be long.
        let why = why.lines().next().unwrap_or_default();
        text.push_str(&format!("- {stage}: {why}\n"));
    }
    text
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}
