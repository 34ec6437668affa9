//! What the operator chose for sockets and TLS, as values. Settings are parsed elsewhere.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Socket options for TCP, on both sides. `None` leaves the kernel's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// Whether the kernel probes idle connections.
    pub keepalive: bool,
    /// How many unanswered probes end a connection.
    pub keepcnt: Option<u32>,
    /// How long a connection is idle before the first probe.
    pub keepidle: Option<Duration>,
    /// The time between probes.
    pub keepintvl: Option<Duration>,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
    /// Size of the kernel's buffers in each direction, in bytes.
    pub socket_buffer: Option<u32>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            keepalive: true,
            keepcnt: None,
            keepidle: None,
            keepintvl: None,
            user_timeout: None,
            socket_buffer: None,
        }
    }
}

impl TcpOptions {
    /// Sets the options on a TCP socket, and always TCP_NODELAY: without it a TLS handshake
    /// takes 40 ms longer, because each side waits for the other's delayed acknowledgement.
    ///
    /// # Errors
    /// The kernel's, when a value is out of its range.
    pub(super) fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if self.keepalive {
            socket.set_tcp_keepalive(&self.probes())?;
        } else {
            socket.set_keepalive(false)?;
        }
        if let Some(limit) = self.user_timeout {
            socket.set_tcp_user_timeout(Some(limit))?;
        }
        if let Some(bytes) = self.socket_buffer {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            socket.set_recv_buffer_size(bytes)?;
            socket.set_send_buffer_size(bytes)?;
        }
        Ok(())
    }

    /// Sets the options on a socket that has had others: what is left to the system is what a new socket has. Only
    /// the size of buffers, once it was set, can't be given back to the system.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(super) fn replace_on(&self, socket: &SockRef<'_>) -> io::Result<()> {
        let new = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        let all = Self {
            keepcnt: Some(self.keepcnt.map_or_else(|| new.tcp_keepalive_retries(), Ok)?),
            keepidle: Some(self.keepidle.map_or_else(|| new.tcp_keepalive_time(), Ok)?),
            keepintvl: Some(self.keepintvl.map_or_else(|| new.tcp_keepalive_interval(), Ok)?),
            ..*self
        };
        all.apply(socket)?;
        socket.set_tcp_user_timeout(self.user_timeout)
    }

    /// The settings that the kernel doesn't take, and what it says.
    pub fn refused(&self) -> Vec<(&'static str, io::Error)> {
        let none = Self::default();
        let alone = [
            ("tcp_keepcnt", Self { keepcnt: self.keepcnt, ..none }),
            ("tcp_keepidle", Self { keepidle: self.keepidle, ..none }),
            ("tcp_keepintvl", Self { keepintvl: self.keepintvl, ..none }),
            ("tcp_user_timeout", Self { user_timeout: self.user_timeout, ..none }),
            ("tcp_socket_buffer", Self { socket_buffer: self.socket_buffer, ..none }),
        ];
        let refusal = |(setting, options): (&'static str, Self)| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).ok()?;
            Some((setting, options.apply(&SockRef::from(&socket)).err()?))
        };
        alone.into_iter().filter_map(refusal).collect()
    }

    fn probes(&self) -> TcpKeepalive {
        let mut probes = TcpKeepalive::new();
        if let Some(idle) = self.keepidle {
            probes = probes.with_time(idle);
        }
        if let Some(interval) = self.keepintvl {
            probes = probes.with_interval(interval);
        }
        if let Some(count) = self.keepcnt {
            probes = probes.with_retries(count);
        }
        probes
    }
}

/// TLS between us and one side, as PgBouncer names the modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if the other side insists (client side: if it asks).
    Allow,
    /// TLS if the other side can.
    Prefer,
    /// TLS or nothing.
    Require,
    /// And the peer's certificate chains to our CA.
    VerifyCa,
    /// And it names the peer.
    VerifyFull,
}

impl SslMode {
    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether a connection without TLS is refused.
    pub fn requires_tls(self) -> bool {
        self >= Self::Require
    }

    /// Whether the peer must show a certificate that chains to our CA.
    pub fn verifies(self) -> bool {
        self >= Self::VerifyCa
    }
}

/// Which protocol versions are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
}

impl Default for TlsVersions {
    fn default() -> Self {
        Self { tls12: true, tls13: true }
    }
}

/// `client_tls_*`: we are the TLS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// Whether clients may, or must, use TLS.
    pub sslmode: SslMode,
    /// Our private key, PEM.
    pub key_file: Option<PathBuf>,
    /// Our certificate and what links it to a root, PEM.
    pub cert_file: Option<PathBuf>,
    /// Who may sign clients' certificates, PEM. Used by the verifying modes only.
    pub ca_file: Option<PathBuf>,
    /// Protocol versions.
    pub versions: TlsVersions,
    /// OpenSSL names of TLS 1.3 suites, in order of preference; empty: all.
    pub tls13_ciphers: Vec<String>,
}

/// `server_tls_*`: we are the TLS client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Whether servers must have TLS, and what of them is verified.
    pub sslmode: SslMode,
    /// The private key of our client certificate, PEM.
    pub key_file: Option<PathBuf>,
    /// Our client certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// Who may sign servers' certificates, PEM. Used by the verifying modes only.
    pub ca_file: Option<PathBuf>,
    /// Protocol versions.
    pub versions: TlsVersions,
    /// OpenSSL names of TLS 1.3 suites, in order of preference; empty: all.
    pub tls13_ciphers: Vec<String>,
}
