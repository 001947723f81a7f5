//! From the configuration to the plain values that each part is given, field by field.

use std::time::Duration;

use longshore_actors::breaker::BreakerPolicy;
use longshore_actors::job::Name;
use longshore_actors::restart::RestartPolicy;
use longshore_actors::settings::{DomainSettings, KindPolicy, PoolSettings, Pools};

use crate::config::{self, Config};
use crate::domains::{catalog, football, products};
use crate::schedule::missed;
use crate::schedule::scheduler::Schedule;
use crate::schedule::upkeep::UpkeepSettings;
use crate::schedule::when::When;
use crate::service::{Parts, StartError};
use crate::store::batch::Guard;
use crate::targets::objects;

/// A second's worth may go at once, and always at least one.
pub(super) fn burst(per_second: f64) -> u32 {
    per_second.clamp(1.0, f64::from(u32::MAX)) as u32
}

/// What of a domain's requests may go at once, where a domain has a number of its own.
pub(super) fn burst_of(name: &str, domain: &config::Domain, config: &Config) -> u32 {
    match name {
        football::NAME => config.domains.football.own.burst,
        _ => burst(domain.rate_per_second),
    }
}

pub(super) fn catalog_settings(catalog: &config::Catalog, parts: Parts) -> catalog::Settings {
    let config::CatalogKeys { groups, per_page, fresh_for, removal_guard } = &catalog.own;
    let config::RemovalGuard { ratio, rows } = *removal_guard;
    catalog::Settings {
        groups: groups.clone(),
        per_page: *per_page,
        fresh_for: *fresh_for,
        removal_guard: Guard { ratio, rows, lifted: false },
        panic_every: parts.panic_every,
        ..catalog::Settings::default()
    }
}

pub(super) fn football_settings(football: &config::Football) -> football::Settings {
    let config::FootballKeys { burst: _, daily_quota, removal_guard } = football.own;
    let config::RemovalGuard { ratio, rows } = removal_guard;
    football::Settings { daily_quota, removal_guard: Guard { ratio, rows, lifted: false } }
}

pub(super) fn products_settings(products: &config::Products) -> products::Settings {
    let config::ProductsKeys { profile: _, hosts: _, suppliers, suppliers_skip, image_max: _, removal_guard } =
        &products.own;
    let config::RemovalGuard { ratio, rows } = *removal_guard;
    // Checked with the configuration: each is a code.
    let codes = |codes: &[String]| codes.iter().filter_map(|code| products::Code::parse(code)).collect();
    products::Settings {
        suppliers: codes(suppliers),
        suppliers_skip: codes(suppliers_skip),
        removal_guard: Guard { ratio, rows, lifted: false },
    }
}

pub(super) fn domain_settings(name: &str, domain: &config::Domain, config: &Config) -> DomainSettings {
    let pool = |pool: config::Pool| PoolSettings { actors: pool.actors, mailbox: pool.mailbox };
    let kinds = domain.jobs.iter().map(|(kind, policy)| {
        let config::JobKind { attempts, backoff, timeout, stuck_after, concurrency, page_tries, lock, schedule: _ } =
            policy;
        let policy = KindPolicy {
            attempts: *attempts,
            backoff: *backoff,
            timeout: *timeout,
            stuck_after: *stuck_after,
            concurrency: Some(*concurrency),
            crashes_max: domain.crashes_max,
            page_tries: *page_tries,
            page_backoff: KindPolicy::default().page_backoff,
            lock: lock.clone(),
        };
        (Name::from(format!("{name}.{kind}")), policy)
    });
    DomainSettings {
        pools: Pools {
            fetch: pool(domain.pools.fetch),
            transform: pool(domain.pools.transform),
            upload: pool(domain.pools.upload),
        },
        jobs_max: domain.jobs_max,
        pages_max: domain.pages_max,
        lease: config.upkeep.lease,
        restart: restart(domain.restart),
        coordinator_restart: restart(domain.coordinator_restart),
        cool_down: domain.cool_down,
        kinds: kinds.collect(),
    }
}

pub(super) fn objects_settings(config: &config::Objects) -> objects::Settings {
    let config::Objects { url, access_key, secret_key, timeout, put_max, breaker, .. } = config;
    let place = match &url.place {
        config::ObjectsPlace::Folder(root) => objects::Place::Folder(root.clone()),
        config::ObjectsPlace::S3 { bucket, prefix } | config::ObjectsPlace::R2 { bucket, prefix, .. } => {
            // What is missing here is refused when it is opened; the check before a run says it better.
            let (endpoint, region) = config.address().unwrap_or_default();
            objects::Place::Bucket(objects::BucketSettings {
                shown: url.to_string(),
                endpoint,
                region,
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                access_key: access_key.clone().unwrap_or_else(|| "".into()),
                secret_key: secret_key.clone().unwrap_or_else(|| "".into()),
            })
        }
    };
    let config::Breaker { failures, open_for, open_max } = *breaker;
    let breaker = BreakerPolicy { failures, open_for, open_max, ..BreakerPolicy::default() };
    objects::Settings { place, timeout: *timeout, put_max: *put_max, breaker }
}

pub(super) fn restart(restart: config::Restart) -> RestartPolicy {
    let config::Restart { max, within, backoff_min, backoff_max } = restart;
    RestartPolicy { max, within, backoff_min, backoff_max }
}

/// The schedules of all kinds, and those the operator added.
pub(super) fn schedules(config: &Config) -> Result<Vec<Schedule>, StartError> {
    let mut schedules = Vec::new();
    for (domain, settings) in config.domains.all().into_iter().filter(|(_, domain)| domain.enabled) {
        for (kind, policy) in &settings.jobs {
            if let Some(planned) = &policy.schedule {
                schedules.push(schedule(&format!("{domain}.{kind}"), domain, kind, planned)?);
            }
        }
        for config::Planned { name, kind, schedule: planned } in &settings.schedules {
            schedules.push(schedule(&format!("{domain}.{name}"), domain, kind, planned)?);
        }
    }
    Ok(schedules)
}

pub(super) fn schedule(
    name: &str,
    domain: &str,
    kind: &str,
    planned: &config::Schedule,
) -> Result<Schedule, StartError> {
    let config::Schedule { when, missed, jitter, params } = planned;
    let when = match when {
        config::When::Cron { text, zone } => When::cron(text, zone),
        config::When::Every(every) => When::every(*every),
    };
    let when = when.map_err(|error| StartError::Schedule { name: name.to_owned(), error })?;
    let missed = match missed {
        config::Missed::Skip => missed::Missed::Skip,
        config::Missed::Once => missed::Missed::Once,
        config::Missed::All => missed::Missed::All { max: config::Missed::ALL_MAX },
    };
    let kind = format!("{domain}.{kind}");
    Ok(Schedule { params: params.clone(), missed, jitter: *jitter, ..Schedule::new(name, domain, kind, when) })
}

pub(super) fn upkeep_settings(config: &Config) -> UpkeepSettings {
    let config::Upkeep { every, lease: _, prune_every, probe_every, stats_every } = config.upkeep;
    UpkeepSettings {
        lease_check: every,
        retention: config.retention.for_ledger(),
        prune_every,
        probe_every,
        stats_every,
        starved_after: STARVED_AFTER,
    }
}

/// Long enough for a restart, a backoff and a slow page; nobody needs to set it.
const STARVED_AFTER: Duration = Duration::from_secs(10 * 60);
