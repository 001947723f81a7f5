//! `CAT.csv`: 8 roots, 17 kinds in each, and under the first two kinds of nearly every root two sizes: 174 codes.
//!
//! Names are full paths; a parent is known by them alone. Rows stand in no order, so that a parent may come after its
//! children. A name with a `;` or a quote is quoted, a few names are empty.

use std::collections::BTreeMap;

use super::expected::ExpectedCategory;
use super::words::{KINDS, LANGUAGES, ROOTS, SIZES_OF_KIND};
use crate::sandbox::dice::Dice;

/// Under the first and the second kind of the first seven roots, and of the last root only under the first.
const THIRDS: usize = 30;

struct Category {
    code: String,
    parent: Option<String>,
    /// By the order of [`LANGUAGES`]; empty where it is left out.
    names: [String; 6],
}

/// The codes from the root to the category that a family of this root and number stands in.
pub fn path(root: usize, number: usize) -> Vec<String> {
    let kind = number % KINDS.len();
    let mut codes = vec![ROOTS[root].0.to_owned(), format!("{}_{}", ROOTS[root].0, KINDS[kind].0)];
    // The first seven roots have both of their divided kinds.
    if kind < 2 && root < 7 {
        codes.push(format!("{}_{}", codes[1], SIZES_OF_KIND[number / KINDS.len() % 2].0));
    }
    codes
}

fn all() -> Vec<Category> {
    let mut categories = Vec::new();
    let mut thirds = 0;
    for (root, names) in ROOTS {
        categories.push(Category { code: root.to_owned(), parent: None, names: names.map(str::to_owned) });
        for (nth, (kind, words)) in KINDS.into_iter().enumerate() {
            let code = format!("{root}_{kind}");
            let names: [String; 6] = std::array::from_fn(|at| format!("{}/{}", names[at], words[at]));
            if nth < 2 && thirds < THIRDS {
                for (size, words) in SIZES_OF_KIND {
                    let names = std::array::from_fn(|at| format!("{}/{}", names[at], words[at]));
                    categories.push(Category { code: format!("{code}_{size}"), parent: Some(code.clone()), names });
                    thirds += 1;
                }
            }
            categories.push(Category { code, parent: Some(root.to_owned()), names: odd(kind, names) });
        }
    }
    categories
}

/// Names that want care in reading. All of kinds without a division, so that nothing hangs below them.
fn odd(kind: &str, mut names: [String; 6]) -> [String; 6] {
    match kind {
        "SETS" => names[2].push_str("; gift boxes"),
        "PREMIUM" => names[1].push_str(" \"Édition\""),
        "NEW" => names[4].clear(),
        _ => {}
    }
    names
}

/// The file as it is served. `other_header` writes it as a spreadsheet does after somebody edited it: with a byte
/// order mark, capitals, and the columns in another order.
pub fn csv(seed: u64, other_header: bool) -> String {
    let (header, order) = match other_header {
        false => ("code;da;de;en;fr;it;nl", [0, 1, 2, 3, 4, 5]),
        true => ("\u{feff}Code;NL;DE;EN;FR;DA;IT", [5, 1, 2, 3, 0, 4]),
    };
    let mut rows: Vec<(u64, String)> = Vec::new();
    for (nth, category) in all().into_iter().enumerate() {
        let fields = order.map(|at| quoted(&category.names[at])).join(";");
        rows.push((Dice::new(seed, &[0xca7, nth as u64]).roll(), format!("{};{fields}\r\n", category.code)));
    }
    rows.sort_unstable();
    let rows: String = rows.into_iter().map(|(_, row)| row).collect();
    format!("{header}\r\n{rows}")
}

fn quoted(field: &str) -> String {
    if field.contains([';', '"', '&']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// By code.
pub fn expected() -> BTreeMap<String, ExpectedCategory> {
    let of = |category: Category| {
        let names = LANGUAGES.iter().zip(category.names).filter(|(_, name)| !name.is_empty());
        let names = names.map(|(&language, name)| (language.to_owned(), name)).collect();
        (category.code, ExpectedCategory { parent: category.parent, names })
    };
    all().into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_the_real_ones_measures() {
        let categories = expected();
        assert_eq!(categories.len(), 174);
        let level = |category: &ExpectedCategory| category.names["en"].matches('/').count();
        let at = |wanted| categories.values().filter(|category| level(category) == wanted).count();
        assert_eq!([at(0), at(1), at(2), at(3)], [8, 136, 30, 0]);
        for category in categories.values() {
            let Some(parent) = &category.parent else { continue };
            for (language, name) in &category.names {
                assert!(name.starts_with(&format!("{}/", categories[parent].names[language])), "{name}");
            }
        }
    }

    #[test]
    fn every_path_is_in_the_tree() {
        let categories = expected();
        for (root, number) in (0..ROOTS.len()).flat_map(|root| (0..40).map(move |number| (root, number))) {
            let codes = path(root, number);
            assert!(categories[&codes[0]].parent.is_none());
            for pair in codes.windows(2) {
                assert_eq!(categories[&pair[1]].parent.as_ref(), Some(&pair[0]));
            }
        }
    }

    #[test]
    fn rows_follow_the_seed() {
        assert_eq!(csv(1, false), csv(1, false));
        assert_ne!(csv(1, false), csv(2, false));
        assert_eq!(csv(1, true).lines().count(), 175);
    }
}
