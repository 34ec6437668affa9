//! PAUSE and RESUME: since when a pause holds, and for whom. It ends by RESUME, or with the last who asked for it, unless
//! somebody was told that it holds.

use std::future::Future;
use std::sync::Arc;

use super::commands::CommandError;
use super::gate::HoldReason;
use super::now;
use super::pool::Pool;
use super::registry::{Book, Pools, Registry};
use crate::telemetry::events::pool as events;

/// A pause that holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    number: u64,
    /// How many wait to be told that it holds.
    waiting: u32,
    /// Only RESUME ends it.
    kept: bool,
}

impl Pause {
    /// From now on only RESUME ends it.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Pools {
    /// PAUSE: nobody gets a server any more. The future ends when no server is used or checked; its error is
    /// [`CommandError::PauseEnded`], for whoever reads success takes the servers to be free. Dropping it before takes this
    /// request back, and nobody else's.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn pause(
        &self,
        database: Option<&str>,
    ) -> Result<impl Future<Output = Result<(), CommandError>> + Send + 'static + use<>, CommandError> {
        self.check(database, "pause")?;
        let number = self.registry.with_book(|book| {
            if book.pooler_paused.is_some() {
                return Err(CommandError::AlreadyPaused);
            }
            let pause = book.pause(database);
            pause.waiting += 1;
            Ok(pause.number)
        })?;
        let (registry, database) = (self.registry.clone(), database.map(Arc::<str>::from));
        let asked = Asked { registry, database, number };
        events::operated("PAUSE", asked.database());
        self.registry.follow_pause(asked.database());
        Ok(async move {
            let settled = asked.registry.settled().clone();
            let mut held = Ok(());
            settled
                .until(|| {
                    held = asked.still_holds();
                    held.is_err() || asked.registry.all_of(asked.database(), Pool::is_quiet)
                })
                .await;
            held.and_then(|()| asked.confirm())
        })
    }

    /// PAUSE of everything by one who waits for nothing and can't take it back: it holds until RESUME, be there others who
    /// wait for it or not.
    ///
    /// # Errors
    /// [`CommandError::AlreadyPaused`]: it did already.
    pub fn pause_until_resume(&self) -> Result<(), CommandError> {
        self.registry.with_book(|book| match book.pause(None) {
            pause if pause.kept => Err(CommandError::AlreadyPaused),
            pause => {
                pause.keep();
                Ok(())
            }
        })?;
        events::operated("PAUSE", None);
        self.registry.follow_pause(None);
        Ok(())
    }

    /// RESUME: ends PAUSE, and what KILL left.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn resume(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.check(database, "resume")?;
        self.registry.with_book(|book| {
            if book.ending {
                return Err(CommandError::ShuttingDown);
            }
            let ended = book.paused_mut(database).and_then(Option::take);
            match (ended, database) {
                (Some(_), _) => Ok(()),
                (None, None) => Err(CommandError::NotPaused { by_name: book.paused_by_name() }),
                (None, Some(name)) => Err(CommandError::DatabaseNotPaused(name.into())),
            }
        })?;
        events::operated("RESUME", database);
        self.registry.follow_pause(database);
        Ok(())
    }

    /// Whether a database is paused, by itself or with all.
    pub fn is_paused(&self, database: &str) -> bool {
        self.is_pooler_paused() || self.registry.pause_number(Some(database)).is_some()
    }

    /// Whether everything is paused.
    pub fn is_pooler_paused(&self) -> bool {
        self.registry.pause_number(None).is_some()
    }
}

/// A PAUSE that somebody waits for. When it is dropped they do no more.
struct Asked {
    registry: Arc<Registry>,
    database: Option<Arc<str>>,
    number: u64,
}

impl Asked {
    fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Whether it is still this pause that holds: there may have been a RESUME and another PAUSE since.
    fn still_holds(&self) -> Result<(), CommandError> {
        let number = self.registry.pause_number(self.database());
        if number == Some(self.number) { Ok(()) } else { Err(self.ended()) }
    }

    /// They are told that it holds.
    fn confirm(&self) -> Result<(), CommandError> {
        let kept = self.of_mine(Pause::keep);
        kept.ok_or_else(|| self.ended())
    }

    fn ended(&self) -> CommandError {
        let known = |name: &Arc<str>| self.registry.with_book(|book| book.config.database(name).is_some());
        let removed = self.database.as_ref().is_some_and(|name| !known(name));
        CommandError::PauseEnded { by: if removed { "a reload without the database" } else { "RESUME" } }
    }

    /// Does something to this pause, if it is still there.
    fn of_mine<T>(&self, act: impl FnOnce(&mut Pause) -> T) -> Option<T> {
        self.registry.with_book(|book| {
            let pause = book.paused_mut(self.database())?.as_mut()?;
            (pause.number == self.number).then(|| act(pause))
        })
    }
}

impl Drop for Asked {
    /// A pause that nobody waits for, and nobody knows of, would hold all clients with nobody to end it.
    fn drop(&mut self) {
        let over = self.registry.with_book(|book| {
            let paused = book.paused_mut(self.database())?;
            let pause = paused.as_mut().filter(|pause| pause.number == self.number)?;
            pause.waiting -= 1;
            (pause.waiting == 0 && !pause.kept).then(|| *paused = None)
        });
        if over.is_some() {
            events::pause_given_up(self.database());
            self.registry.follow_pause(self.database());
        }
    }
}

impl Registry {
    fn pause_number(&self, database: Option<&str>) -> Option<u64> {
        self.with_book(|book| book.paused_mut(database).and_then(|paused| paused.map(|pause| pause.number)))
    }

    /// Has the pools hold or go on, as the book says. Who pauses and who resumes may do this at once: whoever is last looks
    /// whether the book still says so.
    fn follow_pause(&self, database: Option<&str>) {
        let reason = if database.is_some() { HoldReason::DatabasePaused } else { HoldReason::PoolerPaused };
        let mut number = self.pause_number(database);
        loop {
            for pool in self.of(database) {
                let now = now();
                match number {
                    Some(_) => pool.order(now, |inner, deeds| inner.state.hold(reason, deeds)),
                    None => pool.event(now, |inner, deeds| inner.state.release(reason, now, deeds)),
                }
            }
            let told = std::mem::replace(&mut number, self.pause_number(database));
            if told == number {
                break;
            }
        }
        self.settled().tell();
    }
}

impl Book {
    /// The pause of a database by itself, or of everything, that holds or begins.
    pub(super) fn pause(&mut self, database: Option<&str>) -> &mut Pause {
        self.pauses += 1;
        let new = Pause { number: self.pauses, waiting: 0, kept: false };
        let paused = match database {
            None => &mut self.pooler_paused,
            Some(name) => &mut self.databases.entry(name.into()).or_default().paused,
        };
        paused.get_or_insert(new)
    }

    /// Where the pause of a database by itself, or of everything, is noted. `None`: nothing was ordered for the database.
    fn paused_mut(&mut self, database: Option<&str>) -> Option<&mut Option<Pause>> {
        match database {
            None => Some(&mut self.pooler_paused),
            Some(name) => Some(&mut self.databases.get_mut(name)?.paused),
        }
    }

    /// Databases that are paused by themselves, in the order of their names.
    fn paused_by_name(&self) -> Vec<Arc<str>> {
        let paused = self.databases.iter().filter(|(_, orders)| orders.paused.is_some());
        let mut names: Vec<_> = paused.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests;
