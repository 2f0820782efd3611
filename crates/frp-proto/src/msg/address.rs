//! UDP addresses as Go writes them.

use std::net::{IpAddr, SocketAddr};

use crate::json::{JsonError, JsonErrorKind, Members, Object, Reader, Value, Writer};

/// Go's `net.UDPAddr`: an object whose three members are always there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UdpAddr {
    /// Absent when the text is empty. An IPv4 address mapped into IPv6 counts as IPv4.
    pub ip: Option<IpAddr>,
    /// As it came; see [`socket_addr`](Self::socket_addr).
    pub port: i64,
    /// Name or number of the interface of a link-local IPv6 address.
    pub zone: String,
}

impl UdpAddr {
    /// The address as a socket address, when it has an IP and its port is one. A zone that is a
    /// number becomes the scope; names can only be looked up by who may ask the system.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let port = u16::try_from(self.port).ok()?;
        let mut addr = SocketAddr::new(self.ip?, port);
        if let (SocketAddr::V6(v6), Ok(scope)) = (&mut addr, self.zone.parse()) {
            v6.set_scope_id(scope);
        }
        Some(addr)
    }
}

impl From<SocketAddr> for UdpAddr {
    fn from(addr: SocketAddr) -> Self {
        let zone = match addr {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => v6.scope_id().to_string(),
            _ => String::new(),
        };
        Self {
            ip: Some(addr.ip().to_canonical()),
            port: addr.port().into(),
            zone,
        }
    }
}

impl Object for UdpAddr {
    fn read_member(&mut self, key: &str, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if Reader::key_matches(key, "IP") {
            self.read_ip(reader)
        } else if Reader::key_matches(key, "Port") {
            self.port.read(reader)
        } else if Reader::key_matches(key, "Zone") {
            self.zone.read(reader)
        } else {
            reader.skip_value()
        }
    }

    fn write_members(&self, members: &mut Members<'_>) {
        let ip = self
            .ip
            .map(|ip| ip.to_canonical().to_string())
            .unwrap_or_default();
        members.add_always("IP", &ip);
        members.add_always("Port", &self.port);
        members.add_always("Zone", &self.zone);
    }
}

impl UdpAddr {
    fn read_ip(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        self.ip = None;
        if reader.take_null()? {
            return Ok(());
        }
        let text = reader.read_string()?;
        if !text.is_empty() {
            let ip: IpAddr = text
                .parse()
                .map_err(|_| reader.error(JsonErrorKind::IpAddress))?;
            self.ip = Some(ip.to_canonical());
        }
        Ok(())
    }
}

impl Value for UdpAddr {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        reader.read_object_into(self)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.object(|members| self.write_members(members));
    }

    fn is_omitted(&self) -> bool {
        false
    }
}
