//! The first packet: read within its limits, and the same when it is written again.

use bytes::BytesMut;
use pglifeguard::wire::error::ClientError;
use pglifeguard::wire::message::frontend;
use pglifeguard::wire::startup::{
    Initial, NAME_MAX, PACKET_MAX, Startup, Version, is_direct_tls, packet_len, parse, parse_options,
};

/// A connection's first bytes.
pub fn run(data: &[u8]) {
    let Some((head, _)) = data.split_first_chunk::<4>() else { return };
    let _ = is_direct_tls(head[0]);
    if let Ok(text) = str::from_utf8(data) {
        options(text);
    }
    // As the handshake reads it: so many bytes, and no more.
    let packet = match packet_len(*head) {
        Ok(length) => &data[..length.min(data.len())],
        Err(error) => {
            let _ = error.reply();
            return;
        }
    };
    assert!(packet.len() <= PACKET_MAX);
    match parse(packet) {
        Ok(Initial::Startup(startup)) => again(&startup),
        Ok(Initial::Cancel(key)) => assert!((4..=256).contains(&key.secret.len())),
        Ok(Initial::Ssl | Initial::Gss) => assert_eq!(packet.len(), 8),
        Err(error) => drop(error.reply()),
    }
}

fn again(startup: &Startup) {
    if let Ok((user, database)) = startup.identity() {
        assert!((1..=NAME_MAX).contains(&user.len()) && (1..=NAME_MAX).contains(&database.len()));
    }
    let (version, _) = startup.negotiate();
    assert!(version <= Version::V3_2);
    startup.params.iter().filter(|(name, _)| name == "options").for_each(|(_, value)| options(value));
    let identity = [("user", &startup.user), ("database", &startup.database)];
    let identity = identity.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let params = startup.params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = startup.protocol_options.iter().map(|name| (name.as_str(), ""));
    let all = identity.chain(params).chain(options).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let mut out = BytesMut::new();
    frontend::startup(&mut out, version, all);
    // Replaced bytes of an application_name, and what was empty, may have another length.
    if out.len() <= PACKET_MAX {
        let expected = Startup { minor: if version == Version::V3_2 { 2 } else { 0 }, ..startup.clone() };
        assert_eq!(parse(&out), Ok(Initial::Startup(expected)));
    }
}

fn options(text: &str) {
    let Ok(settings) = parse_options(text) else { return };
    let size: usize = settings.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(size <= text.len(), "options do not grow");
    assert!(settings.iter().all(|(name, _)| !name.is_empty()));
    // What was split is split the same way when all that is special is escaped.
    let escaped: String = settings
        .iter()
        .flat_map(|(name, value)| ["-c ".to_owned(), escape(name), "=".to_owned(), escape(value), " ".to_owned()])
        .collect();
    assert_eq!(parse_options(&escaped), Ok(settings));
}

fn escape(text: &str) -> String {
    text.chars().flat_map(|c| ['\\', c]).collect()
}
