//! The rules of a session's book-keeping.

use super::*;
use crate::hold::frame::Ack;

const GRACE: Duration = Duration::from_secs(60);
const A: CarrierId = CarrierId(1);
const B: CarrierId = CarrierId(2);

#[test]
fn the_highest_number_is_in_use() {
    let mut server = session(Role::Server);
    assert_eq!(server.handle_join(A, Generation(1)), Ok(()));
    assert_eq!(server.in_use(), Some(A), "the only one");
    assert_eq!(server.handle_join(B, Generation(3)), Ok(()));
    assert_eq!(server.in_use(), Some(A), "a further one stands by");

    assert_eq!(server.handle_use(B, Generation(4)), Ok(()));
    assert_eq!(server.poll_event(), Some(Event::InUse(B, Generation(4))));
    let old = SessionError::OldGeneration {
        found: Generation(3),
        highest: Generation(4),
    };
    assert_eq!(server.handle_use(A, Generation(3)), Err(old));
    assert_eq!(server.handle_join(CarrierId(3), Generation(3)), Err(old));
    assert_eq!(server.in_use(), Some(B));
}

#[test]
fn carriers_that_are_tried_side_by_side_may_join_in_any_order() {
    let mut server = session(Role::Server);
    server.handle_join(A, Generation(1)).unwrap();
    assert_eq!(server.handle_join(B, Generation(3)), Ok(()));
    assert_eq!(server.handle_join(CarrierId(3), Generation(2)), Ok(()));
    assert!(server.handle_join(CarrierId(4), Generation(2)).is_err());
}

#[test]
fn an_attach_that_overtakes_its_use_switches_as_well() {
    let mut server = session(Role::Server);
    server.handle_join(A, Generation(1)).unwrap();
    server.handle_join(B, Generation(2)).unwrap();
    assert_eq!(server.handle_attach(B, &attach(2, 3)), Ok(AttachTo::New));
    assert_eq!(server.in_use(), Some(B));
    assert_eq!(server.handle_use(B, Generation(3)), Ok(()));
}

#[test]
fn streams_attached_anew_to_the_carrier_in_use_do_not_overtake_one_that_joins() {
    let mut server = session(Role::Server);
    server.handle_join(A, Generation(1)).unwrap();
    server.handle_use(A, Generation(2)).unwrap();
    // The client gives 3 to a carrier, and 4 to a stream that has lost its route.
    server.handle_attach(A, &attach(2, 4)).unwrap();
    assert_eq!(server.handle_use(A, Generation(2)), Ok(()), "it is in use");
    assert_eq!(server.handle_join(B, Generation(3)), Ok(()));
    assert!(server.handle_use(B, Generation(3)).is_err());
    assert_eq!(server.handle_use(B, Generation(5)), Ok(()));
    assert!(server.handle_join(CarrierId(3), Generation(4)).is_err());
}

#[test]
fn a_stream_is_opened_once() {
    let mut server = session(Role::Server);
    server.handle_join(A, Generation(1)).unwrap();
    assert_eq!(server.handle_attach(A, &attach(2, 1)), Ok(AttachTo::New));
    assert_eq!(server.handle_attach(A, &attach(2, 2)), Ok(AttachTo::Known));
    server.forget_stream(2);
    let unknown = Err(AttachStatus::UnknownStream);
    assert_eq!(server.handle_attach(A, &attach(2, 3)), unknown);
    let again = Attach {
        is_open: false,
        ..attach(4, 3)
    };
    assert_eq!(server.handle_attach(A, &again), unknown, "never opened");
    let stranger = server.handle_attach(B, &attach(4, 3));
    assert_eq!(stranger, Err(AttachStatus::NotJoined));
}

#[test]
fn streams_and_carriers_are_bounded() {
    let mut server = session(Role::Server);
    for i in 1..=MAX_CARRIERS as u64 {
        server.handle_join(CarrierId(i), Generation(i + 1)).unwrap();
    }
    let error = server.handle_join(CarrierId(99), Generation(99));
    assert_eq!(error, Err(SessionError::TooManyCarriers));
    for i in 0..4 {
        assert!(server.handle_attach(A, &attach(2 + 2 * i, 1)).is_ok());
    }
    let answer = server.handle_attach(A, &attach(20, 1));
    assert_eq!(answer, Err(AttachStatus::TooManyStreams));
    assert_eq!(server.open_stream(), Err(SessionError::TooManyStreams));
}

#[test]
fn without_a_carrier_it_is_held_for_the_grace_time() {
    let now = start();
    let mut server = session(Role::Server);
    server.handle_join(A, Generation(1)).unwrap();
    server.handle_carrier_lost(A, now);
    let until = now + GRACE;
    assert_eq!(server.poll_event(), Some(Event::Holding { until }));
    assert_eq!(server.poll_timeout(), Some(until));
    server.handle_timeout(until - Duration::from_millis(1));
    assert!(!server.is_over());

    server.handle_join(B, Generation(2)).unwrap();
    assert_eq!((server.in_use(), server.poll_timeout()), (Some(B), None));
    server.handle_carrier_lost(B, now);
    server.handle_timeout(until);
    let over = Event::Over(EndReason::GraceExpired);
    assert_eq!(server.poll_event(), Some(over));
    let late = server.handle_join(A, Generation(3));
    assert_eq!(late, Err(SessionError::Over));
}

#[test]
fn only_another_instance_takes_over() {
    let mut server = session(Role::Server);
    assert!(!server.handle_login([1; 16]));
    assert!(!server.is_over());
    assert!(server.handle_login([2; 16]));
    assert_eq!(server.poll_event(), Some(Event::Over(EndReason::TakenOver)));
}

#[test]
fn goodbye_ends_it_at_once() {
    let mut client = session(Role::Client);
    client.handle_goodbye(GoodbyeReason::STOPPED);
    let reason = EndReason::GoodbyeByPeer(GoodbyeReason::STOPPED);
    assert_eq!(client.poll_event(), Some(Event::Over(reason)));
    assert_eq!(client.open_stream(), Err(SessionError::Over));
}

#[test]
fn the_client_numbers_its_decisions() {
    let mut client = session(Role::Client);
    let one = client.next_generation();
    client.handle_join(A, one).unwrap();
    assert_eq!(client.use_carrier(A), Ok(Generation(2)));
    assert_eq!(client.use_carrier(B), Err(SessionError::NotJoined));
    let error = client.handle_use(A, Generation(9));
    assert_eq!(error, Err(SessionError::NotYours));
}

#[test]
fn control_moves_first_and_bulk_last() {
    let mut client = session(Role::Client);
    let bulk = client.open_stream().unwrap();
    let shell = client.open_stream().unwrap();
    let control = client.open_control_stream();
    let order = client.moving_order(|stream| {
        if stream == bulk {
            Class::Bulk
        } else {
            Class::Interactive
        }
    });
    assert_eq!(order, [control, shell, bulk]);
}

fn session(role: Role) -> Session {
    let config = Config {
        role,
        instance: [1; 16],
        grace: GRACE,
        max_streams: 4,
        max_bytes: 1 << 20,
    };
    Session::new(config, &Budget::new(1 << 20))
}

fn attach(stream: u64, generation: u64) -> Attach {
    Attach {
        stream,
        generation: Generation(generation),
        is_open: true,
        is_drain: false,
        ack: Ack::default(),
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}
