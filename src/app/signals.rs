//! What signals mean: PgBouncer's meanings.

use std::future::pending;
use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::control::Hands;
use crate::admin::control::{Control, Later};
use crate::admin::error::CommandError;
use crate::telemetry::events::process as events;
use crate::telemetry::labels::StopMode;

/// The signals that have a meaning, from now on heard instead of what they do to a process by default.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    pause: Signal,
    resume: Signal,
}

impl Signals {
    /// Begins to hear them. To be called before anybody can know that the process is there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hear() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            pause: signal(SignalKind::user_defined1())?,
            resume: signal(SignalKind::user_defined2())?,
        })
    }

    /// Obeys them for as long as it is polled.
    pub async fn obey(mut self, hands: Arc<Hands>) {
        // It may take long, when a file is slow to be read; others are obeyed meanwhile, and another SIGHUP afterwards.
        let mut reload = None;
        loop {
            tokio::select! {
                _ = self.hangup.recv(), if reload.is_none() => reload = Some(hands.reload()),
                () = over(&mut reload) => reload = None,
                _ = self.terminate.recv() => hands.stop_or_hurry(StopMode::WaitForClients),
                _ = self.interrupt.recv() => hands.stop_or_hurry(StopMode::WaitForServers),
                _ = self.quit.recv() => hands.shutdown(StopMode::AtOnce),
                _ = self.pause.recv() => note("SIGUSR1", "PAUSE", hands.pause_until_resume()),
                _ = self.resume.recv() => note("SIGUSR2", "RESUME", hands.resume(None)),
            }
        }
    }
}

async fn over<T>(reload: &mut Option<Later<T>>) {
    match reload {
        Some(reload) => drop(reload.await),
        None => pending().await,
    }
}

fn note(signal: &'static str, command: &'static str, obeyed: Result<(), CommandError>) {
    match obeyed {
        Ok(()) => events::signal_obeyed(signal, command),
        Err(error) => events::signal_refused(signal, &error),
    }
}
