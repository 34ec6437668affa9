//! One conversation as a machine: what each request asks for, and what is answered when. Simple and extended
//! protocol; the latter without parameters, since no command takes one.

use std::collections::HashMap;
use std::vec;

use bytes::{BufMut, BytesMut};

use super::request::Request;
use crate::admin::act::Answer;
use crate::admin::command::{Command, Role};
use crate::admin::error::CommandError;
use crate::admin::show;
use crate::admin::table::{self, Cell, Column, Format, Formats, message};
use crate::wire::error::{ClientError, ErrorReply, SqlState};
use crate::wire::tag::backend;

/// Prepared statements and portals that one console may have.
const NAMES_MAX: usize = 64;

/// What is to be done about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing more: it is answered.
    Next,
    /// Run this, and say so to [`Talk::answered`].
    Run(Asker, Command),
    /// Answer a Query with this, by [`Talk::answered`].
    Refuse(CommandError),
    /// The client says goodbye.
    End,
}

/// Who waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asker {
    /// A Query.
    Query,
    /// An Execute.
    Execute { portal: String, formats: Formats, rows: usize },
}

/// What Bind made, and Execute goes on with.
#[derive(Debug)]
enum Portal {
    Ready { command: Command, formats: Formats },
    Rows { columns: &'static [Column], rows: vec::IntoIter<Vec<Cell>>, formats: Formats },
    Done,
}

/// The state of a conversation.
#[derive(Debug)]
pub(super) struct Talk {
    role: Role,
    statements: HashMap<String, Command>,
    portals: HashMap<String, Portal>,
    /// After an error of the extended protocol everything up to Sync is skipped.
    skipping: bool,
}

impl Talk {
    /// A conversation with such a one.
    pub(super) fn new(role: Role) -> Self {
        Self { role, statements: HashMap::new(), portals: HashMap::new(), skipping: false }
    }

    /// Takes a request. What can be answered at once is appended to `out`.
    ///
    /// An error is to be given to [`Talk::failed`].
    pub(super) fn on(&mut self, request: Request, out: &mut BytesMut) -> Result<Step, ErrorReply> {
        match request {
            Request::Terminate => return Ok(Step::End),
            Request::Sync => {
                self.skipping = false;
                self.portals.clear();
                ready(out);
            }
            _ if self.skipping => {}
            // All that is answered leaves when there is nothing more to read.
            Request::Flush => {}
            Request::Query { text } => return Ok(self.query(&text)),
            Request::Parse { name, text } => self.parse(name, &text, out)?,
            Request::Bind { portal, statement, parameters, formats } => {
                self.bind(portal, &statement, parameters, &formats, out)?;
            }
            Request::DescribeStatement { name } => {
                let columns = columns(self.statement(&name)?);
                message(out, backend::PARAMETER_DESCRIPTION, |out| out.put_u16(0));
                describe(columns, &Formats::All(Format::Text), out);
            }
            Request::DescribePortal { name } => self.describe_portal(&name, out)?,
            Request::Execute { portal, rows } => return self.execute(portal, rows, out),
            Request::CloseStatement { name } => {
                self.statements.remove(&name);
                message(out, backend::CLOSE_COMPLETE, |_| {});
            }
            Request::ClosePortal { name } => {
                self.portals.remove(&name);
                message(out, backend::CLOSE_COMPLETE, |_| {});
            }
        }
        Ok(Step::Next)
    }

    /// Answers a request that failed before it could run.
    pub(super) fn failed(&mut self, error: &ErrorReply, out: &mut BytesMut) {
        self.skipping = true;
        error.encode(out);
    }

    /// Answers what ran.
    pub(super) fn answered(&mut self, asker: Asker, result: Result<Answer, &ErrorReply>, out: &mut BytesMut) {
        match (asker, result) {
            (Asker::Query, Ok(answer)) => {
                whole(answer, out);
                ready(out);
            }
            (Asker::Query, Err(error)) => {
                error.encode(out);
                ready(out);
            }
            (Asker::Execute { portal, formats, rows }, Ok(Answer::Table(table))) => {
                let after = fetch(table.columns, table.rows.into_iter(), formats, rows, out);
                self.portals.insert(portal, after);
            }
            (Asker::Execute { portal, .. }, Ok(answer)) => {
                whole(answer, out);
                self.portals.insert(portal, Portal::Done);
            }
            (Asker::Execute { .. }, Err(error)) => self.failed(error, out),
        }
    }

    /// A Query takes the place of what is unnamed.
    fn query(&mut self, text: &str) -> Step {
        self.statements.remove("");
        self.portals.clear();
        self.command(text).map_or_else(Step::Refuse, |command| Step::Run(Asker::Query, command))
    }

    fn command(&self, text: &str) -> Result<Command, CommandError> {
        Command::parse(text).map_err(|error| error.told_to(self.role))
    }

    fn parse(&mut self, name: String, text: &str, out: &mut BytesMut) -> Result<(), ErrorReply> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(refusal(format!("prepared statement \"{name}\" already exists")));
        }
        let command = self.command(text).map_err(|error| error.reply())?;
        if self.statements.len() >= NAMES_MAX && !self.statements.contains_key(&name) {
            return Err(refusal(format!("the console keeps no more than {NAMES_MAX} prepared statements")));
        }
        self.statements.insert(name, command);
        message(out, backend::PARSE_COMPLETE, |_| {});
        Ok(())
    }

    fn bind(
        &mut self,
        portal: String,
        statement: &str,
        parameters: u16,
        formats: &[u16],
        out: &mut BytesMut,
    ) -> Result<(), ErrorReply> {
        let command = self.statement(statement)?.clone();
        if parameters > 0 {
            return Err(refusal(format!("bind message supplies {parameters} parameters, but the console takes none")));
        }
        let formats = formats_of(formats, columns(&command))?;
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return Err(refusal(format!("portal \"{portal}\" already exists")));
        }
        if self.portals.len() >= NAMES_MAX {
            return Err(refusal(format!("the console keeps no more than {NAMES_MAX} portals")));
        }
        self.portals.insert(portal, Portal::Ready { command, formats });
        message(out, backend::BIND_COMPLETE, |_| {});
        Ok(())
    }

    fn describe_portal(&self, name: &str, out: &mut BytesMut) -> Result<(), ErrorReply> {
        match self.portals.get(name).ok_or_else(|| no_portal(name))? {
            Portal::Ready { command, formats } => describe(columns(command), formats, out),
            Portal::Rows { columns, formats, .. } => describe(Some(columns), formats, out),
            Portal::Done => describe(None, &Formats::All(Format::Text), out),
        }
        Ok(())
    }

    fn execute(&mut self, name: String, rows: usize, out: &mut BytesMut) -> Result<Step, ErrorReply> {
        match self.portals.remove(&name).ok_or_else(|| no_portal(&name))? {
            Portal::Ready { command, formats } => {
                return Ok(Step::Run(Asker::Execute { portal: name, formats, rows }, command));
            }
            Portal::Rows { columns, rows: left, formats } => {
                let after = fetch(columns, left, formats, rows, out);
                self.portals.insert(name, after);
            }
            Portal::Done => return Err(refusal(format!("portal \"{name}\" cannot be run again"))),
        }
        Ok(Step::Next)
    }

    fn statement(&self, name: &str) -> Result<&Command, ErrorReply> {
        self.statements.get(name).ok_or_else(|| refusal(format!("prepared statement \"{name}\" does not exist")))
    }
}

/// What the console says to a client that has just logged in: parameters, key, ready.
pub(super) fn welcome(pid: u32, secret: &[u8], out: &mut BytesMut) {
    for (name, value) in [
        ("server_version", show::SERVER_VERSION),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "on"),
    ] {
        message(out, backend::PARAMETER_STATUS, |out| {
            out.put_slice(name.as_bytes());
            out.put_u8(0);
            out.put_slice(value.as_bytes());
            out.put_u8(0);
        });
    }
    message(out, backend::BACKEND_KEY_DATA, |out| {
        out.put_u32(pid);
        out.put_slice(secret);
    });
    ready(out);
}

fn ready(out: &mut BytesMut) {
    message(out, backend::READY, |out| out.put_u8(b'I'));
}

fn complete(tag: &str, out: &mut BytesMut) {
    message(out, backend::COMMAND_COMPLETE, |out| {
        out.put_slice(tag.as_bytes());
        out.put_u8(0);
    });
}

fn describe(columns: Option<&[Column]>, formats: &Formats, out: &mut BytesMut) {
    match columns {
        Some(columns) => table::describe(columns, formats, out),
        None => message(out, backend::NO_DATA, |_| {}),
    }
}

/// The whole of an answer, as to a Query.
fn whole(answer: Answer, out: &mut BytesMut) {
    match answer {
        Answer::Table(table) => {
            let text = Formats::All(Format::Text);
            table::describe(table.columns, &text, out);
            drop(fetch(table.columns, table.rows.into_iter(), text, 0, out));
        }
        Answer::Help => {
            ErrorReply::notice("Console usage").detail(show::HELP).encode(out);
            complete("SHOW", out);
        }
        Answer::SetIgnored => {
            ErrorReply::notice("SET ignored").encode(out);
            complete("SET", out);
        }
        Answer::Empty => message(out, backend::EMPTY_QUERY, |_| {}),
        Answer::Done(kind) => complete(kind.tag(), out),
        Answer::Warned(kind, warnings) => {
            warnings.into_iter().for_each(|warning| ErrorReply::notice(warning).encode(out));
            complete(kind.tag(), out);
        }
    }
}

/// Sends up to `most` rows (zero: all), and what remains to be executed.
fn fetch(
    columns: &'static [Column],
    mut rows: vec::IntoIter<Vec<Cell>>,
    formats: Formats,
    most: usize,
    out: &mut BytesMut,
) -> Portal {
    let most = if most == 0 { rows.len() } else { most };
    for row in rows.by_ref().take(most) {
        table::data_row(columns, &row, &formats, out);
    }
    if rows.len() == 0 {
        complete("SHOW", out);
    } else {
        message(out, backend::PORTAL_SUSPENDED, |_| {});
    }
    Portal::Rows { columns, rows, formats }
}

/// Columns of a command's answer; `None` where it has none.
fn columns(command: &Command) -> Option<&'static [Column]> {
    match command {
        Command::Show(what) => show::columns_of(*what),
        Command::Parameter(parameter) => Some(&parameter.column),
        _ => None,
    }
}

/// Format codes of Bind: none, one for all, or one for each column.
fn formats_of(codes: &[u16], columns: Option<&[Column]>) -> Result<Formats, ErrorReply> {
    let format = |code: &u16| match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => Err(refusal(format!("unsupported format code: {other}"))),
    };
    match codes {
        [] => Ok(Formats::All(Format::Text)),
        [one] => format(one).map(Formats::All),
        each => match columns {
            Some(columns) if columns.len() != each.len() => Err(refusal(format!(
                "bind message has {} result formats but query has {} columns",
                each.len(),
                columns.len()
            ))),
            _ => each.iter().map(format).collect::<Result<_, _>>().map(Formats::Each),
        },
    }
}

fn no_portal(name: &str) -> ErrorReply {
    refusal(format!("portal \"{name}\" does not exist"))
}

/// Errors of the console have PgBouncer's one SQLSTATE.
fn refusal(text: String) -> ErrorReply {
    ErrorReply::error(SqlState::PROTOCOL_VIOLATION, text)
}
