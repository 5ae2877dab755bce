//! The last look before something is written: whatever we know as a secret, and whatever looks like the
//! password of a URL, is taken out. Sources leave secrets out by themselves; this is for what they miss.

/// What stands in a secret's place.
const TAKEN_OUT: &str = "(redacted)";

/// Shorter ones would take out half of the text.
const SECRET_BYTES_MIN: usize = 4;

/// Known secrets.
#[derive(Debug, Default)]
pub(super) struct Scrub(Vec<String>);

impl Scrub {
    /// A secret as it is.
    pub(super) fn secret(&mut self, secret: Option<&str>) {
        self.0.extend(secret.filter(|secret| secret.len() >= SECRET_BYTES_MIN).map(str::to_owned));
    }

    /// The password of a URL, in its user part or its query.
    pub(super) fn url(&mut self, url: Option<&str>) {
        let Some(url) = url else { return };
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let user = place.split_once("://").and_then(|(_, rest)| Some(rest.rsplit_once('@')?.0));
        self.secret(user.and_then(|user| Some(user.split_once(':')?.1)));
        for pair in query.split('&') {
            if let Some((name, value)) = pair.split_once('=')
                && name.contains("password")
            {
                self.secret(Some(value));
            }
        }
    }

    /// The text without them.
    pub(super) fn apply(&self, text: &str) -> String {
        let known =
            self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), TAKEN_OUT));
        passwords_of_urls(&known)
    }
}

/// Takes out what stands between `://user:` and `@`.
fn passwords_of_urls(text: &str) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find("://") {
        let (before, after) = rest.split_at(place + 3);
        done.push_str(before);
        let authority =
            after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?' | '<' | '>'));
        let (authority, tail) = after.split_at(authority.unwrap_or(after.len()));
        match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
            Some((user, host)) => {
                done.push_str(user);
                done.push(':');
                done.push_str(TAKEN_OUT);
                done.push('@');
                done.push_str(host);
            }
            None => done.push_str(authority),
        }
        rest = tail;
    }
    done.push_str(rest);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_secrets_and_passwords_of_urls_are_taken_out() {
        let mut scrub = Scrub::default();
        scrub.url(Some("postgres://u:can/ary@h/db?sslpassword=second&x=1"));
        scrub.secret(Some("token-123"));
        scrub.secret(Some("no"));
        let text = scrub.apply(
            "no: can/ary, second, token-123; postgres://a:third@h:1/db \"https://h:7601/x@y\" http://u@h/",
        );
        assert_eq!(
            text,
            "no: (redacted), (redacted), (redacted); postgres://a:(redacted)@h:1/db \"https://h:7601/x@y\" http://u@h/"
        );
    }

    #[test]
    fn a_text_without_secrets_stays_as_it_is() {
        for text in ["", "://", "a://b", "x ://u:p", "http://127.0.0.1:7601/metrics", "é://ü:ß@h"] {
            let scrubbed = Scrub::default().apply(text);
            assert!(scrubbed == text || text.contains('@'), "{text}: {scrubbed}");
        }
    }
}
