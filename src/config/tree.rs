//! The configuration as a tree whose every value knows where it came from.
//!
//! ```text
//! default.toml ──┐
//! your file ─────┼─ lay over, key by key ─▶ Node ─ reader ─▶ typed settings
//! environment ───┤                            └──── show, explain, diff
//! flags ─────────┘
//! ```
//!
//! Tables are merged, everything else is replaced. A `schedule` that says when replaces the one below as a whole, since
//! `every` and `cron` exclude each other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::problem::Problem;

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { file: Arc<str>, line: usize, column: usize },
    Environment(Arc<str>),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Origin::Environment(name) => write!(f, "env {name}"),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    /// Place of the value.
    pub origin: Origin,
    /// Place of its key.
    pub key: Origin,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    List(Vec<Node>),
    Text(String),
    /// Text from outside the file: it becomes whatever the key wants (`8` a number, `true` a flag).
    Loose(String),
    Whole(i64),
    Real(f64),
    Flag(bool),
}

impl Node {
    pub fn new(value: Value, origin: Origin) -> Self {
        Self { value, key: origin.clone(), origin }
    }

    pub fn empty() -> Self {
        Self::new(Value::Table(BTreeMap::new()), Origin::Default)
    }

    pub fn get(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, step| node.child(step))
    }

    pub fn child(&self, step: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(table) => table.get(step),
            Value::List(list) => list.get(step.parse::<usize>().ok()?),
            Value::Text(_) | Value::Loose(_) | Value::Whole(_) | Value::Real(_) | Value::Flag(_) => None,
        }
    }

    pub fn table(&self) -> Option<&BTreeMap<String, Node>> {
        match &self.value {
            Value::Table(table) => Some(table),
            Value::List(_) | Value::Text(_) | Value::Loose(_) | Value::Whole(_) | Value::Real(_) | Value::Flag(_) => {
                None
            }
        }
    }

    /// Puts `node` at `path`, making tables on the way.
    pub fn put(&mut self, path: &[&str], node: Node) {
        let Some((first, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if self.table().is_none() {
            *self = Node::new(Value::Table(BTreeMap::new()), node.origin.clone());
        }
        if let Value::Table(table) = &mut self.value {
            let origin = node.origin.clone();
            let child =
                table.entry((*first).to_owned()).or_insert_with(|| Node::new(Value::Table(BTreeMap::new()), origin));
            child.put(rest, node);
        }
    }

    /// Takes away what stands at `path`; `false` when nothing did.
    pub fn remove(&mut self, path: &[&str]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let Value::Table(table) = &mut self.value else { return false };
        if rest.is_empty() {
            return table.remove(*first).is_some();
        }
        table.get_mut(*first).is_some_and(|child| child.remove(rest))
    }

    /// Lays `over` over this one.
    pub fn lay(&mut self, over: Node) {
        match (&mut self.value, over) {
            (Value::Table(below), Node { value: Value::Table(above), .. }) => {
                for (name, node) in above {
                    match below.get_mut(&name) {
                        Some(under) if !replaces(&name, &node) => under.lay(node),
                        Some(_) | None => {
                            below.insert(name, node);
                        }
                    }
                }
            }
            (_, over) => *self = over,
        }
    }

    /// Every value that is no table, with its dotted path, in order.
    pub fn leaves(&self) -> Vec<(String, &Node)> {
        let mut found = Vec::new();
        self.collect(String::new(), &mut found);
        found
    }

    fn collect<'a>(&'a self, path: String, found: &mut Vec<(String, &'a Node)>) {
        match &self.value {
            Value::Table(table) if !table.is_empty() => {
                for (name, node) in table {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    node.collect(path, found);
                }
            }
            Value::Table(_)
            | Value::List(_)
            | Value::Text(_)
            | Value::Loose(_)
            | Value::Whole(_)
            | Value::Real(_)
            | Value::Flag(_) => found.push((path, self)),
        }
    }
}

fn replaces(name: &str, node: &Node) -> bool {
    name == "schedule" && node.table().is_none_or(|table| table.contains_key("cron") || table.contains_key("every"))
}

/// Reads TOML; `place` says where a byte of it stands.
pub(super) fn parse(text: &str, place: &dyn Fn(usize, usize) -> Origin) -> Result<Node, Problem> {
    let lines = Lines::of(text);
    let at = |offset: usize| {
        let (line, column) = lines.position(text, offset);
        place(line, column)
    };
    match DeTable::parse(text) {
        Ok(table) => {
            let origin = at(0);
            Ok(Node { value: from_table(table.get_ref(), &at), key: origin.clone(), origin })
        }
        Err(error) => {
            let origin = at(error.span().map_or(0, |span| span.start));
            // Its text may go over lines.
            let text = error.message().split('\n').collect::<Vec<_>>().join("; ");
            Err(Problem { place: origin.to_string(), key: String::new(), text: format!("not valid TOML: {text}") })
        }
    }
}

fn from_table(table: &DeTable<'_>, at: &dyn Fn(usize) -> Origin) -> Value {
    let nodes = table.iter().map(|(name, value)| {
        let node = from_value(value, at(name.span().start), at);
        (name.get_ref().to_string(), node)
    });
    Value::Table(nodes.collect())
}

fn from_value(value: &Spanned<DeValue<'_>>, key: Origin, at: &dyn Fn(usize) -> Origin) -> Node {
    let origin = at(value.span().start);
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        // A number beyond 64 bits is left as text and refused as such by whoever wants a number.
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Whole(number),
            Err(_) => Value::Text(number.to_string()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Real(number),
            Err(_) => Value::Text(number.to_string()),
        },
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(list) => {
            Value::List(list.iter().map(|item| from_value(item, at(item.span().start), at)).collect())
        }
        DeValue::Table(table) => from_table(table, at),
    };
    Node { value, origin, key }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(i, _)| i + 1);
        Self(std::iter::once(0).chain(starts).collect())
    }

    /// Line and column from 1; the column counts characters.
    fn position(&self, text: &str, offset: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= offset).max(1);
        let start = self.0[line - 1];
        let before = text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tree(text: &str) -> Node {
        let place = |line, column| Origin::File { file: "f".into(), line, column };
        parse(text, &place).unwrap()
    }

    #[test]
    fn every_value_knows_its_place() {
        let tree = tree("[a]\n  b = 1\nc = { d = [true] }\n");
        let node = tree.get("a.b").unwrap();
        assert_eq!((node.key.to_string(), node.origin.to_string()), ("f:2:3".into(), "f:2:7".into()));
        assert_eq!(tree.get("a.c.d.0").unwrap().value, Value::Flag(true));
    }

    #[test]
    fn tables_merge_and_a_schedule_that_says_when_replaces() {
        let mut below = tree("x = { a = 1, b = 2 }\nschedule = { cron = '@daily', jitter = '5m' }\n");
        below.lay(tree("x = { b = 3 }\nschedule = { jitter = '1m' }\n"));
        assert_eq!(below.leaves().len(), 4);
        assert_eq!(below.get("x.b").unwrap().value, Value::Whole(3));
        below.lay(tree("schedule = { every = '6h' }\n"));
        assert!(below.get("schedule.cron").is_none());
        below.lay(tree("schedule = 'off'\n"));
        assert_eq!(below.get("schedule").unwrap().value, Value::Text("off".into()));
    }
}
