//! The running tree, as the operators' door sees it.

use futures::future::BoxFuture;
use longshore_actors::settings::PoolSettings;
use longshore_actors::stage::StageName;
use longshore_actors::supervisor::{Tree, TreeError};

use crate::admin::{self, AdminError};

/// The tree as `admin` sees it. It is filled once the tree has started, since the tree's HTTP server needs `admin`.
#[derive(Default)]
pub(super) struct TreeDoor {
    tree: std::sync::OnceLock<Tree>,
}

impl TreeDoor {
    pub(super) fn set(&self, tree: Tree) {
        // Set once, right after the start; a second time cannot happen and would change nothing.
        let _ = self.tree.set(tree);
    }

    fn get(&self) -> Result<&Tree, AdminError> {
        self.tree.get().ok_or_else(|| AdminError::Unavailable("the service is starting".to_owned()))
    }
}

fn admin_error(error: TreeError) -> AdminError {
    let text = error.to_string();
    match error {
        TreeError::Unknown { .. } => AdminError::Missing(text),
        TreeError::Refused(_) => AdminError::Bad(text),
        TreeError::Stopped => AdminError::Unavailable(text),
    }
}

impl admin::Tree for TreeDoor {
    fn restart(&self, domain: &str) -> BoxFuture<'_, Result<(), AdminError>> {
        let domain = domain.to_owned();
        Box::pin(async move { self.get()?.restart(&domain).await.map_err(admin_error) })
    }

    fn park(&self, domain: &str) -> BoxFuture<'_, Result<(), AdminError>> {
        let domain = domain.to_owned();
        Box::pin(async move { self.get()?.park(&domain).await.map_err(admin_error) })
    }

    fn unpark(&self, domain: &str) -> BoxFuture<'_, Result<(), AdminError>> {
        let domain = domain.to_owned();
        Box::pin(async move { self.get()?.unpark(&domain).await.map_err(admin_error) })
    }

    fn resize(
        &self,
        domain: &str,
        stage: StageName,
        actors: usize,
        mailbox: usize,
    ) -> BoxFuture<'_, Result<(), AdminError>> {
        let resized = self
            .get()
            .and_then(|tree| tree.resize(domain, stage, PoolSettings { actors, mailbox }).map_err(admin_error));
        Box::pin(std::future::ready(resized))
    }
}
