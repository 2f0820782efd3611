//! What two Holdfasts add to `Login` and `LoginResp`.
//!
//! Go peers ignore unknown members, so the `holdfast` object is harmless to them. The other way
//! round it is optional: a peer without it is plain frp, and one whose object makes no sense is
//! treated the same ([`Extension::Malformed`] tells the two apart). It never fails a login.

use std::time::Duration;

use bytes::Bytes;

use crate::json::{JsonError, Object, Reader, Value, Writer, go_object};

/// The version of the extension that is spoken here.
pub const VERSION: u32 = 1;

/// Most capabilities that a peer may name, and the longest name. More is malformed: the list is
/// kept for the life of a session.
pub const MAX_CAPABILITIES: usize = 32;
/// The longest name of a capability or a transport.
pub const MAX_NAME_LEN: usize = 32;
/// Most endpoints that a server may name: one for each transport and some to spare.
pub const MAX_ENDPOINTS: usize = 16;
/// The longest grace time that is believed. A peer that is away for longer has gone.
pub const MAX_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// The optional `holdfast` member of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extension<T> {
    /// The peer is plain frp.
    #[default]
    Absent,
    /// There is a member, and it makes no sense. Counts as absent.
    Malformed,
    /// The peer is a Holdfast.
    Present(Box<T>),
}

impl<T> Extension<T> {
    /// What the peer said, if it said something that makes sense.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Malformed => None,
        }
    }

    /// Whether the peer sent something that makes no sense.
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed)
    }
}

impl<T> From<T> for Extension<T> {
    fn from(value: T) -> Self {
        Self::Present(Box::new(value))
    }
}

impl<T> From<Option<T>> for Extension<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::from)
    }
}

/// Sent by the client in `Login`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldfastHello {
    /// The newest version of the extension that the client speaks, from 1.
    pub version: u32,
    /// What the client can do, by name. Unknown names are kept and mean nothing.
    pub capabilities: Vec<String>,
    /// The client's half of the salt of the session key.
    pub client_random: [u8; 32],
    /// Random for each process: a login with another instance comes from a new process.
    pub instance: [u8; 16],
    /// That the client is the one of a session before, where it was.
    pub resume: Option<Resume>,
}

/// The client's proof, over this login's carrier, that a session before was its own
/// ([`ResumeKey`](crate::hold::key::ResumeKey)). What is left of that session ends at once, and its
/// ports are free for the new one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// The session before.
    pub session_id: [u8; 16],
    /// Made with what the client kept of it.
    pub proof: [u8; 32],
}

/// Sent by the server in `LoginResp` to a client that sent a [`HoldfastHello`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HoldfastWelcome {
    /// The version that both speak, from 1.
    pub version: u32,
    /// Names the session when another carrier joins it.
    pub session_id: [u8; 16],
    /// The server's half of the salt of the session key.
    pub server_random: [u8; 32],
    /// How long a session without a carrier is kept. On the wire in milliseconds.
    pub grace: Duration,
    /// Where the server can be reached by other transports.
    pub endpoints: Vec<EndpointOffer>,
    /// What the server allows a session.
    pub limits: SessionLimits,
    /// The server's proof that it knows the token, when the carrier allows one.
    pub proof: Option<[u8; 32]>,
}

/// One way to reach the server, on the host that the client uses already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointOffer {
    /// The transport's configuration name. An unknown one is kept and means nothing.
    pub transport: String,
    /// From 1 to 65535.
    pub port: u16,
}

/// What a server allows a session. Zero where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// Streams held at once.
    pub held_streams: u64,
    /// Bytes kept for repetition, over all streams of the session.
    pub replay_bytes: u64,
}

impl<T: Payload> Value for Extension<T> {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), JsonError> {
        if reader.take_null()? {
            *self = Self::Absent;
            return Ok(());
        }
        let text = reader.raw_value()?;
        let payload = T::Fields::from_json(text).ok().and_then(T::check);
        *self = payload.map_or(Self::Malformed, Self::from);
        Ok(())
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self.get() {
            Some(payload) => payload.fields().write(writer),
            None => writer.object(|_| ()),
        }
    }

    fn is_omitted(&self) -> bool {
        self.get().is_none()
    }
}

/// What an [`Extension`] can hold: it has a form with plain fields, and a check of them.
trait Payload: Sized {
    type Fields: Object + Value;

    fn check(fields: Self::Fields) -> Option<Self>;
    fn fields(&self) -> Self::Fields;
}

impl Payload for HoldfastHello {
    type Fields = HelloFields;

    fn check(fields: HelloFields) -> Option<Self> {
        if fields.capabilities.len() > MAX_CAPABILITIES {
            return None;
        }
        if !fields.capabilities.iter().all(|name| is_name(name)) {
            return None;
        }
        Some(Self {
            version: check_version(fields.version)?,
            capabilities: fields.capabilities,
            client_random: fields.client_random.as_ref().try_into().ok()?,
            instance: fields.instance.as_ref().try_into().ok()?,
            resume: match fields.resume {
                None => None,
                Some(resume) => Some(Resume {
                    session_id: resume.session_id.as_ref().try_into().ok()?,
                    proof: resume.proof.as_ref().try_into().ok()?,
                }),
            },
        })
    }

    fn fields(&self) -> HelloFields {
        HelloFields {
            version: self.version.into(),
            capabilities: self.capabilities.clone(),
            client_random: Bytes::copy_from_slice(&self.client_random),
            instance: Bytes::copy_from_slice(&self.instance),
            resume: self.resume.as_ref().map(|resume| ResumeFields {
                session_id: Bytes::copy_from_slice(&resume.session_id),
                proof: Bytes::copy_from_slice(&resume.proof),
            }),
        }
    }
}

impl Payload for HoldfastWelcome {
    type Fields = WelcomeFields;

    fn check(fields: WelcomeFields) -> Option<Self> {
        if fields.endpoints.len() > MAX_ENDPOINTS {
            return None;
        }
        let endpoints = fields.endpoints.into_iter().map(EndpointFields::check);
        let grace = Duration::from_millis(fields.grace_ms.try_into().ok()?);
        Some(Self {
            version: check_version(fields.version)?,
            session_id: fields.session_id.as_ref().try_into().ok()?,
            server_random: fields.server_random.as_ref().try_into().ok()?,
            grace: Some(grace).filter(|grace| *grace <= MAX_GRACE)?,
            endpoints: endpoints.collect::<Option<_>>()?,
            limits: SessionLimits {
                held_streams: fields.limits.held_streams.try_into().ok()?,
                replay_bytes: fields.limits.replay_bytes.try_into().ok()?,
            },
            proof: match fields.proof.as_ref() {
                [] => None,
                proof => Some(proof.try_into().ok()?),
            },
        })
    }

    fn fields(&self) -> WelcomeFields {
        let endpoints = self.endpoints.iter().map(|endpoint| EndpointFields {
            transport: endpoint.transport.clone(),
            port: endpoint.port,
        });
        let proof = self.proof.as_ref().map_or(&[][..], |proof| proof);
        WelcomeFields {
            version: self.version.into(),
            session_id: Bytes::copy_from_slice(&self.session_id),
            server_random: Bytes::copy_from_slice(&self.server_random),
            grace_ms: saturating_i64(self.grace.as_millis()),
            endpoints: endpoints.collect(),
            limits: LimitFields {
                held_streams: saturating_i64(self.limits.held_streams),
                replay_bytes: saturating_i64(self.limits.replay_bytes),
            },
            proof: Bytes::copy_from_slice(proof),
        }
    }
}

impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resume")
            .field(
                "session_id",
                &crate::ids::Short(&crate::ids::hex(&self.session_id)),
            )
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HoldfastWelcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HoldfastWelcome")
            .field("version", &self.version)
            .field(
                "session_id",
                &crate::ids::Short(&crate::ids::hex(&self.session_id)),
            )
            .field("grace", &self.grace)
            .field("endpoints", &self.endpoints)
            .field("limits", &self.limits)
            .field("proof", &crate::ids::Redacted::new(self.proof.is_none()))
            .finish_non_exhaustive()
    }
}

go_object! {
    struct HelloFields {
        version: i64,
        capabilities: Vec<String>,
        client_random: Bytes,
        instance: Bytes,
        resume: Option<ResumeFields>,
    }
}

go_object! {
    struct ResumeFields {
        session_id: Bytes as secret,
        proof: Bytes as secret,
    }
}

go_object! {
    struct WelcomeFields {
        version: i64,
        session_id: Bytes as secret,
        server_random: Bytes,
        grace_ms: i64,
        endpoints: Vec<EndpointFields>,
        limits: LimitFields,
        proof: Bytes as secret,
    }
}

go_object! {
    struct EndpointFields {
        transport: String,
        port: u16,
    }
}

impl EndpointFields {
    fn check(self) -> Option<EndpointOffer> {
        if self.port == 0 || !is_name(&self.transport) {
            return None;
        }
        Some(EndpointOffer {
            transport: self.transport,
            port: self.port,
        })
    }
}

go_object! {
    struct LimitFields {
        held_streams: i64,
        replay_bytes: i64,
    }
}

fn check_version(version: i64) -> Option<u32> {
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// Names are printed in logs and status.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_LEN && name.bytes().all(|b| b.is_ascii_graphic())
}

fn saturating_i64(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
