//! Effects of commands: checks who may, asks [`Control`], tells the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::averages::{Averages, ByDatabase, Figures};
use super::command::{Command, Kind, Role, Show};
use super::control::{Control, Later, Totals};
use super::error::CommandError;
use super::show;
use super::table::Table;
use crate::telemetry::events;
use crate::telemetry::labels::StopMode;

/// What all consoles and the metrics listener share.
pub struct AdminContext {
    control: Arc<dyn Control>,
    averages: Mutex<Averages>,
    /// What the consoles themselves did.
    own: Mutex<Totals>,
    consoles: AtomicU32,
}

impl AdminContext {
    /// `now` is when counting began.
    pub fn new(control: Arc<dyn Control>, now: Instant) -> Self {
        Self { control, averages: Mutex::new(Averages::new(now)), own: Mutex::default(), consoles: AtomicU32::new(0) }
    }

    /// The rest of the process.
    pub fn control(&self) -> &Arc<dyn Control> {
        &self.control
    }

    /// How many clients the console has.
    pub fn consoles(&self) -> u32 {
        self.consoles.load(Ordering::Relaxed)
    }

    /// Figures of all databases, the console's too.
    pub fn totals(&self) -> ByDatabase {
        let totals = self.control.totals().iter().map(|(name, totals)| (name.clone(), totals.into())).collect();
        show::with_console(totals, Figures::from(&*self.own.lock()))
    }

    /// Takes the sample at the end of a `stats_period` and logs its figures.
    pub fn sample(&self, now: Instant) {
        let totals = self.totals();
        let overall = {
            let mut averages = self.averages.lock();
            averages.sample(now, totals);
            averages.overall()
        };
        events::process::stats(&overall.logged());
    }

    /// Counts a console until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Present {
        self.consoles.fetch_add(1, Ordering::Relaxed);
        self.own.lock().client_logins += 1;
        Present(self.clone())
    }

    /// PgBouncer counts a console's statement as a transaction and a query.
    pub(super) fn count_statement(&self) {
        let mut own = self.own.lock();
        own.tally.xacts += 1;
        own.tally.queries += 1;
    }
}

/// A console that is open.
pub(super) struct Present(Arc<AdminContext>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.consoles.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a command says when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Rows, then `SHOW`.
    Table(Table),
    /// SHOW HELP
    Help,
    /// EmptyQueryResponse
    Empty,
    /// A notice, then `SET`.
    SetIgnored,
    /// Only the tag.
    Done(Kind),
    /// Notices, then the tag.
    Warned(Kind, Vec<String>),
}

/// A SHUTDOWN that is still to be carried out; dropping it does so. Nothing may be left to wait for, and then
/// the process ends before a console could say another word.
pub(super) struct Ending {
    control: Arc<dyn Control>,
    /// How.
    pub(super) mode: StopMode,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.control.shutdown(self.mode);
    }
}

/// What became of a command at once.
pub(super) enum Started {
    /// It is over.
    Ended(Result<Answer, CommandError>),
    /// It goes on.
    Waiting(Wait),
    /// The process is to end so, as soon as what the console has to say is said.
    Ending(Ending),
}

/// A command that takes its time.
pub(super) struct Wait {
    /// Ends with it, and with what its operator should know.
    pub(super) until: Later<Result<Vec<String>, CommandError>>,
    /// Whether the operator may give up; what then must be undone is undone when this is dropped.
    pub(super) interruptible: bool,
    kind: Kind,
}

impl Wait {
    /// It came to its end. The result is what is to be answered.
    pub(super) fn end(self, result: Result<Vec<String>, CommandError>) -> Result<Answer, CommandError> {
        let kind = self.kind;
        result.map(|warnings| if warnings.is_empty() { Answer::Done(kind) } else { Answer::Warned(kind, warnings) })
    }

    /// The operator gave up.
    pub(super) fn give_up(self) -> CommandError {
        CommandError::Canceled(self.kind.tag())
    }
}

/// Begins a command on behalf of a user.
pub(super) fn start(ctx: &AdminContext, client: &str, role: Role, command: &Command) -> Started {
    let kind = command.kind();
    if !kind.may(role) {
        return Started::Ended(Err(CommandError::NotAdmin));
    }
    let begun = match begin(ctx, command) {
        Ok(begun) => begun,
        Err(error) => return Started::Ended(Err(error)),
    };
    match kind {
        Kind::Show(_) | Kind::Parameter | Kind::SetParameter | Kind::Empty => {
            events::admin::shown(&client, kind.subject());
        }
        _ => events::admin::command_issued(&client, kind.tag(), command.argument().as_deref()),
    }
    begun
}

fn begin(ctx: &AdminContext, command: &Command) -> Result<Started, CommandError> {
    let control = &ctx.control;
    let database = command.database();
    let answer = match command {
        Command::Empty => Answer::Empty,
        Command::Show(Show::Help) => Answer::Help,
        Command::Show(what) => Answer::Table(table(ctx, *what)),
        Command::Parameter(parameter) => Answer::Table(show::parameter(parameter)),
        Command::SetParameter => Answer::SetIgnored,
        Command::Pause(_) => {
            return Ok(waiting(Kind::Pause, control.pause(not_console("pause", database)?)?));
        }
        Command::WaitClose(_) => {
            let until = control.wait_close(not_console("wait in", database)?)?;
            let until = Box::pin(async move {
                until.await;
                Ok(())
            });
            return Ok(waiting(Kind::WaitClose, until));
        }
        Command::Reload => {
            let wait = Wait { until: control.reload(), interruptible: false, kind: Kind::Reload };
            return Ok(Started::Waiting(wait));
        }
        Command::Shutdown(mode) => {
            return Ok(Started::Ending(Ending { control: control.clone(), mode: *mode }));
        }
        changes => {
            change(control.as_ref(), changes)?;
            Answer::Done(changes.kind())
        }
    };
    Ok(Started::Ended(Ok(answer)))
}

/// Commands that are done as soon as they are said.
fn change(control: &dyn Control, command: &Command) -> Result<(), CommandError> {
    let database = command.database();
    match command {
        Command::Resume(Some(name)) if name == show::CONSOLE => Err(CommandError::DatabaseNotPaused(name.clone())),
        Command::Resume(_) => control.resume(database),
        Command::Reconnect(_) => control.reconnect(not_console("reconnect", database)?),
        Command::Kill(_) => control.kill(not_console("kill", database)?),
        Command::Disable(_) => control.set_disabled(required("disable", database)?, true),
        Command::Enable(_) => control.set_disabled(required("enable", database)?, false),
        Command::KillClient(id) => control.kill_client(id.ok_or(CommandError::InvalidClient)?),
        other => Err(CommandError::unknown(other.kind().tag())),
    }
}

fn waiting(kind: Kind, until: Later<Result<(), CommandError>>) -> Started {
    let until = Box::pin(async move { until.await.map(|()| Vec::new()) });
    Started::Waiting(Wait { until, interruptible: true, kind })
}

fn not_console<'a>(doing: &'static str, database: Option<&'a str>) -> Result<Option<&'a str>, CommandError> {
    match database {
        Some(name) if name == show::CONSOLE => Err(CommandError::AdminDatabase { doing, name: name.to_owned() }),
        other => Ok(other),
    }
}

fn required<'a>(doing: &'static str, database: Option<&'a str>) -> Result<&'a str, CommandError> {
    not_console(doing, database)?.ok_or(CommandError::DatabaseRequired)
}

fn table(ctx: &AdminContext, what: Show) -> Table {
    let control = &ctx.control;
    match what {
        Show::Clients => show::clients(control.clients()),
        Show::Config => show::config(control.settings()),
        Show::Databases => show::databases(control.databases(), &control.counts(), ctx.consoles()),
        Show::Lists => show::lists(&control.counts(), control.databases().len() + 1, control.pools().len() + 1),
        Show::Pools => show::pools(control.pools(), ctx.consoles()),
        Show::Servers => show::servers(control.servers()),
        Show::State => show::state(control.is_paused()),
        Show::Stats => show::stats(&ctx.totals(), &ctx.averages.lock()),
        Show::StatsAverages => show::stats_averages(&ctx.totals(), &ctx.averages.lock()),
        Show::StatsTotals => show::stats_totals(&ctx.totals()),
        Show::Totals => show::totals(&ctx.totals(), &ctx.averages.lock()),
        Show::Users => show::users(control.users()),
        Show::Version | Show::Help => show::version(),
    }
}

/// Samples at the end of each `stats_period`, for as long as it is polled.
pub async fn keep_averages(ctx: Arc<AdminContext>) {
    loop {
        // At least a second: a period of zero would spin.
        let period = ctx.control.counts().stats_period.max(std::time::Duration::from_secs(1));
        tokio::time::sleep(period).await;
        ctx.sample(Instant::now());
    }
}
