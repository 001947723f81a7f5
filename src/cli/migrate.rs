//! `longshore migrate`: brings the store's schema up to date.

use longshore_actors::clock::Clock;

use crate::cli::exit::Failure;
use crate::cli::output::{Table, instant};
use crate::cli::{Context, block_on};
use crate::service::{migrations, open_store, process};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Say where the schema stands, and change nothing
    #[arg(long)]
    pub status: bool,
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    let Context { config, output, .. } = context;
    let clock = Clock::system();
    block_on(async {
        if args.status {
            let migrations = migrations(&config, &clock).await?;
            return output.show(&migrations, || {
                let mut table = Table::new(&["migration", "state"]);
                for migration in &migrations {
                    let state = migration
                        .applied_at
                        .map_or("to be applied".to_owned(), |at| format!("applied {}", instant(at)));
                    table.row(vec![format!("{:04}_{}", migration.version, migration.name), state]);
                }
                table.render()
            });
        }
        // Opening the store is what brings its schema up to date, here as at every start.
        open_store(&config, &clock, process(&config, &clock)).await?.close().await;
        output.remark(&format!("{} is up to date", config.store.url.place()));
        Ok(())
    })
}
