//! The domains: siblings that do not know each other. Adding one is a folder and its lines here.

pub mod catalog;
pub mod football;
mod iso;
pub mod noop;
pub mod plain;
pub mod products;

/// The kind of job that a domain's name alone means, as in `longshore sync catalog`. In full: `catalog.full`.
pub fn default_kind(domain: &str) -> Option<&'static str> {
    match domain {
        catalog::NAME => Some(catalog::DEFAULT_KIND),
        football::NAME => Some(football::DEFAULT_KIND),
        products::NAME => Some(products::SUPPLIER),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_kind_is_one_of_the_domain() {
        let domains = [
            (catalog::NAME, &catalog::KINDS[..]),
            (football::NAME, &football::KINDS[..]),
            (products::NAME, &products::KINDS[..]),
        ];
        for (domain, kinds) in domains {
            assert!(default_kind(domain).is_some_and(|kind| kinds.contains(&kind)), "{domain}");
        }
        assert_eq!(default_kind("noop"), None);
    }
}
