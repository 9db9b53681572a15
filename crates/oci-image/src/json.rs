//! Reading JSON that others wrote: bounded, and with one meaning only.
//!
//! A reader that takes the first of two equal keys and one that takes the last see different images
//! under one digest, so equal keys are an error at every depth.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Reads `bytes` as a `T`, refusing equal keys anywhere in the document.
///
/// serde_json itself bounds the nesting at 128.
///
/// # Errors
/// What is no JSON, has a key twice in one object, or is no `T`.
pub fn strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<UniqueKeys>(bytes)?;
    serde_json::from_slice(bytes)
}

/// Any JSON value in which no object has the same key twice; the value itself is not kept.
struct UniqueKeys;

impl<'de> serde::Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = UniqueKeys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueKeys, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<UniqueKeys>()?;
            if !seen.insert(key.clone()) {
                let key: String = key.chars().take(80).collect();
                return Err(A::Error::custom(format_args!("the key {key:?} is there twice")));
            }
        }
        Ok(UniqueKeys)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<UniqueKeys, A::Error> {
        while seq.next_element::<UniqueKeys>()?.is_some() {}
        Ok(UniqueKeys)
    }

    fn visit_bool<E>(self, _: bool) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_i64<E>(self, _: i64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_u64<E>(self, _: u64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_f64<E>(self, _: f64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_str<E>(self, _: &str) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_unit<E>(self) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_refused_at_every_depth_and_equal_only_within_one_object() {
        let ok = r#"{"a":{"x":1},"b":[{"x":null},{"x":true}],"c":-1.5}"#;
        assert!(strict::<serde_json::Value>(ok.as_bytes()).is_ok());
        for bad in [r#"{"a":1,"a":2}"#, r#"{"b":[{"x":1,"x":1}]}"#, r#"{"a":1,"\u0061":2}"#] {
            let e = strict::<serde_json::Value>(bad.as_bytes()).unwrap_err();
            assert!(e.to_string().contains("twice"), "{bad}: {e}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
        let deep = "[".repeat(100_000);
        assert!(strict::<serde_json::Value>(deep.as_bytes()).is_err());
    }
}
