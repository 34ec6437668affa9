//! Logins, from both ends: a client against `session::auth`, a server against `server::login`, and the two against each other with
//! somebody in between who changes what they say.

use std::sync::Arc;

use bytes::BytesMut;
use pglifeguard::config::model::AuthType;
use pglifeguard::config::users::StoredSecret;
use pglifeguard::server::login::{self, Credential, Login, LoginRequest};
use pglifeguard::session::auth::{self, Exchange, Proof, Random, Strangers};
use pglifeguard::types::Secret;
use pglifeguard::wire::error::{ClientError, ErrorReply, SqlState};
use pglifeguard::wire::frame::{HEADER, header};
use pglifeguard::wire::md5::Md5Secret;
use pglifeguard::wire::message::{TxStatus, backend};
use pglifeguard::wire::scram::{ScramKeys, ScramVerifier};

use super::input::{Input, whole_frames};

const USER: &str = "alice";
const PASSWORD: &[u8] = b"secret";
/// Of the password and the user's name.
const MD5: &[u8] = b"md54a0a68b43b6cd5cf266fa02f196e2371";
const SALT: &[u8] = b"salt of sixteen.";
const STRANGERS: Strangers<'static> =
    Strangers { process_secret: b"of this process", iterations: ITERATIONS, scram_users: (0, 1) };
/// Few: this is about messages, not about the cost of guessing.
const ITERATIONS: u32 = 2;

/// A setting and then messages, or what is done to them.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte();
    let setting = Setting::read(&mut input);
    match kind % 3 {
        0 => hostile_client(&setting, &mut input),
        1 => hostile_server(&setting, &mut input),
        _ => Duel::run(&setting, &mut input),
    }
}

/// Who logs in how.
#[derive(Debug)]
struct Setting {
    method: AuthType,
    secret: Option<StoredSecret>,
    credential: Credential,
    /// The certificates that client and server see, where they have TLS.
    end_points: [Option<Arc<[u8]>>; 2],
    /// The client knows the password itself.
    knows: bool,
    refused: bool,
}

impl Setting {
    fn read(input: &mut Input<'_>) -> Self {
        let [method, secret, credential, binding] = [(); 4].map(|()| input.byte());
        let knows = credential & 0x80 == 0;
        let password = if knows { PASSWORD } else { b"another" };
        let end_point = |bits: u8| match bits & 3 {
            0 | 1 => None,
            2 => Some(Arc::from(&b"certificate"[..])),
            _ => Some(Arc::from(&b"another's"[..])),
        };
        Self {
            method: [AuthType::Plain, AuthType::Md5, AuthType::ScramSha256, AuthType::Trust][usize::from(method & 3)],
            secret: match secret & 3 {
                0 => Some(StoredSecret::Plain(Secret::new(PASSWORD))),
                1 => Some(StoredSecret::of(MD5)),
                2 => Some(StoredSecret::Scram(ScramVerifier::from_password(PASSWORD, SALT, ITERATIONS))),
                _ => None,
            },
            credential: match credential & 3 {
                0 => Credential::Plain(Secret::new(password)),
                1 => Credential::Md5(Md5Secret::from_password(password, USER.as_bytes())),
                2 => Credential::ScramKeys(ScramKeys::from_password(password, SALT, ITERATIONS)),
                _ => Credential::None,
            },
            end_points: [end_point(binding), end_point(binding >> 2)],
            knows,
            refused: binding & 0x80 != 0,
        }
    }

    fn start(&self, out: &mut BytesMut) -> Result<auth::Step, auth::Refusal> {
        let refusal = self.refused.then(|| ErrorReply::fatal(SqlState(*b"3D000"), "no such database"));
        let request = auth::Request {
            method: self.method,
            user: USER,
            secret: self.secret.as_ref(),
            verifier: None,
            refusal,
            end_point: self.end_points[1].clone(),
            strangers: STRANGERS,
            random: Random { nonce: [7; 18], salt: *b"salt" },
        };
        auth::start(request, out)
    }

    fn login(&self, out: &mut BytesMut) -> Login {
        let request = LoginRequest {
            user: USER,
            database: "app",
            params: &[],
            credential: self.credential.clone(),
            end_point: self.end_points[0].clone(),
            nonce: [9; 18],
        };
        Login::start(request, out)
    }

    /// Nobody changed anything, and the client has the password: what must come of it.
    fn must_succeed(&self) -> bool {
        let same_certificate = !matches!(&self.end_points, [Some(client), Some(server)] if client != server);
        let served = self.secret.as_ref().is_some_and(|secret| auth::can_serve(self.method, secret));
        let asks = matches!(self.method, AuthType::Plain | AuthType::Md5 | AuthType::ScramSha256);
        let plain = matches!(self.credential, Credential::Plain(_));
        asks && plain && self.knows && served && same_certificate && !self.refused
    }
}

/// Only who says the password itself gets in without knowing what was sent to it.
fn hostile_client(setting: &Setting, input: &mut Input<'_>) {
    let mut out = BytesMut::new();
    let mut step = setting.start(&mut out);
    let mut said = Vec::new();
    while !input.is_empty() {
        let Ok(auth::Step::Wait(exchange)) = step else { break };
        let tag = if input.byte() % 8 == 7 { input.byte() } else { b'p' };
        let body = input.chunk();
        said.push(body);
        step = exchange.step(tag, body, &mut out);
    }
    assert!(whole_frames(&out, b"R").is_empty());
    match step {
        Ok(auth::Step::Authenticated(proof)) => {
            assert!(setting.secret.is_some() && !setting.refused);
            let told = said.iter().any(|body| *body == [PASSWORD, b"\0"].concat());
            let answered = setting.method == AuthType::Md5 && said.last().is_some_and(|body| body.starts_with(b"md5"));
            assert!(setting.method == AuthType::Trust || told || answered, "{setting:?} let in {said:?}");
            let _ = proof.credential(setting.secret.as_ref());
        }
        Ok(auth::Step::Wait(_)) => {}
        Err(refusal) => drop(refusal.reply()),
    }
}

/// A server gets nothing but well-formed messages from us, and few of them.
fn hostile_server(setting: &Setting, input: &mut Input<'_>) {
    let mut out = BytesMut::new();
    let mut login = setting.login(&mut out);
    let startup = out.len();
    while !input.is_empty() {
        let choice = input.byte();
        let tag = if choice & 0x80 == 0 { b"RRRRRSKZENv"[usize::from(choice) % 11] } else { choice & 0x7f };
        login = match login.step(tag, input.chunk(), &mut out) {
            Ok(login::Step::Wait(login)) => login,
            Ok(login::Step::Done(done)) => {
                assert!(done.params.iter().count() <= 256 && done.key.secret.len() <= 256);
                break;
            }
            Err(failure) => {
                let _ = (failure.reply(), failure.is_temporary());
                break;
            }
        };
    }
    assert!(whole_frames(&out[startup..], b"p").is_empty());
    assert!(out.len() < startup + 4096, "three messages at most, all short");
}

/// Our client against our server.
struct Duel {
    client: Option<Login>,
    server: Option<Exchange>,
    proof: Option<Proof>,
    done: bool,
    /// A client's word was changed.
    client_changed: bool,
    /// A server's word was changed.
    server_changed: bool,
    /// The server's proof was changed.
    last_changed: bool,
}

impl Duel {
    fn run(setting: &Setting, input: &mut Input<'_>) {
        let (mut to_client, mut startup) = (BytesMut::new(), BytesMut::new());
        let client = setting.login(&mut startup);
        let Ok(auth::Step::Wait(server)) = setting.start(&mut to_client) else { return };
        let mut duel = Self {
            client: Some(client),
            server: Some(server),
            proof: None,
            done: false,
            client_changed: false,
            server_changed: false,
            last_changed: false,
        };
        while !to_client.is_empty() {
            let to_server = duel.client_hears(&to_client, input);
            to_client.clear();
            duel.server_hears(&to_server, input, &mut to_client);
        }
        duel.judge(setting);
    }

    fn client_hears(&mut self, mut bytes: &[u8], input: &mut Input<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        while let Some((tag, body, rest)) = frame(bytes) {
            bytes = rest;
            let Some(client) = self.client.take() else { break };
            let mut heard = body.to_vec();
            // What follows the proofs is not protected by them.
            if self.proof.is_none() || body.starts_with(&[0, 0, 0, 12]) {
                change(&mut heard, input);
            }
            self.server_changed |= heard != body;
            self.last_changed |= heard != body && body.starts_with(&[0, 0, 0, 12]);
            match client.step(tag, &heard, &mut out) {
                Ok(login::Step::Wait(client)) => self.client = Some(client),
                Ok(login::Step::Done(_)) => self.done = true,
                Err(failure) => drop(failure.reply()),
            }
        }
        out
    }

    fn server_hears(&mut self, mut bytes: &[u8], input: &mut Input<'_>, out: &mut BytesMut) {
        while let Some((tag, body, rest)) = frame(bytes) {
            bytes = rest;
            let Some(server) = self.server.take() else { break };
            let mut heard = body.to_vec();
            change(&mut heard, input);
            self.client_changed |= heard != body;
            match server.step(tag, &heard, out) {
                Ok(auth::Step::Wait(server)) => self.server = Some(server),
                Ok(auth::Step::Authenticated(proof)) => {
                    self.proof = Some(proof);
                    backend::authentication_ok(out);
                    backend::ready_for_query(out, TxStatus::Idle);
                }
                Err(refusal) => {
                    out.clear();
                    drop(refusal.reply());
                }
            }
        }
    }

    fn judge(&self, setting: &Setting) {
        if self.proof.is_some() {
            assert!(setting.knows && setting.secret.is_some(), "let in without the password: {setting:?}");
            assert!(!setting.refused, "let in though refused: {setting:?}");
            assert!(!self.client_changed, "let in by a changed message: {setting:?}");
        }
        assert!(!(self.done && self.last_changed), "the server's proof was changed and believed: {setting:?}");
        if setting.must_succeed() && !self.client_changed && !self.server_changed {
            assert!(self.proof.is_some() && self.done, "not let in: {setting:?}");
        }
    }
}

/// The frame at the front: tag, body, what follows.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let head = header(bytes, 1 << 20).expect("we wrote it")?;
    let (frame, rest) = bytes.split_at(head.total);
    Some((head.tag, &frame[HEADER..], rest))
}

/// Changes a message, or leaves it as it is.
fn change(message: &mut Vec<u8>, input: &mut Input<'_>) {
    let kind = input.byte();
    let at = usize::from(input.byte()) % (message.len() + 1);
    match kind {
        0 => {}
        1 => message.insert(at, input.byte()),
        2 => message.truncate(at),
        3 => drop(message.splice(at..at, input.chunk().iter().copied())),
        4 => *message = input.chunk().to_vec(),
        5.. if at < message.len() => message[at] ^= kind - 4,
        _ => {}
    }
}
