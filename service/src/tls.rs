//! The certificate that clients are shown.
//!
//! In: the configured files, or a data directory. Out: a TLS configuration. MySQL 9 replicas want TLS unless told otherwise, so
//! without configured files a self-signed certificate is made at the first start, as mysqld does, and kept.

use std::fs::{self, File, OpenOptions};
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
    // Versions that did not sync them could leave empty files when the machine stopped.
    let there = |path: &Path| fs::metadata(path).is_ok_and(|m| m.len() > 0);
    if !there(&cert) || !there(&key) {
        let names = vec!["tributary".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)?;
        // The key first: a certificate without one would be taken for whole.
        put(&key, &made.signing_key.serialize_pem(), 0o600)?;
        put(&cert, &made.cert.pem(), 0o644)?;
        tracing::info!(cert = %cert.display(), "made a self-signed certificate for clients");
    }
    from_files(&cert, &key, taken)
}

/// Makes a file that is there as a whole or not at all, whenever the machine stops.
fn put(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_certificate_stays_and_is_made_again_when_a_part_is_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        let versions = TlsVersions {
            v1_2: true,
            v1_3: true,
        };
        let read = |name| fs::read(dir.path().join(name)).expect("it is there");
        own(dir.path(), versions).expect("made");
        let first = read(CERT);
        own(dir.path(), versions).expect("found");
        assert_eq!(read(CERT), first);
        for name in [KEY, CERT] {
            let before = read(CERT);
            fs::write(dir.path().join(name), "").expect("written");
            own(dir.path(), versions).expect("made again");
            assert_ne!(read(CERT), before, "{name}");
        }
        let left = fs::read_dir(dir.path()).expect("a directory").count();
        assert_eq!(left, 2);
    }
}
