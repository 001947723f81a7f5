//! `longshore sync`, as a person or a script runs it.

use longshore::sandbox::Dials;
use serde_json::Value;

use crate::support::{Ended, World};

/// One of the counts of the job that was asked for.
fn count(ended: &Ended, name: &str) -> u64 {
    ended.json()["job"]["counts"][name].as_u64().unwrap_or_else(|| panic!("no count {name}: {ended}"))
}

fn children(ended: &Ended) -> Vec<Value> {
    ended.json()["children"].as_array().unwrap().clone()
}

#[test]
fn the_first_sync_stores_what_is_served_and_the_second_finds_it_fresh() {
    let world = World::new(2_000);
    let first = world.run(&["sync", "catalog", "--json"]);
    first.expect(0).calm(&[]);
    let expected = world.sandbox.expected();
    world.rows().equal(&expected);
    let groups = 5;
    assert_eq!(count(&first, "inserted"), expected.stored_count() as u64 + groups);
    assert_eq!(count(&first, "rejected"), expected.rejected_count() as u64);
    assert_eq!(world.rows().number("SELECT count(*) FROM rejected_records"), expected.rejected_count() as i64);
    assert_eq!(children(&first).len() as u64, groups);

    let before = world.rows().dump();
    let second = world.run(&["sync", "catalog", "--json"]);
    second.expect(0).calm(&[]);
    for child in children(&second) {
        assert!(child["message"].as_str().unwrap().contains("fresh: synced"), "{child}");
        assert_eq!(child["counts"]["received"], 0, "{child}");
    }
    assert_eq!(world.rows().dump(), before);

    let forced = world.run(&["sync", "catalog", "--force", "--json"]);
    forced.expect(0).calm(&[]);
    assert_eq!((count(&forced, "inserted"), count(&forced, "updated"), count(&forced, "removed")), (0, 0, 0));
    // Bundles of two groups are seen in each, and some are listed twice.
    assert!(count(&forced, "unchanged") >= expected.stored_count() as u64 + groups, "{forced}");
    assert_eq!(world.rows().dump(), before, "what is unchanged is not written");
}

#[test]
fn changes_are_written_and_what_vanished_is_marked() {
    let world = World::with(1_000, Dials { changed: 0.05, vanished: 0.05, ..Dials::default() });
    world.run(&["sync", "catalog"]).expect(0).calm(&[]);
    let advanced = world.sandbox.advance();
    assert!(advanced.changed > 0 && advanced.vanished > 0);
    let synced = world.run(&["sync", "catalog", "--force", "--json"]);
    synced.expect(0).calm(&[]);
    world.rows().equal(&world.sandbox.expected());
    let removed = world.rows().number("SELECT count(*) FROM catalog_bundles WHERE removed_at IS NOT NULL");
    // Some of what vanished had been rejected, so that it never stood in the table.
    assert!(removed > 0 && removed <= advanced.vanished as i64, "{removed} of {advanced:?}");
    assert_eq!(count(&synced, "removed"), removed as u64);
    let updated = count(&synced, "updated");
    assert!(updated > 0 && updated <= advanced.changed as u64, "{updated} of {advanced:?}");
    let all = world.rows().number("SELECT count(*) FROM catalog_bundles");
    assert_eq!(all, removed + world.sandbox.expected().stored_count() as i64, "a removed row stays, marked");
}

/// Invariant 8.
#[test]
fn a_removal_beyond_the_guard_needs_an_operators_word() {
    let world = World::with(2_000, Dials { vanished: 0.6, ..Dials::default() });
    world.run(&["sync", "catalog"]).expect(0);
    let before = world.rows().dump();
    world.sandbox.advance();

    let refused = world.run(&["sync", "catalog", "--force", "--json"]);
    refused.expect(1).one_error(&["did not complete", "longshore jobs show"]);
    let failed: Vec<Value> = children(&refused).into_iter().filter(|child| child["state"] == "failed").collect();
    assert!(!failed.is_empty(), "{refused}");
    for child in &failed {
        assert!(child["message"].as_str().unwrap().contains("allow_removal"), "says what to do: {child}");
    }
    let marked = "SELECT count(*) FROM catalog_bundle_groups WHERE removed_at IS NOT NULL AND group_name = ";
    for child in &failed {
        let group = child["params"]["group"].as_str().unwrap();
        assert_eq!(world.rows().number(&format!("{marked}'{group}'")), 0, "{group} is harmed");
    }
    let kept = world.rows().dump().len();
    assert_eq!(kept, before.len(), "no row is gone");

    for child in &failed {
        let group = format!("group={}", child["params"]["group"].as_str().unwrap());
        let args = ["sync", "catalog.group", "--force", "--param", &group, "--param", "allow_removal=true"];
        world.run(&args).expect(0).calm(&[]);
    }
    world.rows().equal(&world.sandbox.expected());
}

#[test]
fn a_dry_run_tells_the_changes_and_writes_nothing() {
    let world = World::with(600, Dials { changed: 0.1, vanished: 0.01, ..Dials::default() });
    let tried = world.run(&["sync", "catalog", "--dry-run", "--json"]);
    tried.expect(0).calm(&[]);
    // Nothing is written in between, so a bundle of two groups is new in each.
    let memberships = world.sandbox.expected().stored().map(|(_, bundle)| bundle.groups.len()).sum::<usize>();
    assert_eq!(count(&tried, "inserted"), memberships as u64 + 5);
    assert!(!world.path("longshore.db").exists(), "a dry run makes no file");

    world.run(&["sync", "catalog"]).expect(0);
    world.sandbox.advance();
    let (rows, jobs) = (world.rows().dump(), world.rows().number("SELECT count(*) FROM jobs"));
    let bytes = std::fs::read(world.path("longshore.db")).unwrap();
    let tried = world.run(&["sync", "catalog", "--force", "--dry-run", "--json"]);
    tried.expect(0).calm(&[]);
    assert_eq!(world.rows().dump(), rows);
    assert_eq!(world.rows().number("SELECT count(*) FROM jobs"), jobs);
    assert!(std::fs::read(world.path("longshore.db")).unwrap() == bytes, "the file is the same to the byte");

    let done = world.run(&["sync", "catalog", "--force", "--json"]);
    done.expect(0);
    for name in ["received", "inserted", "rejected"] {
        assert_eq!(count(&done, name), count(&tried, name), "the dry run told the truth of {name}");
    }
    // What vanished shows only when all pages are in, and a dry run keeps none: it says so.
    assert_eq!(count(&tried, "removed"), 0);
    for child in children(&tried) {
        assert!(child["message"].as_str().unwrap_or_default().contains("not previewed"), "{child}");
    }
    assert!(count(&tried, "updated") >= count(&done, "updated"), "again, a bundle of two groups counts in each");
}

#[test]
fn one_country_and_one_bundle_are_synced_alone() {
    let world = World::new(1_500);
    let expected = world.sandbox.expected();
    let (name, bundle) = expected.stored().find(|(_, bundle)| bundle.roaming.is_empty()).unwrap();
    let iso = &bundle.countries[0];

    world.run(&["sync", "catalog.bundle", "--param", &format!("name={name}")]).expect(0).calm(&[]);
    assert_eq!(world.rows().texts("SELECT name FROM catalog_bundles"), [name]);

    world.run(&["sync", "catalog.country", "--param", &format!("iso={iso}")]).expect(0).calm(&[]);
    let of_country: Vec<&str> = expected
        .stored()
        .filter(|(_, bundle)| bundle.roaming.is_empty() && &bundle.countries[0] == iso)
        .map(|(name, _)| name)
        .collect();
    assert!(of_country.len() > 1);
    let stored = world.rows().texts("SELECT name FROM catalog_bundles ORDER BY name");
    assert_eq!(stored, of_country);
}

#[test]
fn a_wrong_spelling_of_a_group_is_a_warning_with_the_right_one() {
    let world = World::new(300);
    let synced = world.run(&["sync", "catalog.group", "--param", "group=Standard Unlimited Lite", "--json"]);
    synced.expect(0).calm(&["Standard - Unlimited Lite"]);
    assert_eq!(synced.alarms().len(), 1, "{synced}");
    let message = synced.json()["job"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("Standard - Unlimited Lite"), "the job tells it too: {message:?}");
    assert_eq!(world.rows().number("SELECT count(*) FROM catalog_bundle_groups"), 0);
}

#[test]
fn without_json_the_result_is_a_table_on_stdout() {
    let world = World::new(300);
    let synced = world.run(&["sync", "catalog"]);
    synced.expect(0);
    assert!(synced.stdout.starts_with("job "), "{synced}");
    assert_eq!(synced.stdout.lines().count(), 1 + 6, "{synced}");
    let listed = world.run(&["jobs", "list", "--kind", "group", "--json"]);
    listed.expect(0);
    assert_eq!(listed.json()["jobs"].as_array().unwrap().len(), 5);
    assert!(listed.lines.is_empty(), "a command that asks does not chat: {listed}");
}
