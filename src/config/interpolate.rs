//! `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${file:/path}` and `$$` in the text values of the user's file.
//!
//! It happens after the file was parsed, so no value of the environment can become a key, a table or a comment. A value
//! that comes from the environment or from a flag is taken as it is: a password may hold a dollar sign.

use std::path::Path;

use crate::config::problem::Problem;
use crate::config::tree::{Node, Value};

/// The names of the environment that are visible to `${…}`.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Resolves every text below `node`; what cannot be resolved is told by its key and left empty.
pub(super) fn resolve(node: &mut Node, path: &str, lookup: Lookup<'_>, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::Table(table) => {
            for (name, child) in table {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                resolve(child, &path, lookup, problems);
            }
        }
        Value::List(list) => {
            for (i, child) in list.iter_mut().enumerate() {
                resolve(child, &format!("{path}.{i}"), lookup, problems);
            }
        }
        Value::Text(text) if text.contains('$') => match expand(text, lookup) {
            Ok(expanded) => node.value = Value::Loose(expanded),
            Err(reason) => {
                problems.push(Problem { place: node.origin.to_string(), key: path.to_owned(), text: reason });
            }
        },
        Value::Text(_) | Value::Loose(_) | Value::Whole(_) | Value::Real(_) | Value::Flag(_) => {}
    }
}

fn expand(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = after.find('}').ok_or("`${` is not closed; write `$$` for a dollar sign")?;
            out.push_str(&value_of(&after[..end], lookup)?);
            rest = &after[end + 1..];
        } else {
            // A lone dollar means itself, as in a shell.
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(inside: &str, lookup: Lookup<'_>) -> Result<String, String> {
    if let Some(path) = inside.strip_prefix("file:") {
        return match std::fs::read_to_string(Path::new(path)) {
            Ok(text) => Ok(text.trim_end_matches(['\n', '\r']).to_owned()),
            Err(error) => Err(format!("cannot read the file {path}: {error}; put the value there or change the path")),
        };
    }
    if let Some((name, default)) = inside.split_once(":-") {
        return Ok(lookup(check(name)?).filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned()));
    }
    if let Some((name, message)) = inside.split_once(":?") {
        return lookup(check(name)?)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("the environment variable {name} is not set: {message}"));
    }
    let name = check(inside)?;
    lookup(name).ok_or_else(|| {
        format!("the environment variable {name} is not set: set it, or write ${{{name}:-default}} to do without")
    })
}

fn check(name: &str) -> Result<&str, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(fits) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("`${{{name}}}` names no environment variable; write `$$` for a dollar sign"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.org".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn all_forms_expand() {
        for (text, wanted) in [
            ("https://${HOST}/v2", "https://example.org/v2"),
            ("${NONE:-8}", "8"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${HOST:?needed}", "example.org"),
            ("a$$b$${HOST}", "a$b${HOST}"),
            ("5$", "5$"),
        ] {
            assert_eq!(expand(text, &lookup).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(expand("${NONE}", &lookup).unwrap_err().contains("NONE is not set"));
        assert!(expand("${NONE:?ask the boss}", &lookup).unwrap_err().ends_with("ask the boss"));
        assert!(expand("${open", &lookup).unwrap_err().contains("not closed"));
        assert!(expand("${a b}", &lookup).unwrap_err().contains("names no environment variable"));
        assert!(expand("${file:/no/such/secret}", &lookup).unwrap_err().contains("/no/such/secret"));
    }

    #[test]
    fn a_file_loses_its_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "s3cr$t\n").unwrap();
        assert_eq!(expand(&format!("${{file:{}}}", path.display()), &lookup).unwrap(), "s3cr$t");
    }
}
