//! The process: open files, the Unix socket, the user it runs as, the pid file, and starts that can't be.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, geteuid};

use crate::support::pooler::Pooler;
use crate::support::programs::{psql, run};
use crate::support::raw::{self, Raw};
use crate::support::{Database, PoolerConfig, Session, eventually};

/// A line of a file below `/proc/PID`, behind its label.
fn proc(pooler: &Pooler, file: &str, label: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/{file}", pooler.pid())).expect("it is running");
    let line = text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_else(|| panic!("{label} in {text}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn socket(pooler: &Pooler) -> PathBuf {
    pooler.directory().join(format!(".s.PGSQL.{}", pooler.port()))
}

/// A port that is of no consequence: what fails before it listens.
const ANY_PORT: u16 = 1;

#[test]
fn the_limit_on_files_is_raised_and_compared_with_what_is_needed() {
    let database = Database::create("files");
    let config = PoolerConfig::new().database("app", &database);
    let enough = config.clone().before("ulimit -Sn 128 && ulimit -Hn 4000").start();
    assert_eq!(proc(&enough, "limits", "Max open files"), "4000 4000 files");
    // A client each, 25 servers for each of the two users, and a few for the rest.
    let log = enough.log();
    assert!(log.contains("file descriptors limit=4000 max_client_conn=1000 needed=1114"), "{log}");
    assert!(!log.contains("WARNING too few"), "{log}");
    let short = config.before("ulimit -n 500").start();
    let log = short.log();
    assert!(log.contains("WARNING too few file descriptors for max_client_conn and the pools"), "{log}");
    assert!(log.contains("limit=500 max_client_conn=1000 needed=1114"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_files_clients_wait_and_are_served_when_some_are_free() {
    let database = Database::create("out_of_files");
    let pooler = PoolerConfig::new().database("app", &database).before("ulimit -n 64").start();
    let served = Session::connect(&pooler.app_dsn("app")).await;
    let mut crowd: Vec<_> = (0..80).map(|_| Raw::tcp(pooler.port())).collect();
    eventually("it to be short of files", async || pooler.log().contains("can't accept clients on 127.0.0.1")).await;
    assert_eq!(served.value("SELECT 1").await, "1", "who is in is served as before");
    let mut last = crowd.pop().expect("eighty");
    last.send(&raw::packet(raw::SSL_REQUEST, b""));
    crowd.truncate(10);
    assert_eq!(last.bytes(1), b"N", "who waited is served");
    let client = Session::connect(&pooler.app_dsn("app")).await;
    assert_eq!(client.value("SELECT 2").await, "2");
}

#[test]
fn the_unix_socket_is_made_used_and_removed() {
    let database = Database::create("unix_socket");
    let mut pooler = PoolerConfig::new()
        .database("app", &database)
        .set("unix_socket_mode", "\"0750\"")
        .set("listen_addr", "[\"127.0.0.1\"]")
        .start();
    let path = socket(&pooler);
    let file = fs::symlink_metadata(&path).expect("it is there");
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o750);
    let dsn = format!("{} password=app", pooler.socket_dsn("app", "app"));
    assert_eq!(run(psql(&dsn).args(["-At", "-c", "SELECT current_user"])), "app\n");
    let clients = run(psql(&pooler.socket_dsn("pgbouncer", "pgbouncer")).args(["-At", "-c", "SHOW CLIENTS"]));
    assert!(clients.contains("|unix|"), "{clients}");
    pooler.signal(Signal::TERM);
    assert!(pooler.wait().success());
    assert!(!path.exists());
}

#[test]
fn what_a_dead_process_left_is_replaced_and_a_living_one_is_left_alone() {
    let database = Database::create("stale_files");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pid_file = dir.path().join("pid");
    let base = PoolerConfig::new().database("app", &database);
    let config = base.clone().set("pidfile", &format!("\"{}\"", pid_file.display()));
    let mut pooler = config.start();
    let path = socket(&pooler);

    // On the socket only, so that nothing else can be in the way.
    let beside = base.clone().set("listen_addr", "[]");
    let beside = beside.set("unix_socket_dir", &format!("\"{}\"", pooler.directory().display()));
    let said = beside.fails(pooler.port());
    assert!(said.contains(&format!("unix socket is in use, cannot continue: {}", path.display())), "{said}");
    let said = config.fails(pooler.port());
    let named = format!("pidfile {}: process {}, which it names, is running", pid_file.display(), pooler.pid());
    assert!(said.contains(&named), "{said}");
    let said = base.fails(pooler.port());
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{}", pooler.port())), "{said}");
    assert!(said.contains("is another pooler running there?"), "{said}");
    assert_eq!(fs::read_to_string(&pid_file).expect("it is left alone").trim(), pooler.pid().to_string());
    assert!(path.exists(), "it too");

    pooler.crash_and_start_again(&config);
    assert_eq!(fs::read_to_string(&pid_file).expect("it is there").trim(), pooler.pid().to_string());
    let dsn = format!("{} password=app", pooler.socket_dsn("app", "app"));
    assert_eq!(run(psql(&dsn).args(["-At", "-c", "SELECT 1"])), "1\n");
}

#[test]
fn a_number_that_another_program_has_now_is_no_pooler() {
    let database = Database::create("stale_pid");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pid_file = dir.path().join("pid");
    // As long as this one, and longer than the pooler's.
    fs::write(&pid_file, format!("{}          \n", std::process::id())).expect("written");
    let config = PoolerConfig::new().database("app", &database);
    let mut pooler = config.set("pidfile", &format!("\"{}\"", pid_file.display())).start();
    assert_eq!(fs::read_to_string(&pid_file).expect("it is there"), format!("{}\n", pooler.pid()));
    pooler.signal(Signal::TERM);
    assert!(pooler.wait().success());
    assert!(!pid_file.exists());
}

#[test]
fn a_second_word_is_no_file() {
    for words in [["pooler.toml", "check"], ["x", "y"]] {
        let done = Command::new(env!("CARGO_BIN_EXE_pglifeguard")).args(words).output().expect("it starts");
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{told}");
        assert!(told.starts_with("error: one configuration file is expected; a command goes first"), "{told}");
    }
}

#[test]
fn what_only_pgbouncers_command_line_has_is_refused_with_what_to_do_instead() {
    for (words, told) in [
        (
            &["-d", "pooler.toml"][..],
            "no '-d': pglifeguard stays in the foreground; let systemd, or the like, start it",
        ),
        (&["pooler.toml", "--daemon"], "'--daemon': pglifeguard stays in the foreground"),
        (&["-dv", "pooler.toml"], "'-d': pglifeguard stays in the foreground"),
        (
            &["-R", "pooler.toml"],
            "'-R': no process takes over from another; SIGTERM lets the clients of the old one finish",
        ),
        (&["-u", "postgres", "pooler.toml"], "'-u': set user in [pooler]"),
        (&["--user=postgres", "pooler.toml"], "'--user': set user in [pooler]"),
        (&["-q", "pooler.toml"], "'-q': set logfile in [pooler]"),
        (&["-vv", "pooler.toml"], "'-v': set verbose in [pooler]"),
        (&["-x"], "unexpected argument '-x' found"),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_pglifeguard")).args(words).output().expect("it starts");
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{words:?}: {error}");
        assert!(error.starts_with("error: ") && error.contains(told), "{words:?}: {error}");
        assert!(error.contains("Usage: pglifeguard"), "{words:?}: {error}");
    }
}

#[test]
fn what_cannot_be_is_refused_by_the_name_of_the_setting() {
    for (key, value, words) in [
        ("user", "\"no such user\"", "user: there is no user \"no such user\""),
        ("pidfile", "\"/nowhere/pid\"", "cannot write pidfile /nowhere/pid: No such file"),
        ("pidfile", "\"/proc/pid\"", "cannot write pidfile /proc/pid: only the kernel makes files there"),
        ("logfile", "\"/nowhere/log\"", "cannot open logfile \"/nowhere/log\": No such file"),
        ("unix_socket_dir", "\"/nowhere\"", "cannot listen on unix socket /nowhere/.s.PGSQL."),
        ("unix_socket_group", "\"no such group\"", "unix_socket_group: there is no group \"no such group\""),
        ("auth_type", "\"peer\"", "auth_type: expected trust, plain, md5 or scram-sha-256, not \"peer\""),
        ("listen_addr", "\"127.0.0.1, localhost\"", "listen_addr: \"localhost\" is 127.0.0.1, which is in it already"),
        ("listen_addr", "\"*, 127.0.0.1\"", "listen_addr: \"127.0.0.1\" is 127.0.0.1, which is in it already"),
        ("listen_addr", "\"127.0.0.1.1\"", "cannot listen on 127.0.0.1.1:1: failed to lookup address"),
        ("listen_addr", "\"192.0.2.1\"", "cannot listen on 192.0.2.1:1: Cannot assign requested address"),
        (
            "unix_socket_dir",
            "\"/etc/passwd\"",
            "cannot listen on unix socket /etc/passwd/.s.PGSQL.1: bind: not a directory",
        ),
        ("tcp_keepidle", "40000", "tcp_keepidle: the system refuses it: Invalid argument"),
        ("pidfile", "\"/etc\"", "cannot write pidfile /etc: is a directory"),
    ] {
        let config = PoolerConfig::new().set("listen_addr", "[]").set(key, value);
        says_so(&config, &line_of(&config, key), words);
    }
    for (listen, words) in [
        ("127.0.0.1:1", "listen: 127.0.0.1:1 is where clients are listened for (listen_addr \"127.0.0.1\")"),
        ("[::]:1", "listen: [::]:1 is where clients are listened for (listen_addr \"127.0.0.1\")"),
        ("192.0.2.1:2", "cannot listen on 192.0.2.1:2 for metrics: Cannot assign requested address"),
    ] {
        let config = PoolerConfig::new().section("metrics", &format!("listen = \"{listen}\"\n"));
        says_so(&config, &line_of(&config, "listen"), words);
    }
}

/// Where the configuration has a setting, as complaints begin.
fn line_of(config: &PoolerConfig, key: &str) -> String {
    let text = config.text(Path::new("dir"), ANY_PORT);
    let line = text.lines().position(|line| line.starts_with(&format!("{key} ="))).expect("it is set");
    format!("pooler.toml:{}: ", line + 1)
}

/// Both the check and the start refuse it, with the place.
fn says_so(config: &PoolerConfig, place: &str, words: &str) {
    let (checked, good) = config.check(ANY_PORT);
    let started = config.fails(ANY_PORT);
    for said in [&checked, &started] {
        assert!(said.lines().any(|line| line.contains(place) && line.contains(words)), "{place}{words}: {said}");
    }
    assert!(!good && checked.ends_with("pooler.toml: 1 mistake\n"), "{checked}");
}

/// Directories that only root may write to: what a user may do is looked at as that user.
#[test]
fn rights_are_those_of_the_user_that_it_becomes() {
    if !geteuid().is_root() {
        return;
    }
    let (uid, _) = nobody();
    let roots = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(roots.path(), fs::Permissions::from_mode(0o755)).expect("our own");
    let at = |name: &str| format!("\"{}\"", roots.path().join(name).display());
    let base = PoolerConfig::new().owner(uid).set("user", "\"nobody\"").set("listen_addr", "[]");
    let denied = "Permission denied";
    let log = base.clone().set("logfile", &at("log"));
    says_so(&log, &line_of(&log, "logfile"), &format!("cannot open logfile {}: {denied}", at("log")));
    let socket = base.clone().set("unix_socket_dir", &at(""));
    let path = roots.path().join(".s.PGSQL.1");
    let words = format!("cannot listen on unix socket {}: bind: {denied}", path.display());
    says_so(&socket, &line_of(&socket, "unix_socket_dir"), &words);
    let group = base.clone().set("unix_socket_group", "\"root\"");
    says_so(&group, &line_of(&group, "unix_socket_group"), "cannot listen on unix socket ");
    for (name, text) in [("users.txt", "\"app\" \"app\"\n"), ("pw", "secret\n")] {
        let path = roots.path().join(name);
        fs::write(&path, text).expect("our own");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own");
    }
    let users = base.clone().set("auth_file", &at("users.txt"));
    let unreadable =
        |key: &str, name: &str| format!("{key}: can't read {}: {denied}", roots.path().join(name).display());
    says_so(&users, &line_of(&users, "auth_file"), &unreadable("auth_file", "users.txt"));
    let section = format!("host = \"h\"\nuser = \"app\"\npassword_file = {}\n", at("pw"));
    let password = base.clone().section("databases.app", &section);
    says_so(&password, &line_of(&password, "password_file"), &unreadable("password_file", "pw"));
    let (said, good) = base.set("pidfile", &at("pid")).check(ANY_PORT);
    assert!(good, "root writes it: {said}");
}

/// A check is made before a reload, too.
#[test]
fn what_a_running_pooler_has_is_no_mistake() {
    let database = Database::create("check_running");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = PoolerConfig::new().database("app", &database);
    let config = config.set("pidfile", &format!("\"{}\"", dir.path().join("pid").display()));
    let pooler = config.start();
    let same = config.set("unix_socket_dir", &format!("\"{}\"", pooler.directory().display()));
    let (said, good) = same.check(pooler.port());
    assert!(good, "{said}");
}

/// The user that has no rights, and its group.
fn nobody() -> (u32, u32) {
    let text = fs::read_to_string("/etc/passwd").expect("every system has it");
    let line = text.lines().find(|line| line.starts_with("nobody:")).expect("every system has nobody");
    let mut ids = line.split(':').skip(2).map(|id| id.parse().expect("a number"));
    (ids.next().expect("a user"), ids.next().expect("a group"))
}

/// Only root can start a process that becomes another's; for others there is nothing to test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn started_as_root_it_becomes_its_user_and_can_still_reload() {
    if !geteuid().is_root() {
        return;
    }
    let database = Database::create("becomes");
    let (uid, gid) = nobody();
    let roots = tempfile::tempdir().expect("a temporary directory");
    let own = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(roots.path(), fs::Permissions::from_mode(0o755)).expect("our own");
    chown(own.path(), Some(uid), None).expect("root can");
    for (dir, removed) in [(own.path(), true), (roots.path(), false)] {
        let pid_file = dir.join("pid");
        let config = PoolerConfig::new().database("app", &database).owner(uid).set("user", "\"nobody\"");
        let config = config.set("pidfile", &format!("\"{}\"", pid_file.display()));
        let mut pooler = config.start();
        assert_eq!(proc(&pooler, "status", "Uid:"), [uid; 4].map(|id| id.to_string()).join(" "));
        assert_eq!(proc(&pooler, "status", "Gid:"), [gid; 4].map(|id| id.to_string()).join(" "));
        assert_eq!(proc(&pooler, "status", "Groups:"), gid.to_string());
        assert_eq!(proc(&pooler, "status", "CapEff:"), "0".repeat(16));
        for thread in fs::read_dir(format!("/proc/{}/task", pooler.pid())).expect("it is running") {
            assert_eq!(thread.expect("it is running").metadata().expect("it is running").uid(), uid);
        }
        assert_eq!(fs::metadata(&pid_file).expect("it is there").uid(), uid);
        assert_eq!(fs::symlink_metadata(socket(&pooler)).expect("it is there").uid(), uid);
        assert!(!pooler.log().contains("running as root"), "{}", pooler.log());

        pooler.reconfigure(&config.user("late", "late"));
        pooler.signal(Signal::HUP);
        eventually("the reload", async || pooler.log().contains("configuration reloaded")).await;
        // A user of the pooler's that PostgreSQL does not know gets as far as PostgreSQL.
        let (code, text) = Session::refusal(Session::try_connect(&pooler.dsn("late", "late", "app")).await);
        assert_eq!((code.as_str(), text.contains("\"late\"")), ("28P01", true), "{text}");

        pooler.signal(Signal::TERM);
        assert!(pooler.wait().success());
        assert_eq!(pid_file.exists(), !removed);
        // In a directory that is not its own it can't be removed, but it names nobody.
        assert!(removed || fs::read_to_string(&pid_file).expect("it is there").is_empty());
    }
}
