//! The handle of a running tree: start, an operator's words, changed settings, the end.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use tokio::sync::watch;

use crate::child::Child;
use crate::restart::Restarts;
use crate::runtime::Runtime;
use crate::settings::{DomainSettings, PoolSettings};
use crate::shutdown::Ending;
use crate::stage::StageName;
use crate::status::PartKind;
use crate::supervisor::{Command, Shutdown, Slot, Supervisor};

/// Why an operator's word was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeError {
    Unknown {
        name: String,
        known: Vec<String>,
    },
    Refused(String),
    /// The tree is gone.
    Stopped,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeError::Unknown { name, known } => {
                write!(f, "there is no {name:?} in the tree; there are: {}", known.join(", "))
            }
            TreeError::Refused(reason) => f.write_str(reason),
            TreeError::Stopped => f.write_str("the service is stopping"),
        }
    }
}

impl std::error::Error for TreeError {}

/// The handle of a running tree.
#[derive(Clone)]
pub struct Tree {
    address: Addr<Supervisor>,
    runtime: Runtime,
    domains: Arc<HashMap<String, watch::Sender<DomainSettings>>>,
}

impl Tree {
    /// Starts the supervisor on the present arbiter and the children in their order.
    pub fn start(runtime: Runtime, children: Vec<Box<dyn Child>>) -> Self {
        let mut domains = HashMap::new();
        let part = runtime.board.part("supervisor", PartKind::Supervisor);
        let slots = children
            .into_iter()
            .map(|child| {
                domains.extend(child.settings().map(|settings| (child.name().to_owned(), settings)));
                let part = runtime.board.part(child.name(), child.kind());
                Slot {
                    child,
                    running: None,
                    generation: 0,
                    restarts: Restarts::default(),
                    part,
                    timer: None,
                    stopped: None,
                }
            })
            .collect();
        let supervisor = Supervisor { runtime: runtime.clone(), children: slots, part, ending: None };
        Self { address: supervisor.start(), runtime, domains: Arc::new(domains) }
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Stops a child, giving its jobs back, and starts it with its past forgiven; parked or not.
    pub async fn restart(&self, child: &str) -> Result<(), TreeError> {
        self.command(Command::Restart(child.to_owned())).await
    }

    /// Stops a child until [`Tree::unpark`]; the jobs it was at are given back.
    pub async fn park(&self, child: &str) -> Result<(), TreeError> {
        self.command(Command::Park(child.to_owned())).await
    }

    /// Starts a parked child with its past forgiven; one that runs keeps running.
    pub async fn unpark(&self, child: &str) -> Result<(), TreeError> {
        self.command(Command::Unpark(child.to_owned())).await
    }

    async fn command(&self, command: Command) -> Result<(), TreeError> {
        self.address.send(command).await.unwrap_or(Err(TreeError::Stopped))
    }

    /// Changes the size of one pool while it runs.
    pub fn resize(&self, domain: &str, stage: StageName, size: PoolSettings) -> Result<(), TreeError> {
        if size.actors == 0 || size.mailbox == 0 {
            return Err(TreeError::Refused("a pool needs at least one actor and one place".to_owned()));
        }
        self.change(domain, |settings| settings.pools.set(stage, size))
    }

    /// Changes the settings of a domain; a running one takes them at once, a parked one when it starts.
    pub fn change(&self, domain: &str, change: impl FnOnce(&mut DomainSettings)) -> Result<(), TreeError> {
        let settings = self.domains.get(domain).ok_or_else(|| TreeError::Unknown {
            name: domain.to_owned(),
            known: self.domains.keys().cloned().collect(),
        })?;
        settings.send_modify(change);
        Ok(())
    }

    /// Quiet, drain, stop, within `grace`. A second call waits for the same end; if its grace is over earlier, so is
    /// the first one's. A supervisor that is gone can end nothing: it is named as hanging.
    pub async fn shutdown(&self, grace: Duration) -> Ending {
        let gone = |_| Ending { interrupted: Vec::new(), hanging: vec!["supervisor".to_owned()] };
        self.address.send(Shutdown { grace }).await.unwrap_or_else(gone)
    }
}
