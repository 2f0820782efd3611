//! Programs that outlived their lab, because the process that had opened it was killed.
//!
//! A network without a name goes away with its last program, so the programs are what is left
//! over. Each carries a mark in its environment that says whose it is.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process;
use std::sync::{Once, OnceLock};

use rustix::process::{Pid, Signal, kill_process};

/// The variable with the mark. It must not begin with `HOLDFAST_`: the programs take such variables
/// for configuration.
pub(crate) const MARK: &str = "LAB_OWNER";

/// Returns the mark of this process's programs.
pub(crate) fn own_mark() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    OWN.get_or_init(|| mark_of(process::id()).unwrap_or_default())
}

/// Ends what the labs of dead processes have left behind; once is enough.
pub(crate) fn end_all() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let Ok(processes) = fs::read_dir("/proc") else {
            return;
        };
        for entry in processes.flatten() {
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(id) = id.and_then(Pid::from_raw)
                && is_left_over(&entry.path())
            {
                // It may have ended by itself.
                let _ = kill_process(id, Signal::KILL);
            }
        }
    });
}

fn is_left_over(program: &Path) -> bool {
    let Ok(environment) = fs::read(program.join("environ")) else {
        return false;
    };
    let mark = environment.split(|byte| *byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?;
        str::from_utf8(value).ok()
    });
    let Some(mark) = mark else { return false };
    // Process numbers of another container mean nothing here: those are left alone.
    let Some((container, owner)) = mark.split_once(' ') else {
        return false;
    };
    let owner = owner.split(' ').next().and_then(|id| id.parse().ok());
    Some(container) == own_mark().split(' ').next()
        && owner.is_some_and(|id| mark_of(id).is_none_or(|living| living != mark))
}

/// Returns the container, number and time of start of a process: no other one has all three. There
/// is none for a process that is gone.
fn mark_of(id: u32) -> Option<String> {
    let container = fs::read_link("/proc/self/ns/pid").ok()?;
    let container = str::from_utf8(container.as_os_str().as_bytes()).ok()?;
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold spaces. The time of start is the 20th field after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let started = fields.split_whitespace().nth(19)?;
    Some(format!("{container} {id} {started}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_is_left_over_when_its_owner_is_dead() {
        let mut owner = Command::new("sleep").arg("1000").spawn().unwrap();
        let mark = mark_of(owner.id()).unwrap();
        let mut program = Command::new("sleep")
            .arg("1000")
            .env(MARK, mark)
            .spawn()
            .unwrap();
        let path = format!("/proc/{}", program.id());

        assert!(!is_left_over(Path::new(&path)), "its owner lives");
        owner.kill().unwrap();
        owner.wait().unwrap();
        assert!(is_left_over(Path::new(&path)));

        program.kill().unwrap();
        program.wait().unwrap();
    }

    #[test]
    fn programs_of_nobody_and_of_the_living_are_left_alone() {
        let mut nobodys = Command::new("sleep")
            .arg("1000")
            .env_clear()
            .spawn()
            .unwrap();
        let mut own = Command::new("sleep")
            .arg("1000")
            .env(MARK, own_mark())
            .spawn()
            .unwrap();

        for program in [&nobodys, &own] {
            let path = format!("/proc/{}", program.id());
            assert!(!is_left_over(Path::new(&path)));
        }

        for program in [&mut nobodys, &mut own] {
            program.kill().unwrap();
            program.wait().unwrap();
        }
    }
}
