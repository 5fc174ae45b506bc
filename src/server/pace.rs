//! Bodies at the pace that their caller's limits allow.

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::front::{Answer, Body, Chunk, ChunkStream, Cut};
use crate::quota::Allowance;

/// Has the body of `answer` wait for its turn piece by piece, where a limit asks for it.
pub(super) fn paced(answer: Answer, allowance: &Allowance) -> Answer {
    let Some(piece) = allowance.piece() else { return answer };
    let paced = |stream, rest| Body::Stream(Box::new(Paced { stream, allowance: allowance.clone(), piece, rest }));
    answer.map_body(|body| match body {
        Body::Stream(stream) => paced(Some(stream), None),
        Body::Bytes(bytes) => paced(None, Some(Chunk::Bytes(bytes))),
        Body::Empty => Body::Empty,
    })
}

struct Paced {
    /// What comes behind `rest`, if anything does.
    stream: Option<Box<dyn ChunkStream>>,
    allowance: Allowance,
    /// The most that is sent in one turn, in bytes.
    piece: u64,
    /// What is left of the last chunk.
    rest: Option<Chunk>,
}

/// Bytes that are taken and not sent yet. Who leaves before their turn gives them back, or others would wait for nobody.
struct Turn<'a> {
    allowance: &'a Allowance,
    bytes: u64,
}

impl Turn<'_> {
    fn sent(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.allowance.unsent(self.bytes);
        }
    }
}

#[async_trait]
impl ChunkStream for Paced {
    async fn next(&mut self) -> Option<Result<Chunk, Cut>> {
        let mut chunk = match self.rest.take() {
            Some(chunk) => chunk,
            None => match self.stream.as_mut()?.next().await? {
                Ok(chunk) => chunk,
                cut => return Some(cut),
            },
        };
        self.rest = chunk.split_off(self.piece);
        let turn = Turn { allowance: &self.allowance, bytes: chunk.len() };
        let wait = self.allowance.send(turn.bytes, Instant::now().into_std());
        if !wait.is_zero() {
            sleep(wait).await;
        }
        turn.sent();
        Some(Ok(chunk))
    }

    fn unreadable(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.unreadable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{By, TenantLimit};
    use crate::front::Reply;
    use crate::oci::Span;
    use crate::quota::Quotas;
    use crate::request::Caller;
    use bytes::Bytes;
    use std::sync::{Arc, Mutex};

    const MIB: usize = 1 << 20;

    /// One chunk, and then the end.
    struct Once(Option<Chunk>);

    #[async_trait]
    impl ChunkStream for Once {
        async fn next(&mut self) -> Option<Result<Chunk, Cut>> {
            self.0.take().map(Ok)
        }
    }

    fn quotas() -> Quotas {
        let limit =
            TenantLimit { by: By::Source, of: None, requests: None, bytes: Some(MIB as u64), connections: None, downloads: None };
        Quotas::new(&[limit])
    }

    fn allowance(quotas: &Quotas, host: u8) -> Allowance {
        let caller = Caller::direct("nodes".into(), ([127, 0, 0, host], 4000).into());
        quotas.of(&caller, Instant::now().into_std())
    }

    fn body(chunk: Chunk, allowance: &Allowance) -> Box<dyn ChunkStream> {
        let length = Some(chunk.len());
        let answer = Answer::new(Reply::Ok).body(Body::Stream(Box::new(Once(Some(chunk)))), length);
        stream(paced(answer, allowance))
    }

    fn stream(answer: Answer) -> Box<dyn ChunkStream> {
        let mut stream = None;
        let _ = answer.map_body(|body| {
            if let Body::Stream(inner) = body {
                stream = Some(inner);
            }
            Body::Empty
        });
        stream.unwrap()
    }

    /// Reads to the end; what came, and in what pieces.
    async fn read(mut stream: Box<dyn ChunkStream>, order: Arc<Mutex<Vec<usize>>>, name: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            let Chunk::Bytes(bytes) = chunk.unwrap() else { panic!("not in memory") };
            order.lock().unwrap().push(name);
            all.extend_from_slice(&bytes);
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_has_its_rate_and_its_answers_share_it() {
        let (quotas, order, start) = (quotas(), Arc::default(), Instant::now());
        let bytes: Vec<u8> = (0..2 * MIB).map(|at| (at % 251) as u8).collect();
        let all = Bytes::from(bytes);
        let reading = [1, 2].map(|name| {
            let stream = body(Chunk::Bytes(all.clone()), &allowance(&quotas, 1));
            tokio::spawn(read(stream, Arc::clone(&order), name))
        });
        let other = read(body(Chunk::Bytes(all.slice(..MIB)), &allowance(&quotas, 2)), Arc::default(), 3).await;
        assert_eq!(other, all[..MIB]);
        assert!(start.elapsed().as_secs_f64() < 1.1, "another tenant does not wait for these: {:?}", start.elapsed());
        for reading in reading {
            assert_eq!(reading.await.unwrap(), all);
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!((3.8..4.2).contains(&seconds), "4 MiB at 1 MiB per second took {seconds} s");
        let order: Vec<usize> = order.lock().unwrap().clone();
        let first = order[..20].iter().filter(|name| **name == 1).count();
        assert!((8..=12).contains(&first), "one of two had {first} of the first 20 turns");
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_cut_into_pieces_that_make_the_whole() {
        let quotas = quotas();
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut stream = body(Chunk::File { file, span: Span::new(10, 200_000) }, &allowance(&quotas, 1));
        let (mut at, mut pieces) = (10, 0);
        while let Some(chunk) = stream.next().await {
            let Chunk::File { span, .. } = chunk.unwrap() else { panic!("not a file") };
            assert_eq!(span.start, at);
            (at, pieces) = (span.end, pieces + 1);
        }
        assert_eq!((at, pieces), (200_000, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_manifest_waits_for_its_turn_like_all_else() {
        let (quotas, start) = (quotas(), Instant::now());
        for _ in 0..3 {
            let answer = Answer::new(Reply::Ok).body(Body::Bytes(vec![7; MIB].into()), Some(MIB as u64));
            let all = read(stream(paced(answer, &allowance(&quotas, 1))), Arc::default(), 1).await;
            assert_eq!(all, vec![7; MIB]);
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!((2.8..3.2).contains(&seconds), "3 MiB at 1 MiB per second took {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_before_its_turn_holds_nobody_up() {
        let (quotas, start) = (quotas(), Instant::now());
        let some = Bytes::from(vec![7; MIB]);
        let mut first = body(Chunk::Bytes(some.clone()), &allowance(&quotas, 1));
        first.next().await.unwrap().unwrap();
        for _ in 0..1000 {
            let mut stream = body(Chunk::Bytes(some.clone()), &allowance(&quotas, 1));
            assert!(futures_util::poll!(stream.next()).is_pending());
        }
        read(first, Arc::default(), 1).await;
        assert!(start.elapsed().as_secs_f64() < 1.1, "{:?}", start.elapsed());
    }
}
