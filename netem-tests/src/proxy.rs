//! The proxies of a test, and how a configuration says them.

use std::fmt::{self, Write as _};

/// frp's proxy types that tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// A TCP port on the server.
    Tcp,
    /// A UDP port on the server.
    Udp,
    /// A TCP port at a visitor. The test's client is its own visitor.
    Stcp,
}

/// A proxy in the configuration of a test's client, and the port at which users reach it.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub(crate) name: String,
    pub(crate) kind: ProxyKind,
    pub(crate) user_port: u16,
    local_port: u16,
    encryption: bool,
    compression: bool,
    options: String,
    any_port: bool,
    visitor_key: &'static str,
    has_visitor: bool,
}

impl Proxy {
    /// A `tcp` proxy for the service at `local_port`.
    pub fn tcp(name: &str, local_port: u16) -> Self {
        Self::new(ProxyKind::Tcp, name, local_port)
    }

    /// A `udp` proxy for the service at `local_port`.
    pub fn udp(name: &str, local_port: u16) -> Self {
        Self::new(ProxyKind::Udp, name, local_port)
    }

    /// An `stcp` proxy with its visitor.
    pub fn stcp(name: &str, local_port: u16) -> Self {
        Self::new(ProxyKind::Stcp, name, local_port)
    }

    /// Turns on `useEncryption`.
    pub fn encrypted(mut self) -> Self {
        self.encryption = true;
        self
    }

    /// Turns on `useCompression`.
    pub fn compressed(mut self) -> Self {
        self.compression = true;
        self
    }

    /// Fixes the port at which users reach it; otherwise a free one is chosen.
    pub fn at_port(mut self, user_port: u16) -> Self {
        self.user_port = user_port;
        self
    }

    /// Lets the server choose the port (`remotePort = 0`).
    pub fn at_any_port(mut self) -> Self {
        self.any_port = true;
        self
    }

    /// Gives the visitor a key that is not the proxy's.
    pub fn with_wrong_visitor_key(mut self) -> Self {
        self.visitor_key = "a guess";
        self
    }

    /// Leaves the visitor to another client ([`crate::Pair::start_visitor`]).
    pub fn without_visitor(mut self) -> Self {
        self.has_visitor = false;
        self
    }

    /// Adds a line to its part of the configuration.
    pub fn option(mut self, line: &str) -> Self {
        self.options.push_str(line);
        self.options.push('\n');
        self
    }

    fn new(kind: ProxyKind, name: &str, local_port: u16) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            user_port: 0,
            local_port,
            encryption: false,
            compression: false,
            options: String::new(),
            any_port: false,
            visitor_key: SECRET_KEY,
            has_visitor: true,
        }
    }

    /// Appends what a configuration file says for it.
    pub(crate) fn write_toml(&self, toml: &mut String) -> fmt::Result {
        let kind = match self.kind {
            ProxyKind::Tcp => "tcp",
            ProxyKind::Udp => "udp",
            ProxyKind::Stcp => "stcp",
        };
        writeln!(
            toml,
            "\n[[proxies]]\nname = \"{}\"\ntype = \"{kind}\"",
            self.name
        )?;
        writeln!(
            toml,
            "localIP = \"127.0.0.1\"\nlocalPort = {}",
            self.local_port
        )?;
        self.write_wrapping(toml)?;
        toml.push_str(&self.options);
        match self.kind {
            ProxyKind::Tcp | ProxyKind::Udp => {
                let port = if self.any_port { 0 } else { self.user_port };
                writeln!(toml, "remotePort = {port}")
            }
            ProxyKind::Stcp => {
                writeln!(toml, "secretKey = \"{SECRET_KEY}\"")?;
                if self.has_visitor {
                    self.write_visitor(toml)?;
                }
                Ok(())
            }
        }
    }

    /// Says whether the same client visits it.
    pub(crate) fn is_visited_at_home(&self) -> bool {
        self.kind == ProxyKind::Stcp && self.has_visitor
    }

    /// Appends what a configuration file says for its visitor.
    pub(crate) fn write_visitor(&self, toml: &mut String) -> fmt::Result {
        writeln!(
            toml,
            "\n[[visitors]]\nname = \"{0}-visitor\"\ntype = \"stcp\"\nserverName = \"{0}\"",
            self.name
        )?;
        writeln!(
            toml,
            "secretKey = \"{}\"\nbindAddr = \"127.0.0.1\"",
            self.visitor_key
        )?;
        writeln!(toml, "bindPort = {}", self.user_port)?;
        self.write_wrapping(toml)
    }

    fn write_wrapping(&self, toml: &mut String) -> fmt::Result {
        if self.encryption {
            writeln!(toml, "transport.useEncryption = true")?;
        }
        if self.compression {
            writeln!(toml, "transport.useCompression = true")?;
        }
        Ok(())
    }
}

/// What proxy and visitor share. It is no secret here.
const SECRET_KEY: &str = "between friends";
