//! Devices that annotations ask for.

use std::collections::BTreeMap;

use crate::error::CdiError;
use crate::name::DeviceName;

/// What such an annotation's key begins with; what follows says who has set it.
const PREFIX: &str = "cdi.k8s.io/";

/// The devices that `annotations` ask for: the values of all keys `cdi.k8s.io/…`, each a list of names with
/// commas between them.
///
/// # Errors
/// [`CdiError::BadAnnotation`].
pub fn devices_of(annotations: &BTreeMap<String, String>) -> Result<Vec<DeviceName>, CdiError> {
    let mut found = Vec::new();
    for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(PREFIX)) {
        let bad = |problem: String| CdiError::BadAnnotation { key: key.clone(), problem };
        if key.len() == PREFIX.len() {
            return Err(bad("the key names nobody".to_owned()));
        }
        for text in value.split(',').map(str::trim) {
            found.push(DeviceName::parse(text).map_err(|e| bad(e.to_string()))?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_annotation_of_the_prefix_counts_and_no_other() {
        let given = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            devices_of(&owned.collect())
        };
        let found = given(&[
            ("cdi.k8s.io/plugin-a", "v/c=1, v/c=2"),
            ("cdi.k8s.io/plugin-b", "w/d=x"),
            ("other.io/cdi", "not a device"),
        ]);
        let names: Vec<String> = found.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["v/c=1", "v/c=2", "w/d=x"]);
        for bad in [("cdi.k8s.io/a", ""), ("cdi.k8s.io/a", "v/c=1,"), ("cdi.k8s.io/", "v/c=1")] {
            let error = given(&[bad]).unwrap_err().to_string();
            assert!(error.contains(bad.0), "{error}");
        }
    }
}
