//! Load and memory of the machine, reported to the node every second.

use std::time::Duration;

use pp_node::{Node, SystemLoad};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

const EVERY: Duration = Duration::from_secs(1);

/// Reports for ever, or until the system does not tell.
pub(crate) async fn report(node: Node) {
    if let Err(error) = try_report(&node).await {
        tracing::warn!(%error, "cannot read load and memory of this machine; dispatchers will see none");
    }
}

async fn try_report(node: &Node) -> Result<(), sysinfo::Error> {
    let memory = MemoryRefreshKind::nothing().with_ram();
    let mut system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory))?;
    loop {
        system.refresh_memory_specifics(memory);
        node.report_load(SystemLoad {
            load: System::load_average()?.one as f32,
            memory_used: system.used_memory(),
            memory_total: system.total_memory(),
        });
        tokio::time::sleep(EVERY).await;
    }
}
