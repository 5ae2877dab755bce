//! The contract of decision logs, held by the one in memory.

use std::sync::Arc;

use pactum_coordinator::decision_log::DecisionLog;
use pactum_coordinator::decision_log::memory::MemoryLog;

struct Fixture(MemoryLog);

impl Fixture {
    fn log(&self) -> Arc<dyn DecisionLog> {
        Arc::new(self.0.clone())
    }
}

pactum_coordinator::decision_log_contract!(async || Fixture(MemoryLog::new()));
