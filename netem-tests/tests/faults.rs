//! What can go wrong in a lab beside its link profile, each with real traffic.
//!
//! These tests need root. Without it each of them says that it is skipped.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use netem_tests::lab::gauge;
use netem_tests::{Direction, Fault, Lab, PATIENCE, Profile};

#[test]
fn udp_is_dropped_and_tcp_is_not() {
    let Some(lab) = lab("drop udp") else { return };

    lab.fault(Fault::drop_udp()).unwrap();

    assert!(!udp_passes(&lab));
    assert!(tcp_passes(&lab));
    lab.clear_faults().unwrap();
    assert!(udp_passes(&lab));
}

#[test]
fn tcp_is_dropped_and_udp_is_not() {
    let Some(lab) = lab("drop tcp") else { return };

    lab.fault(Fault::drop_tcp()).unwrap();

    assert!(!tcp_passes(&lab));
    assert!(udp_passes(&lab));
    lab.clear_faults().unwrap();
    assert!(tcp_passes(&lab));
}

#[test]
fn an_open_connection_survives_a_black_hole() {
    let Some(lab) = lab("black hole") else { return };
    let (mut user, mut service) = connection(&lab);

    lab.fault(Fault::drop_all()).unwrap();
    user.write_all(b"hello").unwrap();
    service
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert_eq!(read_error(&mut service), Some(ErrorKind::WouldBlock));
    assert!(!udp_passes(&lab));
    lab.clear_faults().unwrap();

    service.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut word = [0; 5];
    service.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"hello");
}

#[test]
fn one_direction_is_dropped_and_the_other_is_not() {
    for (dead, alive) in [
        (Direction::ToFar, Direction::ToNear),
        (Direction::ToNear, Direction::ToFar),
    ] {
        let Some(lab) = lab("one direction") else {
            return;
        };

        lab.fault(Fault::drop_all().only(dead)).unwrap();

        assert_eq!(stream(&lab, dead).n_received, 0);
        assert_eq!(stream(&lab, alive).loss_pct(), 0.0);
    }
}

#[test]
fn a_part_of_udp_is_dropped() {
    let Some(lab) = lab("part") else { return };

    lab.fault(Fault::drop_udp().pct(60).only(Direction::ToNear))
        .unwrap();

    let dropped = stream(&lab, Direction::ToNear);
    assert!((50.0..70.0).contains(&dropped.loss_pct()), "{dropped:?}");
    assert_eq!(stream(&lab, Direction::ToFar).loss_pct(), 0.0);
}

#[test]
fn a_policer_lets_its_rate_pass_and_queues_nothing() {
    let Some(lab) = lab("police") else { return };

    lab.fault(Fault::police_udp(5)).unwrap();

    let policed = gauge::stream(&lab, Direction::ToFar, 20.0, Duration::from_secs(2)).unwrap();
    // 5 Mbit/s are 833 packets in 2 s, and the bucket was full at the start.
    assert!((830..1000).contains(&policed.n_received), "{policed:?}");
    assert!(policed.loss_pct() > 60.0, "{policed:?}");
    assert!(tcp_passes(&lab));
}

#[test]
fn rejected_udp_is_answered() {
    let Some(lab) = lab("reject") else { return };
    let service = lab
        .far()
        .enter(|| UdpSocket::bind((lab.far().address(), 0)))
        .unwrap();
    let user = lab
        .near()
        .enter(|| UdpSocket::bind((lab.near().address(), 0)))
        .unwrap();
    user.connect(service.local_addr().unwrap()).unwrap();
    user.set_read_timeout(Some(PATIENCE)).unwrap();

    lab.fault(Fault::reject_udp()).unwrap();
    user.send(b"hello").unwrap();

    let answer = user.recv(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(answer, Err(ErrorKind::ConnectionRefused));
    assert!(tcp_passes(&lab));
}

#[test]
fn the_far_side_comes_back_under_another_address() {
    let Some(lab) = lab("redial") else { return };
    let (mut user, _service) = connection(&lab);
    let old = lab.far().address();

    let new = lab.change_far_address(Duration::from_millis(100)).unwrap();

    assert_ne!(old, new);
    assert_eq!(lab.far().address(), new);
    assert!(tcp_passes(&lab) && udp_passes(&lab));
    user.write_all(b"hello").unwrap();
    user.set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert_eq!(
        read_error(&mut user),
        Some(ErrorKind::WouldBlock),
        "the old one is dead"
    );
}

#[test]
fn a_router_gives_out_new_ports_when_it_starts_over() {
    let Some(lab) = lab("nat") else { return };
    lab.start_nat().unwrap();
    let server = lab
        .near()
        .enter(|| UdpSocket::bind((lab.near().address(), 0)))
        .unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = lab
        .far()
        .enter(|| UdpSocket::bind((lab.far().address(), 0)))
        .unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();

    let before = source_of(&client, &server);
    assert_eq!(
        source_of(&client, &server),
        before,
        "a connection keeps its port"
    );
    assert_ne!(before.ip(), lab.far().address());
    server.send_to(b"answer", before).unwrap();
    assert!(client.recv(&mut [0; 8]).is_ok(), "answers come in");

    lab.start_nat().unwrap();

    server.send_to(b"answer", before).unwrap();
    assert!(
        client.recv(&mut [0; 8]).is_err(),
        "the old port leads nowhere"
    );
    let after = source_of(&client, &server);
    assert_eq!(after.ip(), before.ip());
    assert_ne!(after.port(), before.port());
    server.send_to(b"answer", after).unwrap();
    assert!(client.recv(&mut [0; 8]).is_ok());
}

#[test]
fn a_router_that_starts_over_breaks_tcp_connections() {
    let Some(lab) = lab("nat of tcp") else { return };
    lab.start_nat().unwrap();
    let listener = lab
        .near()
        .enter(|| TcpListener::bind((lab.near().address(), 0)))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = lab.far().enter(|| TcpStream::connect(address)).unwrap();
    let (mut server, from) = listener.accept().unwrap();
    assert_ne!(from.ip(), lab.far().address());
    client.write_all(b"hello").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();

    lab.start_nat().unwrap();
    client.write_all(b"again").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();

    assert_eq!(read_error(&mut client), Some(ErrorKind::ConnectionReset));
}

fn lab(name: &str) -> Option<Lab> {
    Lab::is_available_for(name).then(|| Lab::start(name, &Profile::delay_ms(2)).unwrap())
}

fn udp_passes(lab: &Lab) -> bool {
    let n = gauge::echo_times(lab, 5, Duration::from_millis(2))
        .unwrap()
        .len();
    assert!(n == 0 || n == 5, "{n} of 5 came back");
    n == 5
}

fn tcp_passes(lab: &Lab) -> bool {
    let (listener, address) = listen(lab, lab.far().address());
    let result = lab
        .near()
        .enter(|| TcpStream::connect_timeout(&address, Duration::from_millis(500)));
    drop(listener);
    result.is_ok()
}

fn connection(lab: &Lab) -> (TcpStream, TcpStream) {
    let (listener, address) = listen(lab, lab.far().address());
    let user = lab.near().enter(|| TcpStream::connect(address)).unwrap();
    (user, listener.accept().unwrap().0)
}

fn listen(lab: &Lab, address: IpAddr) -> (TcpListener, SocketAddr) {
    let listener = lab.far().enter(|| TcpListener::bind((address, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn stream(lab: &Lab, way: Direction) -> gauge::Stream {
    gauge::stream(lab, way, 10.0, Duration::from_millis(500)).unwrap()
}

fn source_of(client: &UdpSocket, server: &UdpSocket) -> SocketAddr {
    client.send(b"question").unwrap();
    server.recv_from(&mut [0; 8]).unwrap().1
}

fn read_error(conn: &mut TcpStream) -> Option<ErrorKind> {
    let result: io::Result<usize> = conn.read(&mut [0; 8]);
    result.err().map(|error| error.kind())
}
