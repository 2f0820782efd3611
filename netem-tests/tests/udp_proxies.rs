//! Users of a `udp` proxy over a link that loses packets, while carriers come and go under them:
//! our programs in `auto`.
//!
//! What tells datagrams from a stream is the order of arrival, not the time: a stream that loses a
//! packet delivers nothing behind it until it has been repeated, so no number is ever missing.
//! These tests need root. Without it each of them says that it is skipped.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use netem_tests::{
    Fault, Lab, Link, PATIENCE, Pair, PairBuilder, Profile, Proxy, Sides, Transport,
};

#[test]
fn a_lost_datagram_holds_up_none_and_none_comes_twice() {
    let Some(rig) = Rig::start("udp order", 10) else {
        return;
    };
    rig.goes_over("datagram");

    let seen = rig.user.asks(QUESTIONS, &rig);

    let lost = QUESTIONS - seen.numbers.len();
    assert_eq!(seen.n_repeated, 0);
    // Both ways lose a tenth. A stream would have repeated them all.
    assert!((QUESTIONS / 20..QUESTIONS / 2).contains(&lost), "{lost}");
}

#[test]
fn a_switch_by_hand_takes_users_along_and_back() {
    let Some(rig) = Rig::start("udp switch", 10) else {
        return;
    };
    rig.goes_over("datagram");

    rig.switch("tcp");
    rig.goes_over("stream");
    let seen = rig.user.asks(QUESTIONS / 10, &rig);
    assert_eq!(
        seen.numbers.len(),
        QUESTIONS / 10,
        "a stream repeats what is lost"
    );

    rig.switch("quic");
    rig.goes_over("datagram");
    assert_eq!(
        rig.service.n_users(),
        1,
        "the service has seen one socket all the time"
    );
}

#[test]
fn users_survive_the_death_of_their_carrier() {
    let Some(rig) = Rig::start("udp death", 2) else {
        return;
    };
    rig.goes_over("datagram");

    rig.lab.fault(Fault::drop_udp()).unwrap();
    rig.goes_over("stream");
    rig.lab.clear_faults().unwrap();
    rig.switch("quic");
    rig.goes_over("datagram");
    assert_eq!(
        rig.service.n_users(),
        1,
        "the service has seen one socket all the time"
    );
}

/// A tunnel in a lab, a service at its far end, and a user at the near one.
struct Rig {
    pair: Pair,
    user: User,
    service: Service,
    lab: Lab,
}

impl Rig {
    fn start(name: &str, loss_pct: u32) -> Option<Self> {
        if !Lab::is_available_for(name) {
            return None;
        }
        let profile = Profile::delay_ms(20).rate_mbit(50).loss_pct(loss_pct);
        let lab = Lab::start(name, &profile).unwrap();
        let service = lab.far().enter(Service::start);
        let link = Link {
            transport: Transport::Auto,
            ..Link::DEFAULT
        };
        let pair = PairBuilder::new(&Sides::ours().unwrap())
            .link(link)
            .in_lab(&lab)
            .with_metrics()
            .unwrap()
            .proxy(Proxy::udp("dns", service.port))
            .start()
            .unwrap();
        let user = pair.as_user(|| User::start(pair.port("dns").unwrap()));
        let rig = Self {
            pair,
            user,
            service,
            lab,
        };
        rig.switch("quic");
        Some(rig)
    }

    fn switch(&self, transport: &str) {
        let (status, text) = self.pair.frpc_with("switch", &[transport]).unwrap();
        assert!(status.success(), "{text}");
    }

    /// Waits until the server sends what users send in this way, and answers come back.
    fn goes_over(&self, way: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.n_sent(way);
            let n_answers = self.user.asks(10, self).numbers.len();
            if n_answers > 0 && self.n_sent(way) >= before + 5 {
                return;
            }
            assert!(Instant::now() < deadline, "nothing goes over the {way}");
        }
    }

    fn n_sent(&self, way: &str) -> u64 {
        let name = format!("holdfast_udp_sent_total{{over=\"{way}\"}} ");
        let text = self.pair.server_metrics().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |number| number.parse().unwrap())
    }
}

/// Sends numbers, and notes in which order they come back.
struct User {
    socket: UdpSocket,
    last: Mutex<u32>,
}

#[derive(Default)]
struct Seen {
    numbers: BTreeSet<u32>,
    n_repeated: usize,
    n_overtaken: usize,
}

impl User {
    fn start(port: u16) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        Self {
            socket,
            last: Mutex::default(),
        }
    }

    /// Sends so many, and takes what comes until nothing more does.
    fn asks(&self, n: usize, rig: &Rig) -> Seen {
        rig.pair.as_user(|| {
            thread::scope(|scope| {
                let mut last = self.last.lock().unwrap();
                let first = *last + 1;
                *last += u32::try_from(n).unwrap();
                let until = *last;
                scope.spawn(move || {
                    for number in first..=until {
                        // Refused while the port is not open yet.
                        let _ = self.socket.send(&number.to_be_bytes());
                        thread::sleep(SPACING);
                    }
                });
                let mut seen = Seen::default();
                let mut highest = 0;
                let mut buf = [0; 100];
                while let Ok(len) = self.socket.recv(&mut buf) {
                    let number = u32::from_be_bytes(buf[..len].try_into().unwrap());
                    if number < first {
                        continue;
                    }
                    seen.n_repeated += usize::from(!seen.numbers.insert(number));
                    seen.n_overtaken += usize::from(number < highest);
                    highest = highest.max(number);
                    if seen.numbers.len() == n {
                        break;
                    }
                }
                seen
            })
        })
    }
}

/// Sends every datagram back, and notes who has sent any.
struct Service {
    port: u16,
    users: Arc<Mutex<BTreeSet<SocketAddr>>>,
}

impl Service {
    fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let users: Arc<Mutex<BTreeSet<SocketAddr>>> = Arc::default();
        let noted = Arc::clone(&users);
        // For as long as the test runs.
        thread::spawn(move || {
            let mut buf = [0; 2048];
            loop {
                if let Ok((len, from)) = socket.recv_from(&mut buf) {
                    noted.lock().unwrap().insert(from);
                    let _ = socket.send_to(&buf[..len], from);
                }
            }
        });
        Self { port, users }
    }

    fn n_users(&self) -> usize {
        self.users.lock().unwrap().len()
    }
}

/// Enough that a tenth of them is a number.
const QUESTIONS: usize = 500;

/// Between two questions: many are on the way at once.
const SPACING: Duration = Duration::from_millis(2);

/// When nothing comes for so long, nothing more does: far more than a stream takes to repeat
/// something.
const SILENCE: Duration = Duration::from_secs(2);
