//! Whom a remote trusts beside the system's certificates.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::RemoteError;

/// The file's content, if it is certificates: the TLS library takes that for granted.
pub(super) fn certificates(file: &Path) -> Result<Vec<u8>, RemoteError> {
    let wrong = |why: String| {
        RemoteError::permanent(format!(
            "the certificates in {} cannot be used: {why}",
            file.display()
        ))
    };
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(wrong(
            "it has none; they look like -----BEGIN CERTIFICATE-----".to_owned(),
        )),
        false => Ok(pem),
    }
}
