//! CAT.csv becomes the tree of categories.
//!
//! ```text
//! code;da;de;en                                    BAGS       BAGS             (a root)
//! BAGS;…;Taschen;Bags                       ─▶     BACKPACKS  BAGS/BACKPACKS   parent BAGS, since "Bags" is the name
//! BACKPACKS;…;Taschen/Rucksäcke;Bags/Backpacks                                 before its last slash
//! ```
//!
//! Names are paths, in each language; a parent is found by the path before the last slash in any language that has it.
//! A name may hold a slash of its own: then a shorter path is the parent's.
//!
//! The header is not documented. It is searched for a column of codes and for languages, whatever they are called.

use std::collections::HashMap;

use csv::{ReaderBuilder, StringRecord};
use longshore_actors::domain::Transformed;
use longshore_actors::job::Fault;
use longshore_actors::ledger::Reject;
use serde_json::{Map, Value};

use crate::domains::products::PROVIDER;
use crate::domains::products::tables::CATEGORIES;
use crate::store::batch::{Batch, Cell, Rows};

/// The longest known tree has 174 rows and three levels.
const ROWS_MAX: usize = 100_000;
const LEVELS_MAX: usize = 16;

/// What a column may be called. The first that is there counts.
const CODES: [&str; 6] = ["code", "categorycode", "category_code", "key", "id", "category"];
const NAMES: [&str; 5] = ["name", "category name", "bezeichnung", "title", "label"];
const ORDERS: [&str; 4] = ["sort_order", "sortorder", "sort", "position"];
const PARENTS: [&str; 4] = ["parent_code", "parentcode", "parent", "parent_id"];

/// Words of a header that mean a language, beside its code of two letters.
const LANGUAGES: [(&str, &[&str]); 10] = [
    ("da", &["danish", "dansk", "dänisch"]),
    ("de", &["german", "deutsch"]),
    ("en", &["english", "englisch"]),
    ("es", &["spanish", "spanisch"]),
    ("fr", &["french", "français", "französisch"]),
    ("it", &["italian", "italienisch"]),
    ("nl", &["dutch", "nederlands", "niederländisch"]),
    ("pl", &["polish", "polnisch"]),
    ("pt", &["portuguese", "portugiesisch"]),
    ("sv", &["swedish", "schwedisch"]),
];

/// Which column holds what.
#[derive(Debug, PartialEq, Eq)]
struct Columns {
    code: usize,
    languages: Vec<(&'static str, usize)>,
    order: Option<usize>,
    parent: Option<usize>,
    count: usize,
}

struct Category {
    names: Vec<(&'static str, String)>,
    order: i64,
    /// What a column of its own says.
    parent: Option<String>,
}

/// The rows of the tree, and how many records there are in all.
pub fn transform(text: &str) -> Result<(Transformed<Batch>, u64), Fault> {
    let text = text.trim_start_matches('\u{feff}');
    let header = text.lines().next().unwrap_or_default();
    let delimiter =
        [b';', b'\t', b','].into_iter().max_by_key(|sign| header.bytes().filter(|byte| byte == sign).count());
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter.unwrap_or(b';'))
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut records = reader.records();
    let columns = match records.next() {
        Some(Ok(header)) => columns(&header)?,
        Some(Err(_)) | None => return Err(Fault::fail("CAT.csv is empty")),
    };
    let (mut categories, mut order) = (HashMap::new(), Vec::new());
    let (mut rejects, mut seen, mut received, mut short, mut hidden) = (Vec::new(), Vec::new(), 0, false, false);
    for (number, record) in records.by_ref().take(ROWS_MAX).enumerate() {
        received += 1;
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                rejects.push(Reject { key: None, reason: format!("does not fit: {error}"), raw: String::new() });
                continue;
            }
        };
        short = record.len() < columns.count;
        // A quotation mark that is not closed swallows the lines that follow.
        hidden |= record.iter().any(|field| field.contains('\n'));
        match category(&record, &columns, number) {
            Ok((code, category)) => {
                if categories.insert(code.clone(), category).is_none() {
                    order.push(code.clone());
                }
                seen.push(code);
            }
            Err(reject) => {
                seen.extend(reject.key.clone());
                rejects.push(reject);
            }
        }
    }
    let mut rows = Rows::new(&CATEGORIES);
    let tree = Tree::new(&categories, &order);
    for code in &order {
        if let Some(category) = categories.get(code) {
            rows.push(tree.cells(code, category), Vec::new());
        }
    }
    // A last line that is shorter than the header and has no end: whatever stood after it is gone.
    let cut = hidden || short && !text.ends_with('\n') || records.next().is_some();
    let batch = Batch { rows: vec![rows], seen, ..Batch::default() };
    Ok((Transformed { rejects, ..Transformed::new(batch, received) }, received + u64::from(cut)))
}

fn columns(header: &StringRecord) -> Result<Columns, Fault> {
    let names: Vec<String> = header.iter().map(|name| name.trim().to_lowercase()).collect();
    let find = |known: &[&str]| known.iter().find_map(|known| names.iter().position(|name| name == known));
    let told = || header.iter().collect::<Vec<_>>().join(";").chars().take(120).collect::<String>();
    let Some(code) = find(&CODES) else {
        return Err(Fault::fail(format!("CAT.csv has no column of codes: its header is {:?}", told())));
    };
    let mut languages: Vec<(&'static str, usize)> = Vec::new();
    for (at, name) in names.iter().enumerate().filter(|(at, _)| *at != code) {
        let found = language(name).filter(|language| !languages.iter().any(|(known, _)| known == language));
        languages.extend(found.map(|language| (language, at)));
    }
    if languages.is_empty() {
        match find(&NAMES).filter(|at| *at != code) {
            Some(at) => languages.push(("en", at)),
            None => return Err(Fault::fail(format!("CAT.csv has no column of names: its header is {:?}", told()))),
        }
    }
    Ok(Columns { code, languages, order: find(&ORDERS), parent: find(&PARENTS), count: names.len() })
}

/// `en`, `name_en`, `Name (EN)`, `English name`.
fn language(header: &str) -> Option<&'static str> {
    let mut words = header.split(|sign: char| !sign.is_alphanumeric());
    words.find_map(|word| {
        LANGUAGES.iter().find(|(code, names)| *code == word || names.contains(&word)).map(|(code, _)| *code)
    })
}

fn category(record: &StringRecord, columns: &Columns, number: usize) -> Result<(String, Category), Reject> {
    let field = |at: usize| Some(record.get(at)?.trim()).filter(|text| !text.is_empty()).map(str::to_owned);
    let raw = || record.iter().collect::<Vec<_>>().join(";");
    let Some(code) = field(columns.code) else {
        return Err(Reject { key: None, reason: "no code".to_owned(), raw: raw() });
    };
    if code.contains('/') {
        return Err(Reject { key: Some(code), reason: "the code has a slash".to_owned(), raw: raw() });
    }
    let names: Vec<(&'static str, String)> =
        columns.languages.iter().filter_map(|(language, at)| Some((*language, field(*at)?))).collect();
    if names.is_empty() {
        return Err(Reject { key: Some(code), reason: "no name in any language".to_owned(), raw: raw() });
    }
    let order = columns.order.and_then(field).and_then(|order| order.parse().ok());
    let order = order.unwrap_or_else(|| i64::try_from(number + 1).unwrap_or(i64::MAX));
    Ok((code, Category { names, order, parent: columns.parent.and_then(field) }))
}

/// All categories, to be found by their names.
struct Tree<'a> {
    categories: &'a HashMap<String, Category>,
    by_name: HashMap<(&'static str, &'a str), &'a str>,
}

impl<'a> Tree<'a> {
    /// Of two categories with one name the first in `order`, that of the file, is the parent.
    fn new(categories: &'a HashMap<String, Category>, order: &'a [String]) -> Self {
        let mut by_name = HashMap::new();
        for (code, category) in order.iter().filter_map(|code| categories.get_key_value(code)) {
            for (language, name) in &category.names {
                by_name.entry((*language, name.as_str())).or_insert(code.as_str());
            }
        }
        Self { categories, by_name }
    }

    fn parent(&self, code: &str, category: &'a Category) -> Option<&'a str> {
        for (language, name) in &category.names {
            let mut path = name.as_str();
            while let Some((before, _)) = path.rsplit_once('/') {
                path = before;
                let found = self.by_name.get(&(*language, path.trim())).filter(|found| **found != code);
                if let Some(found) = found {
                    return Some(found);
                }
            }
        }
        let said = self.categories.get_key_value(category.parent.as_deref()?)?;
        Some(said.0.as_str()).filter(|said| *said != code)
    }

    fn cells(&self, code: &str, category: &'a Category) -> Vec<Cell> {
        let parent = self.parent(code, category);
        let mut path = vec![code];
        let mut above = parent;
        while let Some(code) = above.filter(|code| !path.contains(code) && path.len() < LEVELS_MAX) {
            path.push(code);
            above = self.categories.get_key_value(code).and_then(|(code, category)| self.parent(code, category));
        }
        path.reverse();
        let names: Map<String, Value> =
            category.names.iter().map(|(language, name)| ((*language).to_owned(), name.as_str().into())).collect();
        vec![
            Cell::Text(code.to_owned()),
            Cell::Text(PROVIDER.to_owned()),
            parent.map_or(Cell::Null, |parent| Cell::Text(parent.to_owned())),
            Cell::Text(path.join("/")),
            Cell::Int(path.len() as i64),
            Cell::Int(category.order),
            Cell::Json(Value::Object(names).to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Code, parent and path of each row, the rejects, and how many are missing.
    fn tree(text: &str) -> (Vec<(String, String, String)>, Vec<String>, u64) {
        let (done, total) = transform(text).unwrap();
        let cell = |cell: &Cell| match cell {
            Cell::Text(text) => text.clone(),
            _ => String::new(),
        };
        let rows = done.batch.rows[0].rows.iter();
        let rows = rows.map(|row| (cell(&row.cells[0]), cell(&row.cells[2]), cell(&row.cells[3]))).collect();
        let rejects = done.rejects.iter().map(|reject| reject.reason.clone()).collect();
        (rows, rejects, total - done.received)
    }

    fn row(code: &str, parent: &str, path: &str) -> (String, String, String) {
        (code.to_owned(), parent.to_owned(), path.to_owned())
    }

    #[test]
    fn parents_are_found_by_the_path_of_a_name_in_any_language() {
        let text = "\u{feff}Code;da;de;en\r\n\
                    BAGS;;Taschen & Gepäck;Bags\r\n\
                    BACKPACKS;;Taschen & Gepäck/Rucksäcke;\r\n\
                    \"LAPTOP\";;;\"Bags/Backpacks; large\"\r\n\
                    USB;;;USB/Power\r\n\
                    CABLE;;;USB/Power/Cables/short\r\n";
        let (rows, rejects, missing) = tree(text);
        assert_eq!(
            rows,
            [
                row("BAGS", "", "BAGS"),
                row("BACKPACKS", "BAGS", "BAGS/BACKPACKS"),
                row("LAPTOP", "BAGS", "BAGS/LAPTOP"),
                row("USB", "", "USB"),
                row("CABLE", "USB", "USB/CABLE"),
            ]
        );
        assert_eq!((rejects.len(), missing), (0, 0));
        let (done, _) = transform(text).unwrap();
        assert_eq!(done.batch.rows[0].rows[1].cells[6], Cell::Json(r#"{"de":"Taschen & Gepäck/Rucksäcke"}"#.into()));
        assert_eq!(done.batch.rows[0].rows[1].cells[4..6], [Cell::Int(2), Cell::Int(2)]);
    }

    #[test]
    fn headers_are_found_whatever_they_are_called() {
        let found = |header: &str| {
            let header = StringRecord::from(header.split(';').collect::<Vec<_>>());
            columns(&header).map(|columns| (columns.code, columns.languages)).map_err(|fault| fault.to_string())
        };
        assert_eq!(found("code;name;parent_code"), Ok((0, vec![("en", 1)])));
        assert_eq!(found("Name (EN);Name (DE);CATEGORY_CODE"), Ok((2, vec![("en", 0), ("de", 1)])));
        assert_eq!(found("key;name_nl;Deutsch;sort"), Ok((0, vec![("nl", 1), ("de", 2)])));
        assert!(found("a;b;c").unwrap_err().contains("no column of codes: its header is \"a;b;c\""));
        assert!(found("code;x").unwrap_err().contains("no column of names"));
        assert!(matches!(transform(""), Err(Fault::Fail { .. })));
    }

    #[test]
    fn a_parent_of_its_own_column_counts_where_names_are_no_paths() {
        let (rows, ..) = tree("code,name,parent_code\nA,Bags,\nB,Backpacks,A\nC,Loop,C\nD,One,E\nE,Two,D\n");
        assert_eq!(rows[1], row("B", "A", "A/B"));
        assert_eq!(rows[2], row("C", "", "C"));
        assert_eq!((rows[3].2.as_str(), rows[4].2.as_str()), ("E/D", "D/E"), "a circle ends");
    }

    #[test]
    fn broken_rows_are_put_aside_and_a_cut_file_is_incomplete() {
        let (rows, rejects, missing) = tree("code;en\nA;Bags\n;x\nB;\nA/B;y\nA;Bags again\nC");
        assert_eq!(rows, [row("A", "", "A")]);
        assert_eq!(rejects, ["no code", "no name in any language", "the code has a slash", "no name in any language"]);
        assert_eq!(missing, 1);
        assert_eq!(tree("code;en\nA;Bags").2, 0, "a whole last line needs no end");
    }

    #[test]
    fn a_quotation_mark_that_is_not_closed_hides_lines() {
        let (_, _, missing) = tree("code;en\nA;Bags\nB;\"Caps\nC;Hats\nD;Shoes\n");
        assert!(missing > 0, "C and D are swallowed and would be removed");
    }

    #[test]
    fn too_many_rows_are_not_all_received() {
        let mut text = String::from("code;en\n");
        for n in 0..=ROWS_MAX {
            text += &format!("C{n};n{n}\n");
        }
        let (rows, _, missing) = tree(&text);
        assert!(missing > 0, "{} rows, one was not looked at", rows.len());
    }
}
