//! From the tree to typed settings: a serde deserializer over [`Node`] that says *where* it failed.
//!
//! serde stops at the first error. To tell all of them, [`read`] takes the offending value out of the tree, puts the
//! default in its place and reads again, until nothing is left to complain about.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use crate::config::problem::{Problem, nearest};
use crate::config::tree::{Node, Origin, Value, parse};

/// Which keys of a table are read: one table can hold the settings of two types.
#[derive(Clone, Copy)]
pub(super) enum View<'a> {
    All,
    Only(&'a [&'static str]),
    Without(&'a [&'static str]),
}

impl View<'_> {
    fn shows(self, key: &str) -> bool {
        match self {
            View::All => true,
            View::Only(keys) => keys.contains(&key),
            View::Without(keys) => !keys.contains(&key),
        }
    }
}

/// Reads the table at `path`, healing it from `defaults` on the way. `None` when it cannot be healed, which leaves at
/// least one problem.
pub(super) fn read<T: DeserializeOwned>(
    tree: &mut Node,
    defaults: &Node,
    path: &str,
    view: View<'_>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    loop {
        let Some(node) = tree.get(path) else {
            problems.push(Problem { place: String::new(), key: path.to_owned(), text: "is missing".to_owned() });
            return None;
        };
        let error = match T::deserialize(Reader { node, view }) {
            Ok(settings) => return Some(settings),
            Err(error) => error,
        };
        let steps: Vec<&str> = path.split('.').chain(error.path.iter().rev().map(String::as_str)).collect();
        let others = match view {
            View::All | View::Only(_) => &[][..],
            View::Without(keys) => keys,
        };
        let place = error.place.as_ref().unwrap_or(&node.origin);
        problems.push(Problem { place: place.to_string(), key: steps.join("."), text: error.trouble.explain(others) });
        if !heal(tree, defaults, &steps) {
            return None;
        }
    }
}

/// Puts the default in the place of what could not be read, or takes it away; `false` if that changes nothing.
fn heal(tree: &mut Node, defaults: &Node, steps: &[&str]) -> bool {
    // An item of a list is not healed by itself: the list goes as a whole.
    let list = steps.iter().position(|step| step.parse::<usize>().is_ok());
    let steps = &steps[..list.unwrap_or(steps.len())];
    let path = steps.join(".");
    match defaults.get(&path) {
        Some(default) if tree.get(&path) == Some(default) => false,
        Some(default) => {
            tree.put(steps, default.clone());
            true
        }
        None => tree.remove(steps),
    }
}

/// The names of the fields of a struct that derives `Deserialize`.
pub(super) fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Asking<'a>(&'a mut &'static [&'static str]);

    impl<'de> de::Deserializer<'de> for Asking<'_> {
        type Error = ReadError;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, ReadError> {
            *self.0 = fields;
            Err(de::Error::custom("only the names were asked for"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ReadError> {
            Err(de::Error::custom("not a struct"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut fields: &'static [&'static str] = &[];
    let _ = T::deserialize(Asking(&mut fields));
    fields
}

/// Why a value could not be read.
#[derive(Debug)]
pub(super) struct ReadError {
    /// From the inside out.
    path: Vec<String>,
    place: Option<Origin>,
    trouble: Trouble,
}

#[derive(Debug)]
enum Trouble {
    UnknownKey { name: String, known: &'static [&'static str] },
    UnknownWord { word: String, known: &'static [&'static str] },
    MissingKey(&'static str),
    Other(String),
}

impl Trouble {
    fn explain(&self, others: &[&'static str]) -> String {
        match self {
            Trouble::UnknownKey { name, known } => match nearest(name, known.iter().chain(others).copied()) {
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => {
                    let mut all: Vec<&str> = known.iter().chain(others).copied().collect();
                    all.sort_unstable();
                    format!("unknown key; the keys here are {}", all.join(", "))
                }
            },
            Trouble::UnknownWord { word, known } => {
                format!("`{word}` is not one of {}", known.join(", "))
            }
            Trouble::MissingKey(field) => format!("`{field}` is missing"),
            Trouble::Other(text) => text.clone(),
        }
    }
}

impl ReadError {
    fn new(trouble: Trouble) -> Self {
        Self { path: Vec::new(), place: None, trouble }
    }

    fn within(mut self, step: &str, place: &Origin) -> Self {
        self.path.push(step.to_owned());
        self.place.get_or_insert_with(|| place.clone());
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.trouble.explain(&[]))
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(Trouble::Other(text.to_string()))
    }

    // The value itself is not told: it may be a secret that stands under the wrong key.
    fn invalid_type(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
            Unexpected::Float(_) => "a number with a fraction",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            _ => "text",
        };
        Self::custom(format!("expected {}, found {found}", words(&wanted.to_string())))
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        let number = match found {
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Float(number) => number.to_string(),
            _ => "another value".to_owned(),
        };
        Self::custom(format!("expected {}, found {number}", words(&wanted.to_string())))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(Trouble::UnknownWord { word: word.to_owned(), known })
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(Trouble::UnknownKey { name: name.to_owned(), known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Trouble::MissingKey(field))
    }
}

/// serde's names of types in the words of the file.
fn words(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" => "text in quotes",
        "a boolean" => "true or false",
        "a map" => "a table",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    view: View<'a>,
}

impl Reader<'_> {
    /// What text from the environment or a flag says when no type asks for it: TOML if it is a list or a table.
    fn inline(self) -> Option<Node> {
        let Value::Loose(text) = &self.node.value else { return None };
        let outside = match self.node.origin {
            Origin::Environment(_) | Origin::Flag => true,
            Origin::Default | Origin::File { .. } => false,
        };
        if !outside || !text.trim_start().starts_with(['[', '{']) {
            return None;
        }
        let origin = self.node.origin.clone();
        let parsed = parse(&format!("value = {text}"), &|_, _| origin.clone()).ok()?;
        parsed.child("value").cloned()
    }

    /// `a, b` as a list, which is how lists are written in the environment.
    fn listed(self) -> Option<Node> {
        let Value::Loose(text) = &self.node.value else { return None };
        let origin = &self.node.origin;
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let items = items.map(|item| Node::new(Value::Loose(item.to_owned()), origin.clone()));
        Some(Node::new(Value::List(items.collect()), origin.clone()))
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Value::Loose(text) = &self.node.value else { return self.plain(visitor) };
        if let Ok(number) = text.parse::<i64>() {
            return visitor.visit_i64(number);
        }
        match text.parse::<f64>() {
            Ok(number) => visitor.visit_f64(number),
            Err(_) => visitor.visit_str(text),
        }
    }

    fn plain<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Table(table) => {
                let entries = table.iter().filter(|(key, _)| self.view.shows(key)).collect::<Vec<_>>();
                visitor.visit_map(Entries { entries: entries.into_iter(), current: None })
            }
            Value::List(list) => visitor.visit_seq(Items { items: list.iter().enumerate() }),
            Value::Text(text) | Value::Loose(text) => visitor.visit_str(text),
            Value::Whole(number) => visitor.visit_i64(*number),
            Value::Real(number) => visitor.visit_f64(*number),
            Value::Flag(flag) => visitor.visit_bool(*flag),
        }
    }
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.inline() {
            Some(node) => Reader { node: &node, view: View::All }.plain(visitor),
            None => self.plain(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Loose(text) => match text.parse() {
                Ok(flag) => visitor.visit_bool(flag),
                Err(_) => visitor.visit_str(text),
            },
            Value::Table(_) | Value::List(_) | Value::Text(_) | Value::Whole(_) | Value::Real(_) | Value::Flag(_) => {
                self.plain(visitor)
            }
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.plain(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.plain(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.inline().or_else(|| self.listed()) {
            Some(node) => Reader { node: &node, view: View::All }.plain(visitor),
            None => self.plain(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Text(text) | Value::Loose(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::Table(_) | Value::List(_) | Value::Whole(_) | Value::Real(_) | Value::Flag(_) => {
                Err(de::Error::custom("expected one word in quotes"))
            }
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 f32 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct map struct
        identifier ignored_any
    }
}

struct Entries<'a> {
    entries: std::vec::IntoIter<(&'a String, &'a Node)>,
    current: Option<(&'a String, &'a Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        self.current = self.entries.next();
        let Some((name, node)) = self.current else { return Ok(None) };
        let name = name.as_str();
        seed.deserialize(name.into_deserializer()).map(Some).map_err(|error: ReadError| error.within(name, &node.key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ReadError> {
        let Some((name, node)) = self.current else { return Err(de::Error::custom("a value without its key")) };
        seed.deserialize(Reader { node, view: View::All }).map_err(|error| error.within(name, &node.origin))
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some((i, node)) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader { node, view: View::All })
            .map(Some)
            .map_err(|error| error.within(&i.to_string(), &node.origin))
    }
}
