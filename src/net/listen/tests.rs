use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use tokio::net::{TcpStream, UnixStream};

use super::*;

fn unix(dir: &Path) -> UnixOptions<'_> {
    UnixOptions { dir, port: 6432, mode: 0o770, group: None, backlog: 128 }
}

async fn client(listener: &Listener) -> (Stream, Address) {
    match listener.accept().await {
        Accepted::Client(stream, address) => (stream, address),
        Accepted::Starved(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn clients_have_the_options_from_the_start() {
    let options = TcpOptions { keepidle: Some(Duration::from_secs(77)), ..TcpOptions::default() };
    let listener = Listener::tcp("127.0.0.1", 0, 128, &options).await.expect("listen").remove(0);
    let address = listener.local_addr().expect("address").expect("TCP");
    assert_eq!(listener.to_string(), address.to_string());
    for seconds in [77, 88] {
        let connected = TcpStream::connect(address).await.expect("connect");
        let (stream, peer) = client(&listener).await;
        assert_eq!(peer, Address::Tcp(connected.local_addr().expect("address")));
        let Stream::Tcp(socket) = &stream else { panic!("not TCP") };
        assert!(socket.nodelay().expect("nodelay"));
        assert_eq!(SockRef::from(socket).tcp_keepalive_time().expect("time"), Duration::from_secs(seconds));
        let changed = TcpOptions { keepidle: Some(Duration::from_secs(88)), ..options };
        listener.set_options(&changed).expect("options");
    }
    let changed = TcpOptions { user_timeout: Some(Duration::from_secs(5)), ..options };
    listener.set_options(&changed).expect("options");
    listener.set_options(&TcpOptions::default()).expect("options");
    let _connected = TcpStream::connect(address).await.expect("connect");
    let (Stream::Tcp(socket), _) = client(&listener).await else { panic!("not TCP") };
    let (socket, new) = (SockRef::from(&socket), Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket"));
    assert_eq!(socket.tcp_keepalive_time().expect("time"), new.tcp_keepalive_time().expect("time"), "the system's");
    assert_eq!(socket.tcp_user_timeout().expect("time"), None);
}

#[tokio::test]
async fn everywhere_is_both_families_on_one_port() {
    let one = Listener::tcp("127.0.0.1", 0, 128, &TcpOptions::default()).await.expect("listen").remove(0);
    let port = one.local_addr().expect("address").expect("TCP").port();
    drop(one);
    let everywhere = Listener::tcp("*", port, 128, &TcpOptions::default()).await.expect("listen");
    TcpStream::connect(("127.0.0.1", port)).await.expect("IPv4");
    if everywhere.len() == 2 {
        TcpStream::connect(("::1", port)).await.expect("IPv6");
    }
    let taken = Listener::tcp("127.0.0.1", port, 128, &TcpOptions::default()).await.expect_err("taken");
    assert!(taken.to_string().contains(&format!("cannot listen on 127.0.0.1:{port}: Address")), "{taken}");
    let unknown = Listener::tcp("no-such-host.invalid", 1, 128, &TcpOptions::default()).await.expect_err("unknown");
    assert!(unknown.to_string().contains("no-such-host.invalid"), "{unknown}");
}

#[tokio::test]
async fn a_unix_listener_makes_its_file_and_takes_it_away() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join(".s.PGSQL.6432");
    let group = fs::metadata(dir.path()).expect("stat").gid().to_string();
    let listener = Listener::unix(&UnixOptions { group: Some(&group), ..unix(dir.path()) }).expect("listen");
    let made = fs::symlink_metadata(&path).expect("stat");
    assert!(made.file_type().is_socket());
    assert_eq!(made.permissions().mode() & 0o777, 0o770);
    assert_eq!(made.gid().to_string(), group);
    assert_eq!(listener.to_string(), format!("unix:{}", path.display()));

    let _connected = UnixStream::connect(&path).await.expect("connect");
    let (_, peer) = client(&listener).await;
    assert_eq!(peer.pid(), std::process::id());

    let second = Listener::unix(&unix(dir.path())).expect_err("in use");
    assert!(second.to_string().starts_with("unix socket is in use, cannot continue"), "{second}");
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn only_what_nobody_uses_is_replaced() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join(".s.PGSQL.6432");
    // What a process leaves behind that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
    assert!(path.exists());
    let first = Listener::unix(&unix(dir.path())).expect("the stale file is replaced");
    // Another took the path over: its file outlives ours.
    fs::remove_file(&path).expect("remove");
    let second = Listener::unix(&unix(dir.path())).expect("listen");
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());

    fs::write(&path, "precious").expect("write");
    let error = Listener::unix(&unix(dir.path())).expect_err("a file");
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "precious");
}

#[tokio::test]
async fn a_server_too_busy_to_answer_is_in_use() {
    let dir = tempfile::tempdir().expect("directory");
    let options = UnixOptions { backlog: 0, ..unix(dir.path()) };
    let listener = Listener::unix(&options).expect("listen");
    let _fills_the_backlog = UnixStream::connect(dir.path().join(".s.PGSQL.6432")).await.expect("connect");
    let second = Listener::unix(&options).expect_err("in use");
    assert!(matches!(second, ListenError::InUse { .. }), "{second}");
    drop(listener);
}

#[tokio::test]
async fn failures_name_the_file_and_the_setting() {
    let dir = tempfile::tempdir().expect("directory");
    let missing = dir.path().join("missing");
    let long = dir.path().join("x".repeat(120));
    let nobody = UnixOptions { group: Some("no such group"), ..unix(dir.path()) };
    for (options, words) in [
        (unix(&missing), ".s.PGSQL.6432: bind: No such file"),
        (unix(&long), ".s.PGSQL.6432: path: "),
        (nobody, "unix_socket_group: there is no group \"no such group\""),
    ] {
        let error = Listener::unix(&options).expect_err("listening").to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(!dir.path().join(".s.PGSQL.6432").exists(), "a failure leaves nothing behind");
}

#[tokio::test]
async fn the_abstract_namespace_has_no_files() {
    let name = format!("@pglifeguard-test-{}", std::process::id());
    let options = unix(Path::new(&name));
    let listener = Listener::unix(&options).expect("listen");
    let path = kernel_path(&Path::new(&name).join(".s.PGSQL.6432"));
    let _connected = UnixStream::connect(path).await.expect("connect");
    client(&listener).await;
    assert!(matches!(Listener::unix(&options), Err(ListenError::InUse { .. })));
    drop(listener);
    Listener::unix(&options).expect("free again");
}

/// In a process of its own, as the limit holds for all threads.
#[test]
fn out_of_files_is_a_pause_and_not_an_end() {
    const CHILD: &str = "PGLIFEGUARD_TEST_STARVES";
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        return runtime.block_on(starve());
    }
    let test = "net::listen::tests::out_of_files_is_a_pause_and_not_an_end";
    let child = std::process::Command::new(std::env::current_exe().expect("path"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

async fn starve() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let listener = Listener::tcp("127.0.0.1", 0, 128, &TcpOptions::default()).await.expect("listen").remove(0);
    let address = listener.local_addr().expect("address").expect("TCP");
    let _connected = TcpStream::connect(address).await.expect("connect");
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(64), ..limit }).expect("limit");
    let mut files = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        files.push(file);
    }
    for _ in 0..2 {
        assert!(matches!(listener.accept().await, Accepted::Starved(_)));
    }
    files.clear();
    client(&listener).await;
}

#[test]
fn starvation_is_told_from_the_trouble_of_one_client() {
    use rustix::io::Errno;
    for (error, starved) in [
        (Errno::MFILE, true),
        (Errno::NFILE, true),
        (Errno::NOBUFS, true),
        (Errno::NOMEM, true),
        (Errno::CONNABORTED, false),
        (Errno::PROTO, false),
        (Errno::NETUNREACH, false),
    ] {
        assert_eq!(is_starvation(&error.into()), starved, "{error:?}");
    }
}
