//! `longshore migrate`: brings the store's schema up to date.

use longshore_actors::clock::Clock;

use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::{Table, instant};
use crate::service::{StartError, open_store};
use crate::store::sqlite;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Say where the schema stands, and change nothing
    #[arg(long)]
    pub status: bool,
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    let Context { config, output, .. } = context;
    let path = config.store.url.path();
    if args.status {
        let migrations = sqlite::status(path).map_err(StartError::Store)?;
        return output.show(&migrations, || {
            let mut table = Table::new(&["migration", "state"]);
            for migration in &migrations {
                let state =
                    migration.applied_at.map_or("to be applied".to_owned(), |at| format!("applied {}", instant(at)));
                table.row(vec![format!("{:04}_{}", migration.version, migration.name), state]);
            }
            table.render()
        });
    }
    // Opening the store is what brings its schema up to date, here as at every start.
    drop(open_store(&config, &Clock::system())?);
    output.remark(&format!("{} is up to date", path.display()));
    Ok(())
}
