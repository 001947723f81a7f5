//! Invariant 9: a schedule's fire happens exactly once, whatever restarts there are.

use crate::support::{World, until};

/// Fires that share a job which had ended before they were due.
pub const SHARED: &str = "SELECT count(*) FROM fires JOIN fires AS before ON before.job = fires.job
    AND before.fire_at < fires.fire_at JOIN jobs ON jobs.id = fires.job WHERE jobs.finished_at < fires.fire_at";

#[test]
fn a_schedule_fires_once_per_instant_over_restarts() {
    let world = World::new(200);
    world.configure(
        "schedules = [{ name = \"uk\", kind = \"country\", params = { iso = \"GB\" }, every = \"1s\", missed = \"all\" }]\n",
    );
    let mut fires = 0;
    for round in 0..3 {
        let service = world.start(&["run"]);
        service.address();
        until("two more fires", || {
            let now = world.rows().number("SELECT count(*) FROM fires");
            (now >= fires + 2).then_some(())
        });
        // The second end is a sudden one.
        match round {
            1 => drop(service.kill()),
            _ => drop(service.stop()),
        }
        fires = world.rows().number("SELECT count(*) FROM fires");
    }
    let rows = world.rows();
    let fires = rows.number("SELECT count(*) FROM fires WHERE schedule = 'catalog.uk'");
    assert!(fires >= 6, "{fires}");
    assert_eq!(rows.number("SELECT count(DISTINCT fire_at) FROM fires"), fires);
    assert_eq!(rows.number(SHARED), 0, "each fire has a job of its own, or that of a fire before it, still to be done");
    assert_eq!(
        rows.number("SELECT count(*) FROM jobs WHERE kind = 'catalog.country'"),
        rows.number("SELECT count(DISTINCT job) FROM fires"),
        "and there are no others"
    );
    assert_eq!(
        rows.number(
            "SELECT count(*) FROM fires f JOIN fires g ON g.fire_at > f.fire_at AND g.fire_at < f.fire_at + 1000"
        ),
        0,
        "they are a second apart: {:?}",
        rows.texts("SELECT CAST(fire_at AS TEXT) FROM fires")
    );
    let (first, last) = (rows.number("SELECT min(fire_at) FROM fires"), rows.number("SELECT max(fire_at) FROM fires"));
    assert_eq!((last - first) / 1000 + 1, fires, "none was left out, those missed between two runs neither");
}
