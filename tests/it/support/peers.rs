//! Servers that misbehave: a line to PostgreSQL that can be cut, and peers that say one thing to whoever comes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use pglifeguard::app::demo::PortClaim;

use super::raw::CANCEL_REQUEST;

/// A line to a port of this machine. While it is cut nobody can connect, and who was connected no longer is: what a
/// server's crash looks like from outside.
#[derive(Debug)]
pub(crate) struct Line {
    port: PortClaim,
    to: u16,
    links: Arc<Mutex<Vec<TcpStream>>>,
    open: Option<Listening>,
}

impl Line {
    pub(crate) fn to(port: u16) -> Self {
        let mut line =
            Self { port: PortClaim::anywhere().expect("a free port"), to: port, links: Arc::default(), open: None };
        line.mend();
        line
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn cut(&mut self) {
        self.open = None;
        for link in self.links.lock().expect("nobody panicked").drain(..) {
            let _ = link.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn mend(&mut self) {
        let (links, to) = (Arc::clone(&self.links), self.to);
        self.open = Some(Listening::on(self.port.number(), move |client| {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
            let ends = [client.try_clone()?, server.try_clone()?];
            links.lock().expect("nobody panicked").extend(ends);
            let (mut from, mut into) = (server.try_clone()?, client.try_clone()?);
            thread::spawn(move || pass_on(&mut from, &mut into));
            pass_on(&mut { client }, &mut { server });
            Ok(())
        }));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
    }
}

fn pass_on(from: &mut TcpStream, into: &mut TcpStream) {
    // Either side may end it; the other is told.
    let _ = io::copy(from, into);
    let _ = into.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// A line to a port of this machine, on which cancel requests arrive at once, but look as if they took their time: their
/// connections stay open until they are let go.
#[derive(Debug)]
pub(crate) struct SlowCancels {
    port: PortClaim,
    arrived: Arc<AtomicUsize>,
    gate: Arc<(Mutex<bool>, Condvar)>,
    _open: Listening,
}

impl SlowCancels {
    pub(crate) fn to(to: u16) -> Self {
        let port = PortClaim::anywhere().expect("a free port");
        let (arrived, gate) = (Arc::<AtomicUsize>::default(), Arc::<(Mutex<bool>, Condvar)>::default());
        let (counted, closed) = (Arc::clone(&arrived), Arc::clone(&gate));
        let open = Listening::on(port.number(), move |mut client| {
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
            let mut front = [0; 8];
            client.read_exact(&mut front)?;
            server.write_all(&front)?;
            let (mut from, mut into) = (server.try_clone()?, client.try_clone()?);
            if front[4..] != CANCEL_REQUEST.to_be_bytes() {
                thread::spawn(move || pass_on(&mut from, &mut into));
                pass_on(&mut client, &mut server);
                return Ok(());
            }
            thread::spawn(move || io::copy(&mut into, &mut from));
            let _ = server.read(&mut front)?;
            counted.fetch_add(1, Ordering::SeqCst);
            let (open, changed) = &*closed;
            let open = open.lock().expect("nobody panicked");
            drop(changed.wait_while(open, |open| !*open).expect("nobody panicked"));
            client.shutdown(Shutdown::Both)
        });
        Self { port, arrived, gate, _open: open }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// How many have arrived.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    /// Their connections are closed, and those of all that come.
    pub(crate) fn let_go(&self) {
        let (open, changed) = &*self.gate;
        *open.lock().expect("nobody panicked") = true;
        changed.notify_all();
    }
}

impl Drop for SlowCancels {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// A line to a port of this machine, at whose end a doorman refuses everybody until he is told to let them in.
#[derive(Debug)]
pub(crate) struct Doorman {
    port: PortClaim,
    door: Arc<Door>,
    _open: Listening,
}

#[derive(Debug, Default)]
struct Door {
    open: AtomicBool,
    visits: AtomicUsize,
    refusing: AtomicUsize,
    most: AtomicUsize,
}

impl Doorman {
    /// He refuses with FATAL, this SQLSTATE and text.
    pub(crate) fn before(to: u16, code: &str, text: &str) -> Self {
        let port = PortClaim::anywhere().expect("a free port");
        let (door, words) = (Arc::<Door>::default(), fatal(code, text));
        let his = Arc::clone(&door);
        let open = Listening::on(port.number(), move |mut client| {
            if his.open.load(Ordering::SeqCst) {
                let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
                let (mut from, mut into) = (server.try_clone()?, client.try_clone()?);
                thread::spawn(move || pass_on(&mut from, &mut into));
                pass_on(&mut client, &mut server);
                return Ok(());
            }
            his.visits.fetch_add(1, Ordering::SeqCst);
            his.most.fetch_max(his.refusing.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let mut packet = [0; 1024];
            let _ = client.read(&mut packet)?;
            // He takes his time, so that those who come side by side meet at the door.
            client.set_read_timeout(Some(Duration::from_millis(20)))?;
            let _ = client.read(&mut packet);
            his.refusing.fetch_sub(1, Ordering::SeqCst);
            client.write_all(&words)
        });
        Self { port, door, _open: open }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn lets_in(&self) {
        self.door.open.store(true, Ordering::SeqCst);
    }

    /// How many he has refused, and the most that he did at once.
    pub(crate) fn refused(&self) -> (usize, usize) {
        (self.door.visits.load(Ordering::SeqCst), self.door.most.load(Ordering::SeqCst))
    }
}

/// An ErrorResponse with FATAL, this SQLSTATE and text.
fn fatal(code: &str, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (field, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', text)] {
        body.push(field);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).expect("it is short").to_be_bytes();
    [&b"E"[..], &length, &body].concat()
}

/// A peer that reads a startup packet and answers it with the same bytes, whoever comes.
#[derive(Debug)]
pub(crate) struct Parrot {
    port: PortClaim,
    visits: Arc<AtomicUsize>,
    _open: Listening,
}

impl Parrot {
    /// It says `words` and hangs up; without words it says nothing, and does not hang up.
    pub(crate) fn saying(words: Vec<u8>) -> Self {
        let port = PortClaim::anywhere().expect("a free port");
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&visits);
        let open = Listening::on(port.number(), move |mut client| {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut packet = [0; 1024];
            let _ = client.read(&mut packet)?;
            client.write_all(&words)?;
            // Until the other side goes; it may have said more, which is of no interest.
            while words.is_empty() && client.read(&mut packet)? > 0 {}
            Ok(())
        });
        Self { port, visits, _open: open }
    }

    /// It lets everybody in, and says this, or nothing, and hangs up once it is asked for something.
    pub(crate) fn letting_in(words: &'static [u8]) -> Self {
        let port = PortClaim::anywhere().expect("a free port");
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&visits);
        let reports = [
            ("server_version", "15.1"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("TimeZone", "UTC"),
            ("standard_conforming_strings", "on"),
            ("application_name", ""),
        ];
        let mut login = b"R\0\0\0\x08\0\0\0\0".to_vec();
        for (name, value) in reports {
            login.push(b'S');
            login.extend_from_slice(&u32::try_from(name.len() + value.len() + 6).expect("short").to_be_bytes());
            login.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        login.extend_from_slice(b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I");
        let open = Listening::on(port.number(), move |mut client| {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut packet = [0; 1024];
            let _ = client.read(&mut packet)?;
            client.write_all(&login)?;
            let _ = client.read(&mut packet)?;
            client.write_all(words)
        });
        Self { port, visits, _open: open }
    }

    /// An ErrorResponse with FATAL, this SQLSTATE and text.
    pub(crate) fn refusing(code: &str, text: &str) -> Self {
        Self::saying(fatal(code, text))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// How many have come.
    pub(crate) fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

/// A listener in threads of its own, until it is dropped.
#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Listening {
    fn on(port: u16, serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port was free");
        let address = listener.local_addr().expect("a socket of our own");
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let serve = serve.clone();
                // What a visitor does to its connection is its own business.
                thread::spawn(move || drop(serve(client)));
            }
        });
        Self { address, over, thread: Some(thread) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
