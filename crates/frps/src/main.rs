//! The server program: command line, logs, signals. The server itself is in the library.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use frp_core::config::{
    ConfigErrors, LoadOptions, Loaded, ServerConfig, load_server, server_from_flags,
};
use frp_core::fd_limit;
use frp_core::log::{self, LogOptions};
use frp_core::service_manager;
use frp_core::state;
use frp_core::web::local::{self, LocalSocket};
use frps::cli::{self, Action, FRP_VERSION, FileArgs};
use frps::status::{self, StatusArgs};
use frps::{Handle, Server, listen};
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, info};

/// The buffers of busy streams come and go by the thousand a second; the system's allocator gives
/// them back to the kernel each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let action = match cli::parse(std::env::args_os()) {
        Ok(action) => action,
        Err(exit) => {
            print(&exit.stdout);
            // Nobody is left to hear that standard error is closed.
            let _ = io::stderr().write_all(exit.stderr.as_bytes());
            return ExitCode::from(u8::try_from(exit.code).unwrap_or(1));
        }
    };
    match action {
        Action::Version => {
            print(&format!("{FRP_VERSION}\n"));
            ExitCode::SUCCESS
        }
        Action::Manual(dir) => match cli::manual(&dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("cannot write into {}: {error}", dir.display())),
        },
        Action::Completion(shell) => {
            print(&String::from_utf8_lossy(&cli::completion(shell)));
            ExitCode::SUCCESS
        }
        Action::Verify(None) => {
            print("frps: the configuration file is not specified\n");
            ExitCode::SUCCESS
        }
        Action::Verify(Some(file)) => verify(&file),
        Action::Fingerprint(file) => fingerprint(file.as_ref()),
        Action::Status(file, args) => status(file.as_ref(), &args),
        Action::RunFile(file) => {
            let source = format!("frps uses config file: {}", file.path.display());
            run(load(&file), Some(&file.path), &source)
        }
        Action::RunFlags {
            flags,
            allow_unsafe,
        } => {
            let options = LoadOptions {
                allow_unsafe,
                ..LoadOptions::default()
            };
            let loaded = server_from_flags(&flags, &options);
            run(loaded, None, "frps uses command line arguments for config")
        }
    }
}

fn load(file: &FileArgs) -> Result<Loaded<ServerConfig>, ConfigErrors> {
    let options = LoadOptions {
        strict: file.strict,
        allow_unsafe: file.allow_unsafe.clone(),
        ..LoadOptions::default()
    };
    load_server(&file.path, &options)
}

fn verify(file: &FileArgs) -> ExitCode {
    match load(file) {
        Ok(loaded) => {
            print_warnings(&loaded.warnings);
            print(&format!(
                "frps: the configuration file {} syntax is ok\n",
                file.path.display()
            ));
            ExitCode::SUCCESS
        }
        Err(errors) => fail(&errors),
    }
}

fn fingerprint(file: Option<&FileArgs>) -> ExitCode {
    let config = match file.map(load) {
        None => ServerConfig::default(),
        Some(Ok(loaded)) => loaded.config,
        Some(Err(errors)) => return fail(&errors),
    };
    match listen::fingerprint(&config) {
        Ok(fingerprint) => {
            print(&format!("{fingerprint}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn status(file: Option<&FileArgs>, args: &StatusArgs) -> ExitCode {
    let config = match file.map(load) {
        None => ServerConfig::default(),
        Some(Ok(loaded)) => loaded.config,
        Some(Err(errors)) => {
            fail(&errors);
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let path = file.map(|file| file.path.as_path());
    ExitCode::from(runtime.block_on(status::show(&config, path, args)))
}

/// What `status` ends with when the configuration makes no sense.
const USAGE: u8 = 2;

fn run(
    loaded: Result<Loaded<ServerConfig>, ConfigErrors>,
    file: Option<&Path>,
    source: &str,
) -> ExitCode {
    let config = match loaded {
        Ok(loaded) => {
            print_warnings(&loaded.warnings);
            loaded.config
        }
        Err(errors) => return fail(&errors),
    };
    if let Err(error) = log::init(&LogOptions::from(&config.log)) {
        return fail(&error);
    }
    info!("{source}");
    fd_limit::raise();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    match runtime.block_on(serve(config, file)) {
        Ok(signal) => {
            runtime.shutdown_background();
            // As frp, which has no handler: whoever started the program sees which signal it was.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            ExitCode::FAILURE
        }
        Err(error) => fail(&error),
    }
}

/// Runs the server until a signal asks it to stop, and returns the signal.
async fn serve(
    config: ServerConfig,
    file: Option<&Path>,
) -> Result<i32, Box<dyn std::error::Error>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let socket = state::directory(config.state_dir.as_deref(), listen::PROGRAM)
        .map(|dir| local::path(&dir, listen::PROGRAM, file));
    let server: Handle = Server::start(config).await?;
    // The server has made the state directory, if it can be had.
    match socket.map(|path| LocalSocket::bind(&path)) {
        Some(Ok(socket)) => server.serve_locally(socket),
        // Only commands miss it, and they say what they miss.
        Some(Err(error)) => debug!("no commands without a webServer: {error}"),
        None => {}
    }
    info!("frps started successfully");
    service_manager::ready().await;
    let summary = server.summary();
    let _reports = service_manager::report(move || summary.to_string());
    let signal = tokio::select! {
        _ = interrupt.recv() => SIGINT,
        _ = terminate.recv() => SIGTERM,
    };
    service_manager::stopping().await;
    server.shut_down().await;
    Ok(signal)
}

fn print_warnings(warnings: &[String]) {
    for warning in warnings {
        print(&format!("WARNING: {warning}\n"));
    }
}

/// frp prints its errors on standard output, and so scripts look for them there.
fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    print(&format!("{error}\n"));
    ExitCode::FAILURE
}

fn print(text: &str) {
    // Nobody is left to hear that standard output is closed.
    let _ = io::stdout().write_all(text.as_bytes());
}
