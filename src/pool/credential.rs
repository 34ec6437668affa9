//! With what a pool's servers are logged in to: what the user list holds, or what a client proved.

use crate::config::model::Config;
use crate::config::users::StoredSecret;
use crate::server::login::Credential;
use crate::wire::md5::Md5Secret;

/// What a stored secret is good for by itself: a SCRAM secret opens nothing until its user has logged in.
pub fn stored_credential(stored: Option<&StoredSecret>) -> Credential {
    match stored {
        Some(StoredSecret::Plain(password)) => Credential::Plain(password.clone()),
        Some(StoredSecret::Md5(secret)) => Md5Secret::parse(secret.expose()).map_or(Credential::None, Credential::Md5),
        Some(StoredSecret::Scram(_)) | None => Credential::None,
    }
}

/// What a pool of `user` is to use from now on in place of `known`, if a reload brought `user` another secret.
pub(super) fn after_reload(user: &str, known: &Credential, before: &Config, after: &Config) -> Option<Credential> {
    let secret = after.userlist.get(user);
    if secret == before.userlist.get(user) {
        return None;
    }
    match (stored_credential(secret), known) {
        // What a client proved may still be right, and nothing better is known.
        (Credential::None, Credential::ScramKeys(_)) => None,
        (credential, _) => Some(credential),
    }
}
