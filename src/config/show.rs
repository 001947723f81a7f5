//! The configuration for eyes: secrets masked, each value with its origin, and what differs between two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::secret::{MASK, mask_password};
use crate::config::tree::{Node, Origin, Value};
use crate::config::{Config, DEFAULTS, defaults};

/// The last step of every key that holds a secret.
const SECRET_KEYS: [&str; 5] = ["api_key", "admin_token", "access_key", "secret_key", "profile"];

/// Keys that a reload applies at once; `*` is any one step, and what lies below a key goes with it.
const LIVE: [&str; 22] = [
    "log.level",
    "retention",
    "upkeep",
    "domains.*.rate_per_second",
    "domains.*.burst",
    "domains.*.jobs_max",
    "domains.*.pages_max",
    "domains.*.schedules",
    "domains.*.pools.*.actors",
    "domains.*.pools.*.mailbox",
    "domains.*.crashes_max",
    "domains.*.cool_down",
    "domains.*.restart",
    "domains.*.coordinator_restart",
    "domains.*.jobs.*.attempts",
    "domains.*.jobs.*.backoff",
    "domains.*.jobs.*.timeout",
    "domains.*.jobs.*.stuck_after",
    "domains.*.jobs.*.page_tries",
    "domains.*.jobs.*.lock",
    "domains.*.jobs.*.concurrency",
    "domains.*.jobs.*.schedule",
];

/// The resolved tree, secrets included; it prints nothing of itself.
#[derive(Clone)]
pub(super) struct Values(pub(super) Node);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values(..)")
    }
}

impl Values {
    /// Where `key` was said, if not by default.
    pub fn place(&self, key: &str) -> String {
        match self.0.get(key).map(|node| &node.origin) {
            Some(Origin::Default) | None => String::new(),
            Some(origin) => origin.to_string(),
        }
    }
}

/// One key as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub key: String,
    /// Masked if it is a secret.
    pub value: toml::Value,
    pub origin: Origin,
}

/// One key that differs. The values are masked.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub key: String,
    pub old: Option<toml::Value>,
    pub new: Option<toml::Value>,
    /// A reload applies it; otherwise it waits for the next start.
    pub live: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<toml::Value>| value.as_ref().map_or("nothing".to_owned(), toml::Value::to_string);
        write!(f, "{}: {} → {}", self.key, text(&self.old), text(&self.new))?;
        if !self.live {
            f.write_str(" (at the next start)")?;
        }
        Ok(())
    }
}

impl Config {
    /// Every key in order.
    pub fn shown(&self) -> Vec<Shown> {
        let defaults = defaults().unwrap_or_else(|_| Node::empty());
        let leaves = self.values.0.leaves().into_iter();
        leaves
            .map(|(key, node)| {
                let value = visible(&key, node, defaults.get(&key));
                Shown { key, value, origin: node.origin.clone() }
            })
            .collect()
    }

    /// TOML that says the same, secrets masked.
    pub fn to_toml(&self) -> String {
        let table = self.shown().into_iter().fold(toml::Table::new(), |mut table, shown| {
            insert(&mut table, &shown.key, shown.value);
            table
        });
        toml::to_string(&table).unwrap_or_default()
    }

    pub fn to_json(&self) -> serde_json::Value {
        let table = self.shown().into_iter().fold(toml::Table::new(), |mut table, shown| {
            insert(&mut table, &shown.key, shown.value);
            table
        });
        serde_json::to_value(table).unwrap_or_default()
    }

    /// One line a key, with its origin.
    pub fn explain(&self) -> String {
        let lines: Vec<(String, Origin)> =
            self.shown().into_iter().map(|shown| (format!("{} = {}", shown.key, shown.value), shown.origin)).collect();
        // Long lists would push the origins off the screen.
        let width = lines.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0).min(72);
        lines.iter().map(|(text, origin)| format!("{text:<width$}  # {origin}\n")).collect()
    }

    /// What differs from `old`, in order of keys.
    pub fn changes_since(&self, old: &Config) -> Vec<Change> {
        Config::diff(old, self)
    }

    pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
        let raw = |config: &Config| -> BTreeMap<String, Node> {
            config.values.0.leaves().into_iter().map(|(key, node)| (key, node.clone())).collect()
        };
        let (before, after) = (raw(old), raw(new));
        let defaults = defaults().unwrap_or_else(|_| Node::empty());
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let show = |key: &str, node: Option<&Node>| node.map(|node| visible(key, node, defaults.get(key)));
        let plainly = |key: &str, node: Option<&Node>| node.map(|node| plain(node, defaults.get(key)));
        keys.into_iter()
            .filter(|key| plainly(key, before.get(*key)) != plainly(key, after.get(*key)))
            .map(|key| Change {
                key: key.clone(),
                old: show(key, before.get(key)),
                new: show(key, after.get(key)),
                live: applies_live(key),
            })
            .collect()
    }

    /// Whether nobody said anything about `key`.
    pub fn is_default(&self, key: &str) -> bool {
        self.values.place(key).is_empty()
    }

    /// The text of the built-in defaults.
    pub fn defaults_text() -> &'static str {
        DEFAULTS
    }
}

fn applies_live(key: &str) -> bool {
    let fits = |pattern: &&str| {
        let mut steps = key.split('.');
        pattern.split('.').all(|wanted| steps.next().is_some_and(|step| wanted == "*" || wanted == step))
    };
    LIVE.iter().any(fits)
}

fn insert(table: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((first, rest)) => {
            let child = table.entry(first).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(child) = child {
                insert(child, rest, value);
            }
        }
    }
}

fn visible(key: &str, node: &Node, default: Option<&Node>) -> toml::Value {
    let secret = key.rsplit('.').next().is_some_and(|last| SECRET_KEYS.contains(&last));
    match plain(node, default) {
        toml::Value::String(text) if text.is_empty() => toml::Value::String(text),
        _ if secret => toml::Value::String(MASK.to_owned()),
        toml::Value::String(text) => toml::Value::String(mask_password(&text)),
        other => other,
    }
}

/// The value itself; loose text takes the type of its default.
fn plain(node: &Node, default: Option<&Node>) -> toml::Value {
    match &node.value {
        Value::Table(table) => {
            toml::Value::Table(table.iter().map(|(key, node)| (key.clone(), plain(node, None))).collect())
        }
        Value::List(list) => toml::Value::Array(list.iter().map(|node| plain(node, None)).collect()),
        Value::Text(text) => toml::Value::String(text.clone()),
        Value::Whole(number) => toml::Value::Integer(*number),
        Value::Real(number) => toml::Value::Float(*number),
        Value::Flag(flag) => toml::Value::Boolean(*flag),
        Value::Loose(text) => {
            let typed = match default.map(|node| &node.value) {
                Some(Value::Whole(_)) => text.parse().ok().map(toml::Value::Integer),
                Some(Value::Real(_)) => text.parse().ok().map(toml::Value::Float),
                Some(Value::Flag(_)) => text.parse().ok().map(toml::Value::Boolean),
                Some(Value::Table(_) | Value::List(_) | Value::Text(_) | Value::Loose(_)) | None => None,
            };
            typed.unwrap_or_else(|| toml::Value::String(text.clone()))
        }
    }
}
