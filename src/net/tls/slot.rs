//! The TLS set-up in use, replaced at a reload without anyone who uses the old one noticing.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::accept::AcceptTls;
use super::connect::ConnectTls;
use super::error::TlsError;
use super::files::Inputs;
use crate::net::options::{ClientTls, ServerTls, SslMode};

/// Holds an [`AcceptTls`] or a [`ConnectTls`], or nothing where the mode is `disable`.
#[derive(Debug)]
pub struct TlsSlot<T> {
    current: ArcSwapOption<T>,
}

/// A set-up that could be built, to be put in place by [`TlsSlot::install`].
#[derive(Debug)]
pub struct Prepared<T>(Option<Option<Arc<T>>>);

/// What a reload did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// Settings, file names and contents are the same. What is in use stays.
    Unchanged,
    /// New connections use the new set-up.
    Changed,
}

impl TlsSlot<AcceptTls> {
    /// Builds the first set-up.
    ///
    /// # Errors
    /// Names the setting and the file that is wrong.
    pub fn for_clients(settings: &ClientTls) -> Result<Self, TlsError> {
        let slot = Self { current: ArcSwapOption::empty() };
        slot.install(slot.prepare(settings)?);
        Ok(slot)
    }

    /// Builds what these settings say, unless it is in use already. Changes nothing yet.
    ///
    /// # Errors
    /// Names the setting and the file that is wrong.
    pub fn prepare(&self, settings: &ClientTls) -> Result<Prepared<AcceptTls>, TlsError> {
        if settings.sslmode == SslMode::Disable {
            return Ok(self.prepare_none());
        }
        let inputs = Inputs::of_clients(settings)?;
        if self.load().is_some_and(|current| current.fingerprint == inputs.fingerprint()) {
            return Ok(Prepared(None));
        }
        Ok(Prepared(Some(Some(Arc::new(AcceptTls::from_inputs(&inputs)?)))))
    }
}

impl TlsSlot<ConnectTls> {
    /// Builds the first set-up.
    ///
    /// # Errors
    /// Names the setting and the file that is wrong.
    pub fn for_servers(settings: &ServerTls) -> Result<Self, TlsError> {
        let slot = Self { current: ArcSwapOption::empty() };
        slot.install(slot.prepare(settings)?);
        Ok(slot)
    }

    /// Builds what these settings say, unless it is in use already. Changes nothing yet.
    ///
    /// # Errors
    /// Names the setting and the file that is wrong.
    pub fn prepare(&self, settings: &ServerTls) -> Result<Prepared<ConnectTls>, TlsError> {
        if settings.sslmode == SslMode::Disable {
            return Ok(self.prepare_none());
        }
        let inputs = Inputs::of_servers(settings)?;
        if self.load().is_some_and(|current| current.fingerprint == inputs.fingerprint()) {
            return Ok(Prepared(None));
        }
        Ok(Prepared(Some(Some(Arc::new(ConnectTls::from_inputs(&inputs)?)))))
    }
}

impl<T> TlsSlot<T> {
    /// The set-up in use; `None` where TLS is off.
    pub fn load(&self) -> Option<Arc<T>> {
        self.current.load_full()
    }

    /// Puts in place what was prepared. Cannot fail, so that a reload of many things is all or nothing.
    pub fn install(&self, prepared: Prepared<T>) -> Reloaded {
        match prepared.0 {
            None => Reloaded::Unchanged,
            Some(next) => {
                self.current.store(next);
                Reloaded::Changed
            }
        }
    }

    fn prepare_none(&self) -> Prepared<T> {
        Prepared(self.load().is_some().then_some(None))
    }
}
