//! The program around the clients: commands, output, exit codes, signals.

mod recovery;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use frp_core::config::{
    ClientConfig, Loaded, client_from_flags, load_client, load_client_with_texts,
};
use frp_core::fd_limit;
use frp_core::log::{self, InitError, LogOptions};
use frp_core::service_manager;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::admin::ConfigFile;
use crate::admin_client::{AdminClient, AdminError};
use crate::cli::{self, AdminFlags, Cli, Command, GlobalFlags};
use crate::clients::Clients;
use crate::doctor;
use crate::flags::{SingleService, single_service};
use crate::login::FRP_VERSION;
use crate::recovery::service::{self, Started};
use crate::runtime::runtime;
use crate::status;
use crate::supervision;

/// Runs the program with the command line `args`, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::parse(args) {
        Ok(cli) => cli,
        Err(exit) => {
            print(&exit.stdout);
            // Nobody is left to tell when standard error is closed.
            let _ = io::stderr().write_all(exit.stderr.as_bytes());
            return ExitCode::from(u8::try_from(exit.code).unwrap_or(1));
        }
    };
    match &cli.command {
        Some(Command::Status(flags)) => {
            return ExitCode::from(status::command::run(&cli.global, flags));
        }
        Some(Command::Doctor(flags)) => return ExitCode::from(doctor::run(&cli.global, flags)),
        _ => {}
    }
    match run_command(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // frp prints its errors bare, and on standard output.
            print_line(&failure);
            ExitCode::FAILURE
        }
    }
}

/// What ends the program with exit code 1: the text that is printed.
type Failure = String;

fn run_command(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    let Some(command) = &cli.command else {
        if global.version {
            print_line(&FRP_VERSION);
            return Ok(());
        }
        return match &global.config_dir {
            Some(dir) => run_directory(dir, global),
            None => {
                let clients = Clients::default();
                block_on_with(&clients, run_file(&global.config, global, &clients))
            }
        };
    };
    match command {
        Command::Verify { .. } => verify(global),
        Command::Reload(flags) => reload(global, flags),
        Command::Stop(flags) => stop(global, flags),
        Command::Switch { transport, flags } => switch(global, flags, transport),
        Command::Config { command } => recovery::config(global, command),
        Command::Recovery(args) => recovery::recovery(global, args),
        Command::Nathole { .. } => Err("not supported yet: nathole discover".to_owned()),
        Command::Completion { shell } => {
            // A closed standard output is the reader's choice.
            let _ = io::stdout().write_all(&cli::completion(*shell));
            Ok(())
        }
        Command::Man { dir } => cli::manual(dir)
            .map_err(|error| format!("cannot write into {}: {error}", dir.display())),
        command => match single_service(command) {
            Some(single) => run_single(&single, global),
            None => Ok(()),
        },
    }
}

/// Loads a file and prints the warnings about it.
fn load(path: &Path, global: &GlobalFlags) -> Result<ClientConfig, Failure> {
    let loaded = load_client(path, &global.load_options()).map_err(|errors| errors.to_string())?;
    Ok(with_warnings(loaded))
}

fn with_warnings(loaded: Loaded<ClientConfig>) -> ClientConfig {
    for warning in &loaded.warnings {
        print_line(&format_args!("WARNING: {warning}"));
    }
    loaded.config
}

fn verify(global: &GlobalFlags) -> Result<(), Failure> {
    if global.config.as_os_str().is_empty() {
        print_line(&"frpc: the configuration file is not specified");
        return Ok(());
    }
    load(&global.config, global)?;
    print_line(&format_args!(
        "frpc: the configuration file {} syntax is ok",
        global.config.display()
    ));
    Ok(())
}

fn reload(global: &GlobalFlags, flags: &AdminFlags) -> Result<(), Failure> {
    ask(global, flags, async |client| {
        client.reload(global.strict_config).await
    })?;
    print_line(&"reload success");
    Ok(())
}

fn stop(global: &GlobalFlags, flags: &AdminFlags) -> Result<(), Failure> {
    ask(global, flags, async |client| client.stop().await)?;
    print_line(&"stop success");
    Ok(())
}

fn switch(global: &GlobalFlags, flags: &AdminFlags, transport: &str) -> Result<(), Failure> {
    ask(global, flags, async |client| client.switch(transport).await)?;
    print_line(&"switch success");
    Ok(())
}

/// Asks the frpc that runs with the same configuration file.
fn ask<T>(
    global: &GlobalFlags,
    flags: &AdminFlags,
    request: impl AsyncFnOnce(AdminClient) -> Result<T, AdminError>,
) -> Result<T, Failure> {
    let config = load(&global.config, global)?;
    let client = AdminClient::of(&config, &global.config, flags.api_timeout)
        .map_err(|error| error.to_string())?;
    runtime()?
        .block_on(request(client))
        .map_err(|error| error.to_string())
}

/// One client with the proxy or visitor that the flags describe.
fn run_single(single: &SingleService, global: &GlobalFlags) -> Result<(), Failure> {
    let SingleService { common, service } = single;
    let loaded = client_from_flags(common, service, &global.load_options())
        .map_err(|errors| errors.to_string())?;
    let config = with_warnings(loaded);
    let clients = Clients::default();
    let started = Started {
        config,
        file: None,
        in_place_of: None,
    };
    block_on_with(&clients, run_client(started, &clients))
}

async fn run_file(path: &Path, global: &GlobalFlags, clients: &Clients) -> Result<(), Failure> {
    let file = ConfigFile {
        path: path.to_owned(),
        options: global.load_options(),
    };
    let (loaded, texts) = load_client_with_texts(path, &file.options);
    let started = match loaded {
        Ok(loaded) => Started {
            config: with_warnings(loaded),
            file: Some((file, texts)),
            in_place_of: None,
        },
        Err(errors) => {
            let errors = errors.to_string();
            let started = service::in_the_place_of(&file, &errors);
            started.ok_or(errors)?
        }
    };
    run_client(started, clients).await
}

/// One client for each file below `dir`, until all have ended. What fails is said, and is not the
/// program's failure.
fn run_directory(dir: &Path, global: &GlobalFlags) -> Result<(), Failure> {
    let clients = Clients::default();
    let mut files = Vec::new();
    collect_files(dir, &mut files);
    block_on_with(&clients, async {
        let mut services = JoinSet::new();
        for path in files {
            let (global, clients) = (global.clone(), clients.clone());
            services.spawn(async move {
                if run_file(&path, &global, &clients).await.is_err() {
                    let path = path.display();
                    print_line(&format_args!("frpc service error for config file [{path}]"));
                }
            });
            // As frp: the services start one after another.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while services.join_next().await.is_some() {}
        Ok(())
    })
}

/// The files below `dir` in the order of their names. What cannot be read is left out, as in frp.
fn collect_files(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect_files(&entry.path(), files),
            Ok(_) => files.push(entry.path()),
            Err(_) => {}
        }
    }
}

/// Runs one client until it ends.
async fn run_client(started: Started, clients: &Clients) -> Result<(), Failure> {
    match log::init(&LogOptions::from(&started.config.log)) {
        // The first client of a process decides.
        Ok(()) | Err(InitError::Installed) => {}
        Err(error) => return Err(error.to_string()),
    }
    let path = started.file.as_ref();
    let path = path.map(|(file, _)| file.path.display().to_string());
    if let Some(path) = &path {
        tracing::info!("start frpc service for config file [{path}] with aggregated configuration");
    }
    if let Some((_, reason)) = &started.in_place_of {
        tracing::error!("the configuration file cannot be used: {reason}");
    }
    let result = service::run(started, clients).await;
    if let Some(path) = &path {
        tracing::info!("frpc service for config file [{path}] stopped");
    }
    result
}

/// Runs `service` to its end, or until a signal ends the program.
fn block_on_with(
    clients: &Clients,
    service: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    fd_limit::raise();
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
        let seen = clients.clone();
        let _reports = service_manager::report(move || seen.look(supervision::text));
        let mut service = std::pin::pin!(service);
        let number = tokio::select! {
            result = &mut service => return result,
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        };
        service_manager::stopping().await;
        // The clients take their leave in there, so it has to go on.
        let running = async {
            let _ = service.await;
            std::future::pending().await
        };
        let has_goodbye = tokio::select! {
            has_goodbye = say_goodbye(clients) => has_goodbye,
            has_goodbye = running => has_goodbye,
        };
        // As in frp, which handles signals only then.
        if has_goodbye {
            return Ok(());
        }
        // Whoever started it sees a death by the signal. Does not return.
        signal_hook::low_level::emulate_default_handler(number).map_err(|e| e.to_string())
    });
    // A blocking task (a name being resolved) must not hold up the end.
    runtime.shutdown_background();
    result
}

/// Closes all sessions in good order, so that nobody waits for users of a program that is gone.
/// Returns whether there was one whose server has to be told, and has been.
async fn say_goodbye(clients: &Clients) -> bool {
    let clients = clients.take();
    let has_goodbye = clients.iter().any(|client| client.needs_goodbye());
    let (grace, limit) = if has_goodbye {
        (GOODBYE_GRACE, GOODBYE_GRACE + GOODBYE_LIMIT)
    } else {
        (Duration::ZERO, LIMIT)
    };
    let mut closing = JoinSet::new();
    for client in clients {
        closing.spawn(async move { client.stop(grace).await });
    }
    let all = async { while closing.join_next().await.is_some() {} };
    // Who is slower than this finds out by the sockets that the system closes.
    let _ = tokio::time::timeout(limit, all).await;
    has_goodbye
}

/// How long frps has to read that the proxies are gone, where it has to be told. frp's value.
const GOODBYE_GRACE: Duration = Duration::from_millis(500);

/// How long a carrier may then take to close: as long as its contract says, and a bit.
const GOODBYE_LIMIT: Duration = Duration::from_millis(1300);

/// How long the end of the program waits for peers that find out by the sockets that the system
/// closes; where connections are held, a goodbye goes over these first.
const LIMIT: Duration = Duration::from_millis(600);

fn print_line(text: &dyn Display) {
    print(&format!("{text}\n"));
}

fn print(text: &str) {
    // A closed standard output is the reader's choice.
    let _ = io::stdout().write_all(text.as_bytes());
}
