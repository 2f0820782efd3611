//! Joins that are answered, and joins that are refused.

use std::sync::Arc;

use frp_core::hold::join::{JoinFailure, exporter, join};
use frp_core::hold::{CarrierId, Generation};
use frp_proto::hold::join::Join;
use frp_proto::hold::session::{EndReason, Role};
use frp_proto::hold::session_frame::GoodbyeReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transports::memory::MemoryTransport;

use crate::rig::{PATIENCE, Pair, session};

#[tokio::test(start_paused = true)]
async fn a_carrier_that_has_joined_is_known_to_both_ends_by_its_number() {
    let pair = Pair::new().await;
    let (client, server) = pair.dial().await;
    let (ours, theirs) = pair.join(1, &client, &server).await;
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(ours.generation, theirs.generation);
    assert_eq!(pair.server.carrier_in_use().unwrap().0, CarrierId(1));

    ours.stream.write_all(b"frames follow").await.unwrap();
    let mut read = [0; 13];
    theirs.stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"frames follow");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_proof_and_an_unknown_session_get_the_same_answer_and_harm_nobody() {
    let mut pair = Pair::new().await;
    let (client, server) = pair.dial().await;
    let (ours, theirs) = pair.join(1, &client, &server).await;
    let _streams = (ours.unwrap(), theirs.unwrap());

    let right = std::mem::replace(&mut pair.client, session(Role::Client, b"guess"));
    let (client, server) = pair.dial().await;
    let (ours, theirs) = pair.join(2, &client, &server).await;
    assert!(matches!(ours, Err(JoinFailure::UnknownSession)));
    assert_eq!(theirs.unwrap_err().cause, "join proof");

    // The same client, at a server that has been restarted.
    pair.client = right;
    let live = std::mem::replace(&mut pair.server, session(Role::Server, b"another"));
    let (client, server) = pair.dial().await;
    let (ours, theirs) = pair.join(3, &client, &server).await;
    assert!(matches!(ours, Err(JoinFailure::UnknownSession)));
    assert_eq!(theirs.unwrap_err().cause, "join proof");

    assert_eq!(live.carrier_in_use().unwrap().0, CarrierId(1));
    assert_eq!(live.status().over, None);
    pair.server = live;
    let (client, server) = pair.dial().await;
    let (ours, theirs) = pair.join(4, &client, &server).await;
    assert!(ours.is_ok() && theirs.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_join_that_a_switch_has_overtaken_goes_again_above_it() {
    let pair = Pair::new().await;
    let (client, server) = pair.dial().await;
    let (ours, theirs) = pair.join(1, &client, &server).await;
    let first = ours.unwrap().generation;
    drop(theirs.unwrap());
    // As by another carrier that came into use with a number that the client gave after that of the
    // join that comes now.
    let (_other, carrier) = pair.dial().await;
    let overtaking = Generation(first.0 + 1);
    let number = Generation(500);
    pair.server
        .add_carrier(CarrierId(9), number, carrier)
        .unwrap();
    pair.server.handle_use(CarrierId(9), overtaking).unwrap();

    let (client, server) = pair.dial().await;
    let (ours, theirs) = pair.join(2, &client, &server).await;
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(ours.generation, theirs.generation);
    assert!(ours.generation > overtaking);

    // One that stays behind is refused in the end.
    pair.server
        .handle_use(CarrierId(1), Generation(1000))
        .unwrap();
    let (client, server) = pair.dial().await;
    let (ours, theirs) = pair.join(3, &client, &server).await;
    assert!(matches!(ours, Err(JoinFailure::Refused("old generation"))));
    assert_eq!(theirs.unwrap_err().cause, "join generation");
}

#[tokio::test(start_paused = true)]
async fn a_join_that_was_seen_on_one_carrier_is_worth_nothing_on_another() {
    let pair = Pair::new().await;
    let (client, _server) = pair.dial().await;
    let (elsewhere, server) = pair.dial().await;
    let seen = Join::new(
        pair.client.key(),
        *pair.client.id(),
        Generation(1),
        &exporter(&client).unwrap(),
    );
    let mut message = Vec::new();
    seen.encode(&mut message);
    let mut stream = elsewhere.open_stream().await.unwrap();
    stream.write_all(&message).await.unwrap();
    let refused = pair.answer(1, &server).await.unwrap_err();
    assert_eq!(refused.cause, "join proof");
    assert!(pair.server.carrier_in_use().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_join_or_comes_too_slowly_is_refused() {
    let pair = Pair::new().await;
    for (message, cause) in [
        (&b"\x8aHOLE"[..], "join cut short"),
        (&[0x8a; Join::LEN], "no join"),
    ] {
        let (client, server) = pair.dial().await;
        let mut stream = client.open_stream().await.unwrap();
        stream.write_all(message).await.unwrap();
        stream.shutdown().await.unwrap();
        let refused = pair.answer(1, &server).await.unwrap_err();
        assert_eq!(refused.cause, cause);
    }
    let (client, server) = pair.dial().await;
    let mut stream = client.open_stream().await.unwrap();
    stream.write_all(b"\x8aHOLD").await.unwrap();
    let refused = pair.answer(1, &server).await.unwrap_err();
    assert_eq!(refused.cause, "join not in time");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_takes_no_carriers() {
    let pair = Pair::new().await;
    pair.server
        .end(EndReason::GoodbyeHere(GoodbyeReason::STOPPED));
    let (client, server) = pair.dial().await;
    let (ours, theirs) = pair.join(1, &client, &server).await;
    assert!(matches!(ours, Err(JoinFailure::UnknownSession)));
    assert_eq!(theirs.unwrap_err().cause, "join of a session that is over");
}

#[tokio::test(start_paused = true)]
async fn without_tls_there_is_no_joining_and_without_an_answer_no_waiting() {
    let pair = Pair::over(MemoryTransport::new()).await;
    let (client, _server) = pair.dial().await;
    let outcome = join(&pair.client, CarrierId(1), &client, PATIENCE).await;
    assert!(matches!(outcome, Err(JoinFailure::Export(_))));

    let pair = Pair::new().await;
    let (client, server) = pair.dial().await;
    let outcome = join(&pair.client, CarrierId(1), &client, PATIENCE).await;
    assert!(matches!(outcome, Err(JoinFailure::Timeout(PATIENCE))));

    let lost = tokio::join!(join(&pair.client, CarrierId(2), &client, PATIENCE), async {
        let asked = crate::rig::accept(&server).await;
        Arc::clone(&server).close();
        drop(asked);
    });
    assert!(matches!(lost.0, Err(JoinFailure::Io(_))));
}
