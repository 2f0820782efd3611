//! The two hellos that open a v2 control stream, and the keys that come out of them.
//!
//! The client offers algorithms and a random, the server picks one and adds its own. The keys
//! depend on both hellos byte for byte, and on the token: whoever changes a hello on the way ends
//! up with other keys. So the payloads are kept as they were on the wire, and never written anew.

use std::fmt;

use bytes::Bytes;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::json::{JsonError, Object as _, go_object};

/// Bytes in the random of each side.
pub const RANDOM_LEN: usize = 32;

/// The ciphers of a v2 control stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `aes-256-gcm`
    Aes256Gcm,
    /// `xchacha20-poly1305`
    XChaCha20Poly1305,
}

impl Algorithm {
    /// Both, the faster on this processor first.
    pub fn preferred() -> [Self; 2] {
        if has_fast_aes() {
            [Self::Aes256Gcm, Self::XChaCha20Poly1305]
        } else {
            [Self::XChaCha20Poly1305, Self::Aes256Gcm]
        }
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::XChaCha20Poly1305 => "xchacha20-poly1305",
        }
    }

    /// By the name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Aes256Gcm, Self::XChaCha20Poly1305]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The payload of the client's hello, with the algorithms that suit this processor.
///
/// `transport` is the configured name, `tls` whether TLS is in use, `tcp_mux` whether streams are
/// multiplexed; frp's server ignores all three.
pub fn client_hello(transport: &str, tls: bool, tcp_mux: bool, random: [u8; RANDOM_LEN]) -> Bytes {
    client_hello_with(transport, tls, tcp_mux, &Algorithm::preferred(), random)
}

/// The payload of the client's hello, with these algorithms.
pub fn client_hello_with(
    transport: &str,
    tls: bool,
    tcp_mux: bool,
    algorithms: &[Algorithm],
    random: [u8; RANDOM_LEN],
) -> Bytes {
    let hello = ClientHello {
        bootstrap: Bootstrap {
            transport: transport.to_owned(),
            tls,
            tcp_mux,
        },
        capabilities: Capabilities {
            message: MessageCapabilities {
                codecs: vec![CODEC_JSON.to_owned()],
            },
            crypto: CryptoCapabilities {
                algorithms: algorithms.iter().map(|a| a.name().to_owned()).collect(),
                client_random: Bytes::copy_from_slice(&random),
            },
        },
    };
    hello.to_json().freeze()
}

/// What the server answers to a client's hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The payload of the server's hello.
    pub server_hello: Bytes,
    /// The cipher that both use from here on.
    pub algorithm: Algorithm,
}

/// A hello that the server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub error: HelloError,
    /// The payload of the server's hello that says so. None when the client's is no JSON: then frp
    /// closes without a word.
    pub server_hello: Option<Bytes>,
}

/// Server: answers the payload of a client's hello.
pub fn negotiate(
    client_hello: &[u8],
    server_random: [u8; RANDOM_LEN],
) -> Result<Negotiated, Refusal> {
    let hello = ClientHello::from_json(client_hello).map_err(|error| Refusal {
        error: HelloError::Json(error),
        server_hello: None,
    })?;
    let algorithm = select(&hello.capabilities).map_err(|error| Refusal {
        server_hello: Some(server_hello(None, Bytes::new(), error.to_string())),
        error,
    })?;
    let random = Bytes::copy_from_slice(&server_random);
    Ok(Negotiated {
        server_hello: server_hello(Some(algorithm), random, String::new()),
        algorithm,
    })
}

/// Client: checks the payload of the server's hello against its own.
pub fn check_server_hello(
    client_hello: &[u8],
    server_hello: &[u8],
) -> Result<Algorithm, HelloError> {
    let offered = ClientHello::from_json(client_hello).map_err(HelloError::Json)?;
    let hello = ServerHello::from_json(server_hello).map_err(HelloError::Json)?;
    if !hello.error.is_empty() {
        return Err(HelloError::Refused(hello.error));
    }
    let Selected { message, crypto } = hello.selected;
    if message.codec != CODEC_JSON {
        return Err(HelloError::SelectedCodec(message.codec));
    }
    let Some(algorithm) = Algorithm::from_name(&crypto.algorithm) else {
        return Err(HelloError::SelectedUnknown(crypto.algorithm));
    };
    if !offered
        .capabilities
        .crypto
        .algorithms
        .contains(&crypto.algorithm)
    {
        return Err(HelloError::SelectedNotOffered(crypto.algorithm));
    }
    if crypto.server_random.len() != RANDOM_LEN {
        return Err(HelloError::ServerRandom(crypto.server_random.len()));
    }
    Ok(algorithm)
}

/// The keys of the two directions of a control stream.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlKeys {
    /// What both encrypt with.
    pub algorithm: Algorithm,
    /// Key of what the client sends.
    pub client_to_server: [u8; 32],
    /// Key of what the server sends.
    pub server_to_client: [u8; 32],
}

impl ControlKeys {
    /// Derives the keys from the token and the payloads of both hellos, as they were on the wire.
    pub fn derive(
        token: &[u8],
        algorithm: Algorithm,
        client_hello: &[u8],
        server_hello: &[u8],
    ) -> Self {
        let transcript = transcript(client_hello, server_hello);
        let hkdf = Hkdf::<Sha256>::new(Some(&transcript), token);
        let expand = |direction: &str| {
            let mut key = [0; 32];
            let info = [
                "frp wire v2 control aead ",
                algorithm.name(),
                " ",
                direction,
            ];
            hkdf.expand_multi_info(&info.map(str::as_bytes), &mut key)
                .expect("32 bytes are far below HKDF's limit of 255 blocks");
            key
        };
        Self {
            algorithm,
            client_to_server: expand("client-to-server"),
            server_to_client: expand("server-to-client"),
        }
    }
}

impl fmt::Debug for ControlKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlKeys")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The hash over both hellos that the keys depend on.
pub fn transcript(client_hello: &[u8], server_hello: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"frp wire v2 crypto transcript");
    for (label, payload) in [
        ("client hello", client_hello),
        ("server hello", server_hello),
    ] {
        hash.update([0]);
        hash.update(label);
        hash.update([0]);
        hash.update((payload.len() as u64).to_be_bytes());
        hash.update(payload);
    }
    hash.finalize().into()
}

/// Why there is no agreement. The first four texts are frp's, and go to the peer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HelloError {
    /// The client does not speak JSON.
    #[error("unsupported message codec")]
    Codec,
    /// The client's random has a wrong length.
    #[error("invalid crypto client random length {0}, want 32")]
    ClientRandom(usize),
    /// The client offers no algorithm that is known.
    #[error("no supported crypto algorithm")]
    NoAlgorithm,
    /// The server refused the client's hello, with this text.
    #[error("{0}")]
    Refused(String),
    /// The server picked another codec than JSON.
    #[error("unsupported selected message codec: {0}")]
    SelectedCodec(String),
    /// The server picked an unknown algorithm.
    #[error("unknown selected crypto algorithm: {0}")]
    SelectedUnknown(String),
    /// The server picked an algorithm that was not offered.
    #[error("selected crypto algorithm was not advertised by client: {0}")]
    SelectedNotOffered(String),
    /// The server's random has a wrong length.
    #[error("invalid crypto server random length {0}, want 32")]
    ServerRandom(usize),
    /// The hello is no JSON, or of the wrong type somewhere.
    #[error("cannot read hello: {0}")]
    Json(JsonError),
}

/// Picks the first of the client's algorithms that is known.
fn select(capabilities: &Capabilities) -> Result<Algorithm, HelloError> {
    if !capabilities
        .message
        .codecs
        .iter()
        .any(|codec| codec == CODEC_JSON)
    {
        return Err(HelloError::Codec);
    }
    let crypto = &capabilities.crypto;
    if crypto.client_random.len() != RANDOM_LEN {
        return Err(HelloError::ClientRandom(crypto.client_random.len()));
    }
    let known = crypto
        .algorithms
        .iter()
        .find_map(|name| Algorithm::from_name(name));
    known.ok_or(HelloError::NoAlgorithm)
}

fn server_hello(algorithm: Option<Algorithm>, server_random: Bytes, error: String) -> Bytes {
    let algorithm = algorithm.map(|a| a.name().to_owned()).unwrap_or_default();
    let selected = Selected {
        message: SelectedMessage {
            codec: CODEC_JSON.to_owned(),
        },
        crypto: SelectedCrypto {
            algorithm,
            server_random,
        },
    };
    ServerHello { selected, error }.to_json().freeze()
}

/// Whether the processor has instructions for AES and for the multiplication in GCM. The same list
/// as frp's, so that a Go peer meets the choice that it would make itself.
fn has_fast_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq")
        && std::arch::is_x86_feature_detected!("sse4.1")
        && std::arch::is_x86_feature_detected!("ssse3");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// The only encoding of messages that there is.
const CODEC_JSON: &str = "json";

go_object! {
    struct ClientHello {
        bootstrap: Bootstrap,
        capabilities: Capabilities,
    }
}

go_object! {
    struct Bootstrap {
        transport: String,
        tls: bool,
        tcp_mux: bool = "tcpMux",
    }
}

go_object! {
    struct Capabilities {
        message: MessageCapabilities,
        crypto: CryptoCapabilities,
    }
}

go_object! {
    struct MessageCapabilities {
        codecs: Vec<String>,
    }
}

go_object! {
    struct CryptoCapabilities {
        algorithms: Vec<String>,
        client_random: Bytes = "clientRandom",
    }
}

go_object! {
    struct ServerHello {
        selected: Selected,
        error: String,
    }
}

go_object! {
    struct Selected {
        message: SelectedMessage,
        crypto: SelectedCrypto,
    }
}

go_object! {
    struct SelectedMessage {
        codec: String,
    }
}

go_object! {
    struct SelectedCrypto {
        algorithm: String,
        server_random: Bytes = "serverRandom",
    }
}
