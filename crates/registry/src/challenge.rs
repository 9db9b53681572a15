//! `WWW-Authenticate`: what a server wants to know before it answers (RFC 9110, section 11.6.1).

/// One challenge. Scheme and parameter names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) scheme: String,
    params: Vec<(String, String)>,
}

/// The most challenges and parameters that are looked at.
const MAX_PARTS: usize = 32;

impl Challenge {
    /// The parameter `name` (lower case).
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// All challenges of one header value. What cannot be understood is left out.
    pub(crate) fn parse_all(header: &str) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let mut rest = header;
        for _ in 0..MAX_PARTS {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let (word, after) = token(rest);
            if word.is_empty() {
                break;
            }
            let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
            match (value, all.last_mut()) {
                (Some(value), Some(challenge)) => {
                    let (text, after) = value_of(value.trim_start_matches([' ', '\t']));
                    challenge.params.push((word.to_ascii_lowercase(), text));
                    rest = after;
                }
                // A parameter before any scheme means nothing.
                (Some(_), None) => break,
                (None, _) => {
                    all.push(Self { scheme: word.to_ascii_lowercase(), params: Vec::new() });
                    rest = after;
                }
            }
        }
        all
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = token(text);
        // Whatever else is there would otherwise be read as the next name.
        let skip = rest.find([',', ' ']).unwrap_or(rest.len());
        return (word.to_owned(), &rest[skip..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[i + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_are_read_with_their_parameters() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let all = Challenge::parse_all(hub);
        assert_eq!((all.len(), all[0].scheme.as_str()), (1, "bearer"));
        assert_eq!(all[0].param("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(all[0].param("scope"), Some("repository:a/b:pull,push"));

        let two = r#"Basic realm="a \"b\"", BEARER Realm = token , error=invalid_token"#;
        let all = Challenge::parse_all(two);
        assert_eq!((all[0].scheme.as_str(), all[0].param("realm")), ("basic", Some("a \"b\"")));
        assert_eq!((all[1].scheme.as_str(), all[1].param("realm")), ("bearer", Some("token")));
        assert_eq!(all[1].param("error"), Some("invalid_token"));
    }

    #[test]
    fn what_is_no_challenge_gives_none() {
        for text in ["", ",,", "=", "realm=x", "\"Bearer\""] {
            assert!(Challenge::parse_all(text).is_empty(), "{text:?}");
        }
        assert_eq!(Challenge::parse_all("Bearer realm=\"x").len(), 1);
        assert_eq!(Challenge::parse_all("Negotiate").len(), 1);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_run_long(text in "[ -~]{0,200}") {
            prop_assert!(Challenge::parse_all(&text).len() <= MAX_PARTS);
        }
    }
}
