//! Rest from a source whose answers cost much and give nothing: it is asked less and less often until it is well again. What is asked of it
//! meanwhile gets the same reason for nothing, so that the judge stays blind and nothing is taken for good or bad.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rollbackd_core::observation::Missing;
use tokio::time::Instant;

/// A fruitless answer below costs little: 1 MiB is read in a few milliseconds.
const COSTLY: usize = 1024 * 1024;

/// The first rest; each further one is twice as long.
const SHORTEST: Duration = Duration::from_secs(2);

/// The longest one. A service that was rolled back is looked at again after it at the latest.
const LONGEST: Duration = Duration::from_mins(1);

/// The rests of one source.
#[derive(Debug, Default)]
pub(super) struct Rest(Mutex<Option<Resting>>);

#[derive(Clone, Debug)]
struct Resting {
    until: Instant,
    length: Duration,
    why: Missing,
}

impl Rest {
    /// What `ask` gives, unless the source rests. `ask` also says how many bytes it received.
    pub(super) async fn unless<T>(&self, ask: impl Future<Output = (usize, Result<T, Missing>)>) -> Result<T, Missing> {
        if let Some(why) = self.why() {
            return Err(why);
        }
        let (received, asked) = ask.await;
        self.note(received, asked.as_ref().err());
        asked
    }

    fn why(&self) -> Option<Missing> {
        let resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        resting.as_ref().filter(|resting| Instant::now() < resting.until).map(|resting| resting.why.clone())
    }

    fn note(&self, received: usize, missing: Option<&Missing>) {
        let fruitless = missing.filter(|missing| received > COSTLY && matches!(missing, Missing::TooLarge(_) | Missing::Malformed(_)));
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *resting = fruitless.map(|why| {
            let length = resting.as_ref().map_or(SHORTEST, |before| (before.length * 2).min(LONGEST));
            Resting { until: Instant::now() + length, length, why: why.clone() }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_large() -> Missing {
        Missing::TooLarge("the body is larger than 8192 KiB".to_owned())
    }

    /// Asks once a second for so many seconds; returns in which of them the source itself was asked.
    async fn asked_in(seconds: u64, rest: &Rest, received: usize, answer: &Result<(), Missing>) -> Vec<u64> {
        let mut asked = Vec::new();
        for second in 0..seconds {
            let told = rest
                .unless(async {
                    (received, {
                        asked.push(second);
                        answer.clone()
                    })
                })
                .await;
            assert_eq!(&told, answer);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn what_costs_much_and_gives_nothing_is_asked_less_and_less_often() {
        let asked = asked_in(250, &Rest::default(), 8 * COSTLY, &Err(too_large())).await;
        assert_eq!(asked, [0, 2, 6, 14, 30, 62, 122, 182, 242]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_good_answer_ends_the_rests() {
        let rest = Rest::default();
        asked_in(60, &rest, 8 * COSTLY, &Err(too_large())).await;
        tokio::time::sleep(LONGEST).await;
        assert_eq!(asked_in(3, &rest, 8 * COSTLY, &Ok(())).await, [0, 1, 2]);
        assert_eq!(asked_in(5, &rest, 8 * COSTLY, &Err(too_large())).await, [0, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_costs_little_or_is_only_away_is_asked_each_time() {
        assert_eq!(asked_in(3, &Rest::default(), COSTLY, &Err(too_large())).await, [0, 1, 2]);
        let away = Missing::Unreachable("connection refused".to_owned());
        assert_eq!(asked_in(3, &Rest::default(), 8 * COSTLY, &Err(away)).await, [0, 1, 2]);
    }
}
