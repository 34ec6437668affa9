use super::*;
use crate::sql::{Catalog, Dialect, Script, Source, deeds};

/// Runs texts one by one; `!` fails the transaction, `;` alone is ReadyForQuery outside of a block.
fn run(own: &mut Own, texts: &[&str]) -> String {
    for text in texts {
        match *text {
            "!" => own.fails(),
            ";" => own.ready(true),
            "begin" => own.ready(false),
            "commit" => own.commits(),
            "rollback" => own.rolls_back(),
            text => {
                let source = Source::new(text.as_bytes(), Dialect::default());
                let script = Script::of(source.text, source.dialect);
                for deed in
                    deeds::of_script(&script, source, Some(&Catalog::default())).unwrap_or_default().iter().flatten()
                {
                    own.does(deed, |name| name == "timezone");
                }
            }
        }
    }
    let settings = own.settings().iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
    let ties = own.ties().map(|what| format!("{what:?}"));
    settings.chain(ties).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_set_is_undone_with_its_transaction_or_savepoint() {
    for (texts, then) in [
        (&["set a.b = 1", ";"][..], "a.b=1"),
        (&["set a.b = 1", "!", ";"], ""),
        (&["begin", "set a.b = 1", "rollback", ";"], ""),
        (&["begin", "set a.b = 1", "commit", "set a.b = 2", "!", ";"], "a.b=1"),
        (&["begin", "set a.b = 1", "savepoint s", "set a.b = 2", "rollback to s", "commit", ";"], "a.b=1"),
        (&["begin", "savepoint s", "set a.b = 2", "!", "rollback to s", "set a.b = 3", "commit", ";"], "a.b=3"),
        (&["begin", "savepoint s", "set a.b = 2", "release s", "rollback to s", "commit", ";"], "a.b=2"),
        (&["begin", "savepoint s", "set a.b = 1", "savepoint s", "set a.b = 2", "rollback to s", "release s"], "a.b=1"),
        (&["begin", "savepoint s", "set a.b = 1", "savepoint t", "rollback to s", "commit"], ""),
        (&["set timezone = 'UTC'", ";"], ""),
        (&["set local a.b = 1", ";"], ""),
        (&["create temp table t (n int)", ";"], "Temporary"),
        (&["create temp table t (n int)", "!", ";"], ""),
        (&["select pg_advisory_lock(1)", "!", ";"], "Lock"),
        (&["listen c", "listen c", ";", "listen d", ";", "unlisten c", ";"], "Channel"),
        (&["listen c", ";", "unlisten c", "!", ";"], "Channel"),
        (&["listen c", ";", "unlisten *", ";"], ""),
        (&["prepare p as select 1", "prepare q as select 1", "deallocate p", ";"], "Statement"),
        (&["prepare p as select 1", "deallocate all", ";"], ""),
        (&["create temp table t (n int)", "prepare p as select 1", ";", "discard all", ";"], ""),
    ] {
        assert_eq!(run(&mut Own::default(), texts), then, "{texts:?}");
    }
}

/// Against copies of everything at each savepoint.
#[test]
fn random_savepoints_take_back_what_came_behind_them() {
    let name = |kind: &str, number: u64| Name::from(format!("{kind}{number}").as_bytes());
    for seed in 1..=300_u64 {
        let (mut own, mut copies) = (Own::default(), Vec::<(Name, Held)>::new());
        let mut random = seed;
        let mut roll = |sides: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % sides
        };
        for _ in 0..200 {
            let (kind, number) = (roll(16), roll(4));
            let deed = match kind {
                0..=2 => Deed::Savepoint(name("s", number)),
                3 => Deed::Release(name("s", number)),
                4 | 5 => Deed::RollbackTo(name("s", number)),
                6..=8 => Deed::Set(name("a.b", number), Box::from([b'0' + roll(3) as u8])),
                9 => Deed::Reset(name("a.b", number)),
                10 => Deed::Set([AUTHORIZATION, ROLE][number as usize % 2].as_bytes().into(), (*b"x").into()),
                11 => [Deed::ResetAll, Deed::Lets(What::Cursor, None)][number as usize % 2].clone(),
                12 => Deed::Holds(What::Cursor, name("c", number)),
                13 => Deed::Lets(What::Cursor, Some(name("c", number))),
                14 => Deed::Holds(What::Channel, name("c", number)),
                _ => Deed::Lets(What::Channel, (number > 0).then(|| name("c", number))),
            };
            own.does(&deed, |_| false);
            let known = |name: &Name| copies.iter().rposition(|(known, _)| known == name);
            match &deed {
                Deed::Savepoint(name) => copies.push((name.clone(), own.now.clone())),
                Deed::Release(name) => copies.truncate(known(name).unwrap_or(copies.len())),
                Deed::RollbackTo(name) => {
                    copies.truncate(known(name).map_or(copies.len(), |at| at + 1));
                    if let Some((_, copy)) = copies.last().filter(|(known, _)| known == name) {
                        assert_eq!(own.now, *copy, "seed {seed}");
                    }
                }
                _ => {}
            }
        }
        own.rolls_back();
        assert_eq!(own.now, Held::default(), "seed {seed}");
    }
}

#[test]
fn what_savepoints_remember_is_what_was_changed() {
    let (mut own, text) = (Own::default(), |at: u32| Box::<[u8]>::from(at.to_string().as_bytes()));
    let set = |name: String, value| Deed::Set(name.as_bytes().into(), value);
    let mut does = |deed| {
        own.does(&deed, |_| false);
        own.savepoints.steps()
    };
    (0..50).for_each(|at| _ = does(set(format!("a.c{at}"), text(0))));
    does(Deed::Savepoint((*b"first").into()));
    for at in 0..2000 {
        does(set("a.c7".into(), text(at)));
        does(Deed::Savepoint(text(at)));
        assert!(does(set(format!("a.b{at}"), text(at))) <= 4000);
    }
    does(Deed::RollbackTo(text(1000)));
    for at in 0..20_000 {
        assert!(does(set("a.c7".into(), text(at))) <= 2002 + 2 * 1050 + 16, "a copy, where many are changed");
    }
    does(Deed::Release(text(0)));
    for at in 0..20_000 {
        does(Deed::Savepoint(text(at)));
        does(set("a.c8".into(), text(at)));
        assert!(does(Deed::Release(text(at))) <= 2 * 1050 + 16);
    }
    assert_eq!((own.settings().get("a.b999"), own.settings().get("a.b1000")), (Some(&b"999"[..]), None));
    own.does(&Deed::RollbackTo((*b"first").into()), |_| false);
    assert!(own.settings().iter().all(|(_, value)| value == b"0") && own.settings().len() == 50);
}

#[test]
fn channels_that_are_shared_tie_nobody_and_outlast_the_server() {
    for (texts, then) in [
        (&["listen c", ";"][..], "c"),
        (&["listen c", "!", ";"], ""),
        (&["begin", "listen c", "savepoint s", "listen d", "rollback to s", "commit", ";"], "c"),
        (&["listen c", ";", "begin", "unlisten *", "rollback", ";"], "c"),
        (&["listen c", "listen d", ";", "create temp table t (n int)", ";", "unlisten d", ";"], "c"),
    ] {
        let mut own = Own { shares_channels: true, ..Own::default() };
        run(&mut own, texts);
        assert_eq!(own.ties().filter(|what| *what == What::Channel).count(), 0);
        own.unties();
        assert!(!own.is_tied(), "{texts:?}");
        let channels: Vec<_> = own.channels().iter().map(|name| String::from_utf8_lossy(name)).collect();
        assert_eq!(channels.join(" "), then, "{texts:?}");
    }
}

#[test]
fn a_reset_returns_to_what_the_client_asked_for_at_its_login() {
    let mut base = ParamSet::default();
    base.set("search_path", b"app");
    for (texts, then) in [
        (&["set search_path = x", "reset search_path", ";"][..], "search_path=app"),
        (&["set search_path = x", "set a.b = 1", "reset all", ";"], "search_path=app"),
        (&["set search_path = x", ";", "reset all", "!", ";"], "search_path=x"),
        (&["set role bob", "reset all", ";"], "search_path=app role=bob"),
        (&["set role bob", "discard all", ";"], "search_path=app"),
        (&["set role bob", "set session authorization al", ";"], "search_path=app session_authorization=al"),
        (&["set role bob", "reset role", ";"], "search_path=app"),
        (&["set search_path = default", ";"], "search_path=app"),
    ] {
        assert_eq!(run(&mut Own::new(base.clone()), texts), then, "{texts:?}");
    }
}
