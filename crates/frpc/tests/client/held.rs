//! Sessions that outlive their carriers, against a server that holds streams.

mod datagrams;
mod holder;

use std::sync::Arc;
use std::time::Duration;

use frp_core::config::{ClientConfig, Protocol};
use frp_core::proto::policy::Transport as Policy;
use frp_core::transports::Transport;
use frp_core::transports::TransportKind::{Quic, Tcp, Wss};
use frpc::client::Client;
use frpc::links::memory::Memory;
use frpc::transport::{Addresses, Dialers};

use super::server::{echo_service, echoes, soon, tcp, wait_for_status};
use holder::{Holder, Net};

/// A client of `holder` with a proxy for an echo service.
async fn with_echo(config: &mut ClientConfig) {
    let port = echo_service().await;
    config.proxies = vec![tcp("echo", port)];
}

async fn wait_for_transport(client: &Client, transport: Policy) {
    let used = async {
        loop {
            let links = client.links().await;
            let in_use = links.carriers.iter().find(|carrier| carrier.in_use);
            if in_use.is_some_and(|carrier| carrier.transport == transport.name()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(transport.name(), used).await;
}

#[tokio::test]
async fn a_users_connection_lives_on_when_the_carrier_is_cut() {
    let net = Net::new(&[Tcp]);
    let mut holder = Holder::start(&net).await;
    let mut config = Holder::config();
    with_echo(&mut config).await;
    let running = net.client(config, Memory::forgetful());
    let mut session = holder.session().await;
    session.agree().await;
    let mut user = session.connect_user("echo").await;
    echoes(&mut user, b"before").await;

    for round in 0..3 {
        net.of(Tcp).lose_all();
        echoes(&mut user, format!("after {round}").as_bytes()).await;
    }

    assert_eq!(holder.n_logins(), 1);
    let links = running.client.links().await;
    assert_eq!(links.state, "connected", "{links:?}");
    assert!(links.events.iter().any(|event| event.kind == "dead"));
}

#[tokio::test]
async fn a_users_connection_moves_to_the_other_version_of_ip_when_one_is_gone() {
    // Two networks that TCP goes over, one for each version.
    let net = Net::new(&[Tcp, Wss]);
    let [v4, v6] = [Tcp, Wss].map(|kind| Arc::new(net.of(kind).clone()));
    let mut holder = Holder::start(&net).await;
    let mut config = Holder::config();
    config.server_addr = "frps.example".to_owned();
    with_echo(&mut config).await;
    let dialers = Dialers::from_transports([(Tcp, v4 as Arc<dyn Transport>)]);
    let dialers = dialers.with(Tcp, Addresses::V6, v6);
    let running = Net::client_by(dialers, config, Memory::forgetful());
    let mut session = holder.session().await;
    session.agree().await;
    let mut user = session.connect_user("echo").await;
    echoes(&mut user, b"over IPv4").await;

    for (gone, left) in [(Tcp, Wss), (Wss, Tcp)] {
        net.of(left).set_reachable(true);
        net.of(gone).set_reachable(false);
        net.of(gone).lose_all();
        echoes(&mut user, b"over the other").await;
    }

    assert_eq!(holder.n_logins(), 1);
    let events = running.client.links().await.events;
    for ip in ["IPv6", "IPv4"] {
        let ending = format!("tcp over {ip}: closed");
        assert!(
            events.iter().any(|e| e.text.ends_with(&ending)),
            "{events:?}"
        );
    }
}

#[tokio::test]
async fn an_outage_within_the_grace_time_is_waited_for() {
    let net = Net::new(&[Tcp]);
    let mut holder = Holder::start(&net).await;
    let mut config = Holder::config();
    with_echo(&mut config).await;
    let running = net.client(config, Memory::forgetful());
    let mut session = holder.session().await;
    session.agree().await;
    let mut user = session.connect_user("echo").await;
    echoes(&mut user, b"before").await;

    net.of(Tcp).set_reachable(false);
    net.of(Tcp).lose_all();
    let held = async {
        while running.client.links().await.state != "holding" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("holding", held).await;
    net.of(Tcp).set_reachable(true);

    echoes(&mut user, b"after").await;
    assert_eq!(holder.n_logins(), 1);
    wait_for_status(&running.client, "proxy", |s| s == "echo=running").await;
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_session_gets_a_new_login_at_once() {
    let net = Net::new(&[Tcp]);
    let mut holder = Holder::start(&net).await;
    let mut config = Holder::config();
    with_echo(&mut config).await;
    let running = net.client(config, Memory::forgetful());
    let mut first = holder.session().await;
    first.agree().await;
    let id = first.id();

    holder.forget();
    net.of(Tcp).lose_all();

    let mut second = holder.session().await;
    second.agree().await;
    assert_eq!(second.login.run_id, "run-id");
    let resume = second.login.holdfast.get().unwrap().resume.clone();
    assert_eq!(resume.map(|resume| resume.session_id), Some(id));
    assert!(second.is_resumed, "and the proof is right");
    let mut user = second.connect_user("echo").await;
    echoes(&mut user, b"again").await;
    wait_for_status(&running.client, "proxy", |s| s == "echo=running").await;
}

#[tokio::test]
async fn a_client_that_is_stopped_says_goodbye() {
    let net = Net::new(&[Tcp]);
    let mut holder = Holder::start(&net).await;
    let mut config = Holder::config();
    with_echo(&mut config).await;
    let running = net.client(config, Memory::forgetful());
    let mut session = holder.session().await;
    session.agree().await;

    running.client.stop(Duration::ZERO).await;

    let reason = soon("goodbye", session.held.over()).await;
    assert!(
        format!("{reason:?}").starts_with("GoodbyeByPeer"),
        "{reason:?}"
    );
}

/// The server would keep the users' connections for the grace time.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_stopped_while_its_first_carrier_joins_says_goodbye() {
    let net = Net::new(&[Tcp]);
    let mut holder = Holder::start(&net).await;
    holder.answer_joins(false);
    let running = net.client(Holder::config(), Memory::forgetful());
    let session = holder.session().await;

    let client = running.client.clone();
    let stopping = tokio::spawn(async move { client.stop(Duration::ZERO).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    holder.answer_joins(true);

    let reason = soon("goodbye", session.held.over()).await;
    assert!(
        format!("{reason:?}").starts_with("GoodbyeByPeer"),
        "{reason:?}"
    );
    soon("stop", stopping).await.unwrap();
}

#[tokio::test]
async fn auto_takes_quic_keeps_tcp_ready_and_goes_over_to_it() {
    let net = Net::new(&[Quic, Tcp]);
    let mut holder = Holder::start(&net).await;
    let mut config = Holder::config();
    config.transport.protocol = Protocol::Auto;
    config.transport.auto.policy.start_measure = Duration::from_millis(200);
    with_echo(&mut config).await;
    let running = net.client(config, Memory::forgetful());
    let mut session = holder.session().await;
    session.agree().await;
    let mut user = session.connect_user("echo").await;
    echoes(&mut user, b"on quic").await;
    wait_for_transport(&running.client, Policy::Quic).await;
    let standby = async {
        while running.client.links().await.carriers.len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("standby", standby).await;

    net.of(Quic).set_reachable(false);
    net.of(Quic).lose_all();
    echoes(&mut user, b"on tcp").await;
    wait_for_transport(&running.client, Policy::Tcp).await;

    net.of(Quic).set_reachable(true);
    let switched = running.client.switch("quic").await;
    switched.unwrap();
    wait_for_transport(&running.client, Policy::Quic).await;
    echoes(&mut user, b"on quic again").await;
    assert!(running.client.switch("wss").await.is_err());
    running.client.switch("auto").await.unwrap();
    assert_eq!(holder.n_logins(), 1);
}

#[tokio::test]
async fn auto_serves_over_tcp_where_nothing_else_gets_through() {
    let net = Net::new(&[Quic, Tcp]);
    net.of(Quic).set_reachable(false);
    let mut holder = Holder::start(&net).await;
    let mut config = Holder::config();
    config.transport.protocol = Protocol::Auto;
    let running = net.client(config, Memory::forgetful());
    holder.session().await;
    wait_for_transport(&running.client, Policy::Tcp).await;
}

#[tokio::test]
async fn the_next_process_proves_whose_session_was_there_before() {
    let net = Net::new(&[Tcp]);
    let mut holder = Holder::start(&net).await;
    let memory = Memory::forgetful();
    let running = net.client(Holder::config(), memory.clone());
    let first = holder.session().await;
    assert!(!first.is_resumed);
    wait_for_transport(&running.client, Policy::Tcp).await;
    drop(running);

    let _running = net.client(Holder::config(), memory);
    let second = holder.session().await;
    assert!(second.is_resumed);
}

#[tokio::test]
async fn a_wrong_proof_is_plain_frp_at_first_and_refused_where_that_is_asked_for() {
    let net = Net::new(&[Tcp]);
    let holder = Holder::start(&net).await;
    holder.lie(true);
    let memory = Memory::forgetful();
    memory.expect_holdfast();
    let mut config = Holder::config();
    config.transport.auto.require_peer = true;
    let mut running = net.client(config, memory);
    let error = soon("end", &mut running.task).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("requirePeer"), "{error}");
}

#[tokio::test]
async fn auto_with_plain_frp_logs_in_by_the_next_transport_when_one_is_lost() {
    let net = Net::new(&[Quic, Tcp]);
    let mut holder = Holder::start(&net).await;
    holder.be_plain(true);
    let mut config = Holder::config();
    config.transport.protocol = Protocol::Auto;
    with_echo(&mut config).await;
    let running = net.client(config, Memory::forgetful());
    let mut first = holder.plain_session().await;
    first.agree().await;
    let links = running.client.links().await;
    assert_eq!(links.note, "the server is plain frp");

    net.of(Quic).set_reachable(false);
    net.of(Quic).lose_all();

    let mut second = holder.plain_session().await;
    assert_eq!(second.login.run_id, "run-id");
    second.agree().await;
    let mut user = second.connect_user("echo").await;
    echoes(&mut user, b"over tcp").await;
}

#[tokio::test]
async fn a_switch_with_plain_frp_is_a_new_login_and_leaves_users_where_they_are() {
    let net = Net::new(&[Quic, Tcp]);
    let mut holder = Holder::start(&net).await;
    holder.be_plain(true);
    let mut config = Holder::config();
    config.transport.protocol = Protocol::Auto;
    with_echo(&mut config).await;
    let running = net.client(config, Memory::forgetful());
    let mut first = holder.plain_session().await;
    first.agree().await;
    let mut old_user = first.connect_user("echo").await;
    echoes(&mut old_user, b"before").await;

    running.client.switch("tcp").await.unwrap();

    let mut second = holder.plain_session().await;
    assert_eq!(second.login.run_id, "run-id");
    second.agree().await;
    let mut new_user = second.connect_user("echo").await;
    echoes(&mut new_user, b"over tcp").await;
    echoes(&mut old_user, b"still over quic").await;
    wait_for_transport(&running.client, Policy::Tcp).await;
    wait_for_status(&running.client, "proxy", |s| s == "echo=running").await;
    // As frp's server does with a control that has been replaced.
    drop(first);
    echoes(&mut old_user, b"its control is gone").await;
    net.of(Quic).lose_all();
    echoes(&mut new_user, b"alone").await;
    assert_eq!(holder.n_logins(), 2);
}
