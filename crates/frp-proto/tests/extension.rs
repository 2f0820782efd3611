//! The `holdfast` member: harmless to plain frp, and never a reason for a login to fail.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::BytesMut;
use frp_proto::extension::{
    EndpointOffer, Extension, HoldfastHello, HoldfastWelcome, MAX_CAPABILITIES, MAX_ENDPOINTS,
    Resume, SessionLimits,
};
use frp_proto::msg::{Login, LoginResp};
use frp_proto::{Message, MessageType, v1};

const HELLO: &str = r#"{"version":1,"capabilities":["hold","quic"],"client_random":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","instance":"AgICAgICAgICAgICAgICAg=="}"#;
const WELCOME: &str = r#"{"version":1,"session_id":"AwMDAwMDAwMDAwMDAwMDAw==","server_random":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=","grace_ms":30000,"endpoints":[{"transport":"quic","port":7000}],"limits":{"held_streams":1024,"replay_bytes":16777216},"proof":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU="}"#;

#[test]
fn it_comes_last_and_is_left_out_when_there_is_none() {
    let login = |holdfast| Login {
        user: "alice".into(),
        holdfast,
        ..Login::default()
    };
    let plain = r#"{"user":"alice","client_spec":{}"#;
    assert_eq!(write(login(Extension::Absent)), format!("{plain}}}"));
    assert_eq!(write(login(Extension::Malformed)), format!("{plain}}}"));
    assert_eq!(
        write(login(hello().into())),
        format!("{plain},\"holdfast\":{HELLO}}}")
    );

    let resp = |holdfast| LoginResp {
        run_id: "r".into(),
        holdfast,
        ..LoginResp::default()
    };
    assert_eq!(write(resp(Extension::Absent)), r#"{"run_id":"r"}"#);
    assert_eq!(
        write(resp(welcome().into())),
        format!(r#"{{"run_id":"r","holdfast":{WELCOME}}}"#)
    );
}

#[test]
fn it_is_read_as_it_was_written() {
    assert_eq!(read_login(HELLO).get(), Some(&hello()));
    assert_eq!(read_resp(WELCOME).get(), Some(&welcome()));
}

#[test]
fn a_resumption_is_a_member_of_its_own_and_is_not_printed() {
    let hello = HoldfastHello {
        resume: Some(Resume {
            session_id: [3; 16],
            proof: [5; 32],
        }),
        ..hello()
    };
    let resume = r#","resume":{"session_id":"AwMDAwMDAwMDAwMDAwMDAw==","proof":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU="}}"#;
    let text = HELLO.trim_end_matches('}').to_owned() + resume;
    assert_eq!(read_login(&text).get(), Some(&hello));
    let login = Login {
        holdfast: hello.clone().into(),
        ..Login::default()
    };
    assert!(write(login).contains(&text));
    assert!(!format!("{hello:?}").contains("5, 5"));

    let broken = HELLO.trim_end_matches('}').to_owned() + r#","resume":{"proof":"AA=="}}"#;
    assert!(read_login(&broken).is_malformed());
}

#[test]
fn the_largest_fits_into_a_v1_message() {
    let hello = HoldfastHello {
        version: u32::MAX,
        capabilities: vec!["\"".repeat(32); MAX_CAPABILITIES],
        ..hello()
    };
    let endpoint = EndpointOffer {
        transport: "<".repeat(32),
        port: u16::MAX,
    };
    let welcome = HoldfastWelcome {
        endpoints: vec![endpoint; MAX_ENDPOINTS],
        ..welcome()
    };
    let login = Login {
        holdfast: hello.into(),
        ..Login::default()
    };
    let resp = LoginResp {
        holdfast: welcome.into(),
        ..LoginResp::default()
    };
    for message in [login.into(), resp.into()] {
        let mut out = BytesMut::new();
        v1::encode(&message, &mut out).unwrap();
        assert!(
            out.len() < v1::MAX_PAYLOAD / 2,
            "half is left for the rest: {}",
            out.len()
        );
        assert_eq!(v1::decode(&mut out).unwrap(), Some(message));
    }
}

#[test]
fn what_makes_no_sense_counts_as_absent() {
    assert_eq!(read_login("null"), Extension::Absent);
    let long = format!(r#""{}""#, "x".repeat(33));
    let many = format!("[{}]", vec![r#""x""#; MAX_CAPABILITIES + 1].join(","));
    for (key, value) in [
        ("version", "0"),
        ("version", "-1"),
        ("version", "4294967296"),
        ("version", r#""1""#),
        ("version", "1.0"),
        ("capabilities", r#""hold""#),
        ("capabilities", "[1]"),
        ("capabilities", r#"[""]"#),
        ("capabilities", r#"["a b"]"#),
        ("capabilities", r#"["\n"]"#),
        ("capabilities", &format!("[{long}]")),
        ("capabilities", &many),
        ("client_random", "null"),
        ("client_random", r#""AQEB""#),
        ("client_random", r#""not base64""#),
        ("instance", r#""""#),
        ("instance", "7"),
    ] {
        let object = format!(r#"{},"{key}":{value}}}"#, HELLO.trim_end_matches('}'));
        assert_eq!(read_login(&object), Extension::Malformed, "{object}");
        assert!(read_login(&object).is_malformed() && read_login(&object).get().is_none());
    }
    for (key, value) in [
        ("session_id", r#""AwM=""#),
        ("server_random", r#""AwM=""#),
        ("grace_ms", "-1"),
        ("grace_ms", "86400001"),
        ("grace_ms", "9223372036854775807"),
        ("endpoints", r#"[{"transport":"quic","port":0}]"#),
        ("endpoints", r#"[{"transport":"quic","port":65536}]"#),
        ("endpoints", r#"[{"transport":"","port":1}]"#),
        (
            "endpoints",
            &format!("[{}]", vec![r#"{"transport":"q","port":1}"#; 17].join(",")),
        ),
        ("limits", r#"{"held_streams":-1}"#),
        ("limits", "[]"),
        ("proof", r#""AwM=""#),
    ] {
        let object = format!(r#"{},"{key}":{value}}}"#, WELCOME.trim_end_matches('}'));
        assert_eq!(read_resp(&object), Extension::Malformed, "{object}");
    }
    for object in ["7", "[]", "true", r#""text""#, "{}"] {
        assert_eq!(read_login(object), Extension::Malformed, "{object}");
        assert_eq!(read_resp(object), Extension::Malformed, "{object}");
    }
}

#[test]
fn what_is_new_in_it_is_passed_over() {
    let object = format!(
        r#"{},"later":{{"a":[1]}},"CAPABILITIES":["x"]}}"#,
        HELLO.trim_end_matches('}')
    );
    assert_eq!(read_login(&object).get().unwrap().capabilities, ["x"]);
}

#[test]
fn its_secrets_are_not_printed() {
    let printed = format!("{:?}", welcome());
    assert!(printed.contains(r#"session_id: "0303", "#) && printed.contains("proof: ***"));
}

fn hello() -> HoldfastHello {
    HoldfastHello {
        version: 1,
        capabilities: vec!["hold".into(), "quic".into()],
        client_random: [1; 32],
        instance: [2; 16],
        resume: None,
    }
}

fn welcome() -> HoldfastWelcome {
    HoldfastWelcome {
        version: 1,
        session_id: [3; 16],
        server_random: [4; 32],
        grace: Duration::from_secs(30),
        endpoints: vec![EndpointOffer {
            transport: "quic".into(),
            port: 7000,
        }],
        limits: SessionLimits {
            held_streams: 1024,
            replay_bytes: 16 << 20,
        },
        proof: Some([5; 32]),
    }
}

fn write(message: impl Into<Message>) -> String {
    let mut out = BytesMut::new();
    message.into().append_json(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn read_login(object: &str) -> Extension<HoldfastHello> {
    let text = format!(r#"{{"holdfast":{object},"user":"alice"}}"#);
    match Message::from_json(MessageType::Login, text.as_bytes()) {
        Ok(Message::Login(login)) if login.user == "alice" => login.holdfast,
        other => panic!("a login in any case: {text}: {other:?}"),
    }
}

fn read_resp(object: &str) -> Extension<HoldfastWelcome> {
    let text = format!(r#"{{"holdfast":{object},"run_id":"r"}}"#);
    match Message::from_json(MessageType::LoginResp, text.as_bytes()) {
        Ok(Message::LoginResp(resp)) if resp.run_id == "r" => resp.holdfast,
        other => panic!("an answer in any case: {text}: {other:?}"),
    }
}
