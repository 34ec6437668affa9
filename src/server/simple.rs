//! One simple Query on an idle server, answered completely before anything else: reset, check and connect queries.
//! And what an idle server says unasked. After any error the server is in an unknown state and must be closed.

use std::io;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::Server;
use crate::net::Stream;
use crate::wire::error::ErrorFields;
use crate::wire::tag::{backend, frontend};

/// Why a query failed. The server's own error is the one case after which it is idle and in sync.
#[derive(Debug, Error)]
pub enum SimpleError {
    /// The server answered with an error, and is ready again.
    #[error("{0}")]
    Refused(String),
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server sent what does not belong there.
    #[error("unexpected answer: {0}")]
    Unexpected(&'static str),
}

/// Runs `sql` and reads up to ReadyForQuery. Rows are thrown away.
///
/// # Errors
/// See [`SimpleError`]; after anything but `Refused` the server must be closed.
pub async fn run(server: &mut Server, sql: &str, limit: Option<Duration>) -> Result<(), SimpleError> {
    in_time(exchange(server, sql, KEPT_MAX, |_| Ok(())), limit).await
}

/// The values of a row as text; NULL is `None`.
pub type Row = Vec<Option<Box<[u8]>>>;

/// Runs `sql` and returns the rows of all its statements.
///
/// # Errors
/// See [`SimpleError`]; after anything but `Refused` the server must be closed. Rows of more than 256 MiB are an error.
pub async fn rows(server: &mut Server, sql: &str, limit: Option<Duration>) -> Result<Vec<Row>, SimpleError> {
    let (mut rows, mut size) = (Vec::new(), 0);
    let keep = |body: &[u8]| {
        size += body.len();
        if size > ROWS_MAX {
            return Err(SimpleError::Unexpected("too many rows"));
        }
        rows.push(row(body).ok_or(SimpleError::Unexpected("a row that is none"))?);
        Ok(())
    };
    in_time(exchange(server, sql, ROW_MAX, keep), limit).await?;
    Ok(rows)
}

/// A longer row is an error.
const ROW_MAX: u32 = 64 * 1024 * 1024;
/// All rows together.
const ROWS_MAX: usize = 256 * 1024 * 1024;

/// The values of a DataRow in text format; `None`: it is none.
pub fn row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk()?;
    let mut values = Row::with_capacity(u16::from_be_bytes(*count).into());
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = i32::from_be_bytes(*length);
        let (value, after) = after.split_at_checked(usize::try_from(length).unwrap_or(0))?;
        values.push((length >= 0).then(|| value.into()));
        rest = after;
    }
    (rest.is_empty() && values.len() == usize::from(u16::from_be_bytes(*count))).then_some(values)
}

async fn in_time(
    exchange: impl Future<Output = Result<(), SimpleError>>,
    limit: Option<Duration>,
) -> Result<(), SimpleError> {
    match limit {
        Some(limit) => timeout(limit, exchange).await.unwrap_or(Err(SimpleError::TimedOut)),
        None => exchange.await,
    }
}

async fn exchange(
    server: &mut Server,
    sql: &str,
    kept_max: u32,
    mut keep: impl FnMut(&[u8]) -> Result<(), SimpleError>,
) -> Result<(), SimpleError> {
    let length = u32::try_from(sql.len() + 5).map_err(|_| SimpleError::Unexpected("the query is too long"))?;
    let mut query = Vec::with_capacity(sql.len() + 6);
    query.push(frontend::QUERY);
    query.extend_from_slice(&length.to_be_bytes());
    query.extend(sql.bytes().filter(|&byte| byte != 0));
    query.resize(sql.len() + 6, 0);
    server.stream.write_all(&query).await?;
    server.stream.flush().await?;
    let mut refusal = None;
    let mut body = Vec::new();
    loop {
        // A small buffer each time would read past the frame; one frame at a time costs two reads, off the hot path.
        match read_frame(&mut server.stream, &mut body, kept_max).await? {
            backend::READY if body == b"I" => break,
            backend::READY => return Err(SimpleError::Unexpected("a transaction was left open")),
            backend::ERROR => refusal = Some(error_text(&body)),
            backend::DATA_ROW => keep(&body)?,
            tag => note(server, tag, &body)?,
        }
    }
    refusal.map_or(Ok(()), |text| Err(SimpleError::Refused(text)))
}

/// Reads one message. Bodies that nobody reads are skipped as they come, whatever their size.
async fn read_frame(stream: &mut Stream, body: &mut Vec<u8>, kept_max: u32) -> Result<u8, SimpleError> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await?;
    let [tag, length @ ..] = header;
    let length =
        u32::from_be_bytes(length).checked_sub(4).ok_or(SimpleError::Unexpected("a message of impossible length"))?;
    body.clear();
    if length <= kept_max {
        body.resize(length as usize, 0);
        stream.read_exact(body).await?;
    } else {
        skip(stream, u64::from(length)).await?;
    }
    Ok(tag)
}

/// Longest body that is looked at where nobody wants rows.
const KEPT_MAX: u32 = 64 * 1024;

async fn skip(stream: &mut Stream, length: u64) -> Result<(), SimpleError> {
    let mut rest = BufReader::new(stream.take(length));
    let mut left = length;
    while left > 0 {
        let read = rest.fill_buf().await?.len();
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        rest.consume(read);
        left -= read as u64;
    }
    Ok(())
}

/// What a message that is no end changes about the server.
fn note(server: &mut Server, tag: u8, body: &[u8]) -> Result<(), SimpleError> {
    match tag {
        backend::PARAMETER_STATUS => {
            let mut fields = body.split(|&byte| byte == 0);
            if let (Some(name), Some(value)) = (fields.next(), fields.next())
                && let Ok(name) = std::str::from_utf8(name)
            {
                server.params.set(name, value);
                // No client's settings are known to hold any more.
                server.matched = None;
            }
        }
        backend::COMMAND_COMPLETE if body == b"DISCARD ALL\0" || body == b"DEALLOCATE ALL\0" => {
            server.statements.clear();
            server.shared.prepared.store(0, Ordering::Relaxed);
        }
        backend::COMMAND_COMPLETE
        | backend::EMPTY_QUERY
        | backend::ROW_DESCRIPTION
        | backend::DATA_ROW
        | backend::NOTICE
        | backend::NOTIFICATION => {}
        backend::COPY_IN | backend::COPY_OUT | backend::COPY_BOTH => {
            return Err(SimpleError::Unexpected("a COPY"));
        }
        _ => return Err(SimpleError::Unexpected("a message that does not belong there")),
    }
    Ok(())
}

fn error_text(body: &[u8]) -> String {
    let fields = ErrorFields::parse(body);
    let message = fields.message.map_or_else(|| "(no message)".into(), String::from_utf8_lossy);
    let code = fields.code.map_or_else(String::new, |code| format!(" ({})", code.as_str()));
    format!("{message}{code}")
}

/// Whether a server at rest is still there. Costs no system call while it is silent. What it may say unasked
/// (a changed parameter, a notice) is taken in; all else, and half a message, means that it is to be closed.
pub fn is_alive(server: &mut Server) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    if server.stream.poll_probe(&mut context).is_pending() {
        return true;
    }
    let mut buffer = [0; 4096];
    let mut unread = tokio::io::ReadBuf::new(&mut buffer);
    match tokio::io::AsyncRead::poll_read(std::pin::Pin::new(&mut server.stream), &mut context, &mut unread) {
        Poll::Pending => true,
        Poll::Ready(Err(_)) => false,
        Poll::Ready(Ok(())) => {
            let said = unread.filled();
            !said.is_empty() && take_in(server, said)
        }
    }
}

fn take_in(server: &mut Server, mut said: &[u8]) -> bool {
    while let [tag, a, b, c, d, rest @ ..] = said {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let harmless = matches!(*tag, backend::PARAMETER_STATUS | backend::NOTICE | backend::NOTIFICATION);
        let Some(body) = length.checked_sub(4).and_then(|length| rest.get(..length)) else { return false };
        if !harmless || note(server, *tag, body).is_err() {
            return false;
        }
        said = &rest[body.len()..];
    }
    said.is_empty()
}

#[cfg(test)]
mod tests;
