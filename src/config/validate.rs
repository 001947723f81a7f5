//! What types cannot say: ranges, and keys that must fit each other. All of it in one pass.

use std::collections::HashSet;
use std::time::Duration;

use crate::config::domain::{Domain, Pool, Restart};
use crate::config::objects::is_loopback;
use crate::config::problem::Problem;
use crate::config::{
    Catalog, CatalogKeys, Config, Domains, Football, FootballKeys, Objects, ObjectsPlace, Products, ProductsKeys,
    RemovalGuard, Schedule, nearest,
};

/// More actors than this are threads' worth of nothing on any machine.
const ACTORS_MAX: usize = 1024;
/// Places of one mailbox. What stands there is in memory.
const MAILBOX_MAX: usize = 65_536;
const DAY: Duration = Duration::from_secs(86_400);

struct Check<'a> {
    config: &'a Config,
    problems: &'a mut Vec<Problem>,
}

impl Check<'_> {
    fn tell(&mut self, key: &str, text: impl Into<String>) {
        let problem = Problem { place: self.config.values.place(key), key: key.to_owned(), text: text.into() };
        self.problems.push(problem);
    }

    fn expect(&mut self, holds: bool, key: &str, text: &str) {
        if !holds {
            self.tell(key, text);
        }
    }

    fn within(&mut self, key: &str, number: usize, most: usize) {
        if number == 0 || number > most {
            self.tell(key, format!("expected a number from 1 to {most}, found {number}"));
        }
    }
}

/// What is wrong in itself.
pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    let mut check = Check { config, problems };
    let Config { store, objects, service, node, log: _, retention, upkeep, domains, notes: _, values: _ } = config;

    check.within("service.threads", service.threads, 256);
    check.expect(service.shutdown_grace <= DAY, "service.shutdown_grace", "is at most \"1d\"");
    check.within("store.connections", store.connections, 1000);
    let twice = "is not more than twice node.heartbeat, so that one late beat would pass for death";
    check.expect(node.heartbeat * 2 < node.lapse, "node.lapse", twice);
    check_objects(&mut check, objects);
    check.within("retention.batch", retention.batch, 10_000);

    for (key, wait) in [
        ("store.connect_timeout", store.connect_timeout),
        ("store.statement_timeout", store.statement_timeout),
        ("store.poll", store.poll),
        ("node.heartbeat", node.heartbeat),
        ("upkeep.every", upkeep.every),
        ("upkeep.lease", upkeep.lease),
        ("upkeep.prune_every", upkeep.prune_every),
        ("upkeep.probe_every", upkeep.probe_every),
        ("upkeep.stats_every", upkeep.stats_every),
    ] {
        check.expect(wait >= Duration::from_millis(100), key, "is at least \"100ms\"");
    }

    let Domains { catalog, football, products } = domains;
    check_domain(&mut check, "domains.catalog", &catalog.domain);
    check_catalog(&mut check, catalog);
    check_domain(&mut check, "domains.football", &football.domain);
    check_football(&mut check, football);
    check_domain(&mut check, "domains.products", &products.domain);
    check_products(&mut check, products);
}

fn check_domain(check: &mut Check<'_>, path: &str, domain: &Domain) {
    let key = |rest: &str| format!("{path}.{rest}");
    if let Err(reason) = check_base_url(&domain.base_url) {
        check.tell(&key("base_url"), reason);
    }
    let rate = domain.rate_per_second;
    check.expect(rate > 0.0 && rate <= 10_000.0, &key("rate_per_second"), "is above 0 and at most 10000");
    check.expect(domain.timeout >= Duration::from_millis(100), &key("timeout"), "is at least \"100ms\"");
    check.expect(domain.timeout <= DAY, &key("timeout"), "is at most \"1d\"");
    let fits = (1 << 10..=1 << 30).contains(&domain.body_max);
    check.expect(fits, &key("body_max"), "is from \"1KiB\" to \"1GiB\"");
    check.within(&key("jobs_max"), domain.jobs_max, 4096);
    check.within(&key("pages_max"), domain.pages_max, 1024);
    check.within(&key("crashes_max"), domain.crashes_max as usize, 1000);
    check.within(&key("breaker.failures"), domain.breaker.failures as usize, 10_000);
    let breaker = domain.breaker;
    check.expect(breaker.open_for <= breaker.open_max, &key("breaker.open_for"), "is longer than breaker.open_max");

    let pools = domain.pools;
    for (stage, pool) in [("fetch", pools.fetch), ("transform", pools.transform), ("upload", pools.upload)] {
        let Pool { actors, mailbox } = pool;
        check.within(&key(&format!("pools.{stage}.actors")), actors, ACTORS_MAX);
        check.within(&key(&format!("pools.{stage}.mailbox")), mailbox, MAILBOX_MAX);
    }
    for (name, restart) in [("restart", domain.restart), ("coordinator_restart", domain.coordinator_restart)] {
        let Restart { max: _, within, backoff_min, backoff_max } = restart;
        check.expect(!within.is_zero(), &key(&format!("{name}.within")), "is longer than \"0s\"");
        let least = key(&format!("{name}.backoff_min"));
        check.expect(backoff_min <= backoff_max, &least, &format!("is longer than {name}.backoff_max"));
    }
    for (kind, job) in &domain.jobs {
        let key = |rest: &str| format!("{path}.jobs.{kind}.{rest}");
        check.within(&key("attempts"), job.attempts as usize, 1000);
        check.within(&key("page_tries"), job.page_tries as usize, 100);
        check.within(&key("concurrency"), job.concurrency, 4096);
        check.expect(!job.timeout.is_zero(), &key("timeout"), "is longer than \"0s\"");
        check.expect(job.timeout <= job.stuck_after, &key("timeout"), "is longer than stuck_after, which would win");
    }
    check_schedules(check, path, domain);
}

fn check_objects(check: &mut Check<'_>, objects: &Objects) {
    let Objects { url, endpoint, region: _, access_key: _, secret_key: _, allow_http, timeout, put_max, breaker } =
        objects;
    let folder = matches!(url.place, ObjectsPlace::Folder(_));
    if let Some(endpoint) = endpoint {
        check.expect(!folder, "objects.endpoint", "belongs to an objects.url of s3:// or r2://, and this is a folder");
        let private = endpoint.scheme() == "https" || is_loopback(endpoint) || *allow_http;
        let advice = "goes over the network without TLS: write https://, or set objects.allow_http = true";
        check.expect(private, "objects.endpoint", advice);
    }
    check.expect(*timeout >= Duration::from_millis(100), "objects.timeout", "is at least \"100ms\"");
    check.expect(*timeout <= DAY, "objects.timeout", "is at most \"1d\"");
    check.expect((1 << 10..=1 << 30).contains(put_max), "objects.put_max", "is from \"1KiB\" to \"1GiB\"");
    check.within("objects.breaker.failures", breaker.failures as usize, 10_000);
    let opens = breaker.open_for <= breaker.open_max;
    check.expect(opens, "objects.breaker.open_for", "is longer than breaker.open_max");
}

fn check_schedules(check: &mut Check<'_>, path: &str, domain: &Domain) {
    let mut names = HashSet::new();
    for (i, planned) in domain.schedules.iter().enumerate() {
        let key = |rest: &str| format!("{path}.schedules.{i}.{rest}");
        if planned.name.is_empty() || !names.insert(planned.name.as_str()) {
            check.tell(&key("name"), format!("`{}` is empty or used twice; each schedule has its own", planned.name));
        }
        if domain.jobs.contains_key(&planned.name) {
            check.tell(&key("name"), format!("`{}` is the schedule of that kind; choose another", planned.name));
        }
        if !domain.jobs.contains_key(&planned.kind) {
            let kinds = || domain.jobs.keys().map(String::as_str);
            let advice = match nearest(&planned.kind, kinds()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", kinds().collect::<Vec<_>>().join(", ")),
            };
            check.tell(&key("kind"), format!("unknown kind of job `{}`; {advice}", planned.kind));
        }
    }
    let kinds =
        domain.jobs.iter().filter_map(|(kind, job)| Some((format!("{path}.jobs.{kind}"), job.schedule.as_ref()?)));
    for (key, Schedule { jitter, .. }) in kinds {
        check.expect(*jitter <= DAY, &format!("{key}.schedule.jitter"), "is at most \"1d\"");
    }
}

fn check_catalog(check: &mut Check<'_>, catalog: &Catalog) {
    let CatalogKeys { groups, per_page, fresh_for: _, removal_guard } = &catalog.own;
    let mut seen = HashSet::new();
    for (i, group) in groups.iter().enumerate() {
        if group.trim().is_empty() || !seen.insert(group) {
            check.tell(&format!("domains.catalog.groups.{i}"), format!("`{group}` is empty or listed twice"));
        }
    }
    check.expect(!groups.is_empty(), "domains.catalog.groups", "is empty: name at least one bundle group");
    check.within("domains.catalog.per_page", *per_page as usize, 6000);
    check_guard(check, "domains.catalog", removal_guard);
}

fn check_football(check: &mut Check<'_>, football: &Football) {
    let FootballKeys { burst, daily_quota, removal_guard } = &football.own;
    check.within("domains.football.burst", *burst as usize, 10_000);
    // The largest plan that the provider sells has 1.5 million.
    check.within("domains.football.daily_quota", *daily_quota as usize, 10_000_000);
    check_guard(check, "domains.football", removal_guard);
}

fn check_guard(check: &mut Check<'_>, path: &str, guard: &RemovalGuard) {
    let fits = (0.0..=1.0).contains(&guard.ratio);
    check.expect(fits, &format!("{path}.removal_guard.ratio"), "is a fraction from 0 to 1");
}

fn check_products(check: &mut Check<'_>, products: &Products) {
    let ProductsKeys { profile, hosts, suppliers, suppliers_skip, image_max, removal_guard } = &products.own;
    if let Some(profile) = profile {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = (8..=100).contains(&profile.expose().len()) && profile.expose().bytes().all(plain);
        check.expect(fits, "domains.products.profile", "is no profile: it is the GUID in your addresses, alone");
    }
    for (i, host) in hosts.iter().enumerate() {
        let url = reqwest::Url::parse(&format!("https://{host}/"));
        if !url.is_ok_and(|url| url.path() == "/" && url.username().is_empty() && url.query().is_none()) {
            check.tell(
                &format!("domains.products.hosts.{i}"),
                format!("`{host}` is no host: write \"images.example.org\""),
            );
        }
    }
    for (key, codes) in [("suppliers", suppliers), ("suppliers_skip", suppliers_skip)] {
        for (i, code) in codes.iter().enumerate() {
            let digits = code.strip_prefix(['A', 'a']).unwrap_or_default();
            if !(1..=5).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                check.tell(
                    &format!("domains.products.{key}.{i}"),
                    format!("`{code}` is no supplier: write it like A23"),
                );
            }
        }
    }
    let fits = (1 << 10..=1 << 30).contains(image_max);
    check.expect(fits, "domains.products.image_max", "is from \"1KiB\" to \"1GiB\"");
    check_guard(check, "domains.products", removal_guard);
}

fn check_base_url(text: &str) -> Result<(), String> {
    let shown = super::mask_password(text);
    let advice = "write it like \"https://api.example.org/v2\"";
    let url = reqwest::Url::parse(text).map_err(|error| format!("`{shown}` is not an address ({error}): {advice}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("`{shown}` is not an address of http or https: {advice}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("`{shown}` holds a user name or password: set api_key instead"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{shown}` ends in a query or a fragment: leave it away"));
    }
    Ok(())
}

/// What is missing to run, though it is not wrong in itself: reading the store needs no key.
pub(super) fn missing_to_run(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut check = Check { config, problems: &mut problems };
    let Products { domain, own } = &config.domains.products;
    if domain.enabled && own.profile.is_none() {
        let advice = "is missing: set PROMIDATA_PROFILE, or domains.products.enabled = false";
        check.tell("domains.products.profile", advice);
    }
    // Promidata has no key.
    for (name, domain) in config.domains.all().into_iter().filter(|(name, _)| *name != "products") {
        if domain.enabled && domain.api_key.is_none() {
            let variable = match name {
                "catalog" => "ESIM_GO_API_KEY".to_owned(),
                "football" => "API_FOOTBALL_KEY".to_owned(),
                other => format!("LONGSHORE__DOMAINS__{}__API_KEY", other.to_uppercase()),
            };
            let advice = format!("is missing: set {variable}, or domains.{name}.enabled = false");
            check.tell(&format!("domains.{name}.api_key"), advice);
        }
    }
    missing_for_objects(&mut check, &config.objects);
    let service = &config.service;
    if !service.listen.ip().is_loopback() && service.admin_token.is_none() {
        let listen = service.listen;
        check.tell(
            "service.admin_token",
            format!("is missing while service.listen is {listen}: set one, or listen on 127.0.0.1"),
        );
    }
    problems
}

fn missing_for_objects(check: &mut Check<'_>, objects: &Objects) {
    if matches!(objects.url.place, ObjectsPlace::Folder(_)) {
        return;
    }
    for (key, set, variable) in [
        ("objects.access_key", objects.access_key.is_some(), "AWS_ACCESS_KEY_ID"),
        ("objects.secret_key", objects.secret_key.is_some(), "AWS_SECRET_ACCESS_KEY"),
        ("objects.region", objects.address().is_some(), "AWS_REGION"),
    ] {
        if !set {
            check.tell(key, format!("is missing for {}: set {variable}, or an objects.url of file://", objects.url));
        }
    }
}
