//! "Did you mean": the known name nearest to a mistyped one.

/// Names longer than this are not compared: the work grows with the square of the length.
const LENGTH_MAX: usize = 64;

/// The known name that `typed` most likely means: one that ends in `.typed`, or the nearest within a third of its
/// length in edits.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if typed.len() > LENGTH_MAX {
        return None;
    }
    let tail = format!(".{typed}");
    let edits_max = (typed.len() / 3).max(2);
    known
        .into_iter()
        .filter(|name| name.len() <= LENGTH_MAX)
        .map(|name| (if name.ends_with(&tail) { 0 } else { edits(typed, name) }, name))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Levenshtein's distance, in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_nonsense_is_not() {
        let known = ["catalog.full", "catalog.group", "products.import"];
        assert_eq!(nearest("catalog.ful", known), Some("catalog.full"));
        assert_eq!(nearest("catalgo.group", known), Some("catalog.group"));
        assert_eq!(nearest("import", known), Some("products.import"));
        assert_eq!(nearest("weather", known), None);
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }
}
