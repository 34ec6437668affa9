//! `pglifeguard check`: what is wrong with a configuration, or what it amounts to.

use std::fmt::Write;
use std::path::Path;

use crate::app::surroundings;
use crate::config::model::{SslMode, TlsVersions};
use crate::config::settings::texts::Choices;
use crate::config::{self, Complaint, Config};

/// Checks the configuration at `path`: the text to print, and whether it can be used.
pub fn report(path: &Path) -> (String, bool) {
    match config::load_despite(path) {
        Ok(mut loaded) => {
            let found = surroundings::examine(path, &loaded);
            loaded.warnings.extend(found.warnings);
            let mut wrong = found.mistakes;
            wrong.extend(loaded.mistakes);
            let warnings = warnings(&loaded.warnings);
            match wrong.is_empty() {
                true => (warnings + &summary(path, &loaded.config), true),
                false => (warnings + &mistakes(path, &wrong), false),
            }
        }
        Err(complaints) => (mistakes(path, &complaints), false),
    }
}

fn warnings(warnings: &[Complaint]) -> String {
    warnings.iter().fold(String::new(), |mut text, warning| {
        let place = warning.place.map_or_else(String::new, |place| format!("{}:", place.line));
        let _ = writeln!(text, "{}:{place} warning: {}", warning.file, warning.text);
        text
    })
}

fn mistakes(path: &Path, complaints: &[Complaint]) -> String {
    let mut text = complaints.iter().fold(String::new(), |mut text, complaint| {
        let _ = writeln!(text, "{complaint}");
        text
    });
    let _ = writeln!(text, "{}: {}", path.display(), count(complaints.len(), "mistake"));
    text
}

fn summary(path: &Path, config: &Config) -> String {
    let pooler = &config.pooler;
    let mut text = String::new();
    let databases = count(config.databases.len(), "database");
    let users = count(config.userlist.len(), "user");
    let _ = writeln!(text, "{}: ok ({databases}, {users})", path.display());
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<9} {value}");
    };
    line("listens", listens(config));
    line(
        "pools",
        format!(
            "{} mode, {} clients, {} servers per database and user",
            pooler.defaults.pool_mode.as_str(),
            pooler.max_client_conn,
            pooler.defaults.default_pool_size
        ),
    );
    line("logins", pooler.auth_type.name().to_owned());
    line(
        "TLS",
        format!(
            "clients {}, servers {}",
            tls(config.client_tls.sslmode, config.client_tls.versions),
            tls(config.server_tls.sslmode, config.server_tls.versions)
        ),
    );
    line(
        "console",
        match pooler.admin_users.is_empty() {
            true => "no admin_users".to_owned(),
            false => format!("database pgbouncer, for {}", pooler.admin_users.join(", ")),
        },
    );
    if let Some(address) = config.metrics_listen {
        line("metrics", format!("http://{address}/metrics"));
    }
    for (name, database) in &config.databases {
        let endpoints: Vec<_> = database.endpoints.iter().map(ToString::to_string).collect();
        line("database", format!("{name}: {}", endpoints.join(", ")));
    }
    text
}

fn listens(config: &Config) -> String {
    let pooler = &config.pooler;
    let port = pooler.listen_port;
    let tcp = pooler.listen_addr.iter().map(|address| match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    });
    let unix = pooler.unix_socket_dir.iter().map(|dir| format!("{}/.s.PGSQL.{port}", dir.display()));
    tcp.chain(unix).collect::<Vec<_>>().join(", ")
}

fn tls(mode: SslMode, versions: TlsVersions) -> String {
    let versions = match (mode, versions) {
        (SslMode::Disable, _) => "",
        (_, TlsVersions { tls12: true, tls13: false }) => " (1.2)",
        (_, TlsVersions { tls12: false, .. }) => " (1.3)",
        _ => " (1.2, 1.3)",
    };
    format!("{}{versions}", mode.name())
}

fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_good_file_is_summed_up() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("pooler.toml");
        fs::write(dir.path().join("userlist.txt"), "\"app\" \"secret\"\n").expect("written");
        fs::write(&path, config::docs::pooler_toml()).expect("written");
        let (text, ok) = report(&path);
        assert!(ok, "{text}");
        for part in [
            "pooler.toml: ok (1 database, 1 user)\n",
            "127.0.0.1:6432, /tmp/.s.PGSQL.6432\n",
            "transaction mode, 1000 clients, 25 servers per database and user\n",
            "clients disable, servers prefer (1.2, 1.3)\n",
            "for admin\n",
            "app: 127.0.0.1:5432\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_bad_file_has_every_mistake_and_their_number() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("pooler.toml");
        fs::write(&path, "[pooler]\ndefaul_pool_size = 1\nlisten_port = 0\n").expect("written");
        let (text, ok) = report(&path);
        assert!(!ok);
        let shown = path.display();
        let expected = format!(
            "{shown}:2: unknown setting \"defaul_pool_size\" in [pooler]; did you mean \"default_pool_size\"?\n\
             {shown}:3: listen_port: expected a whole number from 1 to 65535, not 0\n\
             {shown}: 2 mistakes\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn files_that_are_missing_and_users_that_are_not_there_are_mistakes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("pooler.toml");
        let (text, ok) = report(&path);
        assert!(!ok && text.contains("can't read it"), "{text}");
        fs::write(&path, "[pooler]\nauth_file = \"none.txt\"\nuser = \"no such user\"\n").expect("written");
        let (text, ok) = report(&path);
        assert!(!ok && text.contains("pooler.toml:2: auth_file: can't read "), "{text}");
        assert!(text.contains("none.txt: No such file"), "{text}");
        assert!(text.contains("pooler.toml:3: user: there is no user \"no such user\"") && text.contains("2 mistakes"));
    }

    #[test]
    fn what_the_machine_lacks_is_told_beside_mistakes_in_the_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("pooler.toml");
        let text = "[pooler]\nquery_timout = 1\nlisten_addr = \"192.0.2.1\"\nunix_socket_dir = \"/nowhere\"\n\
                    logfile = \"/nowhere/log\"\npidfile = \"/nowhere/pid\"\nuser = \"no such user\"\n\
                    tcp_keepidle = 40000\ntcp_keepintvl = 40000\nauth_file = \"none.txt\"\nmin_pool_size = 50\n\
                    [metrics]\nlisten = \"192.0.2.1:2\"\n[databases.app]\nhost = \"h\"\nport = 0\n";
        fs::write(&path, text).expect("written");
        let (text, ok) = report(&path);
        assert!(!ok && text.ends_with("11 mistakes\n"), "{text}");
        for part in [
            ":2: unknown setting",
            ":3: cannot listen on 192.0.2.1:6432",
            ":4: cannot listen on unix socket /nowhere/.s.PGSQL.6432",
            ":5: cannot open logfile",
            ":6: cannot write pidfile",
            ":7: user: there is no user",
            ":8: tcp_keepidle: the system refuses it",
            ":9: tcp_keepintvl: the system refuses it",
            ":10: auth_file: can't read ",
            ":11: warning: [pooler] min_pool_size 50 is more than the pool size 25",
            ":13: cannot listen on 192.0.2.1:2 for metrics",
            ":16: port: ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_is_wrong_by_itself_is_not_looked_at() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("pooler.toml");
        let text = "[pooler]\nlisten_addr = \"192.0.2.1\"\nlisten_port = 0\nlogfile = 1\nuser = 2\n\
                    unix_socket_dir = 3\n[metrics]\nlisten = \"192.0.2.1\"\n";
        fs::write(&path, text).expect("written");
        let (text, _) = report(&path);
        assert!(text.ends_with("6 mistakes\n") && text.matches("cannot").count() == 1, "{text}");
        assert!(text.contains(":2: cannot listen on 192.0.2.1: "), "an address is wrong with any port: {text}");
    }

    /// A key, and a certificate for it that ends at the beginning of this year.
    fn pair(dir: &Path, name: &str, until: i32) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let certificate = params.self_signed(&key).expect("signed").pem();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("written");
        fs::write(dir.join(format!("{name}.crt")), certificate).expect("written");
    }

    #[test]
    fn keys_and_certificates_are_tried_on_both_sides_beside_all_else() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("pooler.toml");
        pair(dir.path(), "good", 2999);
        pair(dir.path(), "old", 2001);
        fs::write(dir.path().join("empty.crt"), "").expect("written");
        let write = |lines: &str| fs::write(&path, format!("[pooler]\n{lines}")).expect("written");
        let client = "client_tls_sslmode = \"require\"\n";
        write(&format!(
            "{client}client_tls_key_file = \"good.key\"\nclient_tls_cert_file = \"old.crt\"\nlisten_port = 0\n\
             server_tls_sslmode = \"verify-full\"\nserver_tls_ca_file = \"empty.crt\"\n"
        ));
        let (text, ok) = report(&path);
        assert!(!ok && text.ends_with("3 mistakes\n"), "{text}");
        for part in [
            "pooler.toml:3: client_tls_key_file: the private key in ",
            "pooler.toml:5: listen_port: ",
            "pooler.toml:7: server_tls_ca_file: ",
            "there is no certificate in it",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        write(&format!(
            "{client}client_tls_key_file = \"old.key\"\nclient_tls_cert_file = \"old.crt\"\n\
             server_tls_sslmode = \"verify-ca\"\nserver_tls_ca_file = \"old.crt\"\n"
        ));
        let (text, ok) = report(&path);
        assert!(ok, "it can be used, and peers may take it: {text}");
        for part in [
            ":4: warning: client_tls_cert_file: the certificate in ",
            "expired at 2001-01-01T00:00:00Z",
            ":6: warning: server_tls_ca_file: every authority in ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn an_authority_that_can_not_be_read_is_told_and_the_others_are_used() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("pooler.toml");
        pair(dir.path(), "good", 2999);
        let good = fs::read_to_string(dir.path().join("good.crt")).expect("written");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&path, "[pooler]\nserver_tls_sslmode = \"verify-ca\"\nserver_tls_ca_file = \"ca.crt\"\n")
            .expect("written");
        let bundle = |text: String| {
            fs::write(dir.path().join("ca.crt"), text).expect("written");
            report(&path)
        };
        let (text, ok) = bundle(format!("{good}{broken}{good}"));
        assert!(ok && text.contains(":3: warning: server_tls_ca_file: certificate 2 of 3 in "), "{text}");
        assert!(text.contains("ca.crt\" cannot be read and is left out: "), "{text}");
        let (text, ok) = bundle(broken.to_owned());
        assert!(!ok && text.contains("none of its certificates can be read"), "{text}");
        assert!(!text.contains("warning: server_tls_ca_file"), "{text}");
    }

    #[test]
    fn users_who_can_never_log_in_are_warned_of() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("pooler.toml");
        fs::write(&path, "[pooler]\nauth_file = \"users.txt\"\nadmin_users = \"boss\"\n").expect("written");
        fs::write(dir.path().join("users.txt"), format!("\"old\" \"md5{}\"\n", "0".repeat(32))).expect("written");
        let (text, ok) = report(&path);
        assert!(ok, "{text}");
        for part in [
            "pooler.toml:2: warning: auth_type is scram-sha-256",
            "\"old\" can't log in\n",
            "pooler.toml:3: warning: admin_users: \"boss\" can't log in: not in auth_file\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        fs::remove_file(dir.path().join("users.txt")).expect("removed");
        let (text, _) = report(&path);
        assert!(!text.contains("boss"), "all are missing: {text}");
    }

    #[test]
    fn every_broken_line_of_the_user_list_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("pooler.toml");
        fs::write(&path, "[pooler]\nauth_file = \"users.txt\"\n").expect("written");
        fs::write(dir.path().join("users.txt"), "\"a\" \"x\"\nb c\n\"d\" \"x\"\n\"e\n").expect("written");
        let (text, ok) = report(&path);
        let users = dir.path().join("users.txt");
        let told = |line: &str| text.contains(&format!("{}:{line}: broken user list", users.display()));
        assert!(!ok && told("2") && told("4") && text.ends_with("2 mistakes\n"), "{text}");
        // Beside other mistakes too.
        fs::write(&path, "[pooler]\nlisten_port = 0\nauth_file = \"users.txt\"\n").expect("written");
        let (text, _) = report(&path);
        assert!(text.contains("listen_port") && text.ends_with("3 mistakes\n"), "{text}");
    }
}
