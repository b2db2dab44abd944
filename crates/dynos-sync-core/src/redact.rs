//! The privacy gate: sensitive fields never leave the process unmasked.

use serde_json::Value;

use crate::record::Fields;

/// What a masked value is replaced with.
pub const REDACTED: &str = "[REDACTED]";

/// Masks sensitive fields, named by dotted path: `ssn`, `profile.ssn`. A name without a dot also matches at any
/// depth, and every path passes through arrays. Names are compared without regard to case.
///
/// ```
/// use dynos_sync_core::{Redactor, fields, json};
/// let redactor = Redactor::new(["ssn", "profile.phone"]);
/// let mut record = fields([("profile", json!({"phone": "123", "SSN": "7", "city": "Ulm"}))]);
/// redactor.mask(&mut record);
/// assert_eq!(record["profile"], json!({"phone": "[REDACTED]", "SSN": "[REDACTED]", "city": "Ulm"}));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redactor {
    anywhere: Vec<String>,
    paths: Vec<Vec<String>>,
}

impl Redactor {
    /// Masks the fields with these names or dotted paths.
    pub fn new<S: AsRef<str>>(sensitive: impl IntoIterator<Item = S>) -> Self {
        let mut redactor = Self::default();
        for name in sensitive {
            let mut path: Vec<String> = name.as_ref().split('.').map(str::to_lowercase).collect();
            match path.len() {
                1 => redactor.anywhere.push(path.remove(0)),
                _ => redactor.paths.push(path),
            }
        }
        redactor
    }

    /// Whether nothing is masked.
    pub fn is_empty(&self) -> bool {
        self.anywhere.is_empty() && self.paths.is_empty()
    }

    /// Replaces every sensitive value, whatever its type; null stays null, so that absence is not hidden.
    pub fn mask(&self, fields: &mut Fields) {
        if self.is_empty() {
            return;
        }
        let paths: Vec<&[String]> = self.paths.iter().map(Vec::as_slice).collect();
        self.mask_object(fields, &paths);
    }

    fn mask_object(&self, object: &mut Fields, paths: &[&[String]]) {
        for (name, value) in object.iter_mut() {
            let name = name.to_lowercase();
            let below: Vec<&[String]> =
                paths.iter().filter(|path| path[0] == name).map(|path| &path[1..]).collect();
            if self.anywhere.contains(&name) || below.iter().any(|rest| rest.is_empty()) {
                if !value.is_null() {
                    *value = Value::String(REDACTED.to_owned());
                }
            } else {
                self.mask_value(value, &below);
            }
        }
    }

    fn mask_value(&self, value: &mut Value, paths: &[&[String]]) {
        match value {
            Value::Object(object) => self.mask_object(object, paths),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item, paths)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fields;
    use serde_json::json;

    #[test]
    fn masks_by_name_at_any_depth_and_by_path_through_arrays() {
        let redactor = Redactor::new(["Secret", "people.name"]);
        let mut record = fields([
            ("secret", json!({"a": 1})),
            ("name", json!("kept")),
            ("people", json!([{"name": "x", "n": 1}, [{"name": 5, "deep": {"SECRET": [1]}}]])),
            ("null", json!({"secret": null})),
        ]);
        redactor.mask(&mut record);
        assert_eq!(
            Value::Object(record),
            json!({
                "secret": REDACTED, "name": "kept",
                "people": [{"name": REDACTED, "n": 1}, [{"name": REDACTED, "deep": {"SECRET": REDACTED}}]],
                "null": {"secret": null},
            })
        );
    }

    #[test]
    fn masking_twice_is_masking_once() {
        let redactor = Redactor::new(["a.b", "c"]);
        let mut once = fields([("a", json!({"b": {"c": 1}})), ("c", json!("x"))]);
        redactor.mask(&mut once);
        let mut twice = once.clone();
        redactor.mask(&mut twice);
        assert_eq!(once, twice);
    }

    #[test]
    fn a_gate_is_empty_where_nothing_is_named() {
        assert!(Redactor::new(Vec::<String>::new()).is_empty());
        assert!(!Redactor::new(["a"]).is_empty() && !Redactor::new(["a.b"]).is_empty());
    }
}
