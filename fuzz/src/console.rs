//! The console: texts of commands, and a client of it that sends anything.

use std::collections::BTreeMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Instant, SystemTime};

use bytes::BytesMut;
use pglifeguard::admin::AdminContext;
use pglifeguard::admin::command::{Command, Role};
use pglifeguard::admin::console::{ConsoleUser, serve};
use pglifeguard::admin::control::{Control, Counts, DatabaseRow, Health, Histograms, Later, Totals, UserRow};
use pglifeguard::admin::error::CommandError;
use pglifeguard::config::Config;
use pglifeguard::config::model::ShownSetting;
use pglifeguard::pool::stats::{PoolRow, ServerRow};
use pglifeguard::session::registry::{ClientRow, Requests};
use pglifeguard::telemetry::labels::StopMode;
use pglifeguard::types::ClientId;
use pglifeguard::wire::error::ClientError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::input::whole_frames;

/// A byte that says in how large pieces, then what the client sends.
pub fn run(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    if let Ok(text) = str::from_utf8(data) {
        command(text);
    }
    talk(usize::from(*piece) + 1, data);
}

fn command(text: &str) {
    match Command::parse(text) {
        Ok(command) => {
            let kind = command.kind();
            assert!(kind.may(Role::Admin), "{command:?} is nobody's");
            assert!(kind.may(Role::Admin) || !kind.may(Role::Stats));
            assert!(kind.tag().is_empty() == (kind.subject().is_empty()));
            assert!(command.database().is_none_or(|name| !name.is_empty()));
            assert_eq!(Command::parse(&format!(" {text} ")), Ok(command), "space around it means nothing");
        }
        Err(error) => assert!(error.reply().message.len() < 1024),
    }
}

/// Whatever is sent, the console ends when the client does, and has answered in whole messages.
fn talk(piece: usize, data: &[u8]) {
    let mut answers = Vec::new();
    let user = ConsoleUser {
        label: "C-0x1: pgbouncer/admin@unix(1)".into(),
        admin: piece.is_multiple_of(2),
        key_pid: 1,
        key_secret: Arc::from(*b"1234"),
        cancelled: Arc::default(),
        requests: Requests::since(SystemTime::UNIX_EPOCH),
    };
    let context = Arc::new(AdminContext::new(Arc::new(Nothing), Instant::now()));
    let stream = Stream { left: data, piece, answers: &mut answers };
    let ended =
        pin!(serve(stream, BytesMut::new(), user, context.clone())).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ended, Poll::Ready(Ok(()))), "{ended:?}");
    assert_eq!(context.consoles(), 0);
    assert!(whole_frames(&answers, b"RSKZTDCENI123tns").is_empty());
}

/// A client that sends these bytes in pieces, takes what it is told, and leaves.
struct Stream<'a> {
    left: &'a [u8],
    piece: usize,
    answers: &'a mut Vec<u8>,
}

impl AsyncRead for Stream<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let size = self.piece.min(self.left.len()).min(buf.remaining());
        let (piece, left) = self.left.split_at(size);
        buf.put_slice(piece);
        self.left = left;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let size = self.piece.min(buf.len());
        self.answers.extend_from_slice(&buf[..size]);
        Poll::Ready(Ok(size))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A pooler without anything, that does at once what it is told.
struct Nothing;

type Done = Result<(), CommandError>;

fn at_once<T: Send + 'static>(value: T) -> Later<T> {
    Box::pin(std::future::ready(value))
}

impl Control for Nothing {
    fn pools(&self) -> Vec<PoolRow> {
        Vec::new()
    }
    fn servers(&self) -> Vec<ServerRow> {
        Vec::new()
    }
    fn clients(&self) -> Vec<ClientRow> {
        Vec::new()
    }
    fn databases(&self) -> Vec<DatabaseRow> {
        Vec::new()
    }
    fn users(&self) -> Vec<UserRow> {
        Vec::new()
    }
    fn totals(&self) -> BTreeMap<Arc<str>, Totals> {
        BTreeMap::new()
    }
    fn histograms(&self) -> Vec<(Arc<str>, Histograms)> {
        Vec::new()
    }
    fn counts(&self) -> Counts {
        Counts::default()
    }
    fn settings(&self) -> Vec<ShownSetting> {
        Config::default().shown
    }
    fn is_paused(&self) -> bool {
        false
    }
    fn health(&self) -> Health {
        Health::default()
    }
    fn pause(&self, _: Option<&str>) -> Result<Later<Done>, CommandError> {
        Ok(at_once(Ok(())))
    }
    fn resume(&self, database: Option<&str>) -> Done {
        database.map_or(Ok(()), |name| Err(CommandError::DatabaseNotPaused(name.to_owned())))
    }
    fn reconnect(&self, _: Option<&str>) -> Done {
        Ok(())
    }
    fn kill(&self, _: Option<&str>) -> Done {
        Ok(())
    }
    fn wait_close(&self, _: Option<&str>) -> Result<Later<()>, CommandError> {
        Ok(at_once(()))
    }
    fn set_disabled(&self, _: &str, _: bool) -> Done {
        Ok(())
    }
    fn kill_client(&self, _: ClientId) -> Done {
        Err(CommandError::ClientNotFound)
    }
    fn reload(&self) -> Later<Result<Vec<String>, CommandError>> {
        at_once(Ok(Vec::new()))
    }
    fn shutdown(&self, _: StopMode) {}
}
