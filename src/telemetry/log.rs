//! Where log lines go and what they look like: to stderr or a file, as text for people or JSON for machines.
//!
//! What is logged is chosen by target, so that the code that logs need not know the settings.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use super::stamp::Stamp;

/// Lines about logins (`log_connections`).
pub const CONNECTIONS: &str = "pglifeguard::connections";
/// Lines about clients that leave (`log_disconnections`).
pub const DISCONNECTIONS: &str = "pglifeguard::disconnections";
/// Lines about errors sent to clients (`log_pooler_errors`).
pub const POOLER_ERRORS: &str = "pglifeguard::pooler_errors";
/// The line of figures each `stats_period` (`log_stats`).
pub const STATS: &str = "pglifeguard::stats";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: `2026-11-23 11:23:11.911 UTC [PID] LOG message field=value`.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbosity {
    /// 0: changes of state; 1: details; 2 and more: everything.
    pub level: u8,
    /// `log_connections`
    pub connections: bool,
    /// `log_disconnections`
    pub disconnections: bool,
    /// `log_pooler_errors`
    pub pooler_errors: bool,
    /// `log_stats`
    pub stats: bool,
}

impl Verbosity {
    fn targets(self) -> Targets {
        let level = match self.level {
            0 => LevelFilter::INFO,
            1 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        let when = |wanted: bool| if wanted { level } else { LevelFilter::OFF };
        Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target("pglifeguard", level)
            .with_target(CONNECTIONS, when(self.connections))
            .with_target(DISCONNECTIONS, when(self.disconnections))
            .with_target(POOLER_ERRORS, when(self.pooler_errors))
            .with_target(STATS, when(self.stats))
    }
}

/// Changes the log while it runs.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    sink: Sink,
}

impl LogHandle {
    /// Applies changed settings.
    pub fn set_verbosity(&self, verbosity: Verbosity) {
        // Fails only when the subscriber is gone, and then nobody reads the log.
        drop(self.filter.reload(verbosity.targets()));
    }

    /// Opens the file anew, so that a rotated one is let go of; `None` means stderr.
    ///
    /// # Errors
    /// When the file cannot be opened: the old one stays in use.
    pub fn reopen(&self, logfile: Option<&Path>) -> io::Result<()> {
        self.sink.open(logfile)
    }
}

/// Starts logging for the whole process.
///
/// # Errors
/// When the file cannot be opened, or logging was started before.
pub fn init(format: Format, verbosity: Verbosity, logfile: Option<&Path>) -> io::Result<LogHandle> {
    let sink = Sink::default();
    sink.open(logfile)?;
    let (filter, handle) = reload::Layer::new(verbosity.targets());
    let lines = tracing_subscriber::fmt::layer().with_writer(sink.clone());
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        Format::Text => Box::new(lines.with_ansi(false).event_format(Lines)),
        Format::Json => Box::new(lines.json().flatten_event(true)),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| io::Error::new(io::ErrorKind::AlreadyExists, error))?;
    Ok(LogHandle { filter: handle, sink })
}

/// Why there is no log at `path`, in words.
pub fn cannot_open(path: &Path, cause: &io::Error) -> String {
    format!("cannot open logfile \"{}\": {cause}", path.display())
}

/// The place that lines are written to.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Option<LogFile>>>);

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
}

impl Sink {
    fn open(&self, path: Option<&Path>) -> io::Result<()> {
        let opened = match path {
            None => None,
            Some(path) => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(|error| io::Error::new(error.kind(), cannot_open(path, &error)))?;
                Some(LogFile { path: path.to_owned(), file })
            }
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        Ok(())
    }
}

/// Writes whole lines. A full disk must not stop the pooler: what cannot be written goes to stderr.
impl Write for &Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = sink.as_mut()
            && let Err(error) = log.file.write_all(line)
        {
            drop(writeln!(io::stderr(), "cannot write to {}: {error}", log.path.display()));
            *sink = None;
        }
        if sink.is_none() {
            drop(io::stderr().write_all(line));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// An event is one line, whatever a client calls itself: what could begin another, or speak to a terminal, is escaped.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(|char: char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}')) {
            let (plain, odd) = rest.split_at(at);
            let char = odd.chars().next().unwrap_or_default();
            write!(f, "{plain}{}", char.escape_default())?;
            rest = &odd[char.len_utf8()..];
        }
        f.write_str(rest)
    }
}

/// Lines in PgBouncer's form: time, process, level by its names, the spans' fields, the message.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = level_name(*event.metadata().level());
        let mut line = String::new();
        let mut words = Writer::new(&mut line);
        let words = &mut words;
        write!(words, "{:.3} [{}] {level} ", Stamp(SystemTime::now()), std::process::id())?;
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(words, "{fields}: ")?;
            }
        }
        ctx.field_format().format_fields(words.by_ref(), event)?;
        writeln!(out, "{}", OneLine(&line))
    }
}

/// PgBouncer's names of levels.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "LOG",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "NOISE",
    }
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing::{debug, info, info_span, warn};

    use super::*;

    const ALL: Verbosity =
        Verbosity { level: 0, connections: true, disconnections: true, pooler_errors: true, stats: true };

    fn lines_of(verbosity: Verbosity, emit: impl FnOnce()) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let sink = Sink::default();
        sink.open(Some(&path)).expect("a file");
        let layer = tracing_subscriber::fmt::layer().with_writer(sink).with_ansi(false).event_format(Lines);
        with_default(tracing_subscriber::registry().with(verbosity.targets()).with(layer), emit);
        std::fs::read_to_string(path).expect("a log")
    }

    #[test]
    fn a_line_has_time_process_level_span_and_fields() {
        let text = lines_of(ALL, || {
            let _span = info_span!("client", id = 7).entered();
            info!(target: CONNECTIONS, user = "alice", "client logged in");
        });
        assert!(text.ends_with(&format!(" UTC [{}] LOG id=7: client logged in user=\"alice\"\n", std::process::id())));
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let text = lines_of(ALL, || {
            let _span = info_span!("client", name = %"a\nb").entered();
            info!(target: CONNECTIONS, user = %"x\r\n2026 LOG client logged in", "no such database: \x1b[31mä\u{2028}\t");
        });
        let (_, said) = text.split_once("LOG ").expect("a line");
        let fields = r"user=x\r\n2026 LOG client logged in";
        assert_eq!(said, format!("name=a\\nb: no such database: \\x1b[31mä\\u{{2028}}\\t {fields}\n"));
    }

    #[test]
    fn settings_turn_their_lines_off() {
        let text = lines_of(Verbosity { connections: false, ..ALL }, || {
            info!(target: CONNECTIONS, "not wanted");
            info!(target: DISCONNECTIONS, "wanted");
            debug!("too much");
            warn!(target: "rustls", "foreign warning");
            info!(target: "rustls", "foreign chatter");
        });
        let messages: Vec<_> = text.lines().map(|line| line.split_once("] ").expect("a prefix").1).collect();
        assert_eq!(messages, ["LOG wanted", "WARNING foreign warning"]);
    }

    #[test]
    fn reopening_follows_a_rotated_file_and_keeps_the_old_one_on_failure() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let sink = Sink::default();
        sink.open(Some(&path)).expect("a file");
        (&sink).write_all(b"one\n").expect("written");
        std::fs::rename(&path, dir.path().join("log.1")).expect("rotated");
        sink.open(Some(&path)).expect("opened anew");
        (&sink).write_all(b"two\n").expect("written");
        assert!(sink.open(Some(&dir.path().join("none/log"))).is_err());
        (&sink).write_all(b"three\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("a log"), "two\nthree\n");
    }
}
