//! `frpc status`: asks the running frpc, and shows what it says.

use frp_core::config::load_client;
use frp_core::terminal::{self, Page, Paint, print};

use super::page::page;
use crate::admin_client::AdminClient;
use crate::cli::{GlobalFlags, StatusFlags};
use crate::runtime::runtime;

/// All is well.
const WELL: u8 = 0;

/// The running frpc cannot be reached.
const UNREACHED: u8 = 1;

/// The command line or the configuration makes no sense.
const USAGE: u8 = 2;

/// It was reached, and something is wrong.
const WRONG: u8 = 3;

/// Runs the command and returns its exit code.
pub(crate) fn run(global: &GlobalFlags, flags: &StatusFlags) -> u8 {
    let config = match load_client(&global.config, &global.load_options()) {
        Ok(loaded) => loaded.config,
        Err(errors) => {
            print(&format!("{errors}\n"));
            return USAGE;
        }
    };
    let client = AdminClient::of(&config, &global.config, flags.admin.api_timeout);
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            print(&format!("{error}\n"));
            return UNREACHED;
        }
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            print(&format!("{error}\n"));
            return UNREACHED;
        }
    };
    let paint = Paint::for_stdout();
    let look = async || look(&client, flags.json, paint).await;
    runtime.block_on(terminal::show(flags.watch, !flags.json, look))
}

async fn look(client: &AdminClient, is_json: bool, paint: Paint) -> Page {
    match client.overview().await {
        Ok(overview) => Page {
            text: match is_json {
                true => json(&overview),
                false => page(&overview, paint),
            },
            code: if overview.ok { WELL } else { WRONG },
        },
        Err(error) => Page {
            text: match is_json {
                true => json(&serde_json::json!({ "ok": false, "error": error.to_string() })),
                false => format!("{error}\n"),
            },
            code: UNREACHED,
        },
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Nothing in these documents can fail to be written.
    let text = serde_json::to_string(value).unwrap_or_default();
    format!("{text}\n")
}
