//! One event, one line: the formatting layer.
//!
//! tracing-subscriber's own JSON puts the fields of spans into a list of objects; a search for `job_id=7` needs them
//! flat, so the fields are kept with their span and laid out here. An event's own field wins over a span's, an inner
//! span's over an outer one's.

use std::fmt::{self, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::telemetry::screen::Screen;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug)]
pub(super) struct Lines {
    format: Format,
    screen: Screen,
}

impl Lines {
    pub fn new(format: Format, screen: Screen) -> Self {
        Self { format, screen }
    }
}

/// Fields in the order they were said.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), Value::String(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let message = match own.0.iter().position(|(name, _)| *name == "message") {
            Some(at) => match own.0.remove(at).1 {
                Value::String(text) => text,
                other => other.to_string(),
            },
            None => String::new(),
        };
        let mut around = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                for (name, value) in &fields.0 {
                    around.set(name, value.clone());
                }
            }
        }
        around.0.retain(|(name, _)| own.0.iter().all(|(known, _)| known != name));
        let fields = own.0.into_iter().chain(around.0);

        let metadata = event.metadata();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let line = match self.format {
            Format::Text => text(&now, metadata.level(), metadata.target(), &message, fields),
            Format::Json => json(now, metadata.level(), metadata.target(), message, fields),
        };
        self.screen.write(&line);
    }
}

fn text(
    now: &str,
    level: &tracing::Level,
    target: &str,
    message: &str,
    fields: impl Iterator<Item = (&'static str, Value)>,
) -> String {
    let mut line = format!("{now} {level:>5} {target}: {}", one_line(message));
    for (name, value) in fields {
        let value = match value {
            Value::String(text) => quoted(&text),
            other => other.to_string(),
        };
        // Writing to a String cannot fail.
        let _ = write!(line, " {name}={value}");
    }
    line.push('\n');
    line
}

fn json(
    now: String,
    level: &tracing::Level,
    target: &str,
    message: String,
    fields: impl Iterator<Item = (&'static str, Value)>,
) -> String {
    let mut object = Map::new();
    for (name, value) in fields {
        object.insert(name.to_owned(), value);
    }
    // Said last, so that no field can hide them.
    object.insert("ts".to_owned(), Value::String(now));
    object.insert("level".to_owned(), Value::String(level.to_string()));
    object.insert("target".to_owned(), Value::String(target.to_owned()));
    object.insert("msg".to_owned(), Value::String(message));
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

/// Control characters escaped: no text from outside can forge a line or speak to the terminal.
fn one_line(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn quoted(text: &str) -> String {
    let bare = !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=');
    if bare { text.to_owned() } else { format!("{text:?}") }
}
