//! The time for which a certificate is made.

use std::time::SystemTime;

use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Why a certificate can't be used at this time, to stand behind its name; `None` when it can, or can't be read.
pub(super) fn out_of_time(certificate: &[u8], now: SystemTime) -> Option<String> {
    let period = Certificate::from_der(certificate).ok()?.tbs_certificate.validity;
    let (begins, ends) = (period.not_before, period.not_after);
    if now < begins.to_system_time() {
        return Some(format!("is not valid before {}", begins.to_date_time()));
    }
    (now > ends.to_system_time()).then(|| format!("expired at {}", ends.to_date_time()))
}
