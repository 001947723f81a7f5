//! What is to happen once a transaction is committed: who is to be woken.

use longshore_actors::clock::Timestamp;
use longshore_actors::job::Name;

#[derive(Debug, Default)]
pub struct Effects {
    work: Vec<Name>,
    revoked: Vec<Name>,
    /// The earliest instant at which a job delayed here is due.
    pub due: Option<Timestamp>,
    /// The earliest due instant that is left, when a release has looked.
    pub next_due: Option<Option<Timestamp>>,
}

impl Effects {
    /// There may be something to claim in `domain`.
    pub fn work(&mut self, domain: &Name) {
        if !self.work.contains(domain) {
            self.work.push(domain.clone());
        }
    }

    /// A lease of `domain` was taken away.
    pub fn revoke(&mut self, domain: &Name) {
        if !self.revoked.contains(domain) {
            self.revoked.push(domain.clone());
        }
    }

    pub fn delayed(&mut self, until: Timestamp) {
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
    }

    pub fn domains_with_work(&self) -> &[Name] {
        &self.work
    }

    pub fn domains_revoked(&self) -> &[Name] {
        &self.revoked
    }
}
