//! frp's messages.
//!
//! Fields have frp's names and order. Whatever is empty or zero is not on the wire, except where a
//! field says so. Integers that are `int` in frp are `i64` here, as they come: what uses one as a
//! count or a port goes through the checked accessors.
//!
//! `Debug` prints neither secrets nor more than the first four characters of a run id.

mod address;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::extension::{Extension, HoldfastHello, HoldfastWelcome};
use crate::json::{JsonError, Object, go_object};

pub use address::UdpAddr;

/// Declares [`Message`] and [`MessageType`] from one table: body, v1 type byte, v2 id.
macro_rules! messages {
    ($( $(#[$meta:meta])* $name:ident ( $body:ty ) $byte:literal $id:literal, )*) => {
        /// Any message.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message {
            $( $(#[$meta])* $name($body), )*
        }

        /// Which message it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum MessageType {
            $( $(#[$meta])* $name, )*
        }

        impl MessageType {
            /// All of them, in the order of their v2 ids.
            pub const ALL: &[Self] = &[ $( Self::$name, )* ];

            /// By v1 type byte.
            pub fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $( $byte => Some(Self::$name), )*
                    _ => None,
                }
            }

            /// By v2 message id.
            pub fn from_v2_id(id: u16) -> Option<Self> {
                match id {
                    $( $id => Some(Self::$name), )*
                    _ => None,
                }
            }

            /// The type byte in v1.
            pub fn byte(self) -> u8 {
                match self { $( Self::$name => $byte, )* }
            }

            /// The message id in v2.
            pub fn v2_id(self) -> u16 {
                match self { $( Self::$name => $id, )* }
            }

            /// frp's name.
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )* }
            }
        }

        impl Message {
            /// Which message it is.
            pub fn message_type(&self) -> MessageType {
                match self { $( Self::$name(_) => MessageType::$name, )* }
            }

            /// Reads the JSON object of a message.
            pub fn from_json(message_type: MessageType, text: &[u8]) -> Result<Self, JsonError> {
                match message_type {
                    $( MessageType::$name => $name::from_json(text).map(Self::from), )*
                }
            }

            /// Appends the JSON object to `out`.
            pub fn append_json(&self, out: &mut BytesMut) {
                match self { $( Self::$name(body) => body.append_json(out), )* }
            }
        }

        $(
            impl From<$name> for Message {
                fn from(body: $name) -> Self {
                    Self::$name(body.into())
                }
            }
        )*
    };
}

messages! {
    /// A client logs in.
    Login(Box<Login>) b'o' 1,
    /// The server's answer to it.
    LoginResp(LoginResp) b'1' 2,
    /// The client wants a proxy.
    NewProxy(Box<NewProxy>) b'p' 3,
    /// The server's answer to it.
    NewProxyResp(NewProxyResp) b'2' 4,
    /// The client ends a proxy.
    CloseProxy(CloseProxy) b'c' 5,
    /// The client has opened a work stream.
    NewWorkConn(NewWorkConn) b'w' 6,
    /// The server wants a work stream.
    ReqWorkConn(ReqWorkConn) b'r' 7,
    /// The server begins to use a work stream.
    StartWorkConn(StartWorkConn) b's' 8,
    /// A visitor wants to reach a proxy.
    NewVisitorConn(NewVisitorConn) b'v' 9,
    /// The server's answer to it.
    NewVisitorConnResp(NewVisitorConnResp) b'3' 10,
    /// A heartbeat.
    Ping(Ping) b'h' 11,
    /// The server's answer to it.
    Pong(Pong) b'4' 12,
    /// A datagram.
    UdpPacket(UdpPacket) b'u' 13,
    /// A visitor wants to punch a hole.
    NatHoleVisitor(NatHoleVisitor) b'i' 14,
    /// The proxy's client is ready to punch it.
    NatHoleClient(NatHoleClient) b'n' 15,
    /// What the server tells both to do.
    NatHoleResp(Box<NatHoleResp>) b'm' 16,
    /// The name of a hole.
    NatHoleSid(NatHoleSid) b'5' 17,
    /// How it went.
    NatHoleReport(NatHoleReport) b'6' 18,
}

impl Message {
    /// The type byte in v1.
    pub fn type_byte(&self) -> u8 {
        self.message_type().byte()
    }

    /// The message id in v2.
    pub fn v2_id(&self) -> u16 {
        self.message_type().v2_id()
    }

    /// frp's name.
    pub fn name(&self) -> &'static str {
        self.message_type().name()
    }
}

go_object! {
    /// First message of a control stream.
    pub struct Login {
        /// The client's version. Informational.
        version: String,
        /// The client's host name.
        hostname: String,
        /// The operating system, by Go's name for it.
        os: String,
        /// The processor architecture, by Go's name for it.
        arch: String,
        /// The configured user, which prefixes the client's proxy names.
        user: String,
        /// Proof of the token, or an OIDC token.
        privilege_key: String as secret,
        /// When the proof was made, in Unix seconds.
        timestamp: i64,
        /// Empty at first, afterwards the one that the server gave.
        run_id: String as id,
        /// The configured name of the client, unique for its user while it is online.
        client_id: String,
        /// Free for server plugins, which often find credentials in it.
        metas: BTreeMap<String, String> as secret,
        /// What kind of client it is. Always on the wire.
        client_spec: ClientSpec,
        /// Work streams that the client wants to have open ahead. See
        /// [`pool_count_clamped`](Self::pool_count_clamped).
        pool_count: i64,
        /// What a Holdfast adds.
        holdfast: Extension<HoldfastHello>,
    }
}

impl Login {
    /// The wanted pool count within 0 and `max`.
    pub fn pool_count_clamped(&self, max: usize) -> usize {
        usize::try_from(self.pool_count.max(0)).map_or(max, |count| count.min(max))
    }
}

go_object! {
    /// What kind of client logs in.
    pub struct ClientSpec {
        /// `ssh-tunnel` for the SSH gateway's own client, otherwise empty.
        client_type: String = "type",
        /// Honoured inside one process only. From the network it means nothing.
        always_auth_pass: bool,
    }
}

go_object! {
    /// The server's answer to [`Login`].
    pub struct LoginResp {
        /// The server's version.
        version: String,
        /// Names the client from here on. Only on success.
        run_id: String as id,
        /// Why the login failed. Empty on success.
        error: String,
        /// What a Holdfast adds, for a client that sent its own.
        holdfast: Extension<HoldfastWelcome>,
    }
}

go_object! {
    /// The client wants a proxy. Which fields count depends on the type.
    pub struct NewProxy {
        /// The name on the wire, with the user's prefix.
        proxy_name: String,
        /// `tcp`, `udp`, `stcp`, ...; empty means `tcp`.
        proxy_type: String,
        /// Encrypt the payload between server and client.
        use_encryption: bool,
        /// Compress the payload between server and client.
        use_compression: bool,
        /// Such as `1MB`.
        bandwidth_limit: String,
        /// `server`, or empty for the client.
        bandwidth_limit_mode: String,
        /// Proxies of one group share their load.
        group: String,
        /// Proof of belonging to the group.
        group_key: String as secret,
        /// Free for server plugins, which often find credentials in it.
        metas: BTreeMap<String, String> as secret,
        /// Shown on the dashboard.
        annotations: BTreeMap<String, String>,
        /// tcp and udp: the wanted port, 0 for any. See
        /// [`remote_port_checked`](Self::remote_port_checked).
        remote_port: i64,
        /// http, https, tcpmux: whole host names.
        custom_domains: Vec<String>,
        /// http, https, tcpmux: a name below the server's own.
        subdomain: String,
        /// http: prefixes of the path.
        locations: Vec<String>,
        /// http, tcpmux: who may use the proxy.
        http_user: String,
        /// http, tcpmux: and that user's password.
        http_pwd: String as secret,
        /// http: the `Host` that the local service sees.
        host_header_rewrite: String,
        /// http: set in requests, credentials among them.
        headers: BTreeMap<String, String> as secret,
        /// http: set in responses.
        response_headers: BTreeMap<String, String> as secret,
        /// http, tcpmux: only requests of this user come here.
        route_by_http_user: String,
        /// stcp, sudp, xtcp: the secret that visitors must know.
        sk: String as secret,
        /// stcp, sudp, xtcp: users whose visitors may come; `*` is all, none is the own user.
        allow_users: Vec<String>,
        /// tcpmux: `httpconnect`.
        multiplexer: String,
    }
}

impl NewProxy {
    /// The wanted port (0 for any), or the number as it came when it is none.
    pub fn remote_port_checked(&self) -> Result<u16, i64> {
        u16::try_from(self.remote_port).map_err(|_| self.remote_port)
    }
}

go_object! {
    /// The server's answer to [`NewProxy`].
    pub struct NewProxyResp {
        /// The proxy it is about.
        proxy_name: String,
        /// Where users reach the proxy, such as `:6000`.
        remote_addr: String,
        /// Why it did not start. Empty on success.
        error: String,
    }
}

go_object! {
    /// The client ends a proxy. There is no answer.
    pub struct CloseProxy {
        /// The proxy it is about.
        proxy_name: String,
    }
}

go_object! {
    /// First message of a work stream.
    pub struct NewWorkConn {
        /// The client's.
        run_id: String as id,
        /// Proof of the token, when that scope is on.
        privilege_key: String as secret,
        /// When the proof was made.
        timestamp: i64,
    }
}

go_object! {
    /// The server wants one more work stream.
    pub struct ReqWorkConn {}
}

go_object! {
    /// The server begins to use a work stream. Payload follows at once.
    pub struct StartWorkConn {
        /// The proxy whose user has come.
        proxy_name: String,
        /// The user's address.
        src_addr: String,
        /// The address that the user connected to.
        dst_addr: String,
        /// The user's port.
        src_port: u16,
        /// The port that the user connected to.
        dst_port: u16,
        /// Why the work stream is refused. Empty otherwise.
        error: String,
        /// From a Holdfast, for a `udp` proxy: the number under which its datagrams may go as
        /// those of a carrier. 0 or absent where they may not.
        holdfast_flow: i64,
    }
}

go_object! {
    /// First message of a visitor's stream.
    pub struct NewVisitorConn {
        /// The visitor's client. May be empty.
        run_id: String as id,
        /// The proxy to reach, with its user's prefix.
        proxy_name: String,
        /// Proof of the proxy's secret key.
        sign_key: String as secret,
        /// When the proof was made.
        timestamp: i64,
        /// Encrypt the payload between visitor and server.
        use_encryption: bool,
        /// Compress the payload between visitor and server.
        use_compression: bool,
    }
}

go_object! {
    /// The server's answer to [`NewVisitorConn`]. Payload follows at once.
    pub struct NewVisitorConnResp {
        /// The proxy it is about.
        proxy_name: String,
        /// Why the visitor is refused. Empty on success.
        error: String,
    }
}

go_object! {
    /// A heartbeat of the client; also keeps the payload stream of a udp proxy alive.
    pub struct Ping {
        /// Proof of the token, when that scope is on.
        privilege_key: String as secret,
        /// When the proof was made.
        timestamp: i64,
    }
}

go_object! {
    /// The server's answer to [`Ping`].
    pub struct Pong {
        /// Why the heartbeat was refused. Empty otherwise.
        error: String,
    }
}

go_object! {
    /// A datagram of a udp or sudp proxy.
    pub struct UdpPacket {
        /// What is in it.
        content: Bytes = "c",
        /// Never set by frp.
        local: Option<UdpAddr> = "l",
        /// The user. Always set by frp.
        remote: Option<UdpAddr> = "r",
    }
}

go_object! {
    /// A visitor wants to punch a hole to a proxy.
    pub struct NatHoleVisitor {
        /// Pairs the answer with the question.
        transaction_id: String,
        /// The proxy to reach.
        proxy_name: String,
        /// Only ask whether it would be allowed.
        pre_check: bool,
        /// `quic` or `kcp`.
        protocol: String,
        /// Proof of the proxy's secret key.
        sign_key: String as secret,
        /// When the proof was made.
        timestamp: i64,
        /// Addresses that STUN servers saw.
        mapped_addrs: Vec<String>,
        /// Local addresses.
        assisted_addrs: Vec<String>,
    }
}

go_object! {
    /// The proxy's client is ready to punch a hole.
    pub struct NatHoleClient {
        /// Pairs the answer with the question.
        transaction_id: String,
        /// The proxy it is about.
        proxy_name: String,
        /// The hole it is about.
        sid: String,
        /// Addresses that STUN servers saw.
        mapped_addrs: Vec<String>,
        /// Local addresses.
        assisted_addrs: Vec<String>,
    }
}

go_object! {
    /// What the server tells each of the two that punch a hole.
    pub struct NatHoleResp {
        /// Pairs the answer with the question.
        transaction_id: String,
        /// The hole it is about.
        sid: String,
        /// `quic` or `kcp`.
        protocol: String,
        /// Where the other may be reached.
        candidate_addrs: Vec<String>,
        /// The other's local addresses.
        assisted_addrs: Vec<String>,
        /// What to do. Always on the wire.
        detect_behavior: NatHoleDetectBehavior,
        /// Why there will be no hole. Empty otherwise.
        error: String,
    }
}

go_object! {
    /// What one side does to punch a hole.
    pub struct NatHoleDetectBehavior {
        /// `sender` or `receiver`.
        role: String,
        /// Which of the server's plans this is.
        mode: i64,
        /// IP time to live of the first datagrams; 0 for the usual.
        ttl: i64,
        /// Wait this long before sending.
        send_delay_ms: i64,
        /// Wait this long for an answer; 0 for 5 s.
        read_timeout_ms: i64 = "read_timeout",
        /// Ports to try at the candidate addresses.
        candidate_ports: Vec<PortsRange>,
        /// Random ports to send to.
        send_random_ports: i64,
        /// Random ports to listen on.
        listen_random_ports: i64,
    }
}

go_object! {
    /// A range of ports, both ends in it.
    pub struct PortsRange {
        /// First.
        from: i64,
        /// Last.
        to: i64,
    }
}

go_object! {
    /// Names a hole: from the server on a work stream, and between the two in datagrams.
    pub struct NatHoleSid {
        /// The sender's.
        transaction_id: String,
        /// The hole it is about.
        sid: String,
        /// Whether this answers another.
        response: bool,
        /// Of random length, so that datagrams differ.
        nonce: String,
    }
}

go_object! {
    /// The proxy's client tells how punching went.
    pub struct NatHoleReport {
        /// The hole it is about.
        sid: String,
        /// Whether it is open.
        success: bool,
    }
}
