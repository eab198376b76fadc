//! What asks a hub or a package index, and whose word it takes for who they are.

use crate::Error;
use rustls_native_certs::{CertificateResult, load_native_certs};
use std::time::Duration;
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Variables that name certificates, as OpenSSL, curl and Python read them.
const NAMED_BY: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What asks `address`: within time limits, and over TLS alone when the address is.
///
/// # Errors
/// The certificates that `SSL_CERT_FILE` or `SSL_CERT_DIR` names cannot be read.
pub(crate) fn agent(address: &str) -> Result<Agent, Error> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A host with a certificate never sends on to one without.
        .https_only(address.starts_with("https://"))
        .tls_config(TlsConfig::builder().root_certs(trusted(load_native_certs(), is_set)?).build())
        // Weights live on another host, which must not see the token.
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .user_agent(concat!("pare/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(Duration::from_secs(15)))
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        // No limit on the whole of a body: weights may take hours. A connection that is silent for this long is dead.
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build();
    Ok(config.into())
}

/// Why a host cannot be reached, with what may help.
pub(crate) fn unreachable(error: &ureq::Error, setting: &str) -> String {
    let text = error.to_string();
    let advice = if text.contains("certificate") {
        format!("if this network has a certificate authority of its own, {} names its certificates", NAMED_BY[0])
    } else {
        format!("check the network, the proxy and {setting}")
    };
    format!("cannot be reached ({text}); {advice}")
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

/// What was `found` by the environment, else in the system, so that networks with an authority of their own are reached as others reach
/// them; where there is nothing, as in an empty container, Mozilla's list, which is built in.
fn trusted(found: CertificateResult, is_set: impl Fn(&str) -> bool) -> Result<RootCerts, Error> {
    if !found.certs.is_empty() {
        let owned = |der: &[u8]| Certificate::from_der(der).to_owned();
        return Ok(found.certs.iter().map(|certificate| owned(certificate)).collect::<Vec<_>>().into());
    }
    // Who names certificates means these and no others.
    if let Some(variable) = NAMED_BY.into_iter().find(|variable| is_set(variable)) {
        let why = found.errors.first().map_or_else(|| "no certificate is there".to_owned(), ToString::to_string);
        return Err(Error::Refused(format!(
            "{variable}: {why}; expected certificates in PEM, or the variable not set"
        )));
    }
    Ok(RootCerts::WebPki)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_native_certs::load_certs_from_paths;
    use std::path::Path;

    #[test]
    fn what_is_named_is_trusted_alone_and_nothing_is_mozillas_list() {
        let folder = tempfile::tempdir().unwrap();
        let pem = folder.path().join("one.pem");
        // Only its place between the marks is looked at here.
        std::fs::write(&pem, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let load = |file: &Path| load_certs_from_paths(Some(file), None);
        match trusted(load(&pem), |_| true).unwrap() {
            RootCerts::Specific(all) => assert_eq!(all.iter().map(|one| one.der()).collect::<Vec<_>>(), [[0, 0, 0]]),
            other => panic!("{other:?}"),
        }
        let missing = || load(&folder.path().join("none.pem"));
        let error = trusted(missing(), |name| name == "SSL_CERT_FILE").unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        for part in ["SSL_CERT_FILE", "none.pem", "PEM"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        std::fs::write(&pem, "nothing").unwrap();
        assert!(trusted(load(&pem), |name| name == "SSL_CERT_DIR").unwrap_err().to_string().contains("SSL_CERT_DIR"));
        assert!(matches!(trusted(missing(), |_| false).unwrap(), RootCerts::WebPki));
    }
}
