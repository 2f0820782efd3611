//! What the carrier knows of one stream.

use std::task::Waker;
use std::time::Instant;

use crate::Class;

use super::chunks::Chunks;
use super::window::{INITIAL_WINDOW, RecvWindow};

/// What may be queued for sending when the window is closed.
const SEND_QUEUE_LEN: usize = 64 * 1024;

/// What may be queued beyond that while the window is open: a batch's worth, so that the driver
/// finds enough to fill one while the application fetches more.
const SEND_AHEAD_LEN: usize = 64 * 1024;

/// One stream, from its first frame until both ends and its handle are done with it.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) recv: Chunks,
    pub(super) recv_window: RecvWindow,
    pub(super) send: Chunks,
    /// What the peer allows.
    pub(super) send_window: u32,
    pub(super) class: Class,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Opened at this end and not accepted by the peer yet.
    pub(super) is_unacked: bool,
    /// The frame that opens the stream has not been sent.
    pub(super) syn_wanted: bool,
    /// The application has accepted the stream, the peer does not know yet.
    pub(super) ack_wanted: bool,
    /// The application sends no more.
    pub(super) fin_wanted: bool,
    pub(super) fin_sent: bool,
    pub(super) fin_received: bool,
    pub(super) reset: Option<Reset>,
    /// The application has dropped the stream. What comes is discarded.
    pub(super) is_dropped: bool,
    /// What came after that.
    pub(super) n_discarded: usize,
    /// When a dropped stream ends whatever the peer does.
    pub(super) linger_until: Option<Instant>,
    /// The stream's number stands in the queue for control frames.
    pub(super) in_control_queue: bool,
    /// The stream's number stands in a queue for data.
    pub(super) in_data_queue: bool,
}

/// Who ended the stream before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    Here,
    ByPeer,
    /// Here, because the carrier held more unread bytes than it may.
    Overfull,
}

impl StreamState {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            recv: Chunks::default(),
            recv_window: RecvWindow::new(now),
            send: Chunks::default(),
            send_window: INITIAL_WINDOW,
            class: Class::default(),
            reader: None,
            writer: None,
            is_unacked: false,
            syn_wanted: false,
            ack_wanted: false,
            fin_wanted: false,
            fin_sent: false,
            fin_received: false,
            reset: None,
            is_dropped: false,
            n_discarded: 0,
            linger_until: None,
            in_control_queue: false,
            in_data_queue: false,
        }
    }

    /// How many more bytes the application may write.
    pub(super) fn send_room(&self) -> usize {
        let ahead = (self.send_window as usize).min(SEND_AHEAD_LEN);
        (SEND_QUEUE_LEN + ahead).saturating_sub(self.send.len())
    }

    /// Whether a waiting writer has room enough to be worth a wake-up.
    pub(super) fn is_writer_due(&self) -> bool {
        self.writer.is_some() && self.send_room() >= SEND_QUEUE_LEN / 2
    }

    /// How many bytes could be sent at once.
    pub(super) fn sendable_len(&self) -> usize {
        self.send.len().min(self.send_window as usize)
    }

    /// Whether the stream is over on the wire: the peer has no business with it any more.
    pub(super) fn is_over(&self) -> bool {
        self.reset.is_some() || (self.fin_sent && self.fin_received)
    }
}
