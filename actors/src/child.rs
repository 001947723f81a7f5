//! What the supervisor can start, watch and stop: a domain, or a service beside the domains.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, WrapFuture};
use futures::future::LocalBoxFuture;
use tokio::sync::watch;

use crate::coordinator::{Coordinator, Seed, Stop};
use crate::domain::Domain;
use crate::ledger::Rescue;
use crate::restart::RestartPolicy;
use crate::runtime::Runtime;
use crate::settings::DomainSettings;
use crate::shutdown::Phase;
use crate::status::{Part, PartKind, PartState};
use crate::threads::Thread;
use crate::watch::{self as death, ExitGuard};

/// A child of the supervisor, as it is described before it runs. It can be started more than once.
pub trait Child: 'static {
    fn name(&self) -> &str;
    fn kind(&self) -> PartKind;
    fn restart_policy(&self) -> RestartPolicy;
    /// How long it is left alone once its restarts are used up.
    fn cool_down(&self) -> Duration;
    /// Starts it; `guard` lives in the actor and tells of its end.
    fn start(&mut self, runtime: &Runtime, guard: ExitGuard) -> Box<dyn RunningChild>;
    /// Gives back what it had in hand when it ended and is not started again at once.
    fn give_back(&self, _: &Runtime) -> LocalBoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    /// The settings that can be changed while it runs, if it is a domain.
    fn settings(&self) -> Option<watch::Sender<DomainSettings>> {
        None
    }
}

/// A child that runs.
pub trait RunningChild: 'static {
    /// Completes when nothing is in flight any more.
    fn drained(&self) -> LocalBoxFuture<'static, ()>;
    /// Gives back what is in flight and ends; completes when its threads have ended.
    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, ()>;
}

/// A domain with its coordinator and pools.
pub struct DomainChild<D: Domain> {
    domain: Arc<D>,
    settings: watch::Sender<DomainSettings>,
    incarnation: u32,
}

impl<D: Domain> DomainChild<D> {
    pub fn new(domain: D, settings: DomainSettings) -> Self {
        Self { domain: Arc::new(domain), settings: watch::Sender::new(settings), incarnation: 0 }
    }

    /// As the ledger knows an incarnation of its coordinator.
    fn owner(&self, runtime: &Runtime, incarnation: u32) -> Arc<str> {
        format!("{}/{incarnation}", runtime.process).into()
    }
}

impl<D: Domain> Child for DomainChild<D> {
    fn name(&self) -> &str {
        self.domain.name()
    }

    fn kind(&self) -> PartKind {
        PartKind::Coordinator
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.settings.borrow().coordinator_restart
    }

    fn cool_down(&self) -> Duration {
        self.settings.borrow().cool_down
    }

    fn start(&mut self, runtime: &Runtime, guard: ExitGuard) -> Box<dyn RunningChild> {
        self.incarnation += 1;
        let thread = runtime.threads.start();
        let in_flight = watch::Sender::new(0);
        let idle = in_flight.subscribe();
        let seed = Seed {
            domain: self.domain.clone(),
            owner: self.owner(runtime, self.incarnation),
            runtime: runtime.clone(),
            settings: self.settings.subscribe(),
            in_flight,
            guard,
        };
        let address = Coordinator::start_in_arbiter(thread.handle(), move |_| Coordinator::new(seed));
        Box::new(RunningDomain { address, thread, idle })
    }

    /// A coordinator that panicked or gave up has left its jobs active, and nobody starts for as long as the domain
    /// is parked. Should this come late, the next incarnation keeps what it has claimed.
    fn give_back(&self, runtime: &Runtime) -> LocalBoxFuture<'static, ()> {
        let ledger = runtime.ledger.clone();
        let domain = self.domain.name();
        let rescue = Rescue::Domain { domain: domain.into(), but: self.owner(runtime, self.incarnation + 1) };
        Box::pin(async move {
            match ledger.rescue(rescue).await {
                Ok(0) => {}
                Ok(jobs) => tracing::info!(domain, jobs, "gave back the jobs of a parked domain"),
                // Their leases lapse, or the next incarnation rescues them.
                Err(error) => tracing::warn!(domain, reason = %error, "give back the jobs of a parked domain"),
            }
        })
    }

    fn settings(&self) -> Option<watch::Sender<DomainSettings>> {
        Some(self.settings.clone())
    }
}

struct RunningDomain<D: Domain> {
    address: Addr<Coordinator<D>>,
    thread: Thread,
    idle: watch::Receiver<usize>,
}

impl<D: Domain> RunningChild for RunningDomain<D> {
    fn drained(&self) -> LocalBoxFuture<'static, ()> {
        let mut idle = self.idle.clone();
        Box::pin(async move {
            // An error means that the coordinator is gone, and with it everything in flight.
            let _ = idle.wait_for(|in_flight| *in_flight == 0).await;
        })
    }

    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            // An error means that it is gone already.
            let _ = self.address.send(Stop).await;
            self.thread.join().await;
        })
    }
}

/// A part of the service that is one loop: scheduler, upkeep, HTTP server. The loop ends by itself once the phase is
/// `Stop`; if it ends or panics before, it is started again.
pub struct ServiceChild {
    name: String,
    policy: RestartPolicy,
    make: Rc<RefCell<MakeLoop>>,
}

type MakeLoop = dyn FnMut(Arc<Part>) -> LocalBoxFuture<'static, ()>;

impl ServiceChild {
    /// `make` gives the loop, anew for each start.
    pub fn new(
        name: impl Into<String>,
        policy: RestartPolicy,
        make: impl FnMut(Arc<Part>) -> LocalBoxFuture<'static, ()> + 'static,
    ) -> Self {
        Self { name: name.into(), policy, make: Rc::new(RefCell::new(make)) }
    }
}

impl Child for ServiceChild {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> PartKind {
        PartKind::Service
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.policy
    }

    fn cool_down(&self) -> Duration {
        self.policy.within
    }

    fn start(&mut self, runtime: &Runtime, guard: ExitGuard) -> Box<dyn RunningChild> {
        let part = runtime.board.part(&self.name, PartKind::Service);
        part.set(PartState::Idle);
        let (ended, end) = watch::channel(false);
        // Made within the actor: a panic in there is the service's and not the supervisor's.
        let (make, own) = (self.make.clone(), part.clone());
        let work = Box::pin(async move {
            let work = (make.borrow_mut())(own);
            work.await;
        });
        let service = Service { work: Some(work), stopping: runtime.phases.clone(), part, guard, _ended: ended };
        let address = service.start();
        Box::new(RunningService { address, end })
    }
}

/// The actor that hosts the loop of a [`ServiceChild`].
struct Service {
    work: Option<LocalBoxFuture<'static, ()>>,
    stopping: crate::shutdown::Phases,
    part: Arc<Part>,
    guard: ExitGuard,
    /// Dropped with the actor, which is how its end is seen.
    _ended: watch::Sender<bool>,
}

impl Actor for Service {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some(work) = self.work.take() else { return };
        ctx.spawn(death::supervised(work).into_actor(self).map(|(), this, ctx| {
            if this.stopping.now() < Phase::Stop {
                this.guard.because("its loop ended");
            }
            this.part.set(PartState::Stopped);
            ctx.stop();
        }));
    }
}

#[derive(actix::Message)]
#[rtype(result = "()")]
struct EndService;

impl actix::Handler<EndService> for Service {
    type Result = ();

    fn handle(&mut self, _: EndService, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// How long a loop may take to end by itself in the phase `Stop` before it is dropped.
const SERVICE_END: Duration = Duration::from_secs(1);

struct RunningService {
    address: Addr<Service>,
    end: watch::Receiver<bool>,
}

impl RunningChild for RunningService {
    fn drained(&self) -> LocalBoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn stop(mut self: Box<Self>) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            let by_itself = async { while self.end.changed().await.is_ok() {} };
            if tokio::time::timeout(SERVICE_END, by_itself).await.is_err() {
                let _ = self.address.send(EndService).await;
                while self.end.changed().await.is_ok() {}
            }
        })
    }
}
