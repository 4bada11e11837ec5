//! A `tracing` subscriber that does at each event what a test wants it to do.

use std::sync::{Arc, Mutex};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

type Act = Arc<dyn Fn() + Send + Sync>;

static ACT: Mutex<Option<Act>> = Mutex::new(None);

struct Acts;

/// Makes it the subscriber of this process.
pub(crate) fn install() {
    tracing::subscriber::set_global_default(Acts).expect("there is no other");
}

/// From now on, this is done at each event of a dispatcher.
pub(crate) fn at_each_event(act: impl Fn() + Send + Sync + 'static) {
    *ACT.lock().expect("it is whole") = Some(Arc::new(act));
}

impl Subscriber for Acts {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pp_dispatcher")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let act = ACT.lock().expect("it is whole").clone();
        if let Some(act) = act {
            act();
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
