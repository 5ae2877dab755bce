//! Paths with what comes from outside in them.

/// Makes it safe as a part of a path or a query: everything but letters, digits and `-._~` is
/// written as `%XX`.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    encoded
}

/// A query of those keys whose values are not empty; with its `?`, or empty.
pub(super) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = String::new();
    for (key, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(key);
        query.push('=');
        query.push_str(&encode(value));
    }
    query
}

/// A path of ours to go to after a login; anything else becomes `/`. Two slashes, or one and a
/// backslash, would begin the address of another host.
pub(super) fn own_path(path: &str) -> &str {
    let own = path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && path.bytes().all(|byte| byte.is_ascii_graphic());
    if own { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_query_gets_out_of_its_place() {
        assert_eq!(
            query([("filter", "label.a=\"<b>&c\" é"), ("none", ""), ("page", "x/y")]),
            "?filter=label.a%3D%22%3Cb%3E%26c%22%20%C3%A9&page=x%2Fy"
        );
        assert_eq!(query([("none", "")]), "");
    }

    #[test]
    fn only_a_path_of_ours_is_gone_to() {
        for good in ["/", "/transactions?filter=age%3E5m", "/transactions/0199"] {
            assert_eq!(own_path(good), good);
        }
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "transactions",
            "/a\r\nb: c",
            "/a b",
        ] {
            assert_eq!(own_path(bad), "/", "{bad}");
        }
    }
}
