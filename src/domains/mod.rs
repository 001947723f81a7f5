//! The domains: siblings that do not know each other. Adding one is a folder and its lines here.

pub mod catalog;
pub mod football;
pub mod noop;

/// The kind of job that a domain's name alone means, as in `longshore sync catalog`. In full: `catalog.full`.
pub fn default_kind(domain: &str) -> Option<&'static str> {
    match domain {
        catalog::NAME => Some(catalog::DEFAULT_KIND),
        football::NAME => Some(football::DEFAULT_KIND),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_kind_is_one_of_the_domain() {
        for (domain, kinds) in [(catalog::NAME, &catalog::KINDS[..]), (football::NAME, &football::KINDS[..])] {
            assert!(default_kind(domain).is_some_and(|kind| kinds.contains(&kind)), "{domain}");
        }
        assert_eq!(default_kind("noop"), None);
    }
}
