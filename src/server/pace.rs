//! Bodies at the pace that their caller's limits allow.

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::front::{Answer, Body, Chunk, ChunkStream, Cut};
use crate::quota::Allowance;

/// Has the body of `answer` wait for its turn piece by piece, where a limit asks for it.
pub(super) fn paced(answer: Answer, allowance: &Allowance) -> Answer {
    let Some(piece) = allowance.piece() else { return answer };
    let allowance = allowance.clone();
    answer.map_body(|body| match body {
        Body::Stream(stream) => Body::Stream(Box::new(Paced { stream, allowance, piece, rest: None })),
        Body::Bytes(bytes) => {
            // A manifest goes out at once, and what follows waits for it.
            let _ = allowance.send(bytes.len() as u64, Instant::now().into_std());
            Body::Bytes(bytes)
        }
        Body::Empty => Body::Empty,
    })
}

struct Paced {
    stream: Box<dyn ChunkStream>,
    allowance: Allowance,
    /// The most that is sent in one turn, in bytes.
    piece: u64,
    /// What is left of the last chunk.
    rest: Option<Chunk>,
}

#[async_trait]
impl ChunkStream for Paced {
    async fn next(&mut self) -> Option<Result<Chunk, Cut>> {
        let mut chunk = match self.rest.take() {
            Some(chunk) => chunk,
            None => match self.stream.next().await? {
                Ok(chunk) => chunk,
                cut => return Some(cut),
            },
        };
        self.rest = chunk.split_off(self.piece);
        let wait = self.allowance.send(chunk.len(), Instant::now().into_std());
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Some(Ok(chunk))
    }

    fn unreadable(&mut self) {
        self.stream.unreadable();
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
        let mut stream = None;
        let _ = paced(answer, allowance).map_body(|body| {
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
}
