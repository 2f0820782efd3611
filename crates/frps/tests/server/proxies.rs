//! Proxies: started, refused, used, closed.

use std::time::Duration;

use frp_core::config::parse_port_ranges;
use frp_core::proto::WireVersion;
use frp_core::proto::auth::privilege_key;
use frp_core::proto::msg::{CloseProxy, NewProxy, NewVisitorConn};
use frp_core::proto::{Message, msg};
use frp_core::work::{WorkOptions, wrap};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket};

use crate::client::{
    Client, TOKEN, TestServer, closed, expect_echo, login, open_with, port_of, started, tcp, user,
    within,
};

#[tokio::test]
async fn a_users_bytes_go_through_and_back_with_every_layer() {
    let server = TestServer::start().await;
    for wire in [WireVersion::V1, WireVersion::V2] {
        for (use_encryption, use_compression) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            let mut client = server.log_in(wire, login()).await.unwrap();
            let proxy = NewProxy {
                use_encryption,
                use_compression,
                ..tcp("layers")
            };
            let port = port_of(&client.new_proxy(proxy).await);
            let options = WorkOptions::new(use_encryption, use_compression, TOKEN.as_bytes());
            let echo = client.echo(options);
            let mut user = user(port).await;
            expect_echo(&mut user, b"hello").await;
            let bulk: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
            let (mut from, mut to) = user.split();
            let sending = tokio::io::AsyncWriteExt::write_all(&mut to, &bulk);
            let mut back = vec![0; bulk.len()];
            let (sent, read) =
                within(async { tokio::join!(sending, from.read_exact(&mut back)) }).await;
            sent.unwrap();
            read.unwrap();
            assert!(back == bulk);
            echo.abort();
            // The session's end frees the name for the next round.
            let _ = echo.await;
            while tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
            {}
        }
    }
}

#[tokio::test]
async fn the_client_is_told_who_comes_and_where_to() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let port = client.tcp_proxy("web").await;
    let mut work_stream = client.open_work_stream().await;
    let user = user(port).await;
    let start = started(&mut work_stream).await;
    assert_eq!(start.proxy_name, "web");
    assert_eq!(
        (start.src_addr.as_str(), start.dst_addr.as_str()),
        ("127.0.0.1", "127.0.0.1")
    );
    assert_eq!(
        (start.src_port, start.dst_port),
        (user.local_addr().unwrap().port(), port)
    );
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_and_the_others_live() {
    let server = TestServer::with(|config| {
        config.allow_ports = parse_port_ranges("20000-60000").unwrap();
    })
    .await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken_port = elsewhere.local_addr().unwrap().port();

    let mut client = server.client().await;
    let port = client.tcp_proxy("first").await;
    let cases = [
        (tcp("first"), "proxy [first] already exists"),
        (
            NewProxy {
                remote_port: port.into(),
                ..tcp("b")
            },
            "port already used",
        ),
        (
            NewProxy {
                remote_port: taken_port.into(),
                ..tcp("b")
            },
            "port unavailable",
        ),
        (
            NewProxy {
                remote_port: 80,
                ..tcp("b")
            },
            "port not allowed",
        ),
        (
            NewProxy {
                remote_port: -1,
                ..tcp("b")
            },
            "port not allowed",
        ),
        (
            NewProxy {
                remote_port: 65_536,
                ..tcp("b")
            },
            "port not allowed",
        ),
        (
            NewProxy {
                remote_port: i64::MIN,
                ..tcp("b")
            },
            "port not allowed",
        ),
        (
            NewProxy {
                proxy_type: "udp".to_owned(),
                remote_port: 80,
                ..tcp("b")
            },
            "acquire port 80 error: port not allowed",
        ),
        (
            NewProxy {
                proxy_type: "nonsense".to_owned(),
                ..tcp("b")
            },
            "unknown proxy type: nonsense",
        ),
        (
            NewProxy {
                proxy_type: "xtcp".to_owned(),
                ..tcp("b")
            },
            "type [xtcp] not supported: not supported yet: proxy type xtcp",
        ),
        (
            NewProxy {
                annotations: [("-".to_owned(), String::new())].into(),
                ..tcp("b")
            },
            "annotation key - is invalid: name part must consist of alphanumeric characters, \
             '-', '_' or '.', and must start and end with an alphanumeric character",
        ),
    ];
    for (proxy, error) in cases {
        let response = client.new_proxy(proxy).await;
        assert_eq!(
            (response.error.as_str(), response.remote_addr.as_str()),
            (error, "")
        );
    }
    // Nothing of the refused ones is left.
    let port = client.tcp_proxy("b").await;
    let _echo = client.echo(WorkOptions::default());
    expect_echo(&mut user(port).await, b"still here").await;
}

#[tokio::test]
async fn a_client_has_as_many_ports_as_it_may() {
    let server = TestServer::with(|config| config.max_ports_per_client = Some(2)).await;
    let mut client = server.client().await;
    client.tcp_proxy("a").await;
    client.tcp_proxy("b").await;
    assert_eq!(
        client.new_proxy(tcp("c")).await.error,
        "exceed the max_ports_per_client"
    );
    let stcp = NewProxy {
        proxy_type: "stcp".to_owned(),
        ..tcp("d")
    };
    assert_eq!(client.new_proxy(stcp).await.error, "");

    client
        .send(CloseProxy {
            proxy_name: "a".to_owned(),
        })
        .await;
    client.tcp_proxy("c").await;
    let mut other = server.client().await;
    other.tcp_proxy("a").await;
}

#[tokio::test]
async fn a_closed_proxy_frees_its_port_and_keeps_its_users() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let port = client.tcp_proxy("web").await;
    let mut work_stream = client.open_work_stream().await;
    let mut user = user(port).await;
    started(&mut work_stream).await;

    client
        .send(CloseProxy {
            proxy_name: "web".to_owned(),
        })
        .await;
    let again = NewProxy {
        remote_port: port.into(),
        ..tcp("web")
    };
    assert_eq!(client.new_proxy(again).await.error, "");
    let mut stream = work_stream.into_stream();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"still here")
        .await
        .unwrap();
    let mut buf = [0; 10];
    within(user.read_exact(&mut buf)).await.unwrap();
}

#[tokio::test]
async fn a_name_comes_back_to_its_random_port() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let port = client.tcp_proxy("web").await;
    client
        .send(CloseProxy {
            proxy_name: "web".to_owned(),
        })
        .await;
    assert_eq!(client.tcp_proxy("web").await, port);
}

#[tokio::test]
async fn datagrams_go_through_and_back_in_either_version() {
    let server = TestServer::start().await;
    for wire in [WireVersion::V1, WireVersion::V2] {
        let mut client = server.log_in(wire, login()).await.unwrap();
        let proxy = NewProxy {
            proxy_type: "udp".to_owned(),
            use_encryption: true,
            use_compression: true,
            ..tcp("dns")
        };
        let port = port_of(&client.new_proxy(proxy).await);
        let user = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        user.connect(("127.0.0.1", port)).await.unwrap();
        user.send(b"question").await.unwrap();

        let mut work_stream = client.open_work_stream().await;
        let start = started(&mut work_stream).await;
        assert_eq!((start.src_addr.as_str(), start.src_port), ("", 0));
        let options = WorkOptions::new(true, true, TOKEN.as_bytes());
        let (mut reader, mut writer) = work_stream.map(|io| wrap(io, &options)).split();
        let Message::UdpPacket(packet) = within(reader.read()).await.unwrap() else {
            panic!()
        };
        assert_eq!(&packet.content[..], b"question");
        let user_addr = packet.remote.clone().unwrap();
        assert_eq!(user_addr.socket_addr(), user.local_addr().ok());

        // Whom the server has not heard of it does not write to.
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let spam = msg::UdpPacket {
            remote: Some(stranger.local_addr().unwrap().into()),
            ..packet.clone()
        };
        writer.write(&spam.into()).await.unwrap();
        writer.write(&msg::Ping::default().into()).await.unwrap();
        let answer = msg::UdpPacket {
            content: b"answer"[..].into(),
            ..packet
        };
        writer.write(&answer.into()).await.unwrap();
        let mut buf = [0; 100];
        let len = within(user.recv(&mut buf)).await.unwrap();
        assert_eq!(&buf[..len], b"answer");
        assert!(stranger.try_recv(&mut buf).is_err());
    }
}

#[tokio::test]
async fn a_udp_proxy_takes_another_work_stream_when_one_breaks() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let proxy = NewProxy {
        proxy_type: "udp".to_owned(),
        ..tcp("dns")
    };
    let port = port_of(&client.new_proxy(proxy).await);
    let mut work_stream = client.open_work_stream().await;
    started(&mut work_stream).await;
    drop(work_stream);

    let mut work_stream = client.open_work_stream().await;
    started(&mut work_stream).await;
    let user = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    user.send_to(b"question", ("127.0.0.1", port))
        .await
        .unwrap();
    let message = within(work_stream.read()).await.unwrap();
    assert!(matches!(message, Message::UdpPacket(_)));
}

#[tokio::test]
async fn bandwidth_is_limited_at_the_server_when_asked_to() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let proxy = NewProxy {
        bandwidth_limit: "10KB".to_owned(),
        bandwidth_limit_mode: "server".to_owned(),
        ..tcp("slow")
    };
    let port = port_of(&client.new_proxy(proxy).await);
    let _echo = client.echo(WorkOptions::default());
    let began = std::time::Instant::now();
    expect_echo(&mut user(port).await, &[7; 15_000]).await;
    // Both directions count: 30,000 bytes, of which one second's worth may pass at once.
    assert!(
        began.elapsed() > Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_user_for_whom_no_work_stream_comes_is_turned_away() {
    let server = TestServer::with(|config| {
        config.user_conn_timeout = Duration::from_millis(200);
    })
    .await;
    let mut client = server.client().await;
    let port = client.tcp_proxy("web").await;
    closed(&mut user(port).await).await;
}

fn stcp(name: &str, allow_users: &[&str]) -> NewProxy {
    NewProxy {
        proxy_type: "stcp".to_owned(),
        sk: "key".to_owned(),
        allow_users: allow_users.iter().map(ToString::to_string).collect(),
        ..tcp(name)
    }
}

/// A visitor's first message, with the right key.
fn visit(client: &Client, name: &str) -> NewVisitorConn {
    NewVisitorConn {
        run_id: client.run_id().to_owned(),
        proxy_name: name.to_owned(),
        sign_key: privilege_key(b"key", 1_700_000_000),
        timestamp: 1_700_000_000,
        ..NewVisitorConn::default()
    }
}

async fn refusal(client: &Client, message: NewVisitorConn) -> String {
    let mut conn = open_with(&client.session, client.wire, message).await;
    match within(conn.read()).await.unwrap() {
        Message::NewVisitorConnResp(response) => response.error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_visitor_reaches_the_service_over_its_own_layers() {
    let server = TestServer::start().await;
    let mut owner = server.client().await;
    let proxy = NewProxy {
        use_compression: true,
        ..stcp("secret", &[])
    };
    assert_eq!(owner.new_proxy(proxy).await.error, "");
    let _echo = owner.echo(WorkOptions::new(false, true, b""));

    for wire in [WireVersion::V1, WireVersion::V2] {
        let visitor = server.log_in(wire, login()).await.unwrap();
        let message = NewVisitorConn {
            use_encryption: true,
            ..visit(&visitor, "secret")
        };
        let mut conn = open_with(&visitor.session, wire, message).await;
        match within(conn.read()).await.unwrap() {
            Message::NewVisitorConnResp(response) => assert_eq!(response.error, ""),
            other => panic!("{other:?}"),
        }
        let mut stream = wrap(conn.into_stream(), &WorkOptions::new(true, false, b"key"));
        expect_echo(&mut stream, b"open sesame").await;
    }
}

#[tokio::test]
async fn visitors_are_refused_in_frps_words() {
    let server = TestServer::start().await;
    let user = |user: &str| msg::Login {
        user: user.to_owned(),
        ..login()
    };
    let mut owner = server.log_in(WireVersion::V1, user("owner")).await.unwrap();
    for proxy in [
        stcp("own", &[]),
        stcp("few", &["guest", "x"]),
        stcp("all", &["*"]),
    ] {
        assert_eq!(owner.new_proxy(proxy).await.error, "");
    }
    let guest = server.log_in(WireVersion::V1, user("guest")).await.unwrap();
    assert_eq!(refusal(&guest, visit(&guest, "few")).await, "");
    assert_eq!(refusal(&guest, visit(&guest, "all")).await, "");
    assert_eq!(refusal(&owner, visit(&owner, "own")).await, "");
    assert_eq!(
        refusal(&guest, visit(&guest, "own")).await,
        "visitor connection of [own] user [guest] not allowed"
    );
    assert_eq!(
        refusal(&guest, visit(&guest, "none")).await,
        "custom listener for [none] doesn't exist"
    );
    let wrong_key = NewVisitorConn {
        timestamp: 1,
        ..visit(&guest, "all")
    };
    assert_eq!(
        refusal(&guest, wrong_key).await,
        "visitor connection of [all] auth failed"
    );
    let unknown = NewVisitorConn {
        run_id: "feedfacefeedface".to_owned(),
        ..visit(&guest, "all")
    };
    assert_eq!(
        refusal(&guest, unknown).await,
        "no client control found for run id [feed]",
        "a run id is never shown whole"
    );
    // Clients before 0.50 do not say whose visitor it is.
    let nobody = NewVisitorConn {
        run_id: String::new(),
        ..visit(&guest, "all")
    };
    assert_eq!(refusal(&guest, nobody).await, "");

    owner
        .send(CloseProxy {
            proxy_name: "all".to_owned(),
        })
        .await;
    assert_eq!(owner.new_proxy(stcp("all", &[])).await.error, "");
    let gone = refusal(&guest, visit(&guest, "all")).await;
    assert_eq!(gone, "visitor connection of [all] user [guest] not allowed");
}
