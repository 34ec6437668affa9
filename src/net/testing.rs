//! Certificates and connected pairs for tests.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::options::{ClientTls, ServerTls, SslMode, TlsVersions};
use super::stream::Stream;

/// An authority, with a directory for its files.
pub(crate) struct Pki {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

/// A key and a certificate on disk.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) key: PathBuf,
    pub(crate) cert: PathBuf,
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self::named("Test Authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let ca_pem = params.self_signed(&key).expect("certificate").pem();
        Self { dir: TempDir::new().expect("directory"), issuer: Issuer::new(params, key), ca_pem }
    }

    /// Writes the authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.write("ca.crt", &self.ca_pem)
    }

    /// Issues a certificate for `names`.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Pair {
        self.issue_with(file, names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
    }

    pub(crate) fn issue_with(
        &self,
        file: &str,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let key = KeyPair::generate_for(algorithm).expect("key");
        let mut params = params(names);
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).expect("certificate").pem();
        self.pair(file, &key, &cert)
    }

    /// Makes a certificate that only its own key signed.
    pub(crate) fn self_signed(&self, file: &str, names: &[&str], algorithm: &'static SignatureAlgorithm) -> Pair {
        let key = KeyPair::generate_for(algorithm).expect("key");
        let mut params = params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained); // as `openssl req -x509` does
        let cert = params.self_signed(&key).expect("certificate").pem();
        self.pair(file, &key, &cert)
    }

    pub(crate) fn write(&self, file: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(file);
        fs::write(&path, content).expect("write");
        path
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn pair(&self, file: &str, key: &KeyPair, cert: &str) -> Pair {
        Pair {
            key: self.write(&format!("{file}.key"), &key.serialize_pem()),
            cert: self.write(&format!("{file}.crt"), cert),
        }
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("params")
}

pub(crate) fn client_tls(sslmode: SslMode, pair: &Pair, ca_file: Option<PathBuf>) -> ClientTls {
    ClientTls {
        sslmode,
        key_file: Some(pair.key.clone()),
        cert_file: Some(pair.cert.clone()),
        ca_file,
        versions: TlsVersions::default(),
        tls13_ciphers: Vec::new(),
    }
}

pub(crate) fn server_tls(sslmode: SslMode, pair: Option<&Pair>, ca_file: Option<PathBuf>) -> ServerTls {
    ServerTls {
        sslmode,
        key_file: pair.map(|pair| pair.key.clone()),
        cert_file: pair.map(|pair| pair.cert.clone()),
        ca_file,
        versions: TlsVersions::default(),
        tls13_ciphers: Vec::new(),
    }
}

/// Both ends of a TCP connection on loopback, the accepted one first. Without delays, as ours are.
pub(crate) async fn tcp_pair() -> (Stream, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let connected = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connect");
    let (accepted, _) = listener.accept().await.expect("accept");
    accepted.set_nodelay(true).expect("nodelay");
    connected.set_nodelay(true).expect("nodelay");
    (Stream::Tcp(accepted), Stream::Tcp(connected))
}
