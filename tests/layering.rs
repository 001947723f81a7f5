//! The rules of the tree: who may name whom, what every file has, and that schema and tables agree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use longshore::domains::{catalog, football, products};
use longshore::store::{migrations, sqlite};
use rusqlite::Connection;

use crate::support::World;

/// From the lowest up: a module names only those before it. `sandbox` stands apart and names none.
const ORDER: [&str; 11] =
    ["config", "telemetry", "store", "upstreams", "targets", "domains", "schedule", "admin", "http", "service", "cli"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part that ships: tests at a file's end may name what they like.
fn shipped(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

/// The top modules that the text names by `crate::`, one level of braces included.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                names.extend(list.split(',').map(|name| word(name.trim())).filter(|name| !name.is_empty()));
            }
            None => drop(names.insert(word(rest))),
        }
    }
    names
}

#[test]
fn a_lower_module_never_names_a_higher_one() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in files(&root().join("src")) {
        let path = file.strip_prefix(root().join("src")).unwrap();
        let top = path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if top == "main" || top == "lib" || path.ends_with("tests.rs") {
            continue;
        }
        for name in named(shipped(&read(&file))) {
            let rank = |name: &str| ORDER.iter().position(|known| *known == name);
            let allowed = match (rank(&top), rank(&name)) {
                (_, None) if name == "sandbox" => top == "sandbox" || top == "cli",
                (None, Some(_)) => false,
                (Some(from), Some(to)) => to <= from,
                // A name that is no module: a macro or an item of the root.
                (_, None) => panic!("{}: crate::{name} is no module of the order", path.display()),
            };
            seen += 1;
            if !allowed {
                wrong.push(format!("{} names crate::{name}", path.display()));
            }
        }
    }
    assert!(seen > 100, "only {seen} names were found: the search is broken");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_of_the_library_has_its_place_in_the_order() {
    let lib = read(&root().join("src/lib.rs"));
    let declared: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let ordered: Vec<&str> = declared.iter().copied().filter(|name| *name != "sandbox").collect();
    assert_eq!(ordered, ORDER);
}

#[test]
fn domains_do_not_know_each_other() {
    let folder = root().join("src/domains");
    let names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    for name in &names {
        for file in files(&folder.join(name)) {
            let text = read(&file);
            for other in names.iter().filter(|other| *other != name) {
                assert!(!text.contains(&format!("domains::{other}")), "{} names {other}", file.display());
            }
        }
    }
    // And they compute: only coordinators record.
    for file in files(&folder) {
        let text = read(&file);
        assert!(!shipped(&text).contains("dyn Ledger"), "{} touches the ledger", file.display());
    }
}

#[test]
fn the_runtime_knows_no_sql_no_http_and_no_domain() {
    for file in files(&root().join("actors/src")) {
        let text = read(&file);
        for word in ["rusqlite", "reqwest", "actix_web", "use longshore::", "esim"] {
            assert!(!shipped(&text).contains(word), "{} names {word}", file.display());
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for folder in ["src", "actors/src", "actors/examples", "benches", "tests"] {
        for file in files(&root().join(folder)) {
            let text = read(&file);
            // A file of unit tests beside its module may do without.
            let needs = !file.ends_with("tests.rs");
            assert!(!needs || text.starts_with("//! "), "{} has no doc comment", file.display());
        }
    }
}

#[test]
fn no_leftovers() {
    for folder in ["src", "actors/src"] {
        for file in files(&root().join(folder)) {
            for (number, line) in read(&file).lines().enumerate() {
                let place = format!("{}:{}", file.display(), number + 1);
                // Code is held to it by rustfmt, and a row of a table cannot be broken.
                let comment = line.trim_start().starts_with("//") && !line.contains("//! |");
                assert!(!comment || line.chars().count() <= 120, "{place} is longer than 120");
                for word in ["FIXME", "XXX", "todo!(", "dbg!("] {
                    assert!(!line.contains(word), "{place} has a {word}");
                }
            }
        }
    }
}

#[test]
fn no_file_of_the_tests_is_forgotten() {
    let folder = root().join("tests");
    for (list, below) in [("main.rs", ""), ("support/mod.rs", "support")] {
        let text = read(&folder.join(list));
        let listed: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
            .map(str::to_owned)
            .collect();
        let found: BTreeSet<String> = std::fs::read_dir(folder.join(below))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs") || path.join("mod.rs").exists())
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|name| name != "main" && name != "mod")
            .collect();
        assert_eq!(found, listed, "tests/{list}");
    }
}

#[test]
fn every_migration_is_listed() {
    let known: BTreeSet<String> =
        migrations::SQLITE.iter().map(|migration| format!("{:04}_{}.sql", migration.version, migration.name)).collect();
    let found: BTreeSet<String> = std::fs::read_dir(root().join("migrations/sqlite"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, known);
}

#[test]
fn the_tables_are_as_the_migrations_make_them() {
    let world = World::new(0);
    world.run(&["migrate"]).expect(0);
    let conn = Connection::open(world.path("longshore.db")).unwrap();
    for table in catalog::TABLES.into_iter().chain(football::TABLES).chain(products::TABLES) {
        sqlite::schema::verify(&conn, table).unwrap();
    }
}

/// What a change of the migrations does to the schema shows in the golden file. To write it anew:
/// `LONGSHORE_GOLDEN=write cargo test --test main schema`.
#[test]
fn the_schema_is_the_golden_one() {
    let world = World::new(0);
    world.run(&["migrate"]).expect(0);
    let conn = Connection::open(world.path("longshore.db")).unwrap();
    let mut statement = conn
        .prepare(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type DESC, name",
        )
        .unwrap();
    let statements: Vec<String> =
        statement.query_map([], |row| row.get::<_, String>(0)).unwrap().map(|sql| sql.unwrap() + ";\n").collect();
    let schema = format!("-- The schema that all migrations make together.\n\n{}", statements.join("\n"));
    let golden = root().join("tests/golden/schema.sql");
    if std::env::var("LONGSHORE_GOLDEN").is_ok_and(|word| word == "write") {
        std::fs::write(&golden, &schema).unwrap();
    }
    let wanted = read(&golden);
    let at = schema.lines().zip(wanted.lines()).position(|(found, wanted)| found != wanted);
    assert!(schema == wanted, "differs from tests/golden/schema.sql, first in line {:?}", at.map(|line| line + 1));
}
