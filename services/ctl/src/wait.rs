//! Waiting for something on the server, through its restarts.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{ctl::Ctl, failure::Failure, server::Server};

/// A server that is away longer is given up.
const AWAY: Duration = Duration::from_mins(1);
const FIRST_TRY: Duration = Duration::from_millis(100);
const LAST_TRY: Duration = Duration::from_secs(2);
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// How long a server has been away.
#[derive(Default)]
pub(crate) struct Patience {
    since: Option<Instant>,
    delay: Duration,
}

impl Patience {
    /// The server answers.
    pub(crate) fn renew(&mut self) {
        *self = Self::default();
    }

    /// Connects again after a failure; one that has other reasons than an absent server is handed back.
    pub(crate) async fn reconnect(&mut self, ctl: &mut Ctl, failure: Failure) -> Result<Server, Failure> {
        let mut failure = failure;
        loop {
            let since = *self.since.get_or_insert_with(Instant::now);
            if !failure.is_away() || since.elapsed() > AWAY {
                return Err(failure);
            }
            if self.delay.is_zero() {
                ctl.screen.note("the server is away; trying again");
            }
            sleep(self.delay).await;
            self.delay = (self.delay * 2).clamp(FIRST_TRY, LAST_TRY);
            match ctl.server().await {
                Ok(server) => return Ok(server),
                Err(again) => failure = again,
            }
        }
    }
}

/// Looks again and again, at most `pause` apart, until there is something to see.
pub(crate) async fn until<T>(
    ctl: &mut Ctl,
    mut server: Server,
    pause: Duration,
    mut look: impl AsyncFnMut(&mut Ctl, &Server) -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let mut patience = Patience::default();
    let mut next = FIRST_LOOK.min(pause);
    loop {
        match look(ctl, &server).await {
            Ok(Some(seen)) => return Ok(seen),
            Ok(None) => {
                patience.renew();
                sleep(next).await;
                next = (next * 3 / 2).min(pause);
            }
            Err(failure) => server = patience.reconnect(ctl, failure).await?,
        }
    }
}
