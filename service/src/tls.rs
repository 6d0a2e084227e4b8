//! The certificate that clients are shown.
//!
//! In: the configured files, or a data directory. Out: a TLS configuration. MySQL 9 replicas want TLS unless told otherwise, so
//! without configured files a self-signed certificate is made at the first start, as mysqld does, and kept.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use crate::config::TlsVersions;

/// Name of the generated certificate in the data directory.
const CERT: &str = "server-cert.pem";
/// Name of its private key.
const KEY: &str = "server-key.pem";

/// TLS from PEM files: a certificate chain and its private key.
pub(crate) fn from_files(
    cert: &Path,
    key: &Path,
    taken: TlsVersions,
) -> anyhow::Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .with_context(|| cert.display().to_string())?;
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let mut versions: Vec<&SupportedProtocolVersion> = Vec::new();
    versions.extend(taken.v1_2.then_some(&TLS12));
    versions.extend(taken.v1_3.then_some(&TLS13));
    builder
        .with_protocol_versions(&versions)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .context("certificate and key")
}

/// TLS with the directory's own certificate, which is made if there is none.
pub(crate) fn own(dir: &Path, taken: TlsVersions) -> anyhow::Result<ServerConfig> {
    let (cert, key) = (dir.join(CERT), dir.join(KEY));
    if !cert.exists() || !key.exists() {
        let names = vec!["tributary".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)?;
        // The key first: a certificate without one would be taken for whole.
        write_private(&key, &made.signing_key.serialize_pem())?;
        fs::write(&cert, made.cert.pem()).with_context(|| cert.display().to_string())?;
        tracing::info!(cert = %cert.display(), "made a self-signed certificate for clients");
    }
    from_files(&cert, &key, taken)
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut f| f.write_all(text.as_bytes()))
        .with_context(|| path.display().to_string())
}
