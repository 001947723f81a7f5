//! What is laid over the defaults: the file, then the environment, then flags.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::problem::Problem;
use crate::config::tree::{Node, Origin, Value, parse};
use crate::config::{LoadOptions, interpolate};

/// `LONGSHORE__SERVICE__LISTEN` is `service.listen`.
const PREFIX: &str = "LONGSHORE__";

/// Names that people have in their environment already. The long form of the same key wins over them.
const KNOWN: [(&str, &str); 13] = [
    ("ESIM_GO_API_KEY", "domains.catalog.api_key"),
    ("API_FOOTBALL_KEY", "domains.football.api_key"),
    ("PROMIDATA_PROFILE", "domains.products.profile"),
    ("DATABASE_URL", "store.url"),
    ("LOG_LEVEL", "log.level"),
    ("AWS_ACCESS_KEY_ID", "objects.access_key"),
    ("AWS_SECRET_ACCESS_KEY", "objects.secret_key"),
    ("AWS_REGION", "objects.region"),
    ("BULLMQ_CONCURRENCY_FAMILIES", "domains.products.jobs.family.concurrency"),
    ("BULLMQ_CONCURRENCY_IMAGES", "domains.products.jobs.image.concurrency"),
    ("BULLMQ_JOB_TIMEOUT_SUPPLIER", "domains.products.jobs.supplier.timeout"),
    ("BULLMQ_JOB_TIMEOUT_FAMILY", "domains.products.jobs.family.timeout"),
    ("BULLMQ_JOB_TIMEOUT_IMAGE", "domains.products.jobs.image.timeout"),
];

/// What the names of a queue before this one begin with whose value is a number of milliseconds.
const MILLISECONDS: &str = "BULLMQ_JOB_TIMEOUT_";

/// Known names without a key yet.
const UNUSED: [&str; 1] = ["REDIS_URL"];

pub(super) fn lay_file(tree: &mut Node, options: &LoadOptions, problems: &mut Vec<Problem>) {
    let Some(path) = &options.file else { return };
    let file: Arc<str> = path.display().to_string().into();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let text = format!("cannot read the configuration file: {error}; check --config or LONGSHORE_CONFIG");
            problems.push(Problem { place: file.to_string(), key: String::new(), text });
            return;
        }
    };
    match parse(&text, &|line, column| Origin::File { file: file.clone(), line, column }) {
        Ok(mut over) => {
            interpolate::resolve(&mut over, "", &|name| options.env.get(name).cloned(), problems);
            tree.lay(over);
        }
        Err(problem) => problems.push(problem),
    }
}

pub(super) fn lay_environment(tree: &mut Node, env: &BTreeMap<String, String>, notes: &mut Vec<String>) {
    for (name, key) in KNOWN {
        // An empty one is how a shell or a compose file says that it is not set.
        if let Some(value) = env.get(name).filter(|value| !value.is_empty()) {
            let plain = name.starts_with(MILLISECONDS) && value.trim().bytes().all(|byte| byte.is_ascii_digit());
            let value = if plain { &format!("{}ms", value.trim()) } else { value };
            lay_text(tree, &key.split('.').collect::<Vec<_>>(), value, Origin::Environment(name.into()));
        }
    }
    for name in UNUSED.into_iter().filter(|name| env.contains_key(*name)) {
        notes.push(format!("{name} is set, and nothing uses it yet"));
    }
    for (name, value) in env {
        if let Some(rest) = name.strip_prefix(PREFIX) {
            let rest = rest.to_lowercase();
            let steps: Vec<&str> = rest.split("__").collect();
            lay_text(tree, &steps, value, Origin::Environment(name.as_str().into()));
        }
    }
}

pub(super) fn lay_flags(tree: &mut Node, flags: &[(String, String)], problems: &mut Vec<Problem>) {
    for (key, value) in flags {
        let steps: Vec<&str> = key.split('.').collect();
        if steps.iter().any(|step| step.is_empty()) {
            let text = "not a key: write --set section.key=value".to_owned();
            problems.push(Problem { place: Origin::Flag.to_string(), key: key.clone(), text });
            continue;
        }
        lay_text(tree, &steps, value, Origin::Flag);
    }
}

fn lay_text(tree: &mut Node, steps: &[&str], value: &str, origin: Origin) {
    let mut over = Node::empty();
    over.put(steps, Node::new(Value::Loose(value.to_owned()), origin));
    tree.lay(over);
}
