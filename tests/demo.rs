//! `longshore demo`: what a person tries first.

use crate::support::World;

#[test]
fn the_demo_syncs_and_says_that_the_rows_are_equal() {
    let world = World::new(0);
    let demo = world.run(&["demo", "--once", "--listen", "127.0.0.1:0"]);
    demo.expect(0).calm(&[]);
    let same = "the store holds exactly the";
    assert!(demo.remarks().iter().any(|line| line.contains(same)), "{demo}");
    assert!(demo.stdout.contains("catalog.group"), "{demo}");
    assert!(demo.remarks().iter().any(|line| line.contains("and the 1193 leagues with their")), "{demo}");
    assert!(demo.stdout.contains("football.leagues"), "{demo}");
    assert!(world.path("data/demo/longshore.db").exists());
    // On what the first one left, with stand-ins at another address.
    let again = world.run(&["demo", "--once", "--listen", "127.0.0.1:0"]);
    again.expect(0).calm(&[]);
    assert!(again.remarks().iter().any(|line| line.contains("product families") && line.contains("images")), "{again}");
}

#[test]
fn the_demo_with_faults_shows_restarts_and_comes_out_right() {
    let world = World::new(0);
    let demo = world.run(&["demo", "--once", "--faults", "--bundles", "3000", "--listen", "127.0.0.1:0"]);
    demo.expect(0);
    assert!(demo.remarks().iter().any(|line| line.contains("the store holds exactly the")), "{demo}");
    let restarts: Vec<_> = demo.alarms().into_iter().filter(|record| record["msg"] == "restart").collect();
    assert!(!restarts.is_empty(), "no worker died: {demo}");
    for restart in &restarts {
        // child=catalog/transform/1 reason="panic: … at src/…" restarts=1/20 within=60s backoff=200ms
        let text = |name: &str| restart[name].as_str().unwrap_or_else(|| panic!("no {name} in {restart}")).to_owned();
        assert!(text("child").starts_with("catalog/transform/"), "{restart}");
        assert!(text("reason").starts_with("panic: ") && text("reason").contains(" at src/"), "{restart}");
        let (done, most) = text("restarts").split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(done.parse::<u32>().unwrap() <= most.parse::<u32>().unwrap(), "{restart}");
        assert_eq!(text("within"), "60s", "{restart}");
        assert!(text("backoff").ends_with('s'), "{restart}");
    }
}

#[test]
fn the_demo_that_was_not_told_to_end_stays_up_until_it_is() {
    let world = World::new(0);
    let demo = world.start(&["demo", "--bundles", "200", "--listen", "127.0.0.1:0"]);
    let address = demo.address();
    demo.line("that it stays up", |line| line.contains("The service stays up"));
    assert_eq!(crate::support::http::get(&address, "/readyz")["ready"], true);
    demo.stop().calm(&[]);
}
