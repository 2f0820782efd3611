//! `make demo`: a tunnel at work on this machine.
//!
//! Starts a small web page, a server and a client, waits until the page answers through the
//! tunnel, says what to open, and goes on until Ctrl-C. `ONCE=1` ends after the check. Everything
//! happens on loopback, and nothing stays behind.
//!
//! `LINK=bad` shows something else ([`bad_link`]): a download over a link on which one thing after
//! the other goes wrong.

#![expect(clippy::print_stdout, reason = "this program talks to its user")]

mod bad_link;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netem_tests::{PATIENCE, Process, Programs, free_port, traffic, words};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    if let Some(answered) = words::answer(HELP) {
        return answered;
    }
    let colours = Colours::for_stdout();
    match run(&colours) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}: {error:#}", colours.bad("demo: failed"));
            ExitCode::FAILURE
        }
    }
}

const HELP: &str = "\
Shows a tunnel at work on this machine, until Ctrl-C. frps and frpc are to lie beside it (`make demo`
builds all three).

  ONCE=1     ends after the check that a page answers through the tunnel
  LINK=bad   instead: a minute on a link on which one thing after the other goes wrong, while a
             download goes on; needs root and /dev/net/tun
";

fn run(colours: &Colours) -> Result<()> {
    // The handler comes first, so that Ctrl-C never leaves the programs behind.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut stop = runtime.block_on(async { StopSignal::new() })?;
    match env::var("LINK").as_deref() {
        Err(_) | Ok("") => {}
        Ok("bad") => {
            thread::spawn(move || {
                runtime.block_on(stop.wait());
                bad_link::stop();
            });
            return bad_link::run(colours);
        }
        Ok(other) => bail!("LINK={other}: there is only LINK=bad"),
    }

    let mut demo = Demo::start(colours)?;
    demo.wait_for_page(colours)?;
    if env::var_os("ONCE").is_some_and(|value| !value.is_empty()) {
        println!(
            "{}",
            colours.good("demo: the page is reachable through the tunnel")
        );
        return Ok(());
    }
    demo.print_summary(colours)?;
    let ended = runtime.block_on(demo.watch(stop));
    println!("\ndemo: cleaning up");
    ended
}

/// All that runs. Dropping it ends the programs and removes the files.
struct Demo {
    // The programs end before the directory goes: fields drop in this order.
    server: Process,
    client: Process,
    programs: Programs,
    page: Page,
    user_port: u16,
    started: Instant,
    dir: Directory,
}

impl Demo {
    fn start(colours: &Colours) -> Result<Self> {
        let programs = Programs::ours()?;
        let dir = Directory::create(&programs)?;
        let page = Page::serve()?;
        let bind_port = free_port()?;
        let user_port = free_port()?;
        let admin_port = free_port()?;
        let started = Instant::now();

        dir.write("frps.toml", &server_toml(bind_port))?;
        let server = dir.start("frps", programs.frps())?;
        if let Err(error) = traffic::wait_for_port(bind_port, true) {
            bail!("frps: {error}\n{}\n{}", server.log(), dir.logs());
        }
        step(
            colours,
            &format!("frps listens for clients on port {bind_port}"),
        );
        dir.write(
            "frpc.toml",
            &client_toml(bind_port, admin_port, page.port, user_port),
        )?;
        let client = dir.start("frpc", programs.frpc())?;
        step(
            colours,
            &format!(
                "frpc publishes the page of port {} on port {user_port}",
                page.port
            ),
        );
        Ok(Self {
            server,
            client,
            programs,
            page,
            user_port,
            started,
            dir,
        })
    }

    fn wait_for_page(&mut self, colours: &Colours) -> Result<()> {
        let mut next_report = REPORT_INTERVAL;
        loop {
            let waited = self.started.elapsed();
            match fetch(self.user_port) {
                Ok(page) if page.contains(PAGE_MARK) => {
                    step(
                        colours,
                        &format!("the page answers after {} ms", waited.as_millis()),
                    );
                    return Ok(());
                }
                Ok(_) => bail!("port {} answers with something else", self.user_port),
                Err(_not_yet) => {}
            }
            self.check_running()?;
            if waited > PATIENCE {
                bail!("no page after {PATIENCE:?}\n{}", self.dir.logs());
            }
            if waited > next_report {
                println!("demo: waiting for the tunnel, {} s", waited.as_secs());
                next_report += REPORT_INTERVAL;
            }
            thread::sleep(FETCH_INTERVAL);
        }
    }

    fn print_summary(&self, colours: &Colours) -> Result<()> {
        let dir = relative(&self.dir.path)?;
        let frpc = relative(self.programs.frpc())?;
        let (dir, frpc) = (dir.display(), frpc.display());
        let (user_port, page_port) = (self.user_port, self.page.port);
        println!();
        println!(
            "  {}",
            colours.title("A local page, published through Holdfast")
        );
        println!();
        println!("  you ── :{user_port} frps ══ TLS ══ frpc ── :{page_port} the page");
        println!();
        println!(
            "  Open    {}",
            colours.good(&format!("http://127.0.0.1:{user_port}/"))
        );
        println!("  Files   {dir}/frps.toml  {dir}/frpc.toml");
        println!("  Logs    {dir}/frps.log   {dir}/frpc.log");
        println!("  Try     curl http://127.0.0.1:{user_port}/");
        println!("          curl -o /dev/null http://127.0.0.1:{user_port}/256MiB");
        println!("          {frpc} status -c {dir}/frpc.toml");
        println!("          change frpc.toml, then: {frpc} reload -c {dir}/frpc.toml");
        println!();
        println!("  Ctrl-C ends it and removes the files.");
        Ok(())
    }

    /// Waits for Ctrl-C, and says so when one of the programs ends before.
    async fn watch(&mut self, mut stop: StopSignal) -> Result<()> {
        let mut n_reported = self.page.n_served();
        loop {
            tokio::select! {
                () = stop.wait() => return Ok(()),
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
            self.check_running()?;
            let n_served = self.page.n_served();
            if n_served > n_reported {
                println!("demo: page served, {n_served} times so far");
                n_reported = n_served;
            }
        }
    }

    fn check_running(&mut self) -> Result<()> {
        for (name, process) in [("frps", &mut self.server), ("frpc", &mut self.client)] {
            if !process.is_running() {
                bail!("{name} has ended\n{}\n{}", process.log(), self.dir.logs());
            }
        }
        Ok(())
    }
}

/// Where the demo's files lie: beside the programs, so that they are easy to find and to look at.
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn create(programs: &Programs) -> Result<Self> {
        let build = programs.frps().parent().context("frps has no directory")?;
        let path = build.join(format!("demo-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path.join(name), text).with_context(|| format!("cannot write {name}"))
    }

    fn start(&self, name: &str, program: &Path) -> Result<Process> {
        Process::start(name, program, &["-c", &format!("{name}.toml")], &self.path)
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["frps.log", "frpc.log"] {
            // A program that ended early may have written none.
            let log = fs::read_to_string(self.path.join(name)).unwrap_or_default();
            text.push_str(&format!("---- {name}\n{log}"));
        }
        text
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed lies in the build directory, where it harms nobody.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The local web service.
struct Page {
    port: u16,
    n_served: Arc<AtomicU64>,
}

impl Page {
    fn serve() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let n_served = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&n_served);
        thread::spawn(move || {
            for conn in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                // A browser that goes away early is nothing to report.
                thread::spawn(move || answer(&conn, &count));
            }
        });
        Ok(Self { port, n_served })
    }

    fn n_served(&self) -> u64 {
        self.n_served.load(Ordering::Relaxed)
    }
}

fn answer(mut conn: &TcpStream, count: &AtomicU64) -> Result<()> {
    conn.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(conn.take(REQUEST_LEN_MAX)).lines();
    let request = lines.next().context("no request")??;
    while !lines.next().context("the request has no end")??.is_empty() {}

    match request.split(' ').nth(1) {
        Some("/") => {
            let n = count.fetch_add(1, Ordering::Relaxed) + 1;
            let page = PAGE.replace("{count}", &n.to_string());
            respond(conn, "200 OK", "text/html; charset=utf-8", page.len())?;
            conn.write_all(page.as_bytes())?;
        }
        Some("/256MiB") => {
            count.fetch_add(1, Ordering::Relaxed);
            let block = vec![0; 1024 * 1024];
            respond(
                conn,
                "200 OK",
                "application/octet-stream",
                256 * block.len(),
            )?;
            for _ in 0..256 {
                conn.write_all(&block)?;
            }
        }
        _ => {
            let text = b"There is / and /256MiB.\n";
            respond(conn, "404 Not Found", "text/plain", text.len())?;
            conn.write_all(text)?;
        }
    }
    Ok(())
}

fn respond(mut conn: &TcpStream, status: &str, kind: &str, len: usize) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    );
    conn.write_all(head.as_bytes())
}

fn fetch(port: u16) -> Result<String> {
    let mut conn = traffic::connect(port)?;
    conn.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    conn.read_to_string(&mut page)?;
    if page.is_empty() {
        bail!("closed without an answer");
    }
    Ok(page)
}

fn server_toml(bind_port: u16) -> String {
    format!(
        "# The server, as it would run on a public host.\n\
         bindAddr = \"127.0.0.1\"\n\
         bindPort = {bind_port}\n\
         auth.token = \"demo\"\n\
         log.to = \"frps.log\"\n"
    )
}

fn client_toml(bind_port: u16, admin_port: u16, page_port: u16, user_port: u16) -> String {
    format!(
        "# The client, as it would run beside the service.\n\
         serverAddr = \"127.0.0.1\"\n\
         serverPort = {bind_port}\n\
         auth.token = \"demo\"\n\
         log.to = \"frpc.log\"\n\
         \n\
         # For frpc status and frpc reload.\n\
         webServer.port = {admin_port}\n\
         \n\
         [[proxies]]\n\
         name = \"page\"\n\
         type = \"tcp\"\n\
         localPort = {page_port}\n\
         remotePort = {user_port}\n"
    )
}

/// Ctrl-C, or the request to end of whoever started the demo.
struct StopSignal {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignal {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Escape sequences, or none when nobody looks at a terminal.
struct Colours {
    on: bool,
}

impl Colours {
    fn for_stdout() -> Self {
        Self {
            on: io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none(),
        }
    }

    fn title(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn good(&self, text: &str) -> String {
        self.paint("1;32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn step(colours: &Colours, text: &str) {
    println!("demo: {} {text}", colours.good("✓"));
}

/// Returns `path` as it can be typed from here.
fn relative(path: &Path) -> Result<PathBuf> {
    let here = env::current_dir()?;
    Ok(path.strip_prefix(here).unwrap_or(path).to_path_buf())
}

/// The text by which the demo knows its own page.
const PAGE_MARK: &str = "This page came through the tunnel";

const PAGE: &str = include_str!("demo.html");

/// No request of a browser is longer.
const REQUEST_LEN_MAX: u64 = 64 * 1024;

/// How often the page is asked for until it answers.
const FETCH_INTERVAL: Duration = Duration::from_millis(20);

/// How long nothing is said while waiting.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// How often the running programs are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
