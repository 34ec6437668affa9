//! A certificate authority of a test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// Issues certificates, into a directory that goes with it (below `target/`, as that of a `static` stays).
pub(crate) struct Pki {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    ca: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pki-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("Authority in {}", dir.path().display()));
        let ca = dir.path().join("ca.crt");
        fs::write(&ca, params.self_signed(&key).expect("signed").pem()).expect("a file of our own");
        Self { dir, issuer: Issuer::new(params, key), ca }
    }

    /// Its own certificate.
    pub(crate) fn ca(&self) -> &Path {
        &self.ca
    }

    /// A certificate for `name`, in files that are named so as well.
    pub(crate) fn issue(&self, name: &str) -> Pair {
        self.sign(name, name, |_| ())
    }

    /// One whose time is over.
    pub(crate) fn issue_expired(&self, name: &str) -> Pair {
        self.sign(name, &format!("{name}-expired"), |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1))
    }

    fn sign(&self, name: &str, file: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).expect("signed").pem();
        let [cert, key] = [("crt", cert), ("key", key.serialize_pem())].map(|(kind, text)| {
            let path = self.dir.path().join(format!("{file}.{kind}"));
            fs::write(&path, text).expect("a file of our own");
            // Clients use no key that others can read.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of our own");
            path
        });
        Pair { cert, key }
    }
}

impl Pair {
    /// Puts this one in the place of `other`, whose file names stay.
    pub(crate) fn replace(&self, other: &Self) {
        for (from, to) in [(&self.cert, &other.cert), (&self.key, &other.key)] {
            fs::copy(from, to).expect("files of our own");
        }
    }
}
