//! A client: it comes, asks, reads at its own pace, leaves when it likes, and asks again where it failed.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::dice::Dice;
use super::judge::{Judge, Question, Reading};
use super::life::Life;
use super::log::Rule;
use super::world::{Leave, REPOSITORIES, Visit, Wish};
use crate::mirror::tests::permit;
use crate::mirror::{BlobAnswer, Error, Piece, Pieces};
use crate::oci::{RangeHeader, Selection};
use crate::quota::Allowance;
use crate::request::Item;

/// One try takes no longer, whatever goes wrong; of these, a client sleeps so much at most.
const LONGEST_TRY: Duration = Duration::from_secs(2 * 3600);
const LONGEST_REST: Duration = Duration::from_secs(20 * 60);

/// A client, who outlives the mirror.
pub(super) struct Client {
    pub(super) number: usize,
    pub(super) judge: Arc<Judge>,
    /// How many of its visits are over.
    pub(super) over: AtomicUsize,
}

/// How a try ended.
enum End {
    /// With what was asked for, or because it had enough.
    Content,
    /// Before there was an answer, or after it had begun.
    Failed { error: Error, begun: bool },
}

impl Client {
    /// Makes the visits that are still to be made. May be dropped at any time, as when its connection breaks.
    pub(super) async fn run(self: Arc<Self>, life: Arc<Life>) {
        let visits = &self.judge.world.clients[self.number];
        while let Some(visit) = visits.get(self.over.load(Ordering::Relaxed)) {
            sleep(visit.at.saturating_sub(self.judge.log.now())).await;
            let mut dice = Dice::of(&[self.judge.world.seed, 2, self.number as u64, self.over.load(Ordering::Relaxed) as u64]);
            for _ in 0..visit.tries {
                if self.once(&life, visit, &mut dice).await {
                    break;
                }
                sleep(Duration::from_millis(dice.between(1000, 30_000))).await;
            }
            self.over.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tries a visit once. Whether the client has no more to ask.
    async fn once(&self, life: &Life, visit: &Visit, dice: &mut Dice) -> bool {
        let who = format!("client {}", self.number);
        let log = &self.judge.log;
        log.note(&who, format_args!("asks {}/{} {:?}", REPOSITORIES[visit.repository], visit.blob, visit.wish));
        let Ok(end) = timeout(LONGEST_TRY, self.ask(&who, life, visit, dice)).await else {
            log.fault(Rule::Hang, &who, "neither an answer nor an error after two hours");
            return true;
        };
        match end {
            End::Content => true,
            End::Failed { error, begun } => {
                log.note(&who, format_args!("fails: {:?}: {error}", error.kind));
                self.judge.refused(&Question { begun, ..self.question(&who, life, visit) }, &error);
                false
            }
        }
    }

    fn question<'a>(&self, who: &'a str, life: &Life, visit: &Visit) -> Question<'a> {
        let (repository, blob) = (visit.repository, visit.blob);
        let announced = self.judge.world.blobs[blob].announced && life.announced.contains(&repository);
        let several = matches!(&visit.wish, Wish::Range(range) if range.contains(','));
        Question { who, repository, blob, announced, begun: false, stopping: life.is_stopping(), pace: visit.pace, several }
    }

    async fn ask(&self, who: &str, life: &Life, visit: &Visit, dice: &mut Dice) -> End {
        let digest = self.judge.world.blobs[visit.blob].digest;
        let permit = permit(REPOSITORIES[visit.repository], Item::Blob(digest));
        let allowance = Allowance::default();
        let asked = life.mirror.blob(&permit, &allowance, matches!(visit.wish, Wish::Head));
        let answer = match visit.leaves {
            Some(Leave::Early(patience)) => match timeout(patience, asked).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.judge.log.note(who, "leaves without an answer");
                    return End::Content;
                }
            },
            _ => asked.await,
        };
        match answer {
            Ok(answer) => {
                let length = answer.length.map_or("?".to_owned(), |length| length.to_string());
                self.judge.log.note(who, format_args!("is answered: {} of {length}", answer.served.as_str()));
                self.judge.answered(&self.question(who, life, visit), &answer);
                self.read(who, visit, answer, dice).await
            }
            Err(error) => End::Failed { error, begun: false },
        }
    }

    /// Reads what was asked for, as the data side would.
    async fn read(&self, who: &str, visit: &Visit, answer: BlobAnswer, dice: &mut Dice) -> End {
        let reading = Reading::new(who, visit.blob, &answer);
        let Some(content) = answer.content else { return End::Content };
        let selection = match (&visit.wish, answer.length) {
            (Wish::Head, _) => return End::Content,
            (Wish::Range(range), Some(length)) if content.most_spans() > 0 => {
                match RangeHeader::parse(range).unwrap().select(length) {
                    Selection::Parts(spans) if spans.len() > content.most_spans() => Selection::Whole,
                    selection => selection,
                }
            }
            _ => Selection::Whole,
        };
        let mut rest = Rest { patience: patience(visit), pace: visit.pace, left: LONGEST_REST };
        let spans = match selection {
            Selection::Whole => return self.pieces(reading, content.whole(), &mut rest, dice).await,
            Selection::Unsatisfiable => return End::Content,
            Selection::Part(span) => vec![span],
            Selection::Parts(spans) => spans,
        };
        // All at once, as a multipart answer makes them.
        let parts: Vec<_> = spans.into_iter().map(|span| (reading.of(span), content.span(span))).collect();
        drop(content);
        for (reading, pieces) in parts {
            let end = self.pieces(reading, pieces, &mut rest, dice).await;
            if matches!(end, End::Failed { .. }) {
                return end;
            }
        }
        End::Content
    }

    async fn pieces(&self, mut reading: Reading, mut pieces: Pieces, rest: &mut Rest, dice: &mut Dice) -> End {
        loop {
            if rest.patience == 0 {
                self.judge.log.note(&reading.who, format_args!("leaves at {}", reading.at));
                return End::Content;
            }
            rest.patience -= 1;
            match pieces.next().await {
                Some(Ok(piece)) => self.judge.piece(&mut reading, &bytes(piece)),
                Some(Err(error)) => {
                    self.judge.log.note(&reading.who, format_args!("is cut at {}", reading.at));
                    return End::Failed { error, begun: true };
                }
                None => {
                    self.judge.log.note(&reading.who, format_args!("has all until {}", reading.at));
                    self.judge.ended(&reading);
                    return End::Content;
                }
            }
            rest.take(dice).await;
        }
    }
}

/// How a client paces itself.
struct Rest {
    /// So many more pieces does it want.
    patience: u64,
    pace: Duration,
    left: Duration,
}

impl Rest {
    async fn take(&mut self, dice: &mut Dice) {
        let pause = Duration::from_millis(dice.below(self.pace.as_millis() as u64)).min(self.left);
        self.left -= pause;
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

fn patience(visit: &Visit) -> u64 {
    match visit.leaves {
        Some(Leave::After(pieces)) => pieces,
        _ => u64::MAX,
    }
}

fn bytes(piece: Piece) -> Vec<u8> {
    match piece {
        Piece::Bytes(bytes) => bytes.into(),
        Piece::File(file, span) => {
            let mut bytes = vec![0; usize::try_from(span.len()).unwrap()];
            file.read_exact_at(&mut bytes, span.start).unwrap();
            bytes
        }
    }
}
