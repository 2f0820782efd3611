//! Every field of every message against everything that a peer may put into it.
//!
//! The list of fields is the protocol's, written down once more: a field that is missing in the
//! code, or has another type, fails here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "fields/list.rs"]
mod list;

use bytes::BytesMut;
use frp_proto::json::{JsonErrorKind, MAX_DEPTH};
use frp_proto::{JsonError, Message, MessageType};

use self::list::Kind::{Address, Bool, Bytes, Int, List, Map, Ranges, Spec, Text, U16};
use self::list::{FIELDS, INNER, Kind};

/// Values of all JSON types, and those on the edges of what fields can hold.
const VALUES: &[&str] = &[
    r#""text""#,
    r#""""#,
    "true",
    "false",
    "0",
    "-0",
    "7",
    "-7",
    "65535",
    "65536",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "1e400",
    "1.0",
    "1e3",
    "[]",
    "[1]",
    r#"["a"]"#,
    r#"["a",1]"#,
    r#"[["a"]]"#,
    "[null]",
    "{}",
    r#"{"a":"b"}"#,
    r#"{"a":1}"#,
    r#"{"a":null}"#,
    r#"{"IP":"1.2.3.4","Port":5,"Zone":""}"#,
    r#"{"IP":"nowhere"}"#,
    r#"{"IP":5}"#,
    r#"[{"from":1,"to":2}]"#,
    r#"[{"from":"1"}]"#,
    r#""aGVsbG8=""#,
    r#""aGVsbG8""#,
    r#""a+/=""#,
];

/// Whether Go reads `value` into a field of `kind`.
fn fits(kind: Kind, value: &str) -> bool {
    let starts = |c| value.starts_with(c);
    match kind {
        Text => starts('"'),
        Bool => matches!(value, "true" | "false"),
        Int => value.parse::<i64>().is_ok(),
        U16 => value.parse::<u16>().is_ok(),
        Map => {
            starts('{') && matches!(value, "{}" | r#"{"a":"b"}"# | r#"{"a":null}"#)
                || value == r#"{"IP":"nowhere"}"#
        }
        List => matches!(value, "[]" | r#"["a"]"# | "[null]"),
        Bytes => {
            matches!(
                value,
                r#""""# | r#""aGVsbG8=""# | r#""a+/=""# | "[]" | "[1]" | "[null]"
            ) || value == r#""text""#
        }
        // Unknown members are passed over, whatever they hold.
        Address => starts('{') && !matches!(value, r#"{"IP":"nowhere"}"# | r#"{"IP":5}"#),
        Spec => starts('{'),
        Ranges => matches!(value, "[]" | "[null]" | r#"[{"from":1,"to":2}]"#),
    }
}

#[test]
fn the_list_has_every_message() {
    let listed: Vec<_> = FIELDS
        .iter()
        .map(|(message_type, _)| *message_type)
        .collect();
    assert_eq!(listed, MessageType::ALL);
}

#[test]
fn every_field_takes_what_go_takes_and_refuses_the_rest() {
    for_each_field(|message_type, wrap, name, kind| {
        for value in VALUES {
            let text = wrap(&format!(r#""{name}":{value}"#));
            let read = Message::from_json(message_type, text.as_bytes());
            assert_eq!(
                read.is_ok(),
                fits(kind, value),
                "{} {text}: {read:?}",
                message_type.name()
            );
        }
    });
}

#[test]
fn null_leaves_every_field_at_zero() {
    for_each_field(|message_type, wrap, name, _| {
        let with_null = read(message_type, &wrap(&format!(r#""{name}":null"#)));
        assert_eq!(
            with_null,
            read(message_type, &wrap("")),
            "{} {name}",
            message_type.name()
        );
    });
}

#[test]
fn every_key_is_known_in_any_case_and_written_in_its_own() {
    for_each_field(|message_type, wrap, name, kind| {
        let value = sample(kind);
        let text = wrap(&format!(r#""{name}":{value}"#));
        let message = read(message_type, &text);
        assert_ne!(
            message,
            read(message_type, &wrap("")),
            "{text} means something"
        );
        assert_eq!(
            message,
            read(message_type, &wrap(&format!(r#""{}":{value}"#, swap(name))))
        );
        if kind != Spec {
            assert!(
                write(&message).contains(&format!(r#""{name}":{value}"#)),
                "{message:?}"
            );
        }
    });
}

#[test]
fn of_two_equal_keys_the_later_wins() {
    for_each_field(|message_type, wrap, name, kind| {
        let (first, second) = match kind {
            Text => (r#""first""#, r#""second""#),
            Int | U16 => ("1", "2"),
            Bool => ("true", "false"),
            List => (r#"["a","b"]"#, r#"["c"]"#),
            Bytes => (r#""YWE=""#, r#""Yg==""#),
            Ranges => (r#"[{"from":1,"to":1},{"to":9}]"#, r#"[{"from":2,"to":3}]"#),
            // Maps and objects are merged, as Go does.
            Map => (r#"{"a":"1"}"#, r#"{"a":"2"}"#),
            Address => (
                r#"{"IP":"1.1.1.1","Port":1}"#,
                r#"{"IP":"2.2.2.2","Port":2}"#,
            ),
            Spec => return,
        };
        let twice = wrap(&format!(r#""{name}":{first},"{}":{second}"#, swap(name)));
        let once = wrap(&format!(r#""{name}":{second}"#));
        assert_eq!(
            read(message_type, &twice),
            read(message_type, &once),
            "{twice}"
        );
    });
}

#[test]
fn broken_text_is_an_error_for_every_message() {
    for &message_type in MessageType::ALL {
        for text in [
            "",
            " ",
            "{",
            "}",
            "{]",
            "[]",
            "7",
            r#""text""#,
            "true",
            "nul",
            "{}x",
            "{} {}",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{a:1}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":+1}"#,
            r#"{"a":-}"#,
            r#"{"a":1e}"#,
            r#"{"a":.5}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":"\u12g4"}"#,
            "{\"a\":\"\n\"}",
            "{\"a\":\"\x00\"}",
            r#"{"a":'b'}"#,
            r#"{"a":NaN}"#,
            "\u{feff}{}",
            r#"{"a":truex}"#,
            "{\"a\":\"open",
        ] {
            assert!(
                Message::from_json(message_type, text.as_bytes()).is_err(),
                "{text:?}"
            );
        }
        for text in [
            "{}",
            " {\t} \r\n",
            "null",
            r#"{"unknown":[1,{"a":[]},"b",1e9,null]}"#,
        ] {
            assert!(
                Message::from_json(message_type, text.as_bytes()).is_ok(),
                "{text:?}"
            );
        }
    }
}

#[test]
fn deep_nesting_is_refused_without_going_deep() {
    let nested = |depth: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    for &message_type in MessageType::ALL {
        let within = nested(MAX_DEPTH - 1);
        assert!(Message::from_json(message_type, within.as_bytes()).is_ok());
        for depth in [MAX_DEPTH, 100_000] {
            let error = Message::from_json(message_type, nested(depth).as_bytes()).unwrap_err();
            assert_eq!(error.kind, JsonErrorKind::TooDeep);
        }
    }
}

#[test]
fn broken_utf8_becomes_replacement_characters_as_in_go() {
    for (bytes, expected) in [
        (&b"a\xffb"[..], "a\u{fffd}b"),
        // Go replaces each byte of a sequence that is cut short, not the sequence.
        (b"\xe2\x82", "\u{fffd}\u{fffd}"),
        (b"\xf0\x9f\x98\x80", "\u{1f600}"),
        (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        (br"\ud83d\ude00", "\u{1f600}"),
        (br"\ud83d", "\u{fffd}"),
        (br"\ud83dx", "\u{fffd}x"),
        (br"\ud83d\u0041", "\u{fffd}A"),
        (br"\ude00\ud83d", "\u{fffd}\u{fffd}"),
        (br"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
        (
            br#"\u0000\u001f\/\"\\\b\f\n\r\t"#,
            "\0\u{1f}/\"\\\u{8}\u{c}\n\r\t",
        ),
    ] {
        let text = [&br#"{"error":""#[..], bytes, br#""}"#].concat();
        let Ok(Message::Pong(pong)) = Message::from_json(MessageType::Pong, &text) else {
            panic!("{bytes:?} is read");
        };
        assert_eq!(pong.error, expected, "{bytes:?}");
    }
}

#[test]
fn a_special_byte_is_found_wherever_it_lies_in_a_string() {
    for before in 0..100 {
        let plain = "x".repeat(before);
        let pong = |inside: &str| read(MessageType::Pong, &format!(r#"{{"error":"{inside}"}}"#));
        let expected = |error: String| Message::from(frp_proto::msg::Pong { error });
        assert_eq!(pong(&plain), expected(plain.clone()));
        assert_eq!(
            pong(&format!(r"{plain}\n{plain}")),
            expected(format!("{plain}\n{plain}"))
        );

        let broken = format!("{{\"error\":\"{plain}\n{plain}\"}}");
        let error = Message::from_json(MessageType::Pong, broken.as_bytes()).unwrap_err();
        assert_eq!(error.offset, r#"{"error":""#.len() + before);
    }
}

#[test]
fn text_is_escaped_as_in_go() {
    let pong = frp_proto::msg::Pong {
        error: "<a href=\"x\">&\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}\u{2028}\u{2029}\u{fffd}é😀'"
            .into(),
    };
    assert_eq!(
        write(&pong.into()),
        r#"{"error":"\u003ca href=\"x\"\u003e\u0026\\/\b\f\n\r\t\u0000\u001f"#.to_owned()
            + "\u{7f}"
            + r"\u2028\u2029"
            + "\u{fffd}é😀'\"}",
    );
}

#[test]
fn keys_are_matched_by_unicode_folding_as_in_go() {
    let long_s = read(MessageType::NewProxy, r#"{"ſK":"a"}"#);
    assert_eq!(long_s, read(MessageType::NewProxy, r#"{"sk":"a"}"#));
    assert_eq!(
        read(MessageType::NewProxy, r#"{"skk":"a","s":"b"}"#),
        read(MessageType::NewProxy, "{}")
    );
}

#[test]
fn addresses_are_read_and_written_as_in_go() {
    for (ip, expected) in [
        ("127.0.0.1", Some("127.0.0.1")),
        ("::ffff:10.0.0.1", Some("10.0.0.1")),
        ("2001:DB8:0:0:0:0:0:1", Some("2001:db8::1")),
        ("::1.2.3.4", Some("::102:304")),
        ("", Some("")),
        ("fe80::1%eth0", None),
        ("01.2.3.4", None),
        ("1.2.3", None),
        ("localhost", None),
    ] {
        let text = format!(r#"{{"r":{{"IP":"{ip}","Port":-1,"Zone":"z"}}}}"#);
        let read = Message::from_json(MessageType::UdpPacket, text.as_bytes());
        let written = read.ok().map(|message| write(&message));
        let expected =
            expected.map(|ip| format!(r#"{{"r":{{"IP":"{ip}","Port":-1,"Zone":"z"}}}}"#));
        assert_eq!(written, expected, "{ip}");
    }
}

#[test]
fn counts_and_ports_are_only_used_in_range() {
    let login = |count| frp_proto::msg::Login {
        pool_count: count,
        ..Default::default()
    };
    assert_eq!(login(i64::MIN).pool_count_clamped(5), 0);
    assert_eq!(login(3).pool_count_clamped(5), 3);
    assert_eq!(login(i64::MAX).pool_count_clamped(5), 5);

    let proxy = |port| frp_proto::msg::NewProxy {
        remote_port: port,
        ..Default::default()
    };
    assert_eq!(proxy(6000).remote_port_checked(), Ok(6000));
    assert_eq!(proxy(-1).remote_port_checked(), Err(-1));
    assert_eq!(proxy(65536).remote_port_checked(), Err(65536));

    let address = |text| match read(MessageType::UdpPacket, text) {
        Message::UdpPacket(packet) => packet.remote.unwrap().socket_addr(),
        other => panic!("not {other:?}"),
    };
    assert_eq!(address(r#"{"r":{"IP":"1.2.3.4","Port":70000}}"#), None);
    assert_eq!(address(r#"{"r":{"Port":70}}"#), None);
    assert!(address(r#"{"r":{"IP":"fe80::1","Port":53,"Zone":"3"}}"#).is_some());
}

#[test]
fn secrets_and_run_ids_are_not_printed() {
    const SECRETS: &[&str] = &[
        "privilege_key",
        "sign_key",
        "sk",
        "http_pwd",
        "group_key",
        "metas",
        "headers",
        "response_headers",
        "run_id",
    ];
    let mut n_secrets = 0;
    for_each_field(|message_type, wrap, name, kind| {
        let value = if kind == Map {
            r#"{"k":"hunter2-hunter2"}"#
        } else {
            r#""hunter2-hunter2""#
        };
        let Ok(message) = Message::from_json(
            message_type,
            wrap(&format!(r#""{name}":{value}"#)).as_bytes(),
        ) else {
            return;
        };
        let is_secret = SECRETS.contains(&name);
        assert_eq!(
            !format!("{message:?}").contains("hunter2-"),
            is_secret,
            "{message:?}"
        );
        n_secrets += usize::from(is_secret);
    });
    assert_eq!(n_secrets, 16);
}

/// Calls `check` for each field: its message, how to wrap members into the text of one, its name
/// and kind.
fn for_each_field(mut check: impl FnMut(MessageType, &dyn Fn(&str) -> String, &str, Kind)) {
    for (message_type, fields) in FIELDS {
        for (name, kind) in *fields {
            check(
                *message_type,
                &|members| format!("{{{members}}}"),
                name,
                *kind,
            );
        }
    }
    for (message_type, outer, fields) in INNER {
        for (name, kind) in *fields {
            let wrap = |members: &str| format!(r#"{{"{outer}":{{{members}}}}}"#);
            check(*message_type, &wrap, name, *kind);
        }
    }
}

/// A value that is not zero, as Go would write it.
fn sample(kind: Kind) -> &'static str {
    match kind {
        Text => r#""text""#,
        Int => "-9223372036854775808",
        U16 => "65535",
        Bool => "true",
        Map => r#"{"a":"b","c":""}"#,
        List => r#"["a",""]"#,
        Bytes => r#""aGVsbG8=""#,
        Address => r#"{"IP":"1.2.3.4","Port":5,"Zone":""}"#,
        Ranges => r#"[{"from":1},{"to":2}]"#,
        Spec => r#"{"type":"ssh-tunnel","role":"sender"}"#,
    }
}

fn swap(name: &str) -> String {
    let swap = |c: char| {
        if c.is_ascii_lowercase() {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        }
    };
    name.chars().map(swap).collect()
}

fn read(message_type: MessageType, text: &str) -> Message {
    let read: Result<Message, JsonError> = Message::from_json(message_type, text.as_bytes());
    read.unwrap_or_else(|error| panic!("{} {text}: {error}", message_type.name()))
}

fn write(message: &Message) -> String {
    let mut out = BytesMut::new();
    message.append_json(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}
