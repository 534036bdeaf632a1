//! Which domains are collected.

/// The domains that a config names; all if it names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainFilter(Box<[Box<str>]>);

impl DomainFilter {
    /// Reads a `;`-separated list. Spaces around an entry and empty entries do not count.
    pub fn parse(list: &str) -> Self {
        Self(list.split(';').map(str::trim).filter(|entry| !entry.is_empty()).map(Box::from).collect())
    }

    /// The domains that are named.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|entry| &**entry)
    }

    /// Whether events of this domain are collected: its whole name is in the list, in the same case.
    pub fn allows(&self, domain: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|entry| **entry == *domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_allowed_if_its_exact_name_is_listed_or_nothing_is() {
        let cases = [
            ("", "Schedule", true),
            (" ; ;", "Schedule", true),
            ("Schedule", "Schedule", true),
            ("Schedule", "schedule", false),
            ("Schedule", "Schedule.KVCache", false),
            (" Request ; Schedule.KVCache;", "Schedule.KVCache", true),
            ("Request;Execute", "Schedule", false),
        ];
        for (list, domain, allowed) in cases {
            assert_eq!(DomainFilter::parse(list).allows(domain), allowed, "{list:?} {domain}");
        }
    }
}
