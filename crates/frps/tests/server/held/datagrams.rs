//! Datagrams of a `udp` proxy beside its work stream.

use bytes::Bytes;
use frp_core::conn::{MessageReader, MessageStream, MessageWriter};
use frp_core::hold::flow::Flow;
use frp_core::proto::extension::HoldfastHello;
use frp_core::proto::msg::{NewProxy, NewWorkConn, Ping, StartWorkConn};
use frp_core::proto::{Message, WireVersion};
use frp_core::transports::memory::MemoryTransport;
use tokio::net::UdpSocket;

use super::rig::{HeldClient, Rig, hello};
use crate::client::{login_at, port_of, started, tcp, within};

/// One who takes datagrams.
fn takes_datagrams() -> HoldfastHello {
    HoldfastHello {
        capabilities: vec!["hold".to_owned(), "udp".to_owned()],
        ..hello([1; 16])
    }
}

fn udp() -> NewProxy {
    NewProxy {
        proxy_type: "udp".to_owned(),
        ..tcp("dns")
    }
}

/// Opens a work stream when the server asks for one, and reads what it is for.
async fn work_stream(client: &mut HeldClient) -> (MessageStream, StartWorkConn) {
    let stream = client.held.open_stream().unwrap();
    let mut conn = MessageStream::open(stream, WireVersion::V1);
    let message = NewWorkConn {
        run_id: client.response.run_id.clone(),
        ..NewWorkConn::default()
    };
    conn.write(&message.into()).await.unwrap();
    let start = started(&mut conn).await;
    (conn, start)
}

/// A user of the proxy, and the client's ends of what leads there.
struct Proxied {
    user: UdpSocket,
    flow: Flow,
    reader: MessageReader,
    writer: MessageWriter,
}

/// Which way a datagram took.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Stream,
    Datagram,
}

impl Proxied {
    async fn start(client: &mut HeldClient) -> Self {
        let port = port_of(&client.new_proxy(udp()).await);
        let (stream, start) = work_stream(client).await;
        let number = u64::try_from(start.holdfast_flow).unwrap();
        let flow = client.held.take_flow(number).unwrap();
        let (reader, writer) = stream.split();
        let user = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        user.connect(("127.0.0.1", port)).await.unwrap();
        Self {
            user,
            flow,
            reader,
            writer,
        }
    }

    /// Says that the flow is taken, and waits until the server has heard it.
    async fn take(&mut self) {
        self.writer.write(&Ping::default().into()).await.unwrap();
        self.until(Way::Datagram).await;
    }

    /// Has the user send something and says which way it came.
    async fn ask(&mut self) -> Way {
        self.user.send(b"question").await.unwrap();
        let user = self.user.local_addr().unwrap();
        let (way, from, content) = within(async {
            tokio::select! {
                message = self.reader.read() => match message.unwrap() {
                    Message::UdpPacket(packet) => {
                        let from = packet.remote.and_then(|addr| addr.socket_addr());
                        (Way::Stream, from.unwrap(), packet.content)
                    }
                    other => panic!("{other:?}"),
                },
                (from, content) = self.flow.recv() => (Way::Datagram, from, content),
            }
        })
        .await;
        assert_eq!((from, &content[..]), (user, &b"question"[..]));
        way
    }

    /// Asks until a question takes that way.
    async fn until(&mut self, way: Way) {
        within(async { while self.ask().await != way {} }).await;
    }

    /// Answers beside the work stream.
    async fn answer(&self) {
        let user = self.user.local_addr().unwrap();
        self.flow.send(user, b"answer").unwrap();
        let mut buf = [0; 100];
        let len = within(self.user.recv(&mut buf)).await.unwrap();
        assert_eq!(&buf[..len], b"answer");
    }
}

#[tokio::test]
async fn users_datagrams_go_beside_the_work_stream_and_move_with_the_session() {
    let network = MemoryTransport::new().with_keys();
    let mut rig = Rig::on(network.clone().with_datagrams(), |_| {}).await;
    let mut client = rig.log_in(login_at(1_700_000_000), takes_datagrams()).await;
    let mut proxied = Proxied::start(&mut client).await;
    // The client might not know the flow yet.
    assert_eq!(proxied.ask().await, Way::Stream);
    proxied.take().await;
    assert_eq!(proxied.ask().await, Way::Datagram);
    proxied.answer().await;

    // Over to a carrier without datagrams: the same user, the same work stream.
    let with_datagrams = std::mem::replace(&mut rig.network, network);
    client.join(rig.dial().await).await.unwrap();
    client.use_last(true);
    proxied.until(Way::Stream).await;

    // And back, after all carriers were lost.
    rig.network = with_datagrams;
    rig.network.lose_all();
    client.come_back(&rig).await;
    proxied.until(Way::Datagram).await;
    proxied.answer().await;
}

#[tokio::test]
async fn what_is_too_long_for_a_datagram_comes_over_the_work_stream() {
    let rig = Rig::on(MemoryTransport::new().with_keys().with_datagrams(), |_| {}).await;
    let mut client = rig.log_in(login_at(1_700_000_000), takes_datagrams()).await;
    let mut proxied = Proxied::start(&mut client).await;
    proxied.take().await;
    proxied.user.send(&[7; 1400]).await.unwrap();
    let Message::UdpPacket(packet) = within(proxied.reader.read()).await.unwrap() else {
        panic!("something else")
    };
    assert_eq!(packet.content.len(), 1400);
    proxied.until(Way::Datagram).await;
}

#[tokio::test]
async fn a_client_reaches_its_own_users_only() {
    let rig = Rig::on(MemoryTransport::new().with_keys().with_datagrams(), |_| {}).await;
    let mut client = rig.log_in(login_at(1_700_000_000), takes_datagrams()).await;
    let mut proxied = Proxied::start(&mut client).await;
    proxied.take().await;
    let user = proxied.user.local_addr().unwrap();
    let hello = HoldfastHello {
        instance: [2; 16],
        ..takes_datagrams()
    };
    let mut stranger = rig.log_in(login_at(1_700_000_001), hello).await;
    // The number of somebody else's flow names nothing in this session.
    let not_its_own = stranger.held.take_flow(proxied.flow.number()).unwrap();
    not_its_own.send(user, b"forged").unwrap();
    stranger.paths[0]
        .carrier
        .send_datagram(Bytes::from_static(b"\xb0garbage"))
        .unwrap();
    assert!(stranger.tcp_proxy("web").await > 0, "and it goes on");

    // Nor does the client write to whom the server has not heard of.
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    proxied
        .flow
        .send(nobody.local_addr().unwrap(), b"spam")
        .unwrap();
    proxied.answer().await;
    let mut buf = [0; 100];
    assert!(nobody.try_recv(&mut buf).is_err());
    assert!(proxied.user.try_recv(&mut buf).is_err());
}

#[tokio::test]
async fn nothing_is_offered_where_the_stream_does_more_than_carry() {
    let rig = Rig::on(MemoryTransport::new().with_keys().with_datagrams(), |_| {}).await;
    let login = login_at(1_700_000_000);
    let mut client = rig.log_in(login, takes_datagrams()).await;
    let wrapped = [
        NewProxy {
            use_encryption: true,
            ..udp()
        },
        NewProxy {
            use_compression: true,
            ..udp()
        },
        NewProxy {
            bandwidth_limit: "1MB".to_owned(),
            ..udp()
        },
    ];
    for (n, proxy) in wrapped.into_iter().enumerate() {
        let proxy_name = format!("wrapped {n}");
        let proxy = NewProxy {
            proxy_name,
            ..proxy
        };
        assert_eq!(client.new_proxy(proxy).await.error, "");
        let (_stream, start) = work_stream(&mut client).await;
        assert_eq!(start.holdfast_flow, 0);
    }
}

#[tokio::test]
async fn nothing_is_offered_to_a_client_that_takes_no_datagrams() {
    let rig = Rig::on(MemoryTransport::new().with_keys().with_datagrams(), |_| {}).await;
    let mut client = rig.client().await;
    client.new_proxy(udp()).await;
    let (_stream, start) = work_stream(&mut client).await;
    assert_eq!(start.holdfast_flow, 0);
}
