//! A destination of notices, with failures and lost answers.

use std::time::Duration;

use async_trait::async_trait;
use rollbackd::notify::{Notifier, NotifyError};
use rollbackd_core::notice::Notice;
use tokio::time::sleep;

use super::world::{Fault, What, World};

pub struct Inbox {
    pub world: World,
    pub destination: String,
}

#[async_trait]
impl Notifier for Inbox {
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        let latency = self.world.lock().chance.between(Duration::from_millis(5), Duration::from_millis(900));
        sleep(latency).await;
        let later = |why: &str| Err(NotifyError::Later { why: why.to_owned(), after: None });
        if self.world.is_broken(Fault::NotifierAway) {
            return later("connection refused");
        }
        self.world.record(What::Delivered { destination: self.destination.clone(), notice: Box::new(notice.clone()) });
        if self.world.befalls(Fault::NotifierLost, 40) { later("the answer was lost") } else { Ok(()) }
    }

    async fn check(&self) -> Result<(), NotifyError> {
        Ok(())
    }
}
