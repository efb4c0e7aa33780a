//! Where a stored plan differs from the one at hand.

use serde_json::Value;

/// Where two JSON values first differ: the path, and both sides.
pub(super) fn difference(old: &Value, new: &Value, path: &str) -> Option<(String, String, String)> {
    let absent = Value::Null;
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|key| {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            difference(a.get(key).unwrap_or(&absent), b.get(key).unwrap_or(&absent), &below)
        }),
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len())).find_map(|index| {
            let (a, b) = (a.get(index).unwrap_or(&absent), b.get(index).unwrap_or(&absent));
            difference(a, b, &format!("{path}[{index}]"))
        }),
        (a, b) if a == b => None,
        (a, b) => Some((path.to_owned(), brief(a), brief(b))),
    }
}

/// A value in few words.
fn brief(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Object(fields) => match fields.get("id").or_else(|| fields.get("folder")) {
            Some(name) => name.to_string(),
            None => fields.get("bin_um").map_or("a table".to_owned(), |um| format!("{um} µm")),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_path() {
        let old = json!({"folds": [["A"], ["B"]], "config": {"train": {"epochs": 3}}});
        assert_eq!(difference(&old, &old, ""), None);
        let mut new = old.clone();
        new["config"]["train"]["epochs"] = json!(4);
        let found = difference(&old, &new, "").unwrap();
        assert_eq!(found, ("config.train.epochs".into(), "3".into(), "4".into()));
        let mut new = old.clone();
        new["folds"][1] = json!(["B", "C"]);
        let found = difference(&old, &new, "").unwrap();
        assert_eq!(found, ("folds[1][1]".into(), "nothing".into(), "\"C\"".into()));
    }
}
