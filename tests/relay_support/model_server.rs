//! The dullest PostgreSQL that obeys the protocol: what its main loop, its transactions, its settings and COPY do
//! with messages, as tried on the real one. Statements are a few words; rows tell under which settings they ran.

mod run;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::messages::{empty, error, frame, notice, whole};

pub(crate) type Settings = BTreeMap<String, String>;

/// Output is held back until somebody asks for it, or so much is there.
const OUTPUT_BUFFER: usize = 8192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tx {
    Idle,
    /// Begun by a message, ended by Sync or with the Query.
    Implicit,
    Block,
    Failed,
}

#[derive(Debug, Clone)]
struct Portal {
    text: String,
    value: String,
    rows_left: u32,
    done: bool,
}

#[derive(Debug)]
struct Copying {
    rows: usize,
    extended: bool,
    /// The statements behind it, of a Query.
    rest: VecDeque<String>,
}

#[derive(Debug)]
pub(crate) struct Server {
    input: Vec<u8>,
    held: Vec<u8>,
    /// What it has sent.
    pub output: Vec<u8>,
    pub dead: bool,
    /// It died of a message that has no place in a COPY.
    pub out_of_sync: bool,
    pub tx: Tx,
    statements: BTreeMap<String, String>,
    portals: BTreeMap<String, Portal>,
    settings: Settings,
    defaults: Settings,
    reported: Settings,
    /// Settings when the transaction began.
    before: Settings,
    savepoints: Vec<(String, Settings)>,
    skipping: bool,
    /// Something was executed in this implicit transaction.
    pipelining: bool,
    copying: Option<Copying>,
    /// Before PostgreSQL 14 a setting was reported when it changed.
    reports_at_once: bool,
    /// It stands for the pooler after the loss of a server.
    lost: Option<Lost>,
    /// Blocks that were committed.
    pub commits: usize,
    /// What was run for a client, by the words that tell it from all else.
    pub ran: BTreeSet<String>,
}

/// What the pooler alone does when a client's server was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The next request fails.
    Refuses,
    /// A block was lost; the client has not been told.
    Untold,
    /// The same, and it has.
    Told,
}

/// An error's SQLSTATE and text.
type Failure = (&'static str, String);

fn failure<T>(code: &'static str, text: impl Into<String>) -> Result<T, Failure> {
    Err((code, text.into()))
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn ends_transaction(text: &str) -> bool {
    matches!(words(text).first(), Some(&("commit" | "rollback")))
}

fn returns_rows(text: &str) -> bool {
    matches!(words(text).first(), Some(&("select" | "rows" | "big")))
}

impl Server {
    pub(crate) fn new(defaults: Settings, reports_at_once: bool) -> Self {
        Self {
            input: Vec::new(),
            held: Vec::new(),
            output: Vec::new(),
            dead: false,
            out_of_sync: false,
            tx: Tx::Idle,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            settings: defaults.clone(),
            reported: defaults.clone(),
            before: defaults.clone(),
            defaults,
            savepoints: Vec::new(),
            skipping: false,
            pipelining: false,
            copying: None,
            reports_at_once,
            lost: None,
            commits: 0,
            ran: BTreeSet::new(),
        }
    }

    /// What the client of a lost server has: these statements and settings, of which it was told those.
    pub(crate) fn resumed(
        &mut self,
        statements: BTreeMap<String, String>,
        [settings, reported]: [Settings; 2],
        lost: Option<Lost>,
        skipping: bool,
    ) {
        (self.statements, self.skipping, self.lost) = (statements, skipping, lost);
        (self.before, self.settings, self.reported) = (settings.clone(), settings, reported);
        if matches!(lost, Some(Lost::Untold | Lost::Told)) {
            self.tx = Tx::Failed;
        }
    }

    /// Why it may not be given to someone else.
    pub(crate) fn unclean(&self) -> Option<&'static str> {
        [
            (self.dead, "it is dead"),
            (!self.input.is_empty(), "it has a part of a frame"),
            (!self.held.is_empty() || !self.output.is_empty(), "it has more to say"),
            (self.tx != Tx::Idle, "it is in a transaction"),
            (self.skipping, "it skips"),
            (self.copying.is_some(), "it copies"),
        ]
        .into_iter()
        .find_map(|(is, why)| is.then_some(why))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn prepared(&self) -> impl Iterator<Item = &str> {
        self.statements.keys().map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while let Some(total) = whole(&self.input) {
            if self.dead {
                return;
            }
            let message: Vec<u8> = self.input.drain(..total).collect();
            self.message(message[0], &message[5..]);
        }
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        if let Some(copying) = self.copying.take() {
            return self.copy_message(copying, tag, body);
        }
        if self.skipping && tag != b'S' && tag != b'X' {
            return;
        }
        if self.lost == Some(Lost::Refuses) && !b"Hdcf".contains(&tag) {
            self.lost = None;
            let refused = failure("08006", "lost");
            if b"QFS".contains(&tag) {
                return self.end_simple(refused);
            }
            self.skipping = true;
            return refused.unwrap_or_else(|failure| self.fail(failure));
        }
        match tag {
            b'Q' => self.query(&text(body, 0)),
            b'F' => {
                let result = self.function();
                self.end_simple(result);
            }
            b'S' => {
                self.skipping = false;
                self.end_implicit();
                self.ready();
            }
            b'H' => self.flush(),
            b'd' | b'c' | b'f' => {}
            b'X' => self.dead = true,
            b'P' | b'B' | b'D' | b'E' | b'C' => {
                self.begin_implicit();
                let result = match tag {
                    b'P' => self.parse(&text(body, 0), &text(body, 1)),
                    b'B' => self.bind(&text(body, 0), &text(body, 1), &value(body)),
                    b'D' => self.describe(body[0], &text(&body[1..], 0)),
                    b'E' => self.execute(&text(body, 0), limit(body)),
                    _ => self.close(body[0], &text(&body[1..], 0)),
                };
                if let Err(failure) = result {
                    self.skipping = !self.dead;
                    self.fail(failure);
                }
            }
            _ => self.die("08P01", "invalid frontend message type"),
        }
    }

    fn say(&mut self, frame: &[u8]) {
        self.held.extend_from_slice(frame);
        if self.held.len() > OUTPUT_BUFFER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.output.append(&mut self.held);
    }

    fn die(&mut self, code: &'static str, text: &str) {
        self.say(&error("FATAL", code, text));
        self.flush();
        self.dead = true;
    }

    fn complete(&mut self, tag: &str) {
        self.say(&frame(b'C', &[tag.as_bytes(), b"\0"]));
    }

    fn ready(&mut self) {
        self.report();
        let status = match self.tx {
            Tx::Idle | Tx::Implicit => b'I',
            Tx::Block => b'T',
            Tx::Failed => b'E',
        };
        self.say(&frame(b'Z', &[&[status]]));
        self.flush();
    }

    fn report(&mut self) {
        for (name, value) in self.settings.clone() {
            if self.reported.get(&name) != Some(&value) {
                self.say(&frame(b'S', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"]));
                self.reported.insert(name, value);
            }
        }
    }

    // Transactions

    fn begin_implicit(&mut self) {
        if self.tx == Tx::Idle {
            self.tx = Tx::Implicit;
            self.before = self.settings.clone();
        }
    }

    fn end_implicit(&mut self) {
        if self.tx == Tx::Implicit {
            self.end();
        }
    }

    fn end(&mut self) {
        self.lost = None;
        self.tx = Tx::Idle;
        self.pipelining = false;
        self.savepoints.clear();
        self.portals.clear();
    }

    fn put_back(&mut self, settings: Settings) {
        self.settings = settings;
        if self.reports_at_once {
            self.report();
        }
    }

    fn fail(&mut self, (code, text): Failure) {
        if self.dead {
            return self.die(code, &text);
        }
        self.say(&error("ERROR", code, &text));
        self.flush();
        self.lost = self.lost.map(|_| Lost::Told);
        match self.tx {
            Tx::Block => {
                self.tx = Tx::Failed;
                let settings = self.savepoints.last().map_or(&self.before, |(_, settings)| settings).clone();
                self.put_back(settings);
            }
            Tx::Failed => {}
            Tx::Idle | Tx::Implicit => {
                self.put_back(self.before.clone());
                self.end();
            }
        }
    }

    fn not_failed(&self, text: &str) -> Result<(), Failure> {
        // Of a lost block no savepoint is left, nor is known how to begin another like it.
        let ends = if self.lost.is_some() { ["commit", "rollback"].contains(&text) } else { ends_transaction(text) };
        if self.tx == Tx::Failed && !ends && !text.is_empty() {
            return failure("25P02", "current transaction is aborted, commands ignored until end of transaction block");
        }
        Ok(())
    }

    // Simple

    fn query(&mut self, text: &str) {
        self.statements.remove("");
        self.begin_implicit();
        let list: VecDeque<String> =
            text.split(';').map(|one| one.trim().to_owned()).filter(|it| !it.is_empty()).collect();
        if list.is_empty() {
            self.say(&empty(b'I'));
        }
        let alone = list.len() == 1;
        self.run_list(list, alone);
    }

    fn run_list(&mut self, mut list: VecDeque<String>, alone: bool) {
        while let Some(text) = list.pop_front() {
            self.begin_implicit();
            let result = self.not_failed(&text).and_then(|()| {
                if returns_rows(&text) {
                    self.say(&frame(b'T', &[b"\0\x01row\0"]));
                }
                self.run(&text, "", u32::MAX, alone && !self.pipelining).map(|_| ())
            });
            if let Err(failure) = result {
                return self.end_simple(Err(failure));
            }
            if let Some(copying) = &mut self.copying {
                copying.rest = list;
                copying.extended = false;
                return;
            }
        }
        self.end_simple(Ok(()));
    }

    fn end_simple(&mut self, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.fail(failure);
        }
        if !self.dead {
            self.end_implicit();
            self.ready();
        }
    }

    fn function(&mut self) -> Result<(), Failure> {
        self.begin_implicit();
        self.not_failed("function")?;
        self.say(&frame(b'V', &[&[0, 0, 0, 1], b"f"]));
        Ok(())
    }

    // Extended

    fn parse(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        if name.is_empty() {
            self.statements.remove("");
        }
        if text.starts_with("syntax") || text.contains(';') {
            return failure("42601", format!("syntax error in {text}"));
        }
        self.not_failed(text)?;
        if self.statements.contains_key(name) {
            return failure("42P05", format!("prepared statement \"{name}\" already exists"));
        }
        self.statements.insert(name.to_owned(), text.to_owned());
        self.say(&empty(b'1'));
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<String, Failure> {
        match self.statements.get(name) {
            Some(text) => Ok(text.clone()),
            None if name.is_empty() => failure("26000", "unnamed prepared statement does not exist"),
            None => failure("26000", format!("prepared statement \"{name}\" does not exist")),
        }
    }

    fn bind(&mut self, portal: &str, statement: &str, value: &str) -> Result<(), Failure> {
        let text = self.statement(statement)?;
        self.not_failed(&text)?;
        // What recurs has been changed since it was prepared.
        if !statement.is_empty() && text.starts_with("select r") && value.ends_with(['3', '6', '9']) {
            return failure("0A000", "cached plan must not change result type");
        }
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return failure("42P03", format!("cursor \"{portal}\" already exists"));
        }
        let value = value.to_owned();
        self.portals.insert(portal.to_owned(), Portal { text, value, rows_left: 3, done: false });
        self.say(&empty(b'2'));
        Ok(())
    }

    fn portal(&self, name: &str) -> Result<Portal, Failure> {
        match self.portals.get(name) {
            Some(portal) => Ok(portal.clone()),
            None => failure("34000", format!("portal \"{name}\" does not exist")),
        }
    }

    fn describe(&mut self, kind: u8, name: &str) -> Result<(), Failure> {
        let text = if kind == b'S' { self.statement(name)? } else { self.portal(name)?.text };
        if returns_rows(&text) || self.lost.is_some() {
            self.not_failed(&text)?;
        }
        if kind == b'S' {
            let parameters: &[u8] = if self.lost.is_some() { b"\0\0" } else { b"\0\x01\0\0\0\x19" };
            self.say(&frame(b't', &[parameters]));
        }
        self.say(&if returns_rows(&text) { frame(b'T', &[b"\0\x01row\0"]) } else { empty(b'n') });
        Ok(())
    }

    fn execute(&mut self, name: &str, limit: u32) -> Result<(), Failure> {
        let portal = self.portal(name)?;
        self.not_failed(&portal.text)?;
        if portal.done {
            return failure("55000", format!("portal \"{name}\" cannot be run"));
        }
        if portal.text.is_empty() {
            self.say(&empty(b'I'));
            return Ok(());
        }
        let left = if limit == 0 { u32::MAX } else { limit };
        let alone = !self.pipelining;
        let mut portal = Portal { done: true, ..portal };
        if words(&portal.text)[0] == "rows" {
            portal.done = portal.rows_left < left;
            let rows = portal.rows_left.min(left);
            (0..rows).for_each(|_| self.row("r", &portal.value));
            portal.rows_left -= rows;
            if portal.done { self.complete(&format!("SELECT {rows}")) } else { self.say(&empty(b's')) }
        } else {
            self.run(&portal.text, &portal.value, left, alone)?;
        }
        self.pipelining |= self.tx == Tx::Implicit;
        if let Some(known) = self.portals.get_mut(name) {
            *known = portal;
        }
        Ok(())
    }

    fn close(&mut self, kind: u8, name: &str) -> Result<(), Failure> {
        if kind == b'S' {
            self.statements.remove(name);
        } else {
            self.portals.remove(name);
        }
        self.say(&empty(b'3'));
        Ok(())
    }

    // Statements
}

fn text(body: &[u8], nth: usize) -> String {
    String::from_utf8_lossy(body.split(|&byte| byte == 0).nth(nth).expect("a test's frames are whole")).into_owned()
}

/// The parameter of a Bind, if it has one.
fn value(body: &[u8]) -> String {
    let names = text(body, 0).len() + text(body, 1).len() + 2;
    match &body[names..] {
        [_, _, 0, 1, a, b, c, d, rest @ ..] => {
            String::from_utf8_lossy(&rest[..u32::from_be_bytes([*a, *b, *c, *d]) as usize]).into_owned()
        }
        _ => String::new(),
    }
}

fn limit(body: &[u8]) -> u32 {
    u32::from_be_bytes(body[body.len() - 4..].try_into().expect("four bytes"))
}
