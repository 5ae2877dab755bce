//! When the certificates that this command was given end. A coordinator that cannot show a valid one is not
//! reached by anybody from that moment on.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use x509_parser::pem::Pem;

use super::finding::Finding;
use crate::args::Global;

/// Less than this is a warning: a month is enough for most to renew.
const DAYS_WARN: i64 = 30;

/// Less than this is bad.
const DAYS_BAD: i64 = 7;

const DAY: i64 = 24 * 60 * 60;

/// Reads the files of --tls-cert and --tls-ca.
pub(super) async fn look(global: &Global) -> Vec<Finding> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut findings = Vec::new();
    for path in [&global.tls_cert, &global.tls_ca].into_iter().flatten() {
        match tokio::fs::read(path).await {
            Ok(pem) => findings.extend(judge(path, &pem, now)),
            Err(error) => findings.push(
                Finding::bad(
                    "certificate",
                    &path.display().to_string(),
                    format!("it cannot be read: {error}"),
                )
                .next("check the path and its rights"),
            ),
        }
    }
    findings
}

/// Judges every certificate of a file; times are in seconds since 1970.
fn judge(path: &Path, pem: &[u8], now: i64) -> Vec<Finding> {
    let name = path.display().to_string();
    let malformed = |why: String| {
        Finding::bad("certificate", &name, why).next("it must hold certificates in PEM, the own one first")
    };
    let mut findings = Vec::new();
    for block in Pem::iter_from_buffer(pem) {
        let block = match block {
            Ok(block) if block.label == "CERTIFICATE" => block,
            // A key may stand in the same file.
            Ok(_) => continue,
            Err(error) => {
                findings.push(malformed(format!("it is no PEM: {error}")));
                continue;
            }
        };
        let certificate = match block.parse_x509() {
            Ok(certificate) => certificate,
            Err(error) => {
                findings.push(malformed(format!("a certificate in it cannot be read: {error}")));
                continue;
            }
        };
        let (begins, ends) =
            (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        let (days, subject) = ((ends - now).div_euclid(DAY), certificate.subject().to_string());
        let told = format!("{subject}, until {}", certificate.validity().not_after);
        findings.push(if now < begins {
            Finding::bad("certificate", &name, format!("{subject} is not valid yet"))
                .next("check the clock, and the file")
        } else if now > ends {
            Finding::bad("certificate", &name, format!("{told}: it has ended"))
                .next("renew it, and restart who shows it")
        } else if days < DAYS_BAD {
            Finding::bad("certificate", &name, format!("{told}: {days} days left")).next("renew it now")
        } else {
            Finding::warn("certificate", &name, format!("{told}: {days} days left"))
                .next("renew it")
                .unless(days >= DAYS_WARN)
        });
    }
    if findings.is_empty() {
        findings.push(malformed("there is no certificate in it".to_owned()));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_the_days_that_are_left() {
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let pem = certificate.cert.pem();
        let read = Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap();
        let validity = read.parse_x509().unwrap().validity().clone();
        let (begins, ends) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let path = Path::new("c.pem");
        for (now, level) in [
            (begins - DAY, Level::Bad),
            (begins + DAY, Level::Ok),
            (ends - 31 * DAY, Level::Ok),
            (ends - 29 * DAY, Level::Warn),
            (ends - 6 * DAY, Level::Bad),
            (ends + DAY, Level::Bad),
        ] {
            let findings = judge(path, pem.as_bytes(), now);
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].level, level, "{:?}", findings[0]);
        }
        let both = format!("{}{pem}", certificate.signing_key.serialize_pem());
        assert_eq!(
            judge(path, both.as_bytes(), begins + DAY).len(),
            1,
            "a key in the same file is passed over"
        );
        assert_eq!(judge(path, b"nothing", 0)[0].level, Level::Bad);
    }
}
