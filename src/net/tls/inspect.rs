//! Whether settings make a set-up, without using it.

use std::time::SystemTime;

use super::accept::AcceptTls;
use super::connect::ConnectTls;
use super::error::TlsError;
use super::files::Inputs;
use crate::net::options::{ClientTls, ServerTls, SslMode};

/// What is to be said of one side's settings and files.
#[derive(Debug, Default)]
pub struct Inspection {
    /// Why there can be no set-up.
    pub error: Option<TlsError>,
    /// What peers will not like though we can use it, by the setting.
    pub remarks: Vec<(&'static str, String)>,
}

/// Builds what towards clients would be used at this time, and says what is wrong with it.
pub fn inspect_clients(settings: &ClientTls, now: SystemTime) -> Inspection {
    inspect(settings.sslmode, now, || Inputs::of_clients(settings), |inputs| AcceptTls::from_inputs(inputs).map(drop))
}

/// Builds what towards servers would be used at this time, and says what is wrong with it.
pub fn inspect_servers(settings: &ServerTls, now: SystemTime) -> Inspection {
    inspect(settings.sslmode, now, || Inputs::of_servers(settings), |inputs| ConnectTls::from_inputs(inputs).map(drop))
}

fn inspect(
    mode: SslMode,
    now: SystemTime,
    read: impl FnOnce() -> Result<Inputs, TlsError>,
    build: impl FnOnce(&Inputs) -> Result<(), TlsError>,
) -> Inspection {
    if mode == SslMode::Disable {
        return Inspection::default();
    }
    match read() {
        Ok(inputs) => Inspection { error: build(&inputs).err(), remarks: inputs.remarks(now) },
        Err(error) => Inspection { error: Some(error), remarks: Vec::new() },
    }
}
