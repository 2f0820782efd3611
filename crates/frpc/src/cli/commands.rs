//! What frpc's command line may say, as clap reads it. Names, short forms and defaults are frp's.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use frp_core::config::LoadOptions;
use frp_core::flag_value::{parse_bool, parse_seconds};
use frp_core::transports::TransportKind;

use super::recovery_commands::{ConfigCommand, RecoveryArgs};
use super::values::{check_bandwidth, parse_duration, parse_pair, parse_transport};

/// The whole command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "frpc",
    about = concat!(
        "frpc publishes local services through frps. Holdfast ",
        env!("CARGO_PKG_VERSION"),
        ", a drop-in for frp 0.70.1."
    ),
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: GlobalFlags,
    /// Without a command frpc runs with its configuration file.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub struct GlobalFlags {
    /// Config file of frpc
    #[arg(
        short = 'c',
        long,
        global = true,
        default_value = "./frpc.ini",
        allow_hyphen_values = true
    )]
    pub config: PathBuf,
    /// Config directory, run one frpc service for each file in config directory
    #[arg(long, global = true, allow_hyphen_values = true)]
    pub config_dir: Option<PathBuf>,
    /// Version of frpc
    #[arg(short = 'v', long, global = true, default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, hide_default_value = true,
        hide_possible_values = true, value_parser = parse_bool)]
    pub version: bool,
    /// Strict config parsing mode, unknown fields will cause errors
    #[arg(long, global = true, default_value = "true", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = parse_bool)]
    pub strict_config: bool,
    /// Allowed unsafe features, one or more of: TokenSourceExec
    #[arg(long, global = true, value_delimiter = ',', action = ArgAction::Append,
        allow_hyphen_values = true)]
    pub allow_unsafe: Vec<String>,
}

impl GlobalFlags {
    /// How configurations are to be loaded.
    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            strict: self.strict_config,
            allow_unsafe: self.allow_unsafe.clone(),
            ..LoadOptions::default()
        }
    }
}

/// What to do instead of running with the configuration file.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run frpc with a single tcp proxy
    Tcp(Box<PortProxy>),
    /// Run frpc with a single udp proxy
    Udp(Box<PortProxy>),
    /// Run frpc with a single tcpmux proxy
    Tcpmux(Box<TcpmuxProxy>),
    /// Run frpc with a single http proxy
    Http(Box<HttpProxy>),
    /// Run frpc with a single https proxy
    Https(Box<HttpsProxy>),
    /// Run frpc with a single stcp proxy
    Stcp(Box<SecretProxy>),
    /// Run frpc with a single sudp proxy
    Sudp(Box<SecretProxy>),
    /// Run frpc with a single xtcp proxy
    Xtcp(Box<SecretProxy>),
    /// Verify that the configures is valid
    Verify {
        /// Ignored, as frp ignores them.
        #[arg(hide = true)]
        extra: Vec<String>,
    },
    /// Hot-Reload frpc configuration
    Reload(AdminFlags),
    /// Overview of the session, its connections to the server, and all proxies status
    ///
    /// Shows the session with the server and since when it stands, each connection to the server
    /// with its round trip, loss and rate, the last switches with their causes, what is wrong and
    /// since when, and frp's table of the proxies. The running frpc is asked over its webServer, or
    /// over a socket in its state directory where there is none.
    ///
    /// Exit codes: 0 all is well, 1 the running frpc cannot be reached, 2 the command line or the
    /// configuration makes no sense, 3 it was reached and something is wrong.
    Status(StatusFlags),
    /// Try every way to the server, and say what is blocked and what to configure
    ///
    /// Tries each transport (quic, kcp, tcp, websocket, wss) at each address of the server, logs in
    /// over those that get through, and measures round trip, jitter, loss and rate of each
    /// direction, packet size, address translation, clocks, DNS and TLS. Then it says in plain words
    /// what is wrong, what to do about it, and which line of configuration helps. It publishes
    /// nothing, and a frpc that runs with the same configuration goes on undisturbed. It takes about
    /// half a minute, and sends and receives 20 MB at most.
    ///
    /// Exit codes: 0 all is fine, 1 nothing gets through, 2 the command line or the configuration
    /// makes no sense, 3 something gets through and something is to be said.
    Doctor(DoctorFlags),
    /// Stop the running frpc
    Stop(AdminFlags),
    /// Go over to another transport, or let the program decide again
    Switch {
        /// quic, kcp, tcp, wss, websocket, or auto
        transport: String,
        /// How to ask.
        #[command(flatten)]
        flags: AdminFlags,
    },
    /// The versions of the configuration that were applied
    Config {
        /// What to do.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// How the running frpc gets itself out of trouble, and its parts
    Recovery(RecoveryArgs),
    /// NAT hole punching related commands
    Nathole {
        /// What to do.
        #[command(subcommand)]
        command: NatholeCommand,
    },
    /// Generate the autocompletion script for the specified shell
    #[command(arg_required_else_help = true)]
    Completion {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages into a directory
    // For packages. frp has no such command, and users do not need it.
    #[command(hide = true)]
    Man {
        /// Where to.
        dir: PathBuf,
    },
}

/// The commands below `nathole`.
#[derive(Clone, Debug, Subcommand)]
pub enum NatholeCommand {
    /// Discover nathole information from stun server
    Discover {
        /// STUN server address
        #[arg(long, allow_hyphen_values = true)]
        nat_hole_stun_server: Option<String>,
        /// Local address to connect to the STUN server
        #[arg(short = 'l', long, allow_hyphen_values = true)]
        nat_hole_local_addr: Option<String>,
        /// Ignored, as frp ignores them.
        #[arg(hide = true)]
        extra: Vec<String>,
    },
}

/// The shells that completion scripts exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
    /// PowerShell.
    Powershell,
}

/// Flags of the commands that talk to a running frpc.
#[derive(Args, Clone, Debug)]
pub struct AdminFlags {
    /// Timeout for admin API calls
    #[arg(long, default_value = "30s", value_parser = parse_duration, allow_hyphen_values = true)]
    pub api_timeout: Duration,
    /// Ignored, as frp ignores them.
    #[arg(hide = true)]
    pub extra: Vec<String>,
}

/// Flags of `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusFlags {
    /// How to ask.
    #[command(flatten)]
    pub admin: AdminFlags,
    /// Print all of it as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Look again every so many seconds (2 if none are given), until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
        value_parser = parse_seconds)]
    pub watch: Option<Duration>,
}

/// Flags of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorFlags {
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Another server than the configuration's, with its port if that is another one
    #[arg(long, value_name = "HOST[:PORT]")]
    pub server: Option<String>,
    /// Only these transports: quic, kcp, tcp, websocket, wss
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_transport)]
    pub transport: Vec<TransportKind>,
    /// Measure no rates: a few seconds, and next to no traffic
    #[arg(long)]
    pub quick: bool,
    /// Ignored, as frp ignores them.
    #[arg(hide = true)]
    pub extra: Vec<String>,
}

/// `tcp` and `udp`.
#[derive(Args, Clone, Debug)]
pub struct PortProxy {
    /// Where the server is.
    #[command(flatten)]
    pub connection: ConnectionFlags,
    /// What every proxy has.
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// Remote port
    #[arg(short = 'r', long, default_value_t = 0, allow_hyphen_values = true)]
    pub remote_port: i64,
    /// Ignored, as frp ignores them.
    #[arg(hide = true)]
    pub extra: Vec<String>,
}

/// `stcp`, `sudp` and `xtcp`, each with a visitor of its kind.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct SecretProxy {
    /// Where the server is.
    #[command(flatten)]
    pub connection: ConnectionFlags,
    /// What every proxy has.
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// Secret key
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub sk: String,
    /// Allow visitor users
    #[arg(long, value_delimiter = ',', action = ArgAction::Append, allow_hyphen_values = true)]
    pub allow_users: Vec<String>,
    /// The visitor instead of the proxy.
    #[command(subcommand)]
    pub visitor: Option<VisitorCommand>,
}

/// The command below `stcp`, `sudp` and `xtcp`.
#[derive(Clone, Debug, Subcommand)]
pub enum VisitorCommand {
    /// Run frpc with a single visitor
    Visitor(Box<VisitorFlags>),
}

/// What a visitor has.
#[derive(Args, Clone, Debug)]
pub struct VisitorFlags {
    /// Visitor name
    #[arg(
        short = 'n',
        long = "visitor-name",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub name: String,
    /// Use encryption
    #[arg(long = "ue", default_value = "false", default_missing_value = "true", num_args = 0..=1,
        require_equals = true, value_parser = parse_bool)]
    pub use_encryption: bool,
    /// Use compression
    #[arg(long = "uc", default_value = "false", default_missing_value = "true", num_args = 0..=1,
        require_equals = true, value_parser = parse_bool)]
    pub use_compression: bool,
    /// Secret key
    #[arg(long = "sk", default_value = "", allow_hyphen_values = true)]
    pub secret_key: String,
    /// Server name
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub server_name: String,
    /// Server user
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub server_user: String,
    /// Bind addr
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub bind_addr: String,
    /// Bind port
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    pub bind_port: i64,
    /// Ignored, as frp ignores them.
    #[arg(hide = true)]
    pub extra: Vec<String>,
}

/// `http`, which comes later.
#[derive(Args, Clone, Debug)]
pub struct HttpProxy {
    /// Where the server is.
    #[command(flatten)]
    pub connection: ConnectionFlags,
    /// What every proxy has.
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// The domains.
    #[command(flatten)]
    pub domain: DomainFlags,
    /// Locations
    #[arg(long, value_delimiter = ',', action = ArgAction::Append)]
    pub locations: Vec<String>,
    /// HTTP auth user
    #[arg(long)]
    pub http_user: Option<String>,
    /// HTTP auth password
    #[arg(long)]
    pub http_pwd: Option<String>,
    /// Host header rewrite
    #[arg(long)]
    pub host_header_rewrite: Option<String>,
    #[arg(hide = true)]
    extra: Vec<String>,
}

/// `https`, which comes later.
#[derive(Args, Clone, Debug)]
pub struct HttpsProxy {
    /// Where the server is.
    #[command(flatten)]
    pub connection: ConnectionFlags,
    /// What every proxy has.
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// The domains.
    #[command(flatten)]
    pub domain: DomainFlags,
    #[arg(hide = true)]
    extra: Vec<String>,
}

/// `tcpmux`, which comes later.
#[derive(Args, Clone, Debug)]
pub struct TcpmuxProxy {
    /// Where the server is.
    #[command(flatten)]
    pub connection: ConnectionFlags,
    /// What every proxy has.
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// The domains.
    #[command(flatten)]
    pub domain: DomainFlags,
    /// Multiplexer
    #[arg(long)]
    pub mux: Option<String>,
    /// HTTP auth user
    #[arg(long)]
    pub http_user: Option<String>,
    /// HTTP auth password
    #[arg(long)]
    pub http_pwd: Option<String>,
    #[arg(hide = true)]
    extra: Vec<String>,
}

/// What `http`, `https` and `tcpmux` have.
#[derive(Args, Clone, Debug)]
pub struct DomainFlags {
    /// Custom domains
    #[arg(short = 'd', long, value_delimiter = ',', action = ArgAction::Append)]
    pub custom_domain: Vec<String>,
    /// Sub domain
    #[arg(long)]
    pub sd: Option<String>,
}

/// Where the server is and how to reach it: the part of the configuration that single-proxy
/// commands take from flags.
#[derive(Args, Clone, Debug)]
pub struct ConnectionFlags {
    /// frp server's address
    #[arg(
        short = 's',
        long,
        global = true,
        default_value = "127.0.0.1",
        allow_hyphen_values = true
    )]
    pub server_addr: String,
    /// frp server's port
    #[arg(
        short = 'P',
        long,
        global = true,
        default_value_t = 7000,
        allow_hyphen_values = true
    )]
    pub server_port: i64,
    /// Optional values are [tcp kcp quic websocket wss auto]
    #[arg(
        short = 'p',
        long,
        global = true,
        default_value = "tcp",
        allow_hyphen_values = true
    )]
    pub protocol: String,
    /// User
    #[arg(
        short = 'u',
        long,
        global = true,
        default_value = "",
        allow_hyphen_values = true
    )]
    pub user: String,
    /// Auth token
    #[arg(
        short = 't',
        long,
        global = true,
        default_value = "",
        allow_hyphen_values = true
    )]
    pub token: String,
    /// Unique identifier for this frpc instance
    #[arg(long, global = true, default_value = "", allow_hyphen_values = true)]
    pub client_id: String,
    /// Log level
    #[arg(
        long,
        global = true,
        default_value = "info",
        allow_hyphen_values = true
    )]
    pub log_level: String,
    /// Console or file path
    #[arg(
        long,
        global = true,
        default_value = "console",
        allow_hyphen_values = true
    )]
    pub log_file: String,
    /// Log file reserved days
    #[arg(long, global = true, default_value_t = 3, allow_hyphen_values = true)]
    pub log_max_days: i64,
    /// Disable log color in console
    #[arg(long, global = true, default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = parse_bool)]
    pub disable_log_color: bool,
    /// Enable frpc tls
    #[arg(long, global = true, default_value = "true", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = parse_bool)]
    pub tls_enable: bool,
    /// Specify the custom server name of tls certificate
    #[arg(long, global = true, default_value = "", allow_hyphen_values = true)]
    pub tls_server_name: String,
    /// Specify dns server instead of using system default one
    #[arg(long, global = true, default_value = "", allow_hyphen_values = true)]
    pub dns_server: String,
}

/// What every proxy has.
#[derive(Args, Clone, Debug)]
pub struct ProxyFlags {
    /// Proxy name
    #[arg(
        short = 'n',
        long = "proxy-name",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub name: String,
    /// Metadata key-value pairs (e.g., key1=value1,key2=value2)
    #[arg(long, value_delimiter = ',', action = ArgAction::Append, value_parser = parse_pair,
        allow_hyphen_values = true)]
    pub metadatas: Vec<String>,
    /// Annotation key-value pairs (e.g., key1=value1,key2=value2)
    #[arg(long, value_delimiter = ',', action = ArgAction::Append, value_parser = parse_pair,
        allow_hyphen_values = true)]
    pub annotations: Vec<String>,
    /// Local ip
    #[arg(
        short = 'i',
        long,
        default_value = "127.0.0.1",
        allow_hyphen_values = true
    )]
    pub local_ip: String,
    /// Local port
    #[arg(short = 'l', long, default_value_t = 0, allow_hyphen_values = true)]
    pub local_port: i64,
    /// Use encryption
    #[arg(long = "ue", default_value = "false", default_missing_value = "true", num_args = 0..=1,
        require_equals = true, value_parser = parse_bool)]
    pub use_encryption: bool,
    /// Use compression
    #[arg(long = "uc", default_value = "false", default_missing_value = "true", num_args = 0..=1,
        require_equals = true, value_parser = parse_bool)]
    pub use_compression: bool,
    /// Bandwidth limit (e.g. 100KB or 1MB)
    #[arg(long, default_value = "", allow_hyphen_values = true, value_parser = check_bandwidth)]
    pub bandwidth_limit: String,
    /// Bandwidth limit mode
    #[arg(long, default_value = "client", allow_hyphen_values = true)]
    pub bandwidth_limit_mode: String,
}
