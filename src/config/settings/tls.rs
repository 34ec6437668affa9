//! `client_tls_*` and `server_tls_*`.

use super::kinds::{Form, Kind, unexpected};
use super::section::{Context, Raw};
use super::settings;
use super::texts::{Choice, FilePath, List};
use crate::config::model::{SslMode, TlsVersions};
use crate::net::options;

settings! {
    /// `client_tls_*`: TLS between clients and us.
    #[derive(Eq)]
    pub struct ClientTls {
        "TLS to clients" {
            /// Whether clients may or must use TLS: `allow` and `prefer` leave it to the client, `require` refuses the
            /// others, `verify-ca` and `verify-full` also ask for a certificate signed by `client_tls_ca_file`.
            /// Everything but `disable` needs `client_tls_key_file` and `client_tls_cert_file`.
            sslmode as "client_tls_sslmode": Choice<SslMode> = "disable", reload: live;
            /// Private key (PEM) for TLS with clients. Its contents are read again at every reload.
            key_file as "client_tls_key_file": FilePath = "", reload: live;
            /// Certificate chain (PEM) shown to clients. Its contents are read again at every reload.
            cert_file as "client_tls_cert_file": FilePath = "", reload: live;
            /// Certificates (PEM) that sign client certificates.
            ca_file as "client_tls_ca_file": FilePath = "", reload: live;
            /// TLS versions that clients may use: `secure` (1.2 and 1.3), or a list of `tlsv1.2` and `tlsv1.3`; `!`
            /// excludes one. Older versions are not offered.
            versions as "client_tls_protocols": TlsProtocols = "secure", reload: live;
            /// TLS 1.3 cipher suites for clients, in order of preference. Empty: all that are known.
            tls13_ciphers as "client_tls13_ciphers": Tls13Suites = "", reload: live;
        }
    }
}

settings! {
    /// `server_tls_*`: TLS between us and PostgreSQL.
    #[derive(Eq)]
    pub struct ServerTls {
        "TLS to servers" {
            /// Whether to use TLS with servers, as libpq's `sslmode`. `prefer` uses it where the server has it, and does
            /// not protect from someone in between; `verify-ca` and `verify-full` do, and need `server_tls_ca_file`.
            /// Unix sockets never use TLS.
            sslmode as "server_tls_sslmode": Choice<SslMode> = "prefer", reload: live;
            /// Private key (PEM) with which we prove who we are to servers. Needs `server_tls_cert_file`.
            key_file as "server_tls_key_file": FilePath = "", reload: live;
            /// Certificate (PEM) with which we prove who we are to servers. Needs `server_tls_key_file`.
            cert_file as "server_tls_cert_file": FilePath = "", reload: live;
            /// Certificates (PEM) that sign server certificates.
            ca_file as "server_tls_ca_file": FilePath = "", reload: live;
            /// TLS versions to use with servers; see `client_tls_protocols`.
            versions as "server_tls_protocols": TlsProtocols = "secure", reload: live;
            /// TLS 1.3 cipher suites to offer to servers, in order of preference. Empty: all that are known.
            tls13_ciphers as "server_tls13_ciphers": Tls13Suites = "", reload: live;
        }
    }
}

impl ClientTls {
    /// As sockets want it.
    pub fn options(&self) -> options::ClientTls {
        options::ClientTls {
            sslmode: self.sslmode,
            key_file: self.key_file.clone(),
            cert_file: self.cert_file.clone(),
            ca_file: self.ca_file.clone(),
            versions: self.versions,
            tls13_ciphers: self.tls13_ciphers.clone(),
        }
    }
}

impl ServerTls {
    /// As sockets want it.
    pub fn options(&self) -> options::ServerTls {
        options::ServerTls {
            sslmode: self.sslmode,
            key_file: self.key_file.clone(),
            cert_file: self.cert_file.clone(),
            ca_file: self.ca_file.clone(),
            versions: self.versions,
            tls13_ciphers: self.tls13_ciphers.clone(),
        }
    }
}

/// PgBouncer's list of protocol versions: `secure`, `all`, or names separated by `,` or `:`, `!` excluding.
#[derive(Debug)]
pub struct TlsProtocols;

impl Kind for TlsProtocols {
    type Value = TlsVersions;
    const FORM: Form = Form::Text;
    fn read(raw: &Raw<'_>, context: &mut Context) -> Result<TlsVersions, String> {
        let words = List::read(raw, context).map_err(|_| unexpected::<Self>(raw))?;
        let mut chosen = 0;
        for word in words.iter().flat_map(|word| word.split(':')).map(str::trim).filter(|word| !word.is_empty()) {
            let (excluded, name) = word.strip_prefix('!').map_or((false, word), |name| (true, name));
            let bits = version_bits(&name.to_ascii_lowercase()).ok_or_else(|| unexpected::<Self>(raw))?;
            // As libtls does: a list that begins with an exclusion excludes from everything.
            chosen = match excluded {
                true if chosen == 0 => EVERY & !bits,
                true => chosen & !bits,
                false => chosen | bits,
            };
        }
        let versions = TlsVersions { tls12: chosen & TLS12 != 0, tls13: chosen & TLS13 != 0 };
        if !versions.tls12 && !versions.tls13 {
            return Err(unexpected::<Self>(raw) + "; older versions are not offered");
        }
        if chosen & OLD != 0 {
            context.remarks.push("TLS 1.0 and 1.1 are not offered".into());
        }
        Ok(versions)
    }
    fn show(value: &TlsVersions) -> String {
        match (value.tls12, value.tls13) {
            (true, true) => "secure",
            (true, false) => "tlsv1.2",
            (false, true) => "tlsv1.3",
            (false, false) => "",
        }
        .into()
    }
    fn legal() -> String {
        "secure, or a list of tlsv1.2 and tlsv1.3".into()
    }
}

fn version_bits(name: &str) -> Option<u8> {
    Some(match name {
        "secure" | "default" => TLS12 | TLS13,
        "all" | "legacy" | "tlsv1" => EVERY,
        "tlsv1.0" | "tlsv1.1" => OLD,
        "tlsv1.2" => TLS12,
        "tlsv1.3" => TLS13,
        _ => return None,
    })
}

const OLD: u8 = 1;
const TLS12: u8 = 2;
const TLS13: u8 = 4;
const EVERY: u8 = TLS12 | TLS13 | OLD;

/// OpenSSL's names of TLS 1.3 suites, separated by `:` or `,`.
#[derive(Debug)]
pub struct Tls13Suites;

impl Kind for Tls13Suites {
    type Value = Vec<String>;
    const FORM: Form = Form::List;
    fn read(raw: &Raw<'_>, context: &mut Context) -> Result<Vec<String>, String> {
        let words = List::read(raw, context).map_err(|_| unexpected::<Self>(raw))?;
        words
            .iter()
            .flat_map(|word| word.split(':'))
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(|word| SUITES.iter().find(|suite| suite.eq_ignore_ascii_case(word)))
            .map(|suite| suite.map(|suite| (*suite).to_owned()).ok_or_else(|| unexpected::<Self>(raw)))
            .collect()
    }
    fn show(value: &Vec<String>) -> String {
        value.join(":")
    }
    fn legal() -> String {
        format!("a list of {}", SUITES.join(", "))
    }
}

/// The suites that the TLS library has.
const SUITES: [&str; 3] = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"];
