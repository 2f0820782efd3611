//! The client's way to the server, and the conns over it: streams of one carrier towards plain
//! frp, held streams that outlive carriers towards a Holdfast.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use frp_proto::hold::session::{EndReason, SessionError};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transports::{
    BoxFuture, BoxStream, Carrier, CarrierError, Class, DialError, Endpoint, Stream, Transport,
    TransportKind,
};

use crate::hold::flow::Flow;
use crate::hold::{CarrierNumbers, HeldSession, TransportNumbers};

/// A connection to one server, of which any number of conns (control, work, visitor) can be had.
#[derive(Debug)]
pub struct Session {
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Streams of one carrier, or a carrier each where the transport does not multiplex.
    Plain {
        transport: Arc<dyn Transport>,
        server: Endpoint,
        carrier: Arc<dyn Carrier>,
        /// The one stream of a carrier without multiplexing, until the first conn takes it.
        unused: Mutex<Option<Arc<dyn Carrier>>>,
        /// Whoever keeps the carrier, where its end is not the session's.
        ending: Option<Arc<dyn Ending>>,
    },
    /// Held streams, over whichever carrier is in use.
    Held {
        held: Arc<HeldSession>,
        grace: Duration,
        ending: Arc<dyn Ending>,
    },
}

/// Ends a session in good order: whoever keeps its carriers can say goodbye on them, or let them
/// live on.
pub trait Ending: fmt::Debug + Send + Sync {
    /// Returns when the peer has been told, or could not be.
    fn end(&self) -> BoxFuture<'_, ()>;
}

impl Session {
    /// Dials `server`.
    pub async fn dial(transport: Arc<dyn Transport>, server: Endpoint) -> Result<Self, DialError> {
        let carrier = transport.dial(&server).await?;
        Ok(Self::over(transport, server, carrier))
    }

    /// A session over `carrier`, which `transport` has dialled. Nothing has been sent on it yet.
    pub fn over(
        transport: Arc<dyn Transport>,
        server: Endpoint,
        carrier: Arc<dyn Carrier>,
    ) -> Self {
        let unused = Mutex::new((!carrier.is_multiplexed()).then(|| carrier.clone()));
        Self {
            way: Way::Plain {
                transport,
                server,
                carrier,
                unused,
                ending: None,
            },
        }
    }

    /// Leaves it to `keeper` what becomes of a plain session's carrier when the session ends.
    #[must_use]
    pub fn kept_by(mut self, keeper: Arc<dyn Ending>) -> Self {
        if let Way::Plain { ending, .. } = &mut self.way {
            *ending = Some(keeper);
        }
        self
    }

    /// A session whose conns are held streams. `grace` is how long it lives without a carrier.
    pub fn held(held: Arc<HeldSession>, grace: Duration, ending: Arc<dyn Ending>) -> Self {
        Self {
            way: Way::Held {
                held,
                grace,
                ending,
            },
        }
    }

    /// Opens a conn. The first one of a session is the control.
    pub async fn open_conn(&self) -> Result<BoxStream, OpenError> {
        let (transport, server, carrier, unused) = match &self.way {
            Way::Held { held, .. } => return Ok(held.open_stream()?),
            Way::Plain {
                transport,
                server,
                carrier,
                unused,
                ending: _,
            } => (transport, server, carrier, unused),
        };
        if carrier.is_multiplexed() {
            return Ok(carrier.open_stream().await?);
        }
        let unused = unused.lock().take();
        let carrier = match unused {
            Some(carrier) => carrier,
            None => transport.dial(server).await?,
        };
        let stream = carrier.open_stream().await?;
        Ok(CarrierStream::boxed(stream, carrier))
    }

    /// The flow of datagrams that the server has given this number. `None` for a plain session.
    pub fn take_flow(&self, number: u64) -> Option<Flow> {
        match &self.way {
            Way::Plain { .. } => None,
            Way::Held { held, .. } => held.take_flow(number),
        }
    }

    /// What its conns are held by, if they are.
    pub fn hold(&self) -> Option<&Arc<HeldSession>> {
        match &self.way {
            Way::Plain { .. } => None,
            Way::Held { held, .. } => Some(held),
        }
    }

    /// Its carriers by transport, for the metrics. Without multiplexing that is the one of the
    /// control.
    pub fn paths(&self) -> BTreeMap<TransportKind, TransportNumbers> {
        match &self.way {
            Way::Held { held, .. } => held.paths(),
            Way::Plain { carrier, .. } => {
                let numbers = CarrierNumbers::of_plain(carrier);
                let totals = numbers.totals();
                let live = vec![numbers];
                [(carrier.kind(), TransportNumbers { live, totals })].into()
            }
        }
    }

    /// For how long the session lives on while no carrier does. Time-outs of conns are to be longer
    /// by this.
    pub fn grace(&self) -> Duration {
        match &self.way {
            Way::Plain { .. } => Duration::ZERO,
            Way::Held { grace, .. } => *grace,
        }
    }

    /// Waits until no conn can be had any more, and says why. Cancel safe.
    pub async fn closed(&self) -> String {
        match &self.way {
            Way::Plain { carrier, .. } => carrier.closed().await.to_string(),
            Way::Held { held, .. } => match held.over().await {
                EndReason::GraceExpired => "no carrier within the grace time".to_owned(),
                EndReason::GoodbyeByPeer(_) => "the server has said goodbye".to_owned(),
                EndReason::GoodbyeHere(_) => CarrierError::ClosedHere.to_string(),
                EndReason::TakenOver => "another instance has taken over".to_owned(),
            },
        }
    }

    /// Ends the session and all of its conns. Returns at once for a plain one that nobody else
    /// keeps, and when the peer has been told for a held one.
    pub async fn close(&self) {
        match &self.way {
            Way::Plain {
                carrier,
                ending: None,
                ..
            } => carrier.close(),
            Way::Plain {
                ending: Some(ending),
                ..
            }
            | Way::Held { ending, .. } => ending.end().await,
        }
    }
}

/// Why a conn could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A carrier of its own was needed and could not be had.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The carrier is gone, or refuses another stream.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    /// The held session is over, or refuses another stream.
    #[error(transparent)]
    Held(#[from] SessionError),
}

/// A stream that keeps the carrier alive which exists for it alone.
pub struct CarrierStream {
    stream: BoxStream,
    _carrier: Arc<dyn Carrier>,
}

impl CarrierStream {
    /// Ties the life of `carrier` to `stream`.
    pub fn boxed(stream: BoxStream, carrier: Arc<dyn Carrier>) -> BoxStream {
        Box::new(Self {
            stream,
            _carrier: carrier,
        })
    }
}

impl fmt::Debug for CarrierStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl Stream for CarrierStream {
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        Pin::new(&mut *self.stream).poll_read_chunk(cx, max)
    }

    fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_write_chunk(cx, chunk)
    }

    fn set_class(&mut self, class: Class) {
        self.stream.set_class(class);
    }

    fn reset(&mut self) {
        self.stream.reset();
    }
}

impl AsyncRead for CarrierStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CarrierStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
