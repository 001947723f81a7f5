#![allow(clippy::unwrap_used)]

use std::time::Duration;

use longshore_actors::backoff::Growth;

use super::*;

/// Loads `text` as the file, with an environment and flags.
fn load(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("longshore.toml");
    std::fs::write(&file, text).unwrap();
    let own =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    let options = LoadOptions { file: Some(file), env: own(env).into_iter().collect(), flags: own(flags) };
    Config::load(&options).map_err(|ConfigErrors(problems)| {
        let folder = format!("{}/", folder.path().display());
        let strip = |problem: Problem| Problem { place: problem.place.replace(&folder, ""), ..problem };
        ConfigErrors(problems.into_iter().map(strip).collect())
    })
}

/// The lines of the error that `text` gives.
fn lines(text: &str) -> Vec<String> {
    load(text, &[], &[]).unwrap_err().0.iter().map(Problem::to_string).collect()
}

#[test]
fn an_empty_file_gives_exactly_the_defaults() {
    let config = load("", &[], &[]).unwrap();
    let wanted: toml::Table = DEFAULTS.parse().unwrap();
    let given: toml::Table = config.to_toml().parse().unwrap();
    assert_eq!(given, wanted);
    assert!(config.shown().iter().all(|shown| shown.origin == Origin::Default));
    assert!(Config::load(&LoadOptions::default()).is_ok());
}

#[test]
fn the_defaults_read_as_documented() {
    let config = load("", &[], &[]).unwrap();
    assert_eq!(config.store.url, StoreUrl::Sqlite("data/longshore.db".into()));
    assert_eq!(config.service.listen.to_string(), "127.0.0.1:8500");
    assert_eq!(config.service.shutdown_grace, Duration::from_secs(25));
    assert_eq!(config.retention.bytes_max, 256 << 20);
    assert_eq!(config.upkeep.probe_every, Duration::from_secs(300));
    let catalog = &config.domains.catalog;
    assert_eq!((catalog.own.groups.len(), catalog.own.per_page), (5, 200));
    assert_eq!(catalog.own.fresh_for, 30 * Duration::from_secs(86_400));
    assert_eq!(catalog.own.removal_guard, RemovalGuard { ratio: 0.2, rows: 50 });
    assert_eq!(catalog.domain.jobs.keys().collect::<Vec<_>>(), ["bundle", "country", "full", "group"]);
    assert_eq!(catalog.domain.jobs["full"].stuck_after, Duration::from_secs(3600));
    let monthly = catalog.domain.jobs["full"].schedule.clone().unwrap();
    assert_eq!(monthly.when, When::Cron { text: "0 3 1 * *".into(), zone: "UTC".into() });
    assert_eq!(monthly.jitter, Duration::from_secs(300));
    assert!(catalog.domain.jobs["group"].schedule.is_none() && catalog.domain.api_key.is_none());
}

#[test]
fn every_key_of_production_is_known() {
    let text = include_str!("../../config/production.toml");
    let token = ("LONGSHORE_ADMIN_TOKEN", "t0ken");
    let config = load(text, &[token, ("ESIM_GO_API_KEY", "key")], &[]).unwrap();
    assert_eq!(config.service.admin_token.as_ref().unwrap().expose(), "t0ken");
    config.check_runnable().unwrap();
    let keyless = load(text, &[token], &[]).unwrap();
    let missing = keyless.check_runnable().unwrap_err().to_string();
    assert!(missing.contains("domains.catalog.api_key: is missing: set ESIM_GO_API_KEY"), "{missing}");
    let tokenless = load(text, &[], &[]).unwrap_err().to_string();
    assert!(tokenless.contains("the environment variable LONGSHORE_ADMIN_TOKEN is not set"), "{tokenless}");
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let file =
        "[domains.catalog.pools.fetch]\nactors = 5\nmailbox = 6\n[log]\nlevel = 'warn'\n[service]\nthreads = 3\n";
    let env = [
        ("LONGSHORE__DOMAINS__CATALOG__POOLS__FETCH__ACTORS", "8"),
        ("LONGSHORE__SERVICE__THREADS", "4"),
        ("LOG_LEVEL", "debug"),
        ("DATABASE_URL", "sqlite://a.db"),
        ("LONGSHORE__STORE__URL", "sqlite://b.db"),
        ("ESIM_GO_API_KEY", "12345"),
        ("REDIS_URL", "redis://localhost"),
        ("LONGSHORE_CONFIG", "elsewhere"),
    ];
    let config = load(file, &env, &[("service.threads", "7"), ("service.threads", "6")]).unwrap();
    let catalog = &config.domains.catalog;
    let pools = catalog.domain.pools;
    assert_eq!((pools.fetch.actors, pools.fetch.mailbox, pools.upload.actors), (8, 6, 4));
    assert_eq!((config.service.threads, config.log.level.as_str()), (6, "debug"));
    assert_eq!(config.store.url.to_string(), "sqlite://b.db");
    // A key of digits stays text.
    assert_eq!(catalog.domain.api_key.as_ref().unwrap().expose(), "12345");
    assert_eq!(config.notes, ["REDIS_URL is set, and nothing uses it yet"]);

    let explained = config.explain();
    let origin = |key: &str| {
        let line = explained.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        line.split_once("  # ").unwrap().1.rsplit('/').next().unwrap().to_owned()
    };
    assert_eq!(origin("service.threads"), "flag");
    assert_eq!(origin("log.level"), "env LOG_LEVEL");
    assert_eq!(origin("log.format"), "default");
    assert_eq!(origin("domains.catalog.pools.fetch.mailbox"), "longshore.toml:3:11");
    assert!(explained.contains("domains.catalog.pools.fetch.actors = 8 "), "{explained}");
}

#[test]
fn the_names_of_the_queue_before_are_read() {
    let env = [
        ("BULLMQ_CONCURRENCY_FAMILIES", "5"),
        ("BULLMQ_CONCURRENCY_IMAGES", "20"),
        ("BULLMQ_JOB_TIMEOUT_SUPPLIER", "3600000"),
        ("BULLMQ_JOB_TIMEOUT_FAMILY", " 90500 "),
        ("BULLMQ_JOB_TIMEOUT_IMAGE", "1m"),
        ("LONGSHORE__DOMAINS__PRODUCTS__JOBS__IMAGE__CONCURRENCY", "7"),
        ("PROMIDATA_PROFILE", "849c0000-recognisable"),
    ];
    let config = load("", &env, &[]).unwrap();
    let products = &config.domains.products;
    let jobs = &products.domain.jobs;
    assert_eq!((jobs["family"].concurrency, jobs["image"].concurrency), (5, 7), "the long form wins");
    let millis = ["supplier", "family", "image"].map(|kind| jobs[kind].timeout.as_millis());
    assert_eq!(millis, [3_600_000, 90_500, 60_000]);
    assert_eq!(products.own.profile.as_ref().unwrap().expose(), "849c0000-recognisable");
    assert!(!config.to_toml().contains("recognisable") && !config.explain().contains("recognisable"));
    let wrong = load("", &[("BULLMQ_JOB_TIMEOUT_IMAGE", "soon")], &[]).unwrap_err().to_string();
    assert!(wrong.contains("BULLMQ_JOB_TIMEOUT_IMAGE") && wrong.contains("is not a duration"), "{wrong}");
}

#[test]
fn products_are_off_until_they_have_a_profile() {
    let config = load("", &[], &[]).unwrap();
    let products = &config.domains.products;
    assert!(!products.domain.enabled && products.own.profile.is_none());
    let jobs = &products.domain.jobs;
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["categories", "family", "image", "supplier"]);
    let policy = |kind: &str| (jobs[kind].concurrency, jobs[kind].attempts, jobs[kind].timeout.as_secs() / 60);
    assert_eq!(
        ["supplier", "family", "image", "categories"].map(policy),
        [(1, 2, 30), (3, 3, 5), (10, 5, 2), (1, 3, 5)]
    );

    let missing = load("[domains.products]\nenabled = true\n", &[("ESIM_GO_API_KEY", "k")], &[]).unwrap();
    let missing = missing.check_runnable().unwrap_err().to_string();
    assert!(missing.contains("domains.products.profile: is missing: set PROMIDATA_PROFILE"), "{missing}");
    let told = lines(
        "[domains.products]\nprofile = 'a/../hunter2'\nhosts = ['https://x', 'ok.example:8080']\nsuppliers = ['A23', '23']\n\
         suppliers_skip = ['Ax']\nimage_max = '1B'\nremoval_guard = { ratio = 2, rows = 1 }\n",
    );
    for (told, wanted) in told.iter().zip([
        "2:11: domains.products.profile: is no profile",
        "3:10: domains.products.hosts.0: `https://x` is no host",
        "4:21: domains.products.suppliers.1: `23` is no supplier",
        "5:19: domains.products.suppliers_skip.0: `Ax` is no supplier",
        "6:13: domains.products.image_max: is from",
        "7:27: domains.products.removal_guard.ratio: is a fraction",
    ]) {
        assert!(told.contains(wanted) && !told.contains("hunter2"), "{told} against {wanted}");
    }
    assert_eq!(told.len(), 6);
}

#[test]
fn lists_and_tables_come_from_the_environment_too() {
    let env = [
        ("LONGSHORE__DOMAINS__CATALOG__GROUPS", "Standard Fixed, Regional Bundles"),
        ("LONGSHORE__DOMAINS__CATALOG__ENABLED", "false"),
        ("LONGSHORE__DOMAINS__CATALOG__RATE_PER_SECOND", "2"),
        ("LONGSHORE__DOMAINS__CATALOG__JOBS__FULL__SCHEDULE", "{ every = '6h', missed = 'skip' }"),
        ("LONGSHORE__DOMAINS__CATALOG__JOBS__GROUP__BACKOFF", "fixed 30s"),
    ];
    let config = load("", &env, &[("domains.catalog.jobs.country.backoff.base", "1s")]).unwrap();
    let catalog = &config.domains.catalog;
    assert_eq!(catalog.own.groups, ["Standard Fixed", "Regional Bundles"]);
    assert!(!catalog.domain.enabled && catalog.domain.rate_per_second == 2.0);
    let schedule = catalog.domain.jobs["full"].schedule.clone().unwrap();
    assert_eq!((schedule.when, schedule.missed), (When::Every(Duration::from_secs(6 * 3600)), Missed::Skip));
    assert_eq!(catalog.domain.jobs["group"].backoff.growth, Growth::Fixed);
    assert_eq!(catalog.domain.jobs["country"].backoff.base, Duration::from_secs(1));
}

#[test]
fn values_are_interpolated_after_parsing_and_only_in_the_file() {
    let file = "[service]\nthreads = '${THREADS:-5}'\n[domains.catalog]\nbase_url = 'http://${HOST}/v2'\n";
    let env = [("HOST", "localhost:1"), ("ESIM_GO_API_KEY", "a$${b}")];
    let config = load(file, &env, &[]).unwrap();
    assert_eq!(config.service.threads, 5);
    assert_eq!(config.domains.catalog.domain.base_url, "http://localhost:1/v2");
    assert_eq!(config.domains.catalog.domain.api_key.as_ref().unwrap().expose(), "a$${b}");
    // What the environment holds cannot become structure.
    let file = "[domains.catalog]\ngroups = ['${GROUP}']\n";
    let config = load(file, &[("GROUP", "a', 'b\nrows = 1")], &[]).unwrap();
    assert_eq!(config.domains.catalog.own.groups, ["a', 'b\nrows = 1"]);
    assert_eq!(
        lines("[store]\nurl = 'sqlite://${HOME_OF_IT}/x.db'\n"),
        ["longshore.toml:2:7: store.url: the environment variable HOME_OF_IT is not set: set it, or write \
          ${HOME_OF_IT:-default} to do without"]
    );
}

#[test]
fn unknown_keys_are_told_with_place_and_suggestion() {
    let text = "[servce]\nlisten = 'x'\n[service]\nlisten = '127.0.0.1:1'\n  lisen = 1\n\
                [domains.catalgo]\n[domains.catalog]\nper_pgae = 5\nport = 5\n\
                [domains.catalog.jobs.grup]\n[domains.catalog.pools.fetch]\nactor = 1\n";
    let told = lines(text);
    for wanted in [
        "longshore.toml:1:2: servce: unknown section; did you mean `service`?",
        "longshore.toml:5:3: service.lisen: unknown key; did you mean `listen`?",
        "longshore.toml:6:10: domains.catalgo: unknown domain; did you mean `catalog`?",
        "longshore.toml:8:1: domains.catalog.per_pgae: unknown key; did you mean `per_page`?",
        "longshore.toml:10:23: domains.catalog.jobs.grup: unknown kind of job; did you mean `group`?",
        "longshore.toml:12:1: domains.catalog.pools.fetch.actor: unknown key; did you mean `actors`?",
    ] {
        assert!(told.iter().any(|line| line == wanted), "no `{wanted}` in {told:#?}");
    }
    let stranger = told.iter().find(|line| line.contains("port")).unwrap();
    assert!(stranger.contains("the keys here are api_key, base_url") && stranger.contains("per_page"), "{stranger}");
    assert_eq!(told.len(), 7, "{told:#?}");

    let env = load("", &[("LONGSHORE__SERVICE__PORT", "1")], &[("store.ulr", "x")]).unwrap_err().to_string();
    assert!(env.contains("env LONGSHORE__SERVICE__PORT: service.port: unknown key"), "{env}");
    assert!(env.contains("flag: store.ulr: unknown key; did you mean `url`?"), "{env}");
}

#[test]
fn wrong_types_are_told_all_at_once() {
    let text = "retention = 3\n[service]\nthreads = 'two'\nlisten = 'here'\nshutdown_grace = 25\n\
                [store]\nsynchronous = 'fulll'\nurl = 'mysql://root:hunter2@db/x'\n[log]\nlevel = 'verbose'\n\
                [domains.catalog]\nenabled = 'yes'\ntimeout = '5 parsecs'\nbody_max = '64'\napi_key = 5\njobs_max = -1\n\
                schedules = [{ name = 'x' }]\n[domains.catalog.jobs.full]\nbackoff = 'slow'\nschedule = '99 * * * *'\n\
                [domains.catalog.jobs.group]\nschedule = { every = '6h', cron = '@daily' }\n";
    let told = lines(text);
    for wanted in [
        "longshore.toml:1:13: retention: expected a table, found a whole number",
        "longshore.toml:3:11: service.threads: expected a whole number of 0 or more, found text",
        "longshore.toml:4:10: service.listen: `here` is not an address to listen on",
        "longshore.toml:5:18: service.shutdown_grace: expected a duration with its unit, such as \"30s\", \"5m\" or \
         \"7d\", found a whole number",
        "longshore.toml:7:15: store.synchronous: `fulll` is not one of full, normal",
        "longshore.toml:8:7: store.url: `mysql://root:***@db/x` names no store; use sqlite://path/file.db",
        "longshore.toml:10:9: log.level: `verbose` is not a log level",
        "longshore.toml:12:11: domains.catalog.enabled: expected true or false, found text",
        "longshore.toml:13:11: domains.catalog.timeout: `5 parsecs` is not a duration",
        "longshore.toml:14:12: domains.catalog.body_max: `64` is not a size",
        "longshore.toml:15:11: domains.catalog.api_key: a secret is written as a string in quotes",
        "longshore.toml:16:12: domains.catalog.jobs_max: expected a whole number of 0 or more, found -1",
        "longshore.toml:17:14: domains.catalog.schedules.0: `kind` is missing",
        "longshore.toml:19:11: domains.catalog.jobs.full.backoff: `slow` is not a backoff",
        "longshore.toml:20:12: domains.catalog.jobs.full.schedule: `99 * * * *` is not a cron text",
        "longshore.toml:22:12: domains.catalog.jobs.group.schedule: give `cron` or `every`, not both",
    ] {
        assert!(told.iter().any(|line| line.starts_with(wanted)), "no `{wanted}` in {told:#?}");
    }
    assert!(told.iter().all(|line| !line.contains('\n') && !line.contains("hunter2")));
    assert_eq!(told.len(), 16, "{told:#?}");
}

#[test]
fn values_that_do_not_fit_are_told() {
    let text = "[service]\nthreads = 0\n[upkeep]\nlease = '1ms'\n[domains.catalog]\nbase_url = 'api.example.org'\n\
                rate_per_second = 0\nper_page = 10000\ngroups = ['a', 'a']\nremoval_guard = { ratio = 20 }\n\
                schedules = [{ name = 'uk', kind = 'contry', every = '6h' }, { name = 'uk', kind = 'full', every = '1h' }]\n\
                [domains.catalog.pools.upload]\nactors = 0\n[domains.catalog.restart]\nbackoff_min = '1h'\n\
                [domains.catalog.jobs.full]\ntimeout = '2h'\nattempts = 0\n";
    let told = lines(text);
    for wanted in [
        "longshore.toml:2:11: service.threads: expected a number from 1 to 256, found 0",
        "longshore.toml:4:9: upkeep.lease: is at least \"100ms\"",
        "longshore.toml:6:12: domains.catalog.base_url: `api.example.org` is not an address",
        "longshore.toml:7:19: domains.catalog.rate_per_second: is above 0",
        "longshore.toml:8:12: domains.catalog.per_page: expected a number from 1 to 6000, found 10000",
        "longshore.toml:9:16: domains.catalog.groups.1: `a` is empty or listed twice",
        "longshore.toml:10:27: domains.catalog.removal_guard.ratio: is a fraction from 0 to 1",
        "longshore.toml:11:36: domains.catalog.schedules.0.kind: unknown kind of job `contry`; did you mean `country`?",
        "longshore.toml:11:71: domains.catalog.schedules.1.name: `uk` is empty or used twice",
        "longshore.toml:13:10: domains.catalog.pools.upload.actors: expected a number from 1 to 1024, found 0",
        "longshore.toml:15:15: domains.catalog.restart.backoff_min: is longer than restart.backoff_max",
        "longshore.toml:17:11: domains.catalog.jobs.full.timeout: is longer than stuck_after",
        "longshore.toml:18:12: domains.catalog.jobs.full.attempts: expected a number from 1 to 1000, found 0",
    ] {
        assert!(told.iter().any(|line| line.starts_with(wanted)), "no `{wanted}` in {told:#?}");
    }
    assert_eq!(told.len(), 13, "{told:#?}");
}

#[test]
fn an_address_with_a_password_is_refused_without_showing_it() {
    let told = lines("[domains.catalog]\nbase_url = 'https://me:hunter2@api.example.org/v2'\n");
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("holds a user name or password") && !told[0].contains("hunter2"), "{told:?}");
}

#[test]
fn broken_toml_and_a_missing_file_are_one_line_each() {
    let told = lines("[store]\nurl = \n");
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("longshore.toml:2:7: not valid TOML: "), "{told:?}");
    assert!(lines("[store]\nurl = 'sqlite://a'\nurl = 'sqlite://b'\n")[0].contains("longshore.toml:3:1"));
    let options = LoadOptions { file: Some("/no/such.toml".into()), ..LoadOptions::default() };
    let error = Config::load(&options).unwrap_err().to_string();
    assert!(error.starts_with("/no/such.toml: cannot read the configuration file: "), "{error}");
}

#[test]
fn what_is_missing_to_run_is_told_apart() {
    let config = load("[service]\nlisten = '0.0.0.0:80'\n", &[], &[]).unwrap();
    let missing = config.check_runnable().unwrap_err();
    assert_eq!(missing.0.len(), 2);
    assert!(missing.0[0].to_string().contains("domains.catalog.api_key: is missing: set ESIM_GO_API_KEY"));
    assert!(missing.0[1].to_string().contains("service.admin_token: is missing while service.listen is 0.0.0.0:80"));
    let flags = [("service.admin_token", "t"), ("domains.catalog.enabled", "false")];
    load("[service]\nlisten = '0.0.0.0:80'\n", &[], &flags).unwrap().check_runnable().unwrap();
}

#[test]
fn no_secret_can_be_printed() {
    let file = "[service]\nadmin_token = 'canary-1'\n[domains.catalog]\napi_key = 'canary-2'\n";
    let config = load(file, &[], &[]).unwrap();
    let json = config.to_json();
    assert_eq!((&json["service"]["admin_token"], &json["domains"]["catalog"]["api_key"]), (&MASK.into(), &MASK.into()));
    let other = load("", &[("ESIM_GO_API_KEY", "canary-3")], &[]).unwrap();
    let changes = Config::diff(&config, &other);
    assert_eq!(
        changes.iter().map(|change| change.key.as_str()).collect::<Vec<_>>(),
        ["domains.catalog.api_key", "service.admin_token"]
    );
    let all = format!("{config:?}{}{}{json}{changes:?}", config.to_toml(), config.explain());
    assert!(!all.contains("canary"), "{all}");
}

#[test]
fn a_difference_says_what_applies_live() {
    let old = load("", &[], &[]).unwrap();
    let flags = [
        ("domains.catalog.pools.fetch.actors", "8"),
        ("domains.catalog.jobs.full.schedule", "every 6h"),
        ("service.threads", "3"),
        ("upkeep.every", "5s"),
    ];
    let new = load("", &[], &flags).unwrap();
    let changes = new.changes_since(&old);
    let live = |key: &str| changes.iter().find(|change| change.key == key).map(|change| change.live);
    assert_eq!(live("domains.catalog.pools.fetch.actors"), Some(true));
    assert_eq!(live("domains.catalog.jobs.full.schedule"), Some(true));
    assert_eq!(live("service.threads"), Some(false));
    assert_eq!(live("upkeep.every"), None, "the same value said twice is no change");
    let threads = changes.iter().find(|change| change.key == "service.threads").unwrap();
    assert_eq!(threads.to_string(), "service.threads: 2 → 3 (at the next start)");
}

#[test]
fn football_waits_until_it_is_asked_for_and_then_wants_its_key() {
    let config = load("", &[("ESIM_GO_API_KEY", "key")], &[]).unwrap();
    assert!(!config.domains.football.domain.enabled);
    config.check_runnable().unwrap();
    let jobs = &config.domains.football.domain.jobs;
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["countries", "leagues", "status"]);
    assert!(jobs.values().all(|job| job.schedule.is_some()));
    let (burst, rate) = (config.domains.football.own.burst, config.domains.football.domain.rate_per_second);
    assert!(f64::from(burst) + rate * 60.0 <= 10.0, "more in a minute than the free plan has");

    let enabled = [("domains.football.enabled", "true")];
    let keyless = load("", &[("ESIM_GO_API_KEY", "key")], &enabled).unwrap().check_runnable().unwrap_err().to_string();
    assert!(keyless.contains("domains.football.api_key: is missing: set API_FOOTBALL_KEY"), "{keyless}");
    let env = [("ESIM_GO_API_KEY", "key"), ("API_FOOTBALL_KEY", "another")];
    let config = load("", &env, &enabled).unwrap();
    config.check_runnable().unwrap();
    assert_eq!(config.domains.football.domain.api_key.as_ref().unwrap().expose(), "another");

    let told =
        lines("[domains.football]\ndaily_quota = 0\nremoval_guard = { ratio = 20 }\nbase_url = 'x'\nquota = 1\n");
    for wanted in [
        "longshore.toml:2:15: domains.football.daily_quota: expected a number from 1 to 10000000, found 0",
        "longshore.toml:3:27: domains.football.removal_guard.ratio: is a fraction from 0 to 1",
        "longshore.toml:4:12: domains.football.base_url: `x` is not an address",
        "longshore.toml:5:1: domains.football.quota: unknown key",
    ] {
        assert!(told.iter().any(|line| line.starts_with(wanted)), "no `{wanted}` in {told:#?}");
    }
}

#[test]
fn the_address_of_a_bucket_follows_from_its_url() {
    let address = |flags: &[(&str, &str)]| load("", &[], flags).unwrap().objects.address();
    let at = |endpoint: &str, region: &str| Some((endpoint.to_owned(), region.to_owned()));
    let (s3, r2) = (("objects.url", "s3://images/shop"), ("objects.url", "r2://0123abc/images"));
    let (region, own) = (("objects.region", "eu-west-1"), ("objects.endpoint", "http://127.0.0.1:9000/"));
    assert_eq!(address(&[]), None);
    assert_eq!(address(&[s3]), None);
    assert_eq!(address(&[s3, region]), at("https://s3.eu-west-1.amazonaws.com", "eu-west-1"));
    assert_eq!(address(&[s3, own]), at("http://127.0.0.1:9000", "us-east-1"));
    assert_eq!(address(&[s3, own, region]), at("http://127.0.0.1:9000", "eu-west-1"));
    assert_eq!(address(&[r2, region]), at("https://0123abc.r2.cloudflarestorage.com", "auto"));
    assert_eq!(address(&[r2, own]), at("http://127.0.0.1:9000", "auto"));
    let eu = ("objects.url", "r2://0123abc.eu/images");
    assert_eq!(address(&[eu]), at("https://0123abc.eu.r2.cloudflarestorage.com", "auto"));
}

#[test]
fn what_is_wrong_with_the_object_store_is_told_at_once() {
    let text = "[objects]\nurl = 'gs://x'\nendpoint = 'https://me:hunter2@host'\nregion = 'EU West'\nsecret_key = 5\n\
                timeout = '1ms'\nput_max = '8GiB'\nbukket = 1\n[objects.breaker]\nfailures = 0\n";
    let told = lines(text);
    for wanted in [
        "longshore.toml:2:7: objects.url: `gs://x` names no object store; use file://folder, s3://bucket/prefix",
        "longshore.toml:3:12: objects.endpoint: `https://me:***@host` holds a user name or password",
        "longshore.toml:4:10: objects.region: `EU West` is not a region",
        "longshore.toml:5:14: objects.secret_key: a secret is written as a string in quotes",
        "longshore.toml:6:11: objects.timeout: is at least \"100ms\"",
        "longshore.toml:7:11: objects.put_max: is from \"1KiB\" to \"1GiB\"",
        "longshore.toml:8:1: objects.bukket: unknown key",
        "longshore.toml:10:12: objects.breaker.failures: expected a number from 1 to 10000, found 0",
    ] {
        assert!(told.iter().any(|line| line.starts_with(wanted)), "no `{wanted}` in {told:#?}");
    }
    assert_eq!(told.len(), 8, "{told:#?}");
}

#[test]
fn an_endpoint_without_tls_is_for_this_machine_unless_it_is_allowed() {
    let url = ("objects.url", "s3://images");
    let told = |flags: &[(&str, &str)]| load("", &[], flags).err().map(|errors| errors.to_string());
    for endpoint in ["https://minio.example.org", "http://localhost:9000", "http://127.0.0.1:9000", "http://[::1]:9000"]
    {
        assert_eq!(told(&[url, ("objects.endpoint", endpoint)]), None, "{endpoint}");
    }
    let open = ("objects.endpoint", "http://minio.example.org:9000");
    assert!(told(&[url, open]).unwrap().contains("without TLS: write https://, or set objects.allow_http = true"));
    assert_eq!(told(&[url, open, ("objects.allow_http", "true")]), None);
    assert!(told(&[("objects.endpoint", "https://h")]).unwrap().contains("and this is a folder"));
    for more in ["https://h/bucket", "https://h?x=1"] {
        assert!(told(&[url, ("objects.endpoint", more)]).unwrap().contains("more than scheme, host and port"));
    }
    assert!(told(&[url, ("objects.endpoint", "h:9000")]).unwrap().contains("is not an address of http"));
}

#[test]
fn a_bucket_needs_its_keys_to_run_and_takes_them_from_the_environment() {
    let domain = ("domains.catalog.enabled", "false");
    let missing = |url: &str| {
        let problems = load("", &[], &[("objects.url", url), domain]).unwrap().check_runnable().err();
        problems.map(|ConfigErrors(problems)| problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>())
    };
    assert_eq!(missing("file://objects"), None);
    assert_eq!(missing("r2://0123abc/images").unwrap(), ["objects.access_key", "objects.secret_key"]);
    assert_eq!(missing("s3://images").unwrap(), ["objects.access_key", "objects.secret_key", "objects.region"]);
    let env = [("AWS_ACCESS_KEY_ID", "canary-4"), ("AWS_SECRET_ACCESS_KEY", "canary-5"), ("AWS_REGION", "eu-west-1")];
    let config = load("", &env, &[("objects.url", "s3://images"), domain]).unwrap();
    config.check_runnable().unwrap();
    assert_eq!(config.objects.secret_key.as_ref().unwrap().expose(), "canary-5");
    let all = format!("{config:?}{}{}{}", config.to_toml(), config.explain(), config.to_json());
    assert!(all.contains("eu-west-1") && !all.contains("canary"), "{all}");
}
