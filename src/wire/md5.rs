//! The md5 login method, both sides: what is stored, how a challenge is answered, how an answer is checked.
//! Kept for clusters that still have md5 secrets; SCRAM is what new ones use.

use md5::{Digest, Md5};

use super::scram::same_secret;
use crate::types::Secret;

/// What PostgreSQL stores: the digest of password and user name, as 32 hexadecimal digits.
/// It opens every server that stores it, so it is as secret as a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Secret(Secret);

impl Md5Secret {
    /// What is stored for `password` of `user`.
    pub fn from_password(password: &[u8], user: &[u8]) -> Self {
        Self(Secret::new(hex_digest(&[password, user])))
    }

    /// Reads `md5` and 32 lowercase hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(b"md5")?;
        let hexadecimal = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (digits.len() == 32 && hexadecimal).then(|| Self(Secret::new(digits)))
    }

    /// The PasswordMessage that answers a challenge: `md5` and 32 digits.
    pub fn answer(&self, salt: [u8; 4]) -> Secret {
        Secret::new([&b"md5"[..], &hex_digest(&[self.0.expose(), &salt])].concat())
    }

    /// Whether `given` answers the challenge. Takes the same time wherever they differ.
    pub fn verify(&self, salt: [u8; 4], given: &[u8]) -> bool {
        same_secret(self.answer(salt).expose(), given)
    }

    /// Whether `password` of `user` is what is stored here.
    pub fn matches_password(&self, password: &[u8], user: &[u8]) -> bool {
        same_secret(self.0.expose(), Self::from_password(password, user).0.expose())
    }
}

impl std::fmt::Debug for Md5Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Md5Secret(…)")
    }
}

fn hex_digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Md5::new();
    parts.iter().for_each(|part| digest.update(part));
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest.finalize()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    hex
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_postgresqls() {
        // SELECT 'md5' || md5('secret' || 'alice')
        let stored = Md5Secret::parse(b"md54a0a68b43b6cd5cf266fa02f196e2371");
        assert_eq!(stored, Some(Md5Secret::from_password(b"secret", b"alice")));
        assert_eq!(hex_digest(&[b"abc"]), *b"900150983cd24fb0d6963f7d28e17f72", "RFC 1321");
    }

    #[test]
    fn what_is_not_a_stored_secret_is_none() {
        for text in ["", "md5", "md54A0A68B43B6CD5CF266FA02F196E2371", "md5zz0a68b43b6cd5cf266fa02f196e2371", "md5abc"]
        {
            assert_eq!(Md5Secret::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_answer_fits_its_salt_and_secret_only() {
        let secret = Md5Secret::from_password(b"secret", b"alice");
        let answer = secret.answer(*b"salt");
        assert!(secret.verify(*b"salt", answer.expose()));
        assert!(!secret.verify(*b"malt", answer.expose()));
        assert!(!Md5Secret::from_password(b"Secret", b"alice").verify(*b"salt", answer.expose()));
        assert!(!secret.verify(*b"salt", b""));
        assert!(secret.matches_password(b"secret", b"alice") && !secret.matches_password(b"secret", b"bob"));
    }
}
