//! AES-128-CFB: the v1 control stream, and encrypted payload in both wire versions.
//!
//! Each direction is an initialisation vector and then one long ciphertext, without frames and
//! without authentication. The vector goes out with the first byte that is written, so a reader
//! must not wait for it before it writes itself.

use std::fmt;

use aes::Aes128;
use cfb_mode::cipher::{
    Block, BlockCipherEncrypt as _, BlockModeDecrypt as _, BlockModeEncrypt as _, InnerIvInit as _,
    KeyInit as _,
};
use sha1::Sha1;

/// Bytes of a key.
pub const KEY_LEN: usize = 16;
/// Bytes of an initialisation vector.
pub const IV_LEN: usize = 16;

/// frp's iterations. Few: the token should be long and random.
const PBKDF2_ROUNDS: u32 = 64;
const PBKDF2_SALT: &[u8] = b"frp";

/// The key for `secret`, which is the token, or the secret key of a visitor.
pub fn derive_key(secret: &[u8]) -> [u8; KEY_LEN] {
    pbkdf2::pbkdf2_hmac_array::<Sha1, KEY_LEN>(secret, PBKDF2_SALT, PBKDF2_ROUNDS)
}

/// Encrypts one direction.
pub struct Encryptor(State);

impl Encryptor {
    /// Starts a direction. The caller sends `iv`, which must be random, ahead of the ciphertext.
    pub fn new(key: &[u8; KEY_LEN], iv: [u8; IV_LEN]) -> Self {
        Self(State::new(key, iv))
    }

    /// Encrypts the next bytes of the stream in place.
    pub fn apply(&mut self, data: &mut [u8]) {
        let data = self.0.finish_block(data, encrypt_byte);
        let (blocks, tail) = Block::<Aes128>::slice_as_chunks_mut(data);
        cfb_mode::Encryptor::inner_iv_init(&self.0.cipher, &self.0.register).encrypt_blocks(blocks);
        if let Some(last) = blocks.last() {
            self.0.register = *last;
        }
        self.0.begin_block(tail, encrypt_byte);
    }
}

/// Decrypts one direction.
pub struct Decryptor(State);

impl Decryptor {
    /// Starts a direction with the `iv` that came ahead of the ciphertext.
    pub fn new(key: &[u8; KEY_LEN], iv: [u8; IV_LEN]) -> Self {
        Self(State::new(key, iv))
    }

    /// Decrypts the next bytes of the stream in place.
    pub fn apply(&mut self, data: &mut [u8]) {
        let data = self.0.finish_block(data, decrypt_byte);
        let (blocks, tail) = Block::<Aes128>::slice_as_chunks_mut(data);
        let last = blocks.last().copied();
        // Decryption runs several blocks at once: each needs only the ciphertext before it.
        cfb_mode::Decryptor::inner_iv_init(&self.0.cipher, &self.0.register).decrypt_blocks(blocks);
        if let Some(last) = last {
            self.0.register = last;
        }
        self.0.begin_block(tail, decrypt_byte);
    }
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryptor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decryptor").finish_non_exhaustive()
    }
}

/// Where a direction is. Writes end in the middle of blocks, and the next goes on there.
struct State {
    cipher: Aes128,
    /// The ciphertext of the last whole block (at first the vector), overwritten from the front by
    /// that of the block being worked on.
    register: Block<Aes128>,
    /// What the block being worked on is combined with.
    keystream: Block<Aes128>,
    /// How much of `keystream` is used; all of it between blocks.
    used: usize,
}

impl State {
    fn new(key: &[u8; KEY_LEN], iv: [u8; IV_LEN]) -> Self {
        Self {
            cipher: Aes128::new(&(*key).into()),
            register: iv.into(),
            keystream: Block::<Aes128>::default(),
            used: IV_LEN,
        }
    }

    /// Goes on with the block that the last write left unfinished, and returns what is beyond it.
    fn finish_block<'d>(&mut self, data: &'d mut [u8], byte: ByteFn) -> &'d mut [u8] {
        let len = data.len().min(IV_LEN - self.used);
        let (head, rest) = data.split_at_mut(len);
        for data in head {
            self.register[self.used] = byte(data, self.keystream[self.used]);
            self.used += 1;
        }
        rest
    }

    /// Begins a block with `data`, which is shorter than one.
    fn begin_block(&mut self, data: &mut [u8], byte: ByteFn) {
        if data.is_empty() {
            return;
        }
        self.keystream = self.register;
        self.cipher.encrypt_block(&mut self.keystream);
        self.used = 0;
        self.finish_block(data, byte);
    }
}

/// Turns one byte into the other text, and returns the ciphertext.
type ByteFn = fn(&mut u8, u8) -> u8;

fn encrypt_byte(data: &mut u8, key: u8) -> u8 {
    *data ^= key;
    *data
}

fn decrypt_byte(data: &mut u8, key: u8) -> u8 {
    let ciphertext = *data;
    *data ^= key;
    ciphertext
}
