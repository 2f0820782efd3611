//! First packets of clients that nobody has seen before.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use netem_tests::Transport;
use netem_tests::intruder::forge::{PUSH, Segment};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::net::UdpSocket;

use crate::dice::Dice;

/// Makes `n` first packets, each of another client.
pub(crate) fn of(transport: Transport, n: usize, dice: &mut Dice) -> Vec<Vec<u8>> {
    match transport {
        Transport::Kcp => (0..n).map(|_| kcp(dice)).collect(),
        Transport::Quic => quic(n),
        other => panic!("{other:?} has no UDP port"),
    }
}

/// The first segment of a conversation. Every other one looks like the beginning of TLS.
fn kcp(dice: &mut Dice) -> Vec<u8> {
    let mut data = dice.bytes(300);
    if dice.one_in(2) {
        data[..5].copy_from_slice(&[0x16, 3, 1, 4, 0]);
    }
    let segment = Segment {
        conv: dice.word(),
        cmd: PUSH,
        frg: 0,
        wnd: 1024,
        ts: dice.word(),
        sn: 0,
        una: 0,
        len: 300,
    };
    segment.datagram(0, &data)
}

/// What quinn sends first. Each is a valid Initial: with a whole TLS hello, or with the word that
/// nothing will come.
fn quic(n: usize) -> Vec<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = nobody.local_addr().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"frp".to_vec()];
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let mut packets = Vec::new();
        let mut ids = HashSet::new();
        let mut datagram = [0; 1500];
        while packets.len() < n {
            let connecting = endpoint
                .connect_with(config.clone(), address, "nobody.test")
                .unwrap();
            // Every other one gives up before it has said anything, and says so.
            let mut connecting = (packets.len() % 2 == 0).then_some(connecting);
            loop {
                let (len, _) = nobody.recv_from(&mut datagram).await.unwrap();
                // A connection that is dropped later says so with the same id as before.
                if ids.insert(datagram[6..14].to_vec()) {
                    packets.push(datagram[..len].to_vec());
                    break;
                }
            }
            drop(connecting.take());
        }
        packets
    })
}
