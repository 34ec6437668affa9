//! What can be used, and was hardly meant so, seen in settings and user list together.

use super::complaint::Complaint;
use super::model::{AuthType, Config};
use super::settings::section::Places;
use super::toml::heading;
use super::users::StoredSecret;

/// How many names are told one by one.
const NAMES_MAX: usize = 5;

/// What is doubtful about users in `config`, which was read from `file`.
pub(super) fn of_users(config: &Config, file: &str, places: &Places) -> Vec<Complaint> {
    let doubt = |key: &'static str, text: String| {
        let place = places.get(&("pooler".to_owned(), key)).copied();
        Complaint { file: file.to_owned(), place, text }
    };
    let mut doubts = Vec::new();
    if config.pooler.auth_type == AuthType::ScramSha256 {
        let md5 = config.userlist.iter().filter(|(_, secret)| matches!(secret, StoredSecret::Md5(_)));
        if let Some(names) = some_of(md5.map(|(name, _)| name)) {
            let text =
                format!("auth_type is scram-sha-256, for which an MD5 secret is of no use: {names} can't log in");
            doubts.push(doubt("auth_file", text));
        }
    }
    for (key, users) in [("admin_users", &config.pooler.admin_users), ("stats_users", &config.pooler.stats_users)] {
        // Who is called as the console is needs no password on the Unix socket.
        let strangers = users.iter().map(String::as_str).filter(|name| *name != "pgbouncer");
        if let Some(names) = some_of(strangers.filter(|name| config.userlist.get(name).is_none())) {
            doubts.push(doubt(key, format!("{key}: {names} can't log in: not in auth_file")));
        }
    }
    doubts.extend(of_databases(config, file, places));
    doubts
}

/// Users as whom servers are to be logged in to, and of whom nothing is known to do that with.
fn of_databases<'a>(config: &'a Config, file: &'a str, places: &'a Places) -> impl Iterator<Item = Complaint> + 'a {
    config.databases.iter().filter_map(move |(name, database)| {
        let user = database.forced_user.as_ref()?;
        let known = database.forced_password.is_some() || config.userlist.get(user).is_some();
        let place = places.get(&(heading("databases", name), "user")).copied();
        let text = format!(
            "user: {user:?} has no password, here or in auth_file: a server that asks for one can't be logged in to"
        );
        (!known).then(|| Complaint { file: file.to_owned(), place, text })
    })
}

/// The first names, and how many others there are; `None` for none.
fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut names = names.map(|name| format!("{name:?}"));
    let told: Vec<_> = names.by_ref().take(NAMES_MAX).collect();
    let others = names.count();
    let told = (!told.is_empty()).then(|| told.join(", "))?;
    Some(if others == 0 { told } else { format!("{told} and {others} more") })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config::resolve::{Outside, resolve_despite};
    use crate::config::toml::parse_str;
    use crate::config::users::Userlist;

    #[test]
    fn users_who_cannot_log_in_are_told_by_name_up_to_a_number() {
        let mut config = Config::default();
        let md5 = "md5".to_owned() + &"0".repeat(32);
        let list: String = (1..8).map(|n| format!("\"u{n}\" \"{md5}\"\n")).collect::<String>() + "\"ok\" \"x\"\n";
        config.userlist = Arc::new(Userlist::parse(Path::new("users.txt"), list.as_bytes()).0);
        config.pooler.admin_users = vec!["ok".into(), "pgbouncer".into(), "boss".into()];
        config.pooler.stats_users = vec!["ok".into(), "u1".into()];
        let texts = |config: &Config| -> Vec<String> {
            of_users(config, "f", &Places::new()).into_iter().map(|doubt| doubt.text).collect()
        };
        let boss = "admin_users: \"boss\" can't log in: not in auth_file";
        let md5 = "auth_type is scram-sha-256, for which an MD5 secret is of no use: \
                   \"u1\", \"u2\", \"u3\", \"u4\", \"u5\" and 2 more can't log in";
        assert_eq!(texts(&config), [md5, boss]);
        config.pooler.auth_type = AuthType::Md5;
        assert_eq!(texts(&config), [boss]);
        config.pooler.admin_users.clear();
        assert!(texts(&config).is_empty());
    }

    #[test]
    fn a_database_whose_user_has_no_password_is_told() {
        let text = "[databases.a]\nhost = 'h'\nuser = 'ghost'\n[databases.b]\nhost = 'h'\nuser = 'ok'\n\
            [databases.c]\nhost = 'h'\nuser = 'own'\npassword = 'x'\n[databases.d]\nhost = 'h'";
        let nothing = Outside { variable: &|_| None, read: &|_| Err("none".into()) };
        let (resolved, _) = resolve_despite(parse_str("f", text), None, &nothing);
        let mut config = resolved.config;
        config.userlist = Arc::new(Userlist::parse(Path::new("users.txt"), b"\"ok\" \"x\"\n").0);
        let doubts: Vec<_> = of_users(&config, "f", &resolved.places).iter().map(ToString::to_string).collect();
        let ghost = "f:3: user: \"ghost\" has no password, here or in auth_file: \
                     a server that asks for one can't be logged in to";
        assert_eq!(doubts, [ghost]);
    }
}
