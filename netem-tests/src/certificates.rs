//! Certificates for mutual TLS: an authority, a server, a client.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// The files of one authority and the two certificates it has signed.
#[derive(Debug)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// The name that the server's certificate carries.
    pub const SERVER_NAME: &str = "frps.test";

    /// Makes all of them and writes them into `dir`.
    pub fn write(dir: &Path) -> Result<Self> {
        let authority_key = KeyPair::generate()?;
        let mut authority = named("Holdfast test authority", Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(
            dir.join("ca.crt"),
            authority.self_signed(&authority_key)?.pem(),
        )?;
        let issuer = Issuer::new(authority, authority_key);

        for (file, name) in [("server", Self::SERVER_NAME), ("client", "frpc.test")] {
            let key = KeyPair::generate()?;
            let certificate = named(name, vec![name.to_owned()])?.signed_by(&key, &issuer)?;
            fs::write(dir.join(format!("{file}.crt")), certificate.pem())?;
            fs::write(dir.join(format!("{file}.key")), key.serialize_pem())?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
        })
    }

    /// Returns the lines of a configuration that make the program show the certificate of
    /// `owner` (`server` or `client`) and check the peer's.
    pub fn toml(&self, owner: &str) -> String {
        let dir = self.dir.display();
        format!(
            "transport.tls.certFile = \"{dir}/{owner}.crt\"\n\
             transport.tls.keyFile = \"{dir}/{owner}.key\"\n\
             transport.tls.trustedCaFile = \"{dir}/ca.crt\"\n"
        )
    }
}

fn named(common_name: &str, alt_names: Vec<String>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(alt_names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    Ok(params)
}
