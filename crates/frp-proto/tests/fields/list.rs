//! The fields of all messages.

use frp_proto::MessageType;

use self::Kind::{Address, Bool, Bytes, Int, List, Map, Ranges, Spec, Text, U16};

/// JSON types of fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Text,
    Int,
    U16,
    Bool,
    Map,
    List,
    Bytes,
    Address,
    Ranges,
    /// A nested object that is always written.
    Spec,
}

/// Names and types of members.
type Members = &'static [(&'static str, Kind)];

/// The members of each message, in frp's order.
pub(crate) const FIELDS: &[(MessageType, Members)] = &[
    (
        MessageType::Login,
        &[
            ("version", Text),
            ("hostname", Text),
            ("os", Text),
            ("arch", Text),
            ("user", Text),
            ("privilege_key", Text),
            ("timestamp", Int),
            ("run_id", Text),
            ("client_id", Text),
            ("metas", Map),
            ("client_spec", Spec),
            ("pool_count", Int),
        ],
    ),
    (
        MessageType::LoginResp,
        &[("version", Text), ("run_id", Text), ("error", Text)],
    ),
    (
        MessageType::NewProxy,
        &[
            ("proxy_name", Text),
            ("proxy_type", Text),
            ("use_encryption", Bool),
            ("use_compression", Bool),
            ("bandwidth_limit", Text),
            ("bandwidth_limit_mode", Text),
            ("group", Text),
            ("group_key", Text),
            ("metas", Map),
            ("annotations", Map),
            ("remote_port", Int),
            ("custom_domains", List),
            ("subdomain", Text),
            ("locations", List),
            ("http_user", Text),
            ("http_pwd", Text),
            ("host_header_rewrite", Text),
            ("headers", Map),
            ("response_headers", Map),
            ("route_by_http_user", Text),
            ("sk", Text),
            ("allow_users", List),
            ("multiplexer", Text),
        ],
    ),
    (
        MessageType::NewProxyResp,
        &[("proxy_name", Text), ("remote_addr", Text), ("error", Text)],
    ),
    (MessageType::CloseProxy, &[("proxy_name", Text)]),
    (
        MessageType::NewWorkConn,
        &[
            ("run_id", Text),
            ("privilege_key", Text),
            ("timestamp", Int),
        ],
    ),
    (MessageType::ReqWorkConn, &[]),
    (
        MessageType::StartWorkConn,
        &[
            ("proxy_name", Text),
            ("src_addr", Text),
            ("dst_addr", Text),
            ("src_port", U16),
            ("dst_port", U16),
            ("error", Text),
        ],
    ),
    (
        MessageType::NewVisitorConn,
        &[
            ("run_id", Text),
            ("proxy_name", Text),
            ("sign_key", Text),
            ("timestamp", Int),
            ("use_encryption", Bool),
            ("use_compression", Bool),
        ],
    ),
    (
        MessageType::NewVisitorConnResp,
        &[("proxy_name", Text), ("error", Text)],
    ),
    (
        MessageType::Ping,
        &[("privilege_key", Text), ("timestamp", Int)],
    ),
    (MessageType::Pong, &[("error", Text)]),
    (
        MessageType::UdpPacket,
        &[("c", Bytes), ("l", Address), ("r", Address)],
    ),
    (
        MessageType::NatHoleVisitor,
        &[
            ("transaction_id", Text),
            ("proxy_name", Text),
            ("pre_check", Bool),
            ("protocol", Text),
            ("sign_key", Text),
            ("timestamp", Int),
            ("mapped_addrs", List),
            ("assisted_addrs", List),
        ],
    ),
    (
        MessageType::NatHoleClient,
        &[
            ("transaction_id", Text),
            ("proxy_name", Text),
            ("sid", Text),
            ("mapped_addrs", List),
            ("assisted_addrs", List),
        ],
    ),
    (
        MessageType::NatHoleResp,
        &[
            ("transaction_id", Text),
            ("sid", Text),
            ("protocol", Text),
            ("candidate_addrs", List),
            ("assisted_addrs", List),
            ("detect_behavior", Spec),
            ("error", Text),
        ],
    ),
    (
        MessageType::NatHoleSid,
        &[
            ("transaction_id", Text),
            ("sid", Text),
            ("response", Bool),
            ("nonce", Text),
        ],
    ),
    (
        MessageType::NatHoleReport,
        &[("sid", Text), ("success", Bool)],
    ),
];

/// The members of the objects inside messages.
pub(crate) const INNER: &[(MessageType, &str, Members)] = &[
    (
        MessageType::Login,
        "client_spec",
        &[("type", Text), ("always_auth_pass", Bool)],
    ),
    (
        MessageType::NatHoleResp,
        "detect_behavior",
        &[
            ("role", Text),
            ("mode", Int),
            ("ttl", Int),
            ("send_delay_ms", Int),
            ("read_timeout", Int),
            ("candidate_ports", Ranges),
            ("send_random_ports", Int),
            ("listen_random_ports", Int),
        ],
    ),
    (
        MessageType::UdpPacket,
        "r",
        &[("Port", Int), ("Zone", Text)],
    ),
];
