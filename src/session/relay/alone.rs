//! A client that has no server: what is answered here, what is skipped, and what needs one. Where its transaction was
//! lost with its server it is answered as PostgreSQL does in a failed block, until it ends that.

use super::ending::{Exit, exit};
use super::loss::in_failed_transaction;
use super::machine::{Relay, Stop, Take, put_complete, put_empty, put_ready};
use super::pipeline::Status;
use super::prepared::{LASTING_MAX, put_frame};
use super::requests::{already_exists, definition, does_not_exist, whole_name};
use super::steps::Steps;
use crate::wire::error::{ErrorReply, SqlState};
use crate::wire::frame::{self, FrameError, HEADER, Head, Header};
use crate::wire::tag::{backend, frontend};

/// Where a client without a server stands, unless its next request just gets a server.
#[derive(Debug)]
pub(super) enum Alone {
    /// It does, and so many bytes at the front of that Query's text are answered.
    Begun(usize),
    /// Its next request fails.
    Refused {
        /// With this error, or with one that it has read already.
        untold: Option<Box<ErrorReply>>,
        /// And then it stands here.
        then: Status,
    },
    /// Its messages are skipped up to its Sync.
    Skipping {
        /// And then it stands here.
        then: Status,
    },
    /// Its transaction block is lost with its server.
    Failed(Failed),
}

/// A transaction block that is lost.
#[derive(Debug, Default)]
pub(super) struct Failed {
    /// Why, as long as the client has not been told.
    untold: Option<Box<ErrorReply>>,
    /// What it has bound since.
    portals: Vec<(Box<[u8]>, Portal)>,
    /// It has read an error: its messages are skipped up to its Sync.
    skips: bool,
}

/// What a portal in a failed block can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Portal {
    Empty,
    Ends { commit: bool },
}

/// More portals than this can hardly be meant; the oldest are forgotten.
const PORTALS_MAX: usize = 16;

impl Failed {
    pub(super) fn new(untold: Option<ErrorReply>) -> Self {
        Self { untold: untold.map(Box::new), ..Self::default() }
    }

    fn bind(&mut self, name: &[u8], portal: Portal) {
        self.close(name);
        if self.portals.len() >= PORTALS_MAX {
            self.portals.remove(0);
        }
        self.portals.push((name.into(), portal));
    }

    fn portal(&self, name: &[u8]) -> Option<Portal> {
        self.portals.iter().find(|(known, _)| **known == *name).map(|(_, portal)| *portal)
    }

    fn close(&mut self, name: &[u8]) {
        self.portals.retain(|(known, _)| **known != *name);
    }
}

impl Alone {
    fn at(status: Status) -> Option<Box<Self>> {
        (status != Status::Idle).then(|| Box::new(Self::Failed(Failed::default())))
    }
}

impl Relay {
    /// The request that waited for a server is given up; the client is told so by an error that goes before.
    /// A Query ends with ReadyForQuery, an extended request is skipped up to its Sync.
    pub fn refuse_next(&mut self) {
        self.alone = Some(Box::new(Alone::Refused { untold: None, then: Status::Idle }));
    }

    /// How many bytes at the front of the next Query's text are answered.
    pub(super) fn begun(&self) -> usize {
        if let Some(Alone::Begun(front)) = self.alone.as_deref() { *front } else { 0 }
    }

    /// A frame of a client that has no server: most need one, some mean nothing without.
    pub(super) fn frame_alone(&mut self, header: Header, have: &[u8], steps: &mut Steps) -> Result<Take, FrameError> {
        if header.tag == frontend::TERMINATE {
            return Ok(Take::Stop(Stop::Terminate));
        }
        if header.total > HEADER && matches!(header.tag, frontend::SYNC | frontend::FLUSH) {
            return Err(FrameError::Body(header.tag));
        }
        match self.alone.as_deref() {
            None | Some(Alone::Begun(_)) => {}
            Some(Alone::Refused { .. }) => return Ok(self.refuse(header.tag, steps)),
            Some(&Alone::Skipping { then }) => {
                if header.tag == frontend::SYNC {
                    self.alone = Alone::at(then);
                    put_ready(then, steps);
                }
                return Ok(Take::Drop);
            }
            Some(Alone::Failed(_)) => return self.frame_failed(header, have, steps),
        }
        if header.tag == frontend::QUERY
            && let Some(take) = self.listens_alone(header, have, steps)
        {
            return Ok(take);
        }
        // Nobody waits for what a client is slow to say.
        if self.is_awaited(header, have) {
            return Ok(Take::Stop(Stop::Input));
        }
        Ok(match header.tag {
            frontend::QUERY
            | frontend::FUNCTION_CALL
            | frontend::PARSE
            | frontend::BIND
            | frontend::DESCRIBE
            | frontend::EXECUTE => Take::Stop(Stop::NeedServer),
            frontend::CLOSE => self.close_alone(header, have, steps)?,
            frontend::SYNC => {
                put_ready(Status::Idle, steps);
                Take::Drop
            }
            // Flush with nothing outstanding; what a client still sends of a COPY that an error ended.
            frontend::FLUSH | frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => Take::Drop,
            tag => return Err(FrameError::Tag(tag)),
        })
    }

    fn close_alone(&mut self, header: Header, have: &[u8], steps: &mut Steps) -> Result<Take, FrameError> {
        if have.len() < header.total {
            return whole_name(header);
        }
        match (frame::target(have)?, self.alone.as_deref_mut()) {
            ((b'P', name), Some(Alone::Failed(failed))) => failed.close(name),
            ((b'S', b""), _) if self.own_names => self.unnamed.forget(),
            ((b'S', name), _) if self.own_names => _ = self.names.remove(name),
            _ => {}
        }
        put_empty(backend::CLOSE_COMPLETE, steps);
        Ok(Take::Drop)
    }

    /// Skips a message of a request that fails.
    fn refuse(&mut self, tag: u8, steps: &mut Steps) -> Take {
        if matches!(tag, frontend::FLUSH | frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL) {
            return Take::Drop;
        }
        let Some(Alone::Refused { untold, then }) = self.alone.as_deref() else { return Take::Drop };
        if let Some(error) = untold {
            steps.to_client.own(|out| error.encode(out));
        }
        let then = *then;
        if matches!(tag, frontend::SYNC | frontend::QUERY | frontend::FUNCTION_CALL) {
            self.alone = Alone::at(then);
            put_ready(then, steps);
        } else {
            self.alone = Some(Box::new(Alone::Skipping { then }));
        }
        Take::Drop
    }

    fn failed(&mut self) -> Option<&mut Failed> {
        if let Some(Alone::Failed(failed)) = self.alone.as_deref_mut() { Some(failed) } else { None }
    }

    /// A frame in a failed block.
    fn frame_failed(&mut self, header: Header, have: &[u8], steps: &mut Steps) -> Result<Take, FrameError> {
        if let Some(failed) = self.failed()
            && failed.skips
        {
            failed.skips = header.tag != frontend::SYNC;
            if failed.skips {
                return Ok(Take::Drop);
            }
        }
        let cut = have.len() < header.total;
        Ok(match header.tag {
            // Whether it ends the block is told from all of it, or from so much as can be waited for.
            frontend::QUERY if cut && have.len() < LASTING_MAX => Take::Stop(Stop::Input),
            frontend::QUERY => self.query_failed(exit_of(&have[HEADER..], cut), steps),
            // What is longer than a word or two does more than that.
            frontend::PARSE if cut && header.total <= LASTING_MAX => Take::Stop(Stop::Input),
            frontend::FUNCTION_CALL => {
                self.say_failed(&refused(Exit::Other), steps);
                put_ready(Status::Failed, steps);
                Take::Drop
            }
            frontend::PARSE if cut => self.skip_failed(&refused(Exit::Other), steps),
            frontend::PARSE => self.parse_failed(header, have, steps)?,
            frontend::BIND => self.bind_failed(header, have, steps)?,
            frontend::DESCRIBE | frontend::EXECUTE if cut => whole_name(header)?,
            frontend::DESCRIBE => self.describe_failed(have, steps)?,
            frontend::EXECUTE => self.execute_failed(have, steps)?,
            frontend::CLOSE => self.close_alone(header, have, steps)?,
            frontend::SYNC => {
                put_ready(Status::Failed, steps);
                Take::Drop
            }
            frontend::FLUSH | frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => Take::Drop,
            tag => return Err(FrameError::Tag(tag)),
        })
    }

    fn query_failed(&mut self, exit: Exit, steps: &mut Steps) -> Take {
        self.unnamed.forget();
        match exit {
            Exit::Empty => put_empty(backend::EMPTY_QUERY, steps),
            Exit::Ends { commit, rest } => {
                let ended = self.end_failed(commit, steps);
                if let (true, Some(rest)) = (ended, rest) {
                    self.alone = Some(Box::new(Alone::Begun(rest)));
                    return Take::Stop(Stop::NeedServer);
                }
                put_ready(Status::Idle, steps);
                return Take::Drop;
            }
            exit => self.say_failed(&refused(exit), steps),
        }
        put_ready(Status::Failed, steps);
        Take::Drop
    }

    /// The block is ended. A COMMIT of which the client does not know that it must fail reads an error; returns whether
    /// there was none.
    fn end_failed(&mut self, commit: bool, steps: &mut Steps) -> bool {
        let untold = self.failed().and_then(|failed| failed.untold.take());
        self.alone = None;
        match untold {
            Some(error) if commit => {
                steps.to_client.own(|out| error.encode(out));
                false
            }
            _ => {
                put_complete(b"ROLLBACK", steps);
                true
            }
        }
    }

    /// What the client may not do in a failed block it reads this error for; the first time, what the block failed of.
    fn say_failed(&mut self, error: &ErrorReply, steps: &mut Steps) {
        let Some(failed) = self.failed() else { return };
        let lost = failed.untold.take();
        steps.to_client.own(|out| lost.as_deref().unwrap_or(error).encode(out));
    }

    /// The same, and the rest up to Sync is skipped.
    fn skip_failed(&mut self, error: &ErrorReply, steps: &mut Steps) -> Take {
        self.say_failed(error, steps);
        if let Some(failed) = self.failed() {
            failed.skips = true;
        }
        Take::Drop
    }

    fn parse_failed(&mut self, header: Header, have: &[u8], steps: &mut Steps) -> Result<Take, FrameError> {
        let Head::Known((name, front)) = frame::parse_head(have, header.total)? else {
            return Ok(Take::Stop(Stop::Input));
        };
        let definition = definition(&have[front..])?;
        if name.is_empty() {
            self.unnamed.forget();
        }
        let exit = exit(definition);
        if portal(exit).is_none() {
            return Ok(self.skip_failed(&refused(exit), steps));
        }
        if name.is_empty() {
            self.unnamed.set(definition);
        } else if self.names.has_taken(name) {
            return Ok(self.skip_failed(&already_exists(name), steps));
        } else {
            self.names.insert(name.into(), self.intern(definition));
        }
        put_empty(backend::PARSE_COMPLETE, steps);
        Ok(Take::Drop)
    }

    fn bind_failed(&mut self, header: Header, have: &[u8], steps: &mut Steps) -> Result<Take, FrameError> {
        let Head::Known(head) = frame::bind_head(have, header.total)? else { return Ok(Take::Stop(Stop::Input)) };
        let exit = match self.exit_of(head.statement, steps) {
            Ok(exit) => exit,
            Err(take) => return Ok(take),
        };
        let (Some(portal), Some(failed)) = (portal(exit), self.failed()) else {
            return Ok(self.skip_failed(&refused(exit), steps));
        };
        if !head.portal.is_empty() && failed.portal(head.portal).is_some() {
            let text = format!("cursor \"{}\" already exists", String::from_utf8_lossy(head.portal));
            return Ok(self.skip_failed(&ErrorReply::error(SqlState::DUPLICATE_CURSOR, text), steps));
        }
        failed.bind(head.portal, portal);
        put_empty(backend::BIND_COMPLETE, steps);
        Ok(Take::Drop)
    }

    fn describe_failed(&mut self, have: &[u8], steps: &mut Steps) -> Result<Take, FrameError> {
        let (kind, name) = frame::target(have)?;
        if kind == b'P' {
            if self.failed().is_none_or(|failed| failed.portal(name).is_none()) {
                return Ok(self.skip_failed(&refused(Exit::Other), steps));
            }
        } else {
            match self.exit_of(name, steps) {
                Ok(exit) if portal(exit).is_none() => return Ok(self.skip_failed(&refused(exit), steps)),
                Ok(_) => steps.to_client.own(|out| put_frame(out, backend::PARAMETER_DESCRIPTION, &[b"\0\0"])),
                Err(take) => return Ok(take),
            }
        }
        put_empty(backend::NO_DATA, steps);
        Ok(Take::Drop)
    }

    fn execute_failed(&mut self, have: &[u8], steps: &mut Steps) -> Result<Take, FrameError> {
        let (name, _) = frame::c_string(&have[HEADER..]).ok_or(FrameError::Body(frontend::EXECUTE))?;
        let portal = self.failed().and_then(|failed| failed.portal(name));
        match portal {
            Some(Portal::Empty) => put_empty(backend::EMPTY_QUERY, steps),
            Some(Portal::Ends { commit }) => {
                if !self.end_failed(commit, steps) {
                    self.alone = Some(Box::new(Alone::Skipping { then: Status::Idle }));
                }
            }
            // The others that the client may know of were bound before the block failed.
            None => return Ok(self.skip_failed(&refused(Exit::Other), steps)),
        }
        Ok(Take::Drop)
    }

    /// What the client's statement of this name is to the block; or what becomes of a request for one that it has not.
    fn exit_of(&mut self, name: &[u8], steps: &mut Steps) -> Result<Exit, Take> {
        let known = if name.is_empty() {
            self.unnamed.definition().map(exit)
        } else {
            self.names.get(name).map(|statement| statement.exit())
        };
        let missing = |relay: &Self| if name.is_empty() { relay.unnamed.missing() } else { does_not_exist(name) };
        known.ok_or_else(|| self.skip_failed(&missing(self), steps))
    }
}

/// What a text is to the block; `cut` says that more of it is to come. Where a statement stands behind the one that ends
/// the block, that one is all here.
fn exit_of(text: &[u8], cut: bool) -> Exit {
    match exit(text) {
        exit @ Exit::Ends { rest: Some(_), .. } => exit,
        exit if !cut => exit,
        _ => Exit::Other,
    }
}

fn refused(exit: Exit) -> ErrorReply {
    let error = in_failed_transaction();
    match exit {
        Exit::Chains | Exit::ToSavepoint => {
            error.hint("The transaction was lost with its server: send ROLLBACK and begin again.")
        }
        _ => error,
    }
}

/// What a statement's portal can be; `None` where a failed block refuses it.
fn portal(exit: Exit) -> Option<Portal> {
    match exit {
        Exit::Empty => Some(Portal::Empty),
        Exit::Ends { commit, rest: None } => Some(Portal::Ends { commit }),
        _ => None,
    }
}
